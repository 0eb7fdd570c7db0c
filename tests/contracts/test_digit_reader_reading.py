"""DigitReader.readings, resultCidOf, latestDigit, latestRequestId: the contract holds what was read."""

import pytest
from conftest import CALLBACK_FAILED, answered, id_in, make_cid, reverts


@pytest.fixture
def asked(reader, person, deadline):
    """The id of an open request of the contract."""
    return id_in(reader.ask(make_cid("a seven"), deadline, {"from": person, "value": reader.price()}))


def test_it_holds_the_digit_once_answered(reader, asked, report):
    assert reader.readings(asked)["answered"] is False
    tx = report(answered(asked, digit=7))
    assert reader.readings(asked).dict() == {"answered": True, "digit": 7, "confidenceBps": 9876}
    assert bytes(reader.resultCidOf(asked)) == make_cid("result")
    assert tx.events["DigitRead"]["digit"] == 7


def test_the_latest_digit_is_that_of_the_latest_answer(reader, asked, person, deadline, report):
    another = id_in(reader.ask(make_cid("a three"), deadline, {"from": person, "value": reader.price()}))
    report(answered(asked, digit=7))
    assert (reader.latestDigit(), bytes(reader.latestRequestId())) == (7, asked)
    report(answered(another, digit=3))
    assert (reader.latestDigit(), bytes(reader.latestRequestId())) == (3, another)


def test_before_the_first_answer_there_is_none(reader):
    with reverts("NothingRead"):
        reader.latestDigit()


def test_a_class_that_is_no_digit_is_not_taken(reader, asked, report, status_of):
    report(answered(asked, digit=10))
    assert status_of(asked) == CALLBACK_FAILED
    assert reader.readings(asked)["answered"] is False
