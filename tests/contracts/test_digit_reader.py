"""DigitReader: a contract that asks, and then holds the answer."""

from conftest import make_cid


def ask_reader(reader, person, deadline):
    tx = reader.ask(make_cid("a seven"), deadline, {"from": person, "value": reader.price()})
    return tx.events["InferenceRequested"]["requestId"]


def test_it_holds_the_digit_once_answered(reader, person, deadline, answer):
    request_id = ask_reader(reader, person, deadline)
    answered, _, _ = reader.readings(request_id)
    assert not answered
    answer(request_id, digit=7, confidence_bps=9876)
    answered, digit, confidence_bps = reader.readings(request_id)
    assert (answered, int(digit), int(confidence_bps)) == (True, 7, 9876)
    assert reader.latestDigit() == 7
    assert reader.resultCidOf(request_id) == "0x" + make_cid("result").hex()


def test_its_asker_gets_the_money_of_a_failed_request(reader, person, stranger, deadline, fail):
    request_id = ask_reader(reader, person, deadline)
    before = person.balance()
    fail(request_id)
    reader.reclaim(request_id, {"from": stranger})
    assert person.balance() - before == reader.price()
