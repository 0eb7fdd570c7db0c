"""removeOperator, operators, isOperator, quorum: the owner takes a key that was lost out of the set at once."""

import pytest
from conftest import CANCEL_WINDOW, ETHER, answered, reverts


@pytest.fixture
def shared(InferenceCoordinator, owner, signers):
    """A coordinator with three operators, two of whom must sign."""
    return owner.deploy(InferenceCoordinator, owner, signers, 2, CANCEL_WINDOW)


def test_the_others_stay_and_so_does_the_quorum(shared, owner, signers):
    tx = shared.removeOperator(signers[0], {"from": owner})
    assert tx.events["OperatorRemoved"]["operator"] == signers[0]
    assert shared.operators() == signers[1:]
    assert [shared.isOperator(s) for s in signers] == [False, True, True]
    assert shared.quorum() == 2


def test_a_removed_operator_cannot_report_but_keeps_its_money(coordinator, owner, operator, ask, report):
    report(answered(ask()))
    earned = coordinator.balanceOf(ETHER, operator)
    coordinator.removeOperator(operator, {"from": owner})
    with reverts("NotOperator", operator):
        coordinator.report([answered(ask("another"))], {"from": operator})
    coordinator.withdraw(ETHER, operator, earned, {"from": operator})


def test_only_the_owner_removes(shared, stranger, signers):
    with reverts("OwnableUnauthorizedAccount", stranger):
        shared.removeOperator(signers[0], {"from": stranger})


def test_who_is_no_operator_cannot_be_removed(shared, owner, stranger):
    with reverts("NotOperator", stranger):
        shared.removeOperator(stranger, {"from": owner})
