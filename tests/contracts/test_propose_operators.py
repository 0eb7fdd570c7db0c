"""proposeOperators, proposal, withdrawProposal: a new set of operators is announced a week ahead."""

from conftest import reverts
from eth_abi import encode
from eth_utils import keccak

WEEK = 7 * 24 * 3600 + 1
NONE = b"\0" * 32


def test_a_proposal_waits_a_week_and_changes_nothing(coordinator, owner, operator, signers):
    tx = coordinator.proposeOperators(signers, 2, {"from": owner})
    event = tx.events["OperatorsProposed"]
    assert (list(event["operators"]), event["quorum"]) == (signers, 2)
    expected = keccak(encode(["address[]", "uint256"], [[s.address for s in signers], 2]))
    proposal_hash, effective_at = coordinator.proposal()
    assert (bytes(proposal_hash), effective_at) == (expected, tx.timestamp + WEEK)
    assert coordinator.operators() == [operator]


def test_only_the_owner_proposes(coordinator, stranger, signers):
    with reverts("OwnableUnauthorizedAccount", stranger):
        coordinator.proposeOperators(signers, 2, {"from": stranger})


def test_operators_stand_in_rising_order(coordinator, owner, signers):
    with reverts("OperatorsNotRising", signers[0], signers[0]):
        coordinator.proposeOperators([signers[0], signers[0]], 1, {"from": owner})


def test_a_quorum_above_the_set_is_refused(coordinator, owner, signers):
    with reverts("OperatorSetOutOfRange", 3, 4, 16):
        coordinator.proposeOperators(signers, 4, {"from": owner})


def test_a_proposal_can_be_withdrawn(coordinator, owner, signers):
    coordinator.proposeOperators(signers, 2, {"from": owner})
    assert "OperatorsProposalWithdrawn" in coordinator.withdrawProposal({"from": owner}).events
    assert (bytes(coordinator.proposal()[0]), coordinator.proposal()[1]) == (NONE, 0)
    with reverts("NoSuchProposal", NONE):
        coordinator.withdrawProposal({"from": owner})


def test_only_the_owner_withdraws_it(coordinator, owner, stranger, signers):
    coordinator.proposeOperators(signers, 2, {"from": owner})
    with reverts("OwnableUnauthorizedAccount", stranger):
        coordinator.withdrawProposal({"from": stranger})
