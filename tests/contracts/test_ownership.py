"""transferOwnership, acceptOwnership, pendingOwner, renounceOwnership: a coordinator changes hands in two steps."""

from conftest import ETHER, reverts


def test_the_new_owner_must_accept(coordinator, owner, person):
    coordinator.transferOwnership(person, {"from": owner})
    assert (coordinator.owner(), coordinator.pendingOwner()) == (owner, person)
    coordinator.acceptOwnership({"from": person})
    assert (coordinator.owner(), coordinator.pendingOwner()) == (person, ETHER)


def test_nobody_else_can(coordinator, owner, person, stranger):
    coordinator.transferOwnership(person, {"from": owner})
    with reverts("OwnableUnauthorizedAccount", stranger):
        coordinator.acceptOwnership({"from": stranger})


def test_a_wrong_address_can_be_corrected(coordinator, owner, person, stranger):
    coordinator.transferOwnership(stranger, {"from": owner})
    coordinator.transferOwnership(person, {"from": owner})
    with reverts("OwnableUnauthorizedAccount", stranger):
        coordinator.acceptOwnership({"from": stranger})


def test_a_stranger_gives_nothing_away(coordinator, stranger):
    with reverts("OwnableUnauthorizedAccount", stranger):
        coordinator.transferOwnership(stranger, {"from": stranger})


def test_an_owner_cannot_leave_the_coordinator_without_one(coordinator, owner):
    with reverts("OwnershipNotRenounceable"):
        coordinator.renounceOwnership({"from": owner})
    assert coordinator.owner() == owner
