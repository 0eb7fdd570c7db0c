"""DigitReader.ask, price, modelId, CALLBACK_GAS: a person asks through a contract."""

from conftest import PRICE, id_in, make_cid, reverts

A_SEVEN = make_cid("a seven")


def test_it_asks_its_model_for_a_callback(reader, coordinator, model, person, deadline):
    tx = reader.ask(A_SEVEN, deadline, {"from": person, "value": reader.price()})
    known = coordinator.requestOf(id_in(tx))
    assert (known["requester"], known["modelId"]) == (reader, model)
    assert known["callbackGas"] == reader.CALLBACK_GAS()
    assert reader.modelId() == model


def test_its_price_is_the_coordinators_with_the_callback(reader):
    assert reader.price() == PRICE + reader.CALLBACK_GAS() * 10**9


def test_what_was_sent_too_much_comes_back(reader, person, deadline):
    before = person.balance()
    reader.ask(A_SEVEN, deadline, {"from": person, "value": "1 ether"})
    assert before - person.balance() == reader.price()


def test_too_little_is_refused(reader, person, deadline):
    price = reader.price()
    with reverts("PaymentTooLow", price - 1, price):
        reader.ask(A_SEVEN, deadline, {"from": person, "value": price - 1})
