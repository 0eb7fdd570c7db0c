"""setPublishingFee, publishingFee: what publishing a model costs."""

from conftest import ETHER, PRICE, make_cid, reverts


def test_the_owner_changes_the_fee(coordinator, owner, stranger, payout):
    tx = coordinator.setPublishingFee(5, {"from": owner})
    assert tx.events["PublishingFeeSet"]["fee"] == coordinator.publishingFee() == 5
    coordinator.publishModel(make_cid("another"), PRICE, ETHER, payout, {"from": stranger, "value": 5})


def test_it_is_an_ether_at_most(coordinator, owner):
    with reverts("PriceNotRepresentable", 10**18 + 1):
        coordinator.setPublishingFee(10**18 + 1, {"from": owner})


def test_only_the_owner_changes_it(coordinator, stranger):
    with reverts("OwnableUnauthorizedAccount", stranger):
        coordinator.setPublishingFee(0, {"from": stranger})
