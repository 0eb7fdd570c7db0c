"""The constructor: who owns the coordinator, who reports, how long a request can be cancelled."""

from conftest import CANCEL_WINDOW, ETHER, reverts


def test_it_installs_owner_operators_quorum_and_cancel_window(InferenceCoordinator, owner, stranger, signers):
    coordinator = stranger.deploy(InferenceCoordinator, owner, signers, 2, CANCEL_WINDOW)
    assert coordinator.owner() == owner
    assert coordinator.operators() == signers
    assert (coordinator.quorum(), coordinator.cancelWindow()) == (2, CANCEL_WINDOW)


def test_operators_that_do_not_rise_are_refused(InferenceCoordinator, owner, signers):
    with reverts("OperatorsNotRising", signers[1], signers[0]):
        owner.deploy(InferenceCoordinator, owner, [signers[1], signers[0]], 1, CANCEL_WINDOW)


def test_a_quorum_that_nobody_can_reach_is_refused(InferenceCoordinator, owner, operator):
    with reverts("OperatorSetOutOfRange", 1, 2, 16):
        owner.deploy(InferenceCoordinator, owner, [operator], 2, CANCEL_WINDOW)


def test_a_cancel_window_above_ten_minutes_is_refused(InferenceCoordinator, owner, operator):
    with reverts("CancelWindowTooLong", 601, 600):
        owner.deploy(InferenceCoordinator, owner, [operator], 1, 601)


def test_nobody_is_no_owner(InferenceCoordinator, owner, operator):
    with reverts("OwnableInvalidOwner", ETHER):
        owner.deploy(InferenceCoordinator, ETHER, [operator], 1, CANCEL_WINDOW)
