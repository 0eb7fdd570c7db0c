"""requestWithPermit: tokens and question in one transaction, with a signature in the place of an allowance."""

from conftest import TOKEN_PRICE, id_in, make_cid, reverts, sign_permit

PICTURE = make_cid("picture")


def test_a_signature_is_enough(coordinator, token, token_model, holder, deadline):
    permit = sign_permit(token, holder, coordinator, TOKEN_PRICE, deadline)
    tx = coordinator.requestWithPermit(token_model, PICTURE, 0, deadline, TOKEN_PRICE, permit, {"from": holder})
    assert coordinator.requestOf(id_in(tx))["requester"] == holder
    assert token.balanceOf(coordinator) == TOKEN_PRICE


def test_a_permit_that_somebody_used_before_does_no_harm(coordinator, token, token_model, holder, stranger, deadline):
    permit = sign_permit(token, holder, coordinator, TOKEN_PRICE, deadline)
    token.permit(holder, coordinator, TOKEN_PRICE, *permit, {"from": stranger})
    tx = coordinator.requestWithPermit(token_model, PICTURE, 0, deadline, TOKEN_PRICE, permit, {"from": holder})
    assert coordinator.requestOf(id_in(tx))["payment"] == TOKEN_PRICE


def test_somebody_elses_permit_moves_nothing(coordinator, token, token_model, holder, stranger, deadline):
    permit = sign_permit(token, holder, coordinator, TOKEN_PRICE, deadline)
    with reverts("ERC20InsufficientAllowance", coordinator, 0, TOKEN_PRICE):
        coordinator.requestWithPermit(token_model, PICTURE, 0, deadline, TOKEN_PRICE, permit, {"from": stranger})
