"""applyOperators: a week after its proposal a set is put in force."""

import pytest
from conftest import ETHER, answered, reverts


@pytest.fixture
def effective_at(coordinator, owner, signers):
    """The moment from which on a proposed set of three, two of whom must sign, can be put in force."""
    coordinator.proposeOperators(signers, 2, {"from": owner})
    return coordinator.proposal()[1]


def test_the_new_set_takes_the_place_of_the_old(
    coordinator, owner, operator, signers, effective_at, ask, wait_until
):
    wait_until(effective_at)
    tx = coordinator.applyOperators(signers, 2, {"from": owner})
    assert tx.events["OperatorsSet"]["quorum"] == 2
    assert (coordinator.operators(), coordinator.quorum()) == (signers, 2)
    assert coordinator.proposal()[1] == 0
    with reverts("NotOperator", operator):
        coordinator.report([answered(b"\x11" * 32)], {"from": operator})


def test_not_a_second_earlier(coordinator, owner, signers, effective_at, wait_until):
    wait_until(effective_at - 60)
    with reverts("ProposalTooEarly", effective_at):
        coordinator.applyOperators(signers, 2, {"from": owner})


def test_only_what_was_proposed(coordinator, owner, signers, effective_at, wait_until):
    wait_until(effective_at)
    with reverts("NoSuchProposal", bytes(coordinator.proposal()[0])):
        coordinator.applyOperators(signers, 1, {"from": owner})


def test_only_by_the_owner(coordinator, stranger, signers, effective_at, wait_until):
    wait_until(effective_at)
    with reverts("OwnableUnauthorizedAccount", stranger):
        coordinator.applyOperators(signers, 2, {"from": stranger})


def test_an_operator_in_both_sets_keeps_its_balance(coordinator, owner, operator, ask, report, wait_until):
    report(answered(ask()))
    earned = coordinator.balanceOf(ETHER, operator)
    coordinator.proposeOperators([operator], 1, {"from": owner})
    wait_until(coordinator.proposal()[1])
    coordinator.applyOperators([operator], 1, {"from": owner})
    assert coordinator.isOperator(operator)
    assert coordinator.balanceOf(ETHER, operator) == earned > 0
