"""depositWithPermit: tokens are put into the balance by a signature."""

from conftest import TOKEN_PRICE, reverts, sign_permit


def test_a_signature_is_enough(coordinator, token, holder, deadline):
    permit = sign_permit(token, holder, coordinator, TOKEN_PRICE, deadline)
    coordinator.depositWithPermit(token, TOKEN_PRICE, permit, {"from": holder})
    assert coordinator.balanceOf(token, holder) == TOKEN_PRICE


def test_a_permit_over_less_moves_nothing(coordinator, token, holder, deadline):
    permit = sign_permit(token, holder, coordinator, TOKEN_PRICE - 1, deadline)
    with reverts("ERC20InsufficientAllowance", coordinator, 0, TOKEN_PRICE):
        coordinator.depositWithPermit(token, TOKEN_PRICE, permit, {"from": holder})
