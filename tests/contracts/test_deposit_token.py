"""depositToken: tokens are put into the balance by an allowance."""

from conftest import ETHER, TOKEN_PRICE, reverts


def test_tokens_are_added_to_the_balance(coordinator, token, holder):
    token.approve(coordinator, TOKEN_PRICE, {"from": holder})
    tx = coordinator.depositToken(token, TOKEN_PRICE, {"from": holder})
    assert dict(tx.events["Deposited"]) == {"token": token, "account": holder, "amount": TOKEN_PRICE}
    assert coordinator.balanceOf(token, holder) == token.balanceOf(coordinator) == TOKEN_PRICE


def test_without_an_allowance_the_token_refuses(coordinator, token, holder):
    with reverts("ERC20InsufficientAllowance", coordinator, 0, TOKEN_PRICE):
        coordinator.depositToken(token, TOKEN_PRICE, {"from": holder})


def test_ether_is_no_token(coordinator, holder):
    with reverts("TokenUnsupported", ETHER):
        coordinator.depositToken(ETHER, 1, {"from": holder})


def test_a_token_that_takes_a_fee_is_refused(FeeOnTransferToken, coordinator, owner, holder):
    token = owner.deploy(FeeOnTransferToken, 18)
    token.mint(holder, TOKEN_PRICE, {"from": owner})
    token.approve(coordinator, TOKEN_PRICE, {"from": holder})
    with reverts("TokenTransferInexact", token, TOKEN_PRICE * 99 // 100, TOKEN_PRICE):
        coordinator.depositToken(token, TOKEN_PRICE, {"from": holder})
