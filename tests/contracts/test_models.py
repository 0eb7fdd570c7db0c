"""publishModel, setModelPrice, setModelActive: anyone brings a model and keeps charge of it."""

import brownie
from conftest import PRICE, make_cid


def test_anyone_publishes_a_model(coordinator, stranger, payout):
    coordinator.publishModel(make_cid("another"), PRICE, payout, {"from": stranger})
    number = coordinator.modelCount()
    kept_payout, active, price, manifest = coordinator.modelOf(number)
    assert (kept_payout, active, int(price)) == (payout, True, PRICE)
    assert str(manifest) == "0x" + make_cid("another").hex()
    assert coordinator.publisherOf(number) == stranger


def test_only_its_publisher_reprices_it(coordinator, model, publisher, stranger):
    with brownie.reverts(f"NotModelPublisher: {stranger.address.lower()}, {publisher.address.lower()}"):
        coordinator.setModelPrice(model, 2 * PRICE, {"from": stranger})
    coordinator.setModelPrice(model, 2 * PRICE, {"from": publisher})
    assert coordinator.quote(model, 0) == 2 * PRICE


def test_a_paused_model_takes_no_requests(coordinator, model, publisher):
    coordinator.setModelActive(model, False, {"from": publisher})
    with brownie.reverts(f"ModelInactive: {model}"):
        coordinator.quote(model, 0)
