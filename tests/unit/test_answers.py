"""The compact answer: what Python writes is what Solidity's ``ClassificationAnswer`` reads."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oracle.answers import AnswerEntry, ClassificationAnswer, tally

pytestmark = pytest.mark.unit

entries = st.builds(AnswerEntry, st.integers(0, 0xFFFF), st.integers(0, 10_000))


@given(st.lists(entries, min_size=1, max_size=7), st.integers(0, 255))
def test_whatever_is_encoded_decodes_to_itself(classes: list[AnswerEntry], familiarity: int) -> None:
    falling = sorted(classes, key=lambda entry: -entry.confidence_bps)
    answer = ClassificationAnswer(tuple(falling), familiarity)
    word = answer.encode()
    assert len(word) == 32
    assert ClassificationAnswer.decode(word) == answer


def test_given_a_seven_at_99_percent_when_encoded_then_the_word_is_the_documented_one() -> None:
    word = ClassificationAnswer((AnswerEntry(7, 9900), AnswerEntry(1, 100)), familiarity=0).encode()
    assert word.hex() == "01010200" + "000726ac" + "00010064" + "00" * 20


@given(st.binary(max_size=40))
def test_whatever_is_decoded_is_an_answer_or_a_value_error(word: bytes) -> None:
    try:
        answer = ClassificationAnswer.decode(word)
    except ValueError:
        return
    assert answer.encode() == word


@pytest.mark.parametrize("entries", ["00072711", "0007270f000200000003270f"])
def test_what_solidity_refuses_is_no_answer(entries: str) -> None:
    word = bytes.fromhex(f"0101{len(entries) // 8:02x}00{entries}").ljust(32, b"\0")
    with pytest.raises(ValueError, match="confidences"):
        ClassificationAnswer.decode(word)


@pytest.mark.parametrize(
    "answer",
    [
        ClassificationAnswer(()),
        ClassificationAnswer((AnswerEntry(1, 1),) * 8),
        ClassificationAnswer((AnswerEntry(0x10000, 1),)),
        ClassificationAnswer((AnswerEntry(1, 10_001),)),
        ClassificationAnswer((AnswerEntry(1, 1),), familiarity=256),
    ],
)
def test_given_a_field_out_of_range_when_encoded_then_it_is_refused(answer: ClassificationAnswer) -> None:
    with pytest.raises(ValueError, match=r"\d"):
        answer.encode()


def test_given_things_that_were_found_when_told_then_the_most_frequent_come_first_and_none_is_said_so() -> None:
    assert tally(["star", "circle", "star", "square", "circle", "star"]) == "3 x star, 2 x circle, square"
    assert tally(iter(["b", "a"])) == "a, b"
    assert tally([]) == "nothing"
