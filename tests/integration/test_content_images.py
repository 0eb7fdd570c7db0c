from __future__ import annotations

import asyncio
import io
import os
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
from PIL import Image

from oracle.content.images import ChildProcessInspector
from oracle.domain import FailureReason, ImageFacts
from oracle.errors import ImageRejected, Retryable

pytestmark = pytest.mark.integration

BAD_IMAGES = Path(__file__).parents[2].parent / "shared" / "data" / "bad_images"


def picture(kind: str, size: tuple[int, int] = (28, 20), mode: str = "RGB", frames: int = 1) -> bytes:
    images = [Image.effect_noise(size, 50 + n).convert(mode) for n in range(frames)]
    buffer = io.BytesIO()
    if frames > 1:
        images[0].save(buffer, kind, save_all=True, append_images=images[1:])
    else:
        images[0].save(buffer, kind)
    return buffer.getvalue()


def blank(width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("1", (width, height)).save(buffer, "PNG")
    return buffer.getvalue()


def header(width: int, height: int) -> bytes:
    """A PNG that is sound up to its first row."""
    data = blank(1, 1)
    chunk = data[12:16] + width.to_bytes(4) + height.to_bytes(4) + data[24:29]
    return data[:12] + chunk + zlib.crc32(chunk).to_bytes(4) + data[33:]


def wrong_checksum() -> bytes:
    """A PNG whose pixels decode although the checksum over them is wrong."""
    data = bytearray(blank(1, 1))
    data[-13] ^= 1
    return bytes(data)


@pytest.fixture
async def inspector() -> AsyncIterator[ChildProcessInspector]:
    inspector = ChildProcessInspector()
    yield inspector
    await inspector.close()


def decoders() -> list[psutil.Process]:
    return [p for p in psutil.Process().children() if "image_child.py" in " ".join(p.cmdline())]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
async def test_a_whole_picture_of_an_accepted_format_is_described(inspector: ChildProcessInspector, kind: str) -> None:
    data = picture(kind)
    assert await inspector.inspect(data) == ImageFacts(format=kind, width=28, height=20, size=len(data))


async def test_a_cameras_picture_with_several_views_is_a_jpeg(inspector: ChildProcessInspector) -> None:
    assert (await inspector.inspect(picture("MPO", frames=2))).format == "JPEG"


REJECTED = {
    "nothing": (b"", FailureReason.IMAGE_UNREADABLE, "empty"),
    "text": (b"not a picture at all", FailureReason.IMAGE_UNREADABLE, "not a PNG"),
    "svg": (
        b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>',
        FailureReason.IMAGE_UNSUPPORTED,
        "SVG",
    ),
    "bmp": (picture("BMP"), FailureReason.IMAGE_UNSUPPORTED, "BMP"),
    "tiff": (picture("TIFF"), FailureReason.IMAGE_UNSUPPORTED, "TIFF"),
    "animated gif": (picture("GIF", frames=3), FailureReason.IMAGE_UNSUPPORTED, "animated"),
    "animated webp": (picture("WEBP", frames=3), FailureReason.IMAGE_UNSUPPORTED, "animated"),
    "animated png": (picture("PNG", frames=3), FailureReason.IMAGE_UNSUPPORTED, "animated"),
    "truncated png": (picture("PNG", (300, 300))[:-500], FailureReason.IMAGE_UNREADABLE, "truncated"),
    "truncated jpeg": (picture("JPEG", (300, 300))[:-500], FailureReason.IMAGE_UNREADABLE, "truncated"),
    "a png with a wrong checksum": (wrong_checksum(), FailureReason.IMAGE_UNREADABLE, "IDAT"),
    "a bomb of 50 megapixels": (blank(10_000, 5_000), FailureReason.IMAGE_TOO_LARGE, "50"),
    "a header that claims 10 gigapixels": (header(100_000, 100_000), FailureReason.IMAGE_TOO_LARGE, "twice the 40"),
    "17 MiB": (bytes(17 * 1024 * 1024), FailureReason.IMAGE_TOO_LARGE, "17,825,792 bytes"),
}


@pytest.mark.parametrize("name", REJECTED)
async def test_what_is_not_accepted_is_rejected_with_its_reason(inspector: ChildProcessInspector, name: str) -> None:
    data, reason, words = REJECTED[name]
    with pytest.raises(ImageRejected, match=words) as caught:
        await inspector.inspect(data)
    assert caught.value.reason is reason


async def test_every_file_known_to_break_decoders_gets_a_verdict(inspector: ChildProcessInspector) -> None:
    files = sorted(path for path in BAD_IMAGES.rglob("*") if path.is_file()) if BAD_IMAGES.is_dir() else []
    if not files:
        pytest.skip(f"the corpus of broken pictures is not on this machine ({BAD_IMAGES.name})")
    verdicts: dict[str, object] = {}
    for path in files:
        try:
            verdicts[path.name] = await inspector.inspect(path.read_bytes())
        except ImageRejected as error:
            verdicts[path.name] = error.reason
    assert len(verdicts) == len(files)
    accepted = [name for name, verdict in verdicts.items() if isinstance(verdict, ImageFacts)]
    # PngSuite's files that begin with x are corrupt by design, the others whole.
    assert not [name for name in accepted if name.startswith("png__x")]
    assert len([name for name in accepted if name.startswith("png__")]) >= 160
    assert await inspector.inspect(picture("PNG"))


async def test_one_decoder_serves_many_pictures(inspector: ChildProcessInspector) -> None:
    data = picture("PNG")
    await inspector.inspect(data)
    first = [p.pid for p in decoders()]
    await asyncio.gather(*(inspector.inspect(data) for _ in range(50)))
    assert [p.pid for p in decoders()] == first
    assert len(first) == 1


async def test_given_a_decoder_that_hangs_when_the_time_is_over_then_it_is_replaced() -> None:
    inspector = ChildProcessInspector(timeout=2)
    try:
        await inspector.inspect(picture("PNG"))
        (child,) = decoders()
        child.suspend()
        started = time.monotonic()
        with pytest.raises(ImageRejected, match="more than 2 s on the clock"):
            await inspector.inspect(picture("PNG"))
        assert time.monotonic() - started < 8
        assert await inspector.inspect(picture("PNG"))
        assert [p.pid for p in decoders()] != [child.pid]
    finally:
        await inspector.close()


async def test_given_a_picture_that_takes_too_much_computing_then_it_is_rejected_at_once(
    inspector: ChildProcessInspector, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    busy = tmp_path / "child.py"
    busy.write_text("import resource\nresource.setrlimit(resource.RLIMIT_CPU, (1, -1))\nwhile True: pass\n")
    monkeypatch.setattr(inspector._pool, "_script", busy)
    with pytest.raises(ImageRejected, match="more than its share of a processor"):
        await inspector.inspect(picture("PNG"))


async def test_given_a_decoder_that_died_when_a_picture_comes_then_another_decides(
    inspector: ChildProcessInspector,
) -> None:
    await inspector.inspect(picture("PNG"))
    (child,) = decoders()
    child.kill()
    assert await inspector.inspect(picture("PNG"))


async def test_given_a_picture_that_kills_every_decoder_then_the_picture_is_rejected(
    inspector: ChildProcessInspector, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    deadly = tmp_path / "child.py"
    deadly.write_text("import os, sys\nsys.stdin.buffer.read(4)\nos.abort()\n")
    monkeypatch.setattr(inspector._pool, "_script", deadly)
    with pytest.raises(ImageRejected, match="brings the decoder down"):
        await inspector.inspect(picture("PNG"))


@pytest.mark.parametrize(
    "reply", [b"\x00\x00\x00\x02{}", b"\xff\xff\xff\xff", b"\x00\x00\x00\x02[]", b"\x00\x00\x00\x01x"]
)
async def test_given_a_decoder_that_was_taken_over_then_its_words_do_no_harm(
    inspector: ChildProcessInspector, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, reply: bytes
) -> None:
    liar = tmp_path / "child.py"
    liar.write_text(f"import sys\nsys.stdin.buffer.read(4)\nsys.stdout.buffer.write({reply!r})\nsys.stdout.flush()\n")
    monkeypatch.setattr(inspector._pool, "_script", liar)
    with pytest.raises(ImageRejected):
        await inspector.inspect(picture("PNG"))


async def test_a_picture_that_needs_more_memory_than_allowed_is_too_large() -> None:
    inspector = ChildProcessInspector(memory=220 * 1024 * 1024, max_pixels=100_000_000)
    buffer = io.BytesIO()
    Image.new("RGBA", (9_000, 9_000)).save(buffer, "PNG", compress_level=1)
    try:
        with pytest.raises(ImageRejected) as caught:
            await inspector.inspect(buffer.getvalue())
        assert caught.value.reason is FailureReason.IMAGE_TOO_LARGE
        assert await inspector.inspect(picture("PNG"))
    finally:
        await inspector.close()


async def test_a_decoder_that_cannot_be_started_is_worth_another_try(
    inspector: ChildProcessInspector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    with pytest.raises(Retryable, match="cannot be started"):
        await inspector.inspect(picture("PNG"))


async def test_given_a_caller_that_gives_up_then_the_next_picture_gets_its_own_answer(
    inspector: ChildProcessInspector,
) -> None:
    await inspector.inspect(picture("PNG"))
    big = picture("PNG", (2000, 2000))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await inspector.inspect(big)
    assert (await inspector.inspect(picture("GIF"))).format == "GIF"


async def test_closing_leaves_no_process_and_takes_no_more_pictures() -> None:
    inspector = ChildProcessInspector(children=2)
    await asyncio.gather(*(inspector.inspect(picture("JPEG", (2000, 2000))) for _ in range(4)))
    assert len(decoders()) == 2
    await inspector.close()
    assert decoders() == []
    with pytest.raises(Retryable, match="closed"):
        await inspector.inspect(picture("PNG"))


def test_given_a_parent_that_is_killed_then_its_decoder_ends_too() -> None:
    script = (
        "import asyncio, io\n"
        "from PIL import Image\n"
        "from oracle.content.images import ChildProcessInspector\n"
        "async def main():\n"
        "    buffer = io.BytesIO(); Image.new('L', (9, 9)).save(buffer, 'PNG')\n"
        "    await ChildProcessInspector().inspect(buffer.getvalue())\n"
        "    print('ready', flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"ready\n"
        children = psutil.Process(parent.pid).children()
        assert children
        os.kill(parent.pid, signal.SIGKILL)
        gone, alive = psutil.wait_procs(children, timeout=5)
    assert not alive
    assert len(gone) == len(children)
