"""verifyResult: anyone who has an answer can check it against the chain, years later."""

from conftest import answered, failed, make_answer, make_cid

RESULT, ANSWER = make_cid("result"), make_answer(7, 9876)


def test_the_very_result_is_true_and_any_other_is_not(coordinator, ask, report):
    request_id = ask()
    report(answered(request_id))
    assert coordinator.verifyResult(request_id, RESULT, ANSWER)
    assert not coordinator.verifyResult(request_id, RESULT, make_answer(8, 9876))
    assert not coordinator.verifyResult(request_id, make_cid("another"), ANSWER)


def test_what_was_not_answered_verifies_nothing(coordinator, ask, report):
    pending, refused = ask("pending"), ask("refused")
    report(failed(refused))
    for request_id in (pending, refused, b"\x11" * 32):
        assert not coordinator.verifyResult(request_id, RESULT, ANSWER)
