"""Bad input: each piece ends in a recorded failure with its reason, and the good ones beside it are answered."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import struct
import zlib
from pathlib import Path

import pytest
from conftest import Running
from PIL import Image

from oracle.content.ipfs import IpfsContentStore
from oracle.devnet.pictures import digits
from oracle.domain import Cid


def png_claiming(width: int, height: int) -> bytes:
    """A small PNG whose header promises many pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(bytes(1 + width) * height, 9))
    return b"\x89PNG\r\n\x1a\n" + header + data + chunk(b"IEND", b"")


def animated_gif() -> bytes:
    frames = [Image.new("L", (28, 28), shade) for shade in (0, 120, 240)]
    out = io.BytesIO()
    frames[0].save(out, "GIF", save_all=True, append_images=frames[1:])
    return out.getvalue()


GOOD, *MORE = digits(3).items[::-1]
CASES = {
    "not an image": (b"just words\n" * 40, "image_unreadable"),
    "empty": (b"", "image_unreadable"),
    "truncated": (GOOD.png[: len(GOOD.png) // 2], "image_unreadable"),
    "50-megapixel bomb": (png_claiming(10_000, 5_000), "image_too_large"),
    "SVG": (b'<svg xmlns="http://www.w3.org/2000/svg"><rect width="9" height="9"/></svg>', "image_unsupported"),
    "animated GIF": (animated_gif(), "image_unsupported"),
}


def test_given_every_kind_of_bad_picture_among_good_ones_when_asked_at_once_then_each_has_the_end_of_its_own(
    up: Running, tmp_path: Path
) -> None:
    good = {f"good {digit.value}": digit.png for digit in (GOOD, *MORE)}
    bad = {name: data for name, (data, _) in CASES.items()}
    # One transaction asks about all, so that the bad ones lie between good ones in every queue.
    pictures = dict([*list(good.items())[:2], *bad.items(), *list(good.items())[2:]])
    paths = [tmp_path / name.replace(" ", "-") for name in pictures]
    for path, data in zip(paths, pictures.values(), strict=True):
        path.write_bytes(data)
    told = up.json("request", *map(str, paths), "--wait", timeout=110)["requests"]
    assert len({one["transaction"] for one in told}) == 1
    for name, answer in zip(pictures, told, strict=True):
        if name in good:
            assert answer["state"] == "fulfilled", name
            assert answer["labels"][0]["label"] == name.removeprefix("good ")
        else:
            assert (answer["state"], answer["reason"]) == ("failed", CASES[name][1]), name


def test_given_a_file_of_100_mb_when_sent_then_the_command_refuses_it_before_it_costs_anything(
    up: Running, tmp_path: Path
) -> None:
    big = tmp_path / "big.png"
    with big.open("wb") as out:
        out.truncate(100_000_000)
    done = up.sibyl("request", str(big))
    assert done.returncode == 1
    assert "more than 16,777,216 bytes" in done.stderr


def test_given_a_pinned_file_of_100_mb_when_asked_by_cid_then_the_oracle_refuses_it_by_the_size_that_its_root_tells(
    up: Running,
) -> None:
    async def pin() -> Cid:
        content = IpfsContentStore(up.facts["ipfs_api"])
        try:
            (cid,) = await content.add([bytes(100_000_000)])
        finally:
            await content.close()
        return cid

    answer = up.json("request", asyncio.run(pin()).text, "--wait", timeout=110)
    assert (answer["state"], answer["reason"]) == ("failed", "image_too_large")
    # What is counted while it comes never gets beyond the limit, and so cannot say this.
    assert "has 100,000,000 bytes" in up.json("status", str(answer["request"]))["detail"]


def test_given_a_cid_that_nobody_has_when_its_deadline_nears_then_it_fails_before_it_and_the_oracle_goes_on(
    up: Running,
) -> None:
    missing = Cid(b"\x01\x55\x12\x20" + hashlib.sha256(b"never stored").digest())
    answer = up.json("request", missing.text, "--wait", "--deadline", "32", timeout=110)
    assert (answer["state"], answer["reason"]) == ("failed", "image_unavailable")
    facts = up.json("status", str(answer["request"]))
    assert json.dumps(facts).count('"confirmed"') >= 2  # it was tried more than once


@pytest.mark.parametrize("text", ["no-such-file.png", "Qmnonsense", "bafynonsense"])
def test_given_neither_a_file_nor_a_cid_when_asked_then_the_command_says_so(up: Running, text: str) -> None:
    done = up.sibyl("request", text)
    assert done.returncode == 1
    assert "neither a file nor a CID" in done.stderr
