"""pause, unpause: new requests stop, and nothing else does."""

import pytest
from conftest import ETHER, FULFILLED, PRICE, TOKEN_PRICE, answered, id_in, make_cid, reverts, terms_in

PICTURE = make_cid("picture")
NO_PERMIT = (0, 0, b"\0" * 32, b"\0" * 32)


@pytest.mark.parametrize(
    ("function", "arguments", "value"),
    [
        ("request", lambda ether, token, deadline: (ether, PICTURE, 0, deadline), PRICE),
        ("requestMany", lambda ether, token, deadline: (ether, [PICTURE], 0, deadline), PRICE),
        ("requestFromBalance", lambda ether, token, deadline: (ether, PICTURE, 0, deadline, PRICE), 0),
        ("requestManyFromBalance", lambda ether, token, deadline: (ether, [PICTURE], 0, deadline, PRICE), 0),
        ("requestWithToken", lambda ether, token, deadline: (token, PICTURE, 0, deadline, TOKEN_PRICE), 0),
        (
            "requestWithPermit",
            lambda ether, token, deadline: (token, PICTURE, 0, deadline, TOKEN_PRICE, NO_PERMIT),
            0,
        ),
    ],
)
def test_no_request_is_made_while_paused(
    coordinator, model, token_model, owner, person, deadline, function, arguments, value
):
    coordinator.pause({"from": owner})
    assert coordinator.paused()
    with reverts("EnforcedPause"):
        getattr(coordinator, function)(*arguments(model, token_model, deadline), {"from": person, "value": value})


def test_everything_else_goes_on(coordinator, owner, operator, person, deadline, ask, ask_tx, report, wait_until):
    answered_one, cancelled, refunded = ask("answered"), ask_tx(), ask("refunded")
    coordinator.pause({"from": owner})
    report(answered(answered_one))
    coordinator.cancel(terms_in(cancelled), {"from": person})
    coordinator.deposit({"from": person, "value": PRICE})
    coordinator.withdraw(ETHER, person, PRICE, {"from": person})
    coordinator.withdraw(ETHER, operator, coordinator.balanceOf(ETHER, operator), {"from": operator})
    wait_until(deadline + 1)
    coordinator.refund(refunded, {"from": person})
    assert coordinator.requestOf(answered_one)["status"] == FULFILLED


def test_after_the_pause_requests_are_accepted_again(coordinator, owner, ask_tx):
    coordinator.pause({"from": owner})
    coordinator.unpause({"from": owner})
    assert id_in(ask_tx())


def test_only_the_owner_pauses_and_unpauses(coordinator, owner, stranger):
    with reverts("OwnableUnauthorizedAccount", stranger):
        coordinator.pause({"from": stranger})
    coordinator.pause({"from": owner})
    with reverts("OwnableUnauthorizedAccount", stranger):
        coordinator.unpause({"from": stranger})
