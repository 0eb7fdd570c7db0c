"""setPublisherShare, publisherShare: how a payment is shared, fixed for a model when it is published."""

import pytest
from conftest import ETHER, PRICE, answered, make_cid, reverts


def test_a_model_keeps_the_share_it_was_published_at(coordinator, model, owner, ask, report):
    request_id = ask()
    tx = coordinator.setPublisherShare(9000, {"from": owner})
    assert tx.events["PublisherShareSet"]["basisPoints"] == coordinator.publisherShare() == 9000
    report(answered(request_id))
    assert coordinator.earningsOf(model) == PRICE * 3 // 10


def test_models_published_later_get_the_new_one(coordinator, owner, payout):
    coordinator.setPublisherShare(9000, {"from": owner})
    coordinator.publishModel(make_cid("later"), PRICE, ETHER, payout, {"from": owner})
    assert coordinator.modelOf(coordinator.modelCount())["publisherShare"] == 9000


@pytest.mark.parametrize("share", [999, 9001])
def test_neither_side_can_be_left_with_nothing(coordinator, owner, share):
    with reverts("ShareOutOfRange", share, 1000, 9000):
        coordinator.setPublisherShare(share, {"from": owner})


def test_only_the_owner_changes_it(coordinator, stranger):
    with reverts("OwnableUnauthorizedAccount", stranger):
        coordinator.setPublisherShare(5000, {"from": stranger})
