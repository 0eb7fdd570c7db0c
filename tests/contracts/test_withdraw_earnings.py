"""withdrawEarnings, earningsOf: a model's payout account fetches what the model earned."""

import pytest
from conftest import ETHER, PRICE, TOKEN_PRICE, answered, failed, id_in, make_cid, reverts


@pytest.fixture
def earned(ask, report):
    """The model answered one request."""
    report(answered(ask()))
    return PRICE * 3 // 10


def test_the_payout_account_takes_all_of_it_to_any_account(coordinator, model, payout, stranger, earned):
    assert coordinator.earningsOf(model) == earned
    before = stranger.balance()
    tx = coordinator.withdrawEarnings(model, stranger, {"from": payout})
    assert tx.return_value == earned
    assert dict(tx.events["EarningsWithdrawn"]) == {"modelId": model, "to": stranger, "amount": earned}
    assert stranger.balance() - before == earned
    assert coordinator.earningsOf(model) == 0


def test_its_publisher_does_not(coordinator, model, publisher, payout, earned):
    with reverts("NotModelPayout", publisher, payout):
        coordinator.withdrawEarnings(model, publisher, {"from": publisher})


def test_nothing_is_paid_twice(coordinator, model, payout, earned):
    coordinator.withdrawEarnings(model, payout, {"from": payout})
    with reverts("NothingEarned", model):
        coordinator.withdrawEarnings(model, payout, {"from": payout})


def test_a_failure_earns_nothing(coordinator, model, ask, report):
    report(failed(ask()))
    assert coordinator.earningsOf(model) == 0


def test_a_model_priced_in_a_token_earns_tokens(coordinator, token, token_model, holder, payout, deadline, report):
    token.approve(coordinator, TOKEN_PRICE, {"from": holder})
    tx = coordinator.requestWithToken(token_model, make_cid("picture"), 0, deadline, TOKEN_PRICE, {"from": holder})
    report(answered(id_in(tx)))
    coordinator.withdrawEarnings(token_model, payout, {"from": payout})
    assert token.balanceOf(payout) == TOKEN_PRICE * 3 // 10


def test_an_unknown_model_earns_nothing(coordinator, payout):
    with reverts("UnknownModel", 99):
        coordinator.withdrawEarnings(99, payout, {"from": payout})


def test_the_money_is_not_sent_to_nobody(coordinator, model, payout, earned):
    with reverts("ZeroAddress"):
        coordinator.withdrawEarnings(model, ETHER, {"from": payout})


def test_a_receiver_that_takes_no_ether_leaves_it_where_it_is(
    EtherRefuser, coordinator, model, owner, payout, earned
):
    refuser = owner.deploy(EtherRefuser, coordinator)
    with reverts("TransferFailed", refuser, earned):
        coordinator.withdrawEarnings(model, refuser, {"from": payout})
    assert coordinator.earningsOf(model) == earned
