"""GalleryGate: a gallery that lets a picture in when enough of what it collects is in it. Here: two cats."""

import pytest
from conftest import CALLBACK_FAILED, NO_FAILURE, PRICE, answered, failed, id_in, make_cid, reverts

CAT, DOG = 17, 18  # class indices of the model
MIN_SCORE = 9000  # basis points
CATS = make_cid("two cats")


@pytest.fixture(scope="module")
def gate(GalleryGate, coordinator, model, owner):
    return owner.deploy(GalleryGate, coordinator, model, CAT, MIN_SCORE, 2)


@pytest.fixture
def submit(gate, person, deadline):
    """Submits a picture as the person and gives the id of its request."""
    return lambda cid=CATS: id_in(gate.submit(cid, deadline, {"from": person, "value": gate.price()}))


def segmented(request_id, *found):
    """An item of a report: the instances found in a picture of 640 by 480, each a class and a score."""
    count = len(found)
    head = bytes((1, 2, count, 0)) + b"".join(number.to_bytes(2, "big") for number in (count, 640, 480))
    box = b"".join(number.to_bytes(2, "big") for number in (10, 20, 110, 220)) + (12_345).to_bytes(4, "big")
    instances = [kind.to_bytes(2, "big") + score.to_bytes(2, "big") + box for kind, score in found]
    return (request_id, NO_FAILURE, make_cid("result"), head.ljust(32, b"\0") + b"".join(instances))


# The constructor, modelId, classIndex, minScoreBps, minCount


def test_what_it_collects_is_fixed(gate, model):
    assert (gate.modelId(), gate.classIndex()) == (model, CAT)
    assert (gate.minScoreBps(), gate.minCount()) == (MIN_SCORE, 2)


def test_more_than_an_answer_can_say_cannot_be_asked_for(GalleryGate, coordinator, model, owner):
    for count in (0, 32):
        with reverts("CountOutOfRange", count, 31):
            owner.deploy(GalleryGate, coordinator, model, CAT, MIN_SCORE, count)
    with reverts("ScoreOutOfRange", 10_001, 10_000):
        owner.deploy(GalleryGate, coordinator, model, CAT, 10_001, 2)


# price, CALLBACK_GAS


def test_to_submit_costs_a_prediction_and_its_callback(gate):
    assert gate.price() == PRICE + gate.CALLBACK_GAS() * 10**9


# submit, isInside, size


def test_a_picture_with_enough_cats_is_let_in(gate, submit, report):
    request_id = submit()
    assert not gate.isInside(CATS)
    tx = report(segmented(request_id, (CAT, 9500), (DOG, 9400), (CAT, 9000)))
    assert tx.events["PictureAdmitted"]["count"] == 2
    assert gate.isInside(CATS)
    assert gate.size() == 1


@pytest.mark.parametrize(
    "found", [[(CAT, 9500), (DOG, 9400)], [(CAT, 9500), (CAT, 8999)], []], ids=["a dog", "a blurred cat", "nothing"]
)
def test_one_with_too_few_is_turned_away(gate, submit, report, found):
    tx = report(segmented(submit(), *found))
    assert "PictureTurnedAway" in tx.events
    assert not gate.isInside(CATS)
    assert gate.size() == 0


def test_a_picture_that_is_inside_is_not_looked_at_again(gate, submit, report, person, deadline):
    report(segmented(submit(), (CAT, 9500), (CAT, 9000)))
    with reverts("AlreadyAdmitted", CATS):
        gate.submit(CATS, deadline, {"from": person, "value": gate.price()})


def test_the_same_picture_twice_at_once_is_counted_once(gate, submit, report):
    first, second = submit(), submit()
    report(segmented(first, (CAT, 9500), (CAT, 9000)), segmented(second, (CAT, 9500), (CAT, 9000)))
    assert gate.size() == 1


def test_what_was_sent_too_much_comes_back(gate, person, deadline):
    before = person.balance()
    gate.submit(CATS, deadline, {"from": person, "value": "1 ether"})
    assert before - person.balance() == gate.price()


def test_an_answer_of_another_kind_opens_nothing(gate, submit, report, status_of):
    request_id = submit()
    report(answered(request_id, CAT))  # that of a classifier
    assert status_of(request_id) == CALLBACK_FAILED
    assert not gate.isInside(CATS)


# reclaim


def test_who_submitted_is_paid_back_when_nobody_could_look(gate, submit, report, person, stranger):
    before = person.balance()
    request_id = submit()
    report(failed(request_id))
    gate.reclaim(request_id, {"from": stranger})
    assert person.balance() == before
    assert not gate.isOpen(request_id)
