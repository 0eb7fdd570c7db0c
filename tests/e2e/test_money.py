"""Money in and out: balances, several pictures at once, a publisher's earnings, and a request taken back."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Running, start_up

from oracle.devnet.pictures import digits

PRICE = 10**14
WINDOW = 20  # seconds


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("pictures")
    found = []
    for digit in digits(3).items:
        found.append(folder / f"{digit.value}.png")
        found[-1].write_bytes(digit.png)
    return found


@pytest.fixture(scope="module")
def cancellable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    running = start_up(tmp_path_factory.mktemp("cancellable"), "--backend", "local", "--cancel-window", str(WINDOW))
    yield running
    assert running.stop() == 0


def test_given_several_pictures_when_asked_in_one_command_then_one_transaction_asks_all_and_each_is_answered(
    up: Running, pictures: list[Path]
) -> None:
    asked = up.json("request", *map(str, pictures), "--wait", timeout=110)["requests"]
    assert [one["labels"][0]["label"] for one in asked] == [path.stem for path in pictures]
    assert len({one["transaction"] for one in asked}) == 1
    assert [one["payment_wei"] for one in asked] == [PRICE] * 3


def test_given_a_deposit_when_a_picture_is_asked_from_the_balance_then_the_rest_can_be_withdrawn(
    up: Running, pictures: list[Path]
) -> None:
    assert up.json("deposit", "0.0003")["balance_wei"] == 3 * PRICE
    answer = up.json("request", str(pictures[0]), "--from-balance", "--wait")
    assert (answer["state"], answer["payment_wei"]) == ("fulfilled", PRICE)
    assert up.json("withdraw", "--role", "requester")["withdrawn_wei"] == 2 * PRICE
    poor = up.sibyl("request", str(pictures[0]), "--from-balance")
    assert poor.returncode == 1
    assert "BalanceTooLow" in poor.stderr
    assert "sibyl deposit" in poor.stderr


def test_given_answered_requests_when_the_publisher_withdraws_then_the_models_earnings_are_paid_out_once(
    up: Running, pictures: list[Path]
) -> None:
    assert up.json("request", str(pictures[0]), "--wait")["state"] == "fulfilled"
    paid = up.json("withdraw", "--model", "1")
    assert paid["withdrawn_wei"] > 0
    assert "earned nothing" in up.json("withdraw", "--model", "1")["error"]
    stranger = up.json("withdraw", "--model", "1", "--role", "requester")
    assert paid["account"] in stranger["error"]
    assert "no model 99" in up.json("withdraw", "--model", "99")["error"]


def test_given_no_cancel_window_when_a_request_is_cancelled_then_the_error_says_so(
    up: Running, pictures: list[Path]
) -> None:
    answer = up.json("request", str(pictures[0]), "--wait")
    refused = up.json("cancel", answer["request"])
    assert "no cancel window" in refused["error"]
    assert "sibyl refund" in refused["remedy"]


def test_given_a_request_in_its_window_when_cancelled_then_it_is_never_computed_and_one_that_is_not_is_answered_later(
    cancellable: Running, pictures: list[Path]
) -> None:
    taken_back = cancellable.json("request", str(pictures[0]))
    assert cancellable.json("cancel", taken_back["request"])["transaction"].startswith("0x")
    began = time.time()
    answered = cancellable.json("request", str(pictures[1]), "--wait")
    assert answered["state"] == "fulfilled"

    ended = cancellable.json("status", taken_back["request"])
    assert ended["status"] == "cancelled"
    assert {move["status"] for move in ended["timeline"]} <= {"seen", "confirmed", "cancelled"}
    ready = [m["at"] for m in cancellable.json("status", answered["request"])["timeline"] if m["status"] == "ready"]
    assert ready[0] >= began + WINDOW - 2  # the chain counts whole seconds

    shown = cancellable.sibyl("result", taken_back["request"])
    assert "its requester took it back" in shown.stdout
    again = cancellable.json("cancel", taken_back["request"])
    assert "has ended: cancelled" in again["error"]
    late = cancellable.sibyl("request", str(pictures[0]), "--deadline", "40")
    assert late.returncode == 1
    assert "--deadline" in late.stderr
    (chain, *_) = cancellable.json("check")
    assert f"cancelled for {WINDOW} s" in chain["detail"]
