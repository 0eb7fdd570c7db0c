"""requestOf: what the chain still knows of a request, by its status."""

from conftest import ETHER, FAILED, FULFILLED, IMAGE_UNREADABLE, PENDING, PRICE, UNKNOWN, answered, failed


def test_an_id_never_seen_is_unknown(coordinator):
    assert coordinator.requestOf(b"\x11" * 32)["status"] == UNKNOWN


def test_a_pending_request_is_known_whole(coordinator, model, person, deadline, ask):
    known = coordinator.requestOf(ask("picture", 10_001)).dict()
    assert known == {
        "requester": person, "modelId": model, "payment": PRICE + 20_000 * 10**9, "callbackGas": 20_000,
        "deadline": deadline, "status": PENDING, "failure": 0,
    }


def test_a_failed_one_says_why(coordinator, person, ask, report):
    request_id = ask()
    report(failed(request_id))
    known = coordinator.requestOf(request_id)
    assert (known["requester"], known["payment"]) == (person, PRICE)
    assert (known["status"], known["failure"], known["callbackGas"]) == (FAILED, IMAGE_UNREADABLE, 0)


def test_of_an_answered_one_model_callback_and_status_are_left(coordinator, model, ask, report):
    request_id = ask("picture", 10_000)
    report(answered(request_id))
    known = coordinator.requestOf(request_id)
    assert (known["modelId"], known["callbackGas"], known["status"]) == (model, 10_000, FULFILLED)
    assert (known["requester"], known["payment"], known["deadline"]) == (ETHER, 0, 0)
