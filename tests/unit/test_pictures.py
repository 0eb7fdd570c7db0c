"""Pictures for the demo: real digits where they are at hand, our own pen's where not."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from oracle.devnet.pictures import data_folder, digits

pytestmark = pytest.mark.unit


def test_given_no_test_data_when_digits_are_wanted_then_our_own_pen_draws_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIBYL_TEST_DATA", "/nowhere")
    drawn = digits(12)
    assert "pen" in drawn.source
    assert [digit.value for digit in drawn.items] == [*range(10), 0, 1]
    assert len({digit.png for digit in drawn.items}) == 12
    assert Image.open(io.BytesIO(drawn.items[0].png)).format == "PNG"


@pytest.mark.skipif(data_folder() is None, reason="../shared/data is not beside the project")
def test_given_test_data_when_digits_are_wanted_then_they_are_held_out_ones_of_mnist() -> None:
    real = digits(30)
    assert "MNIST" in real.source
    assert [digit.value for digit in real.items] == [n % 10 for n in range(30)]
    assert Image.open(io.BytesIO(real.items[7].png)).size == (28, 28)
