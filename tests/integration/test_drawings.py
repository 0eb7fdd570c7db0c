"""Results are drawn in processes of their own, which nothing that goes wrong there outlives."""

from __future__ import annotations

import asyncio
import io
import os
import signal
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image

from oracle.content.drawings import ChildProcessIllustrator
from provider_images.runtime.masks import encode_mask

pytestmark = pytest.mark.integration

LABELS = {"task": "classification", "labels": [{"index": 1, "label": "seven", "probability": 0.9}]}


@pytest.fixture
async def illustrator() -> AsyncIterator[ChildProcessIllustrator]:
    made = ChildProcessIllustrator()
    yield made
    await made.close()
    assert not children()


def children() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "drawing_child" in " ".join(child.cmdline())]


def a_document(width: int, height: int) -> dict[str, Any]:
    counts = encode_mask(np.ones((2, 3), bool), 1, 1, height, width)
    segment = {
        "index": 0, "label": "star", "score": 0.9, "bbox": [1, 1, 3, 2], "area": 6,
        "segmentation": {"size": [height, width], "counts": counts},
    }  # fmt: skip
    return {
        "task": "instance-segmentation",
        "image": {"width": width, "height": height},
        "segments": [segment],
        "found": 1,
    }


def a_picture(width: int, height: int, orientation: int = 1) -> bytes:
    target = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (width, height), "teal").save(target, "JPEG", exif=exif)
    return target.getvalue()


async def test_given_results_of_both_kinds_when_drawn_then_each_has_its_files(
    illustrator: ChildProcessIllustrator,
) -> None:
    bars, scene = await asyncio.gather(
        illustrator.draw(LABELS, b""), illustrator.draw(a_document(40, 30), a_picture(40, 30))
    )
    assert bars.keys() == {"labels"}
    assert scene.keys() == {"mask", "overlay"}
    assert Image.open(io.BytesIO(scene["mask"])).size == (40, 30)


async def test_given_a_camera_held_upright_when_drawn_then_the_drawing_is_upright(
    illustrator: ChildProcessIllustrator,
) -> None:
    files = await illustrator.draw(a_document(30, 40), a_picture(40, 30, orientation=6))
    overlay = Image.open(io.BytesIO(files["overlay"]))
    assert overlay.height > overlay.width


@pytest.mark.parametrize("picture", [b"", b"no picture", a_picture(41, 30)])
async def test_given_a_picture_that_does_not_fit_when_drawn_then_there_is_no_drawing_and_no_harm(
    illustrator: ChildProcessIllustrator, picture: bytes
) -> None:
    assert await illustrator.draw(a_document(40, 30), picture) == {}
    assert await illustrator.draw(LABELS, b"") != {}


async def test_given_a_process_that_was_killed_when_drawn_then_another_draws(
    illustrator: ChildProcessIllustrator,
) -> None:
    await illustrator.draw(LABELS, b"")
    (child,) = children()
    os.kill(child.pid, signal.SIGKILL)
    assert (await illustrator.draw(LABELS, b"")).keys() == {"labels"}


async def test_given_a_process_that_hangs_when_drawn_then_it_is_given_up_in_time() -> None:
    illustrator = ChildProcessIllustrator(timeout=1.0)
    try:
        await illustrator.draw(LABELS, b"")
        (child,) = children()
        child.suspend()
        async with asyncio.timeout(5):
            assert await illustrator.draw(LABELS, b"") == {}
        assert (await illustrator.draw(LABELS, b"")).keys() == {"labels"}
    finally:
        await illustrator.close()
    assert not children()
