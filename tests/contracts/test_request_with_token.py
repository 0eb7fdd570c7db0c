"""requestWithToken: a holder of tokens allows the coordinator to take them, then asks."""

from conftest import PRICE, TOKEN_PRICE, answered, failed, id_in, make_cid, reverts

PICTURE = make_cid("picture")


def ask(coordinator, token, token_model, holder, deadline):
    token.approve(coordinator, TOKEN_PRICE, {"from": holder})
    return coordinator.requestWithToken(token_model, PICTURE, 0, deadline, TOKEN_PRICE, {"from": holder})


def test_the_tokens_are_held_for_the_answer(coordinator, token, token_model, holder, deadline):
    before = token.balanceOf(holder)
    tx = ask(coordinator, token, token_model, holder, deadline)
    assert coordinator.requestOf(id_in(tx))["payment"] == TOKEN_PRICE
    assert before - token.balanceOf(holder) == token.balanceOf(coordinator) == TOKEN_PRICE


def test_an_answer_pays_model_and_operator_in_tokens(
    coordinator, token, token_model, holder, operator, deadline, report
):
    report(answered(id_in(ask(coordinator, token, token_model, holder, deadline))))
    assert coordinator.earningsOf(token_model) == TOKEN_PRICE * 3 // 10
    assert coordinator.balanceOf(token, operator) == TOKEN_PRICE * 7 // 10


def test_a_failure_gives_the_tokens_back_to_the_balance(coordinator, token, token_model, holder, deadline, report):
    report(failed(id_in(ask(coordinator, token, token_model, holder, deadline))))
    assert coordinator.balanceOf(token, holder) == TOKEN_PRICE


def test_a_price_above_what_was_agreed_to_is_refused(coordinator, token_model, holder, deadline):
    with reverts("PaymentAboveMaximum", TOKEN_PRICE, TOKEN_PRICE - 1):
        coordinator.requestWithToken(token_model, PICTURE, 0, deadline, TOKEN_PRICE - 1, {"from": holder})


def test_without_an_allowance_the_token_refuses(coordinator, token, token_model, holder, deadline):
    with reverts("ERC20InsufficientAllowance", coordinator, 0, TOKEN_PRICE):
        coordinator.requestWithToken(token_model, PICTURE, 0, deadline, TOKEN_PRICE, {"from": holder})


def test_a_model_priced_in_ether_is_asked_otherwise(coordinator, model, holder, deadline):
    with reverts("ModelPricedInEther", model):
        coordinator.requestWithToken(model, PICTURE, 0, deadline, PRICE, {"from": holder})


def test_a_token_that_takes_a_fee_cannot_pay(FeeOnTransferToken, coordinator, owner, holder, payout, deadline):
    token = owner.deploy(FeeOnTransferToken, 18)
    token.mint(holder, TOKEN_PRICE, {"from": owner})
    token.approve(coordinator, TOKEN_PRICE, {"from": holder})
    coordinator.publishModel(make_cid("manifest"), TOKEN_PRICE, token, payout, {"from": owner})
    number = coordinator.modelCount()
    with reverts("TokenTransferInexact", token, TOKEN_PRICE * 99 // 100, TOKEN_PRICE):
        coordinator.requestWithToken(number, PICTURE, 0, deadline, TOKEN_PRICE, {"from": holder})
