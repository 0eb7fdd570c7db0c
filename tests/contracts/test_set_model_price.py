"""setModelPrice: a publisher changes what new requests pay."""

from conftest import PRICE, reverts


def test_its_publisher_reprices_a_model(coordinator, model, publisher):
    tx = coordinator.setModelPrice(model, 2 * PRICE, {"from": publisher})
    assert dict(tx.events["ModelRepriced"]) == {"modelId": model, "price": 2 * PRICE}
    assert coordinator.quote(model, 0) == 2 * PRICE


def test_nobody_else_does(coordinator, model, publisher, owner):
    with reverts("NotModelPublisher", owner, publisher):
        coordinator.setModelPrice(model, 2 * PRICE, {"from": owner})


def test_a_request_keeps_the_price_it_was_made_at(coordinator, model, publisher, ask):
    request_id = ask()
    coordinator.setModelPrice(model, 2 * PRICE, {"from": publisher})
    assert coordinator.requestOf(request_id)["payment"] == PRICE


def test_a_price_above_a_thousand_ether_is_refused(coordinator, model, publisher):
    price = 1000 * 10**18 + 10**9
    with reverts("PriceNotRepresentable", price):
        coordinator.setModelPrice(model, price, {"from": publisher})


def test_an_unknown_model_has_no_price(coordinator, model, publisher):
    with reverts("UnknownModel", 99):
        coordinator.setModelPrice(99, PRICE, {"from": publisher})
