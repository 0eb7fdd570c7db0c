"""What a picture may be, and what becomes of its pixels."""

from __future__ import annotations

import io
import threading
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from provider_images.runtime import decoding, pictures
from provider_images.runtime.decoding import Picture, PictureError, limits
from provider_images.runtime.job import ItemFailure
from provider_images.runtime.pictures import decode_picture, prepare, prepare_all
from provider_images.runtime.spec import InputSpec
from provider_images.runtime.structure import TooManyParts, count_scans
from tests.pictures.bombs import blank_png, gif, jpeg_scans, jpeg_segments
from tests.pictures.seeds import SIGNATURE, chunk, encoded, exif, noise, png, png_header, seeds

pytestmark = pytest.mark.unit

LIMIT = 10**6
COLOUR = InputSpec(32, 32, 3, "rgb", "stretch", 0, (0.0, 255.0))


def opaque(image: Image.Image) -> Image.Image:
    """On white, by Pillow alone."""
    layer = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")


def palette_noise(size: tuple[int, int]) -> Image.Image:
    """Sixteen colours, each of another transparency."""
    image = Image.frombytes("P", size, bytes(value // 16 for value in noise("L", size=size).tobytes()))
    image.putpalette(bytes(range(0, 240, 5)))
    image.info["transparency"] = bytes(range(0, 256, 16))
    return image


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_a_picture_comes_out_upright(kind: str, orientation: int) -> None:
    shown = noise("RGB")
    # How a camera stores what is to be shown like this.
    stored = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    image = shown.transpose(stored[orientation]) if orientation > 1 else shown
    data = encoded(image, kind, exif=exif(orientation), lossless=True)
    assert decode_picture(data, LIMIT).tobytes() == shown.tobytes()


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P"])
@pytest.mark.parametrize("size", [(1, 1), (37, 23), (1500, 900), (65535, 1), (1, 65535), (65535, 20)])
def test_transparent_pixels_are_white_in_pictures_of_any_shape(mode: str, size: tuple[int, int]) -> None:
    image = palette_noise(size) if mode == "P" else noise(mode, size=size)
    assert decode_picture(encoded(image, "PNG", compress_level=1), 10**7).tobytes() == opaque(image).tobytes()


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P", "I;16"])
def test_given_a_large_picture_when_it_is_shrunk_then_each_pixel_is_the_mean_of_a_square(mode: str) -> None:
    size = (1501, 1203)
    if mode == "I;16":
        grey = noise("L", size=size)
        image = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
        expected = grey.convert("RGB").reduce(3)
    else:
        image = palette_noise(size) if mode == "P" else noise(mode, size=size)
        expected = opaque(image).reduce(3)
    with limits(10**7):
        picture = Picture(encoded(image, "PNG", compress_level=1), 10**7)
        picture.shrink("RGB", (400, 400))
        assert picture.decode("RGB").tobytes() == expected.tobytes()


def test_given_a_transparent_gif_when_decoded_then_it_is_white_there() -> None:
    image = Image.new("P", (4, 1), 1)
    image.putpalette([0, 0, 0, 200, 0, 0])
    image.putpixel((2, 0), 0)
    decoded = decode_picture(encoded(image, "GIF", transparency=0), LIMIT)
    assert [decoded.getpixel((x, 0)) for x in range(4)] == [(200, 0, 0), (200, 0, 0), (255, 255, 255), (200, 0, 0)]


def test_given_a_cmyk_jpeg_when_decoded_then_its_colours_are_those_it_shows() -> None:
    red = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    decoded = decode_picture(encoded(red, "JPEG", quality=95), LIMIT)
    np.testing.assert_allclose(decoded.getpixel((8, 8)), (255, 0, 0), atol=4)


def test_given_damaged_exif_when_decoded_then_the_picture_lies_as_it_is_stored() -> None:
    picture = noise("RGB")
    for tags in (
        b"II*\0\xff\xff\xff\xff",
        b"nothing",
        b"II*\0\x08\0\0\0\xff\xff",
        b"MM\0*\0\0\0\x08\0\1\x01\x12\0\7\0\0\0\1aaaa",
    ):
        data = encoded(picture, "PNG")
        data = data[:33] + chunk(b"eXIf", tags) + data[33:]
        assert decode_picture(data, LIMIT).tobytes() == picture.tobytes()


LARGE, PARTS, BROKEN = ItemFailure.TOO_LARGE, ItemFailure.UNSUPPORTED, ItemFailure.UNREADABLE
MEGABYTE = chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(10**6)))


@pytest.mark.parametrize(
    ("make", "failure", "words"),
    [
        (lambda: blank_png(1001, 1000), LARGE, "1001 x 1000 = 1.0 megapixels and 1 are allowed"),
        (lambda: blank_png(2001, 1000), LARGE, "more than twice the 1 megapixels"),
        (lambda: blank_png(65_536, 1), LARGE, "a side of 65,536 pixels"),
        (lambda: encoded(Image.new("RGB", (700, 700)), "WEBP"), LARGE, "a WebP take 8 MB of memory"),
        (lambda: encoded(Image.new("CMYK", (800, 800)), "JPEG", progressive=True), LARGE, "a progressive JPEG take"),
        (lambda: jpeg_scans(1000, 1000, 25), PARTS, "27 scans of 1000 x 1000"),
        (lambda: jpeg_scans(8, 8, 99), PARTS, "100 scans"),
        (lambda: jpeg_segments(0xFE, b"", 10_000), PARTS, "10,000 segments"),
        (
            lambda: b"\xff\xd8\xff\xe0\0\2" + bytes(10_001) + seeds()["jpeg L baseline"][2:],
            PARTS,
            "between its segments",
        ),
        (lambda: SIGNATURE + png_header(1, 1, 8, 0) + chunk(b"prVt", b"") * 20_000, PARTS, "20,000 chunks"),
        (lambda: png(2, 8, extra=chunk(b"zTXt", b"k\0\0") * 101), PARTS, "100 compressed texts"),
        (lambda: png(2, 8, extra=MEGABYTE * 9), BROKEN, "text chunks"),
        (lambda: gif(1, 1, b"\2\x44\1" + b"\1\0" * 200_001), PARTS, "200,000 blocks"),
        (lambda: gif(1, 1, b"\2\x44\1", before=bytes(10_001)), PARTS, "between its blocks"),
    ],
)
def test_given_too_much_of_something_then_it_is_refused_and_named(
    make: Callable[[], bytes], failure: ItemFailure, words: str
) -> None:
    with pytest.raises(PictureError, match=words) as caught:
        decode_picture(make(), LIMIT)
    assert caught.value.failure is failure


@pytest.mark.parametrize(
    "data",
    [
        png(2, 8, extra=chunk(b"prVt", b"") * 10_000),
        png(2, 8, extra=chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(1000))) * 90),
        jpeg_scans(64, 64, 90),
        jpeg_segments(0xFE, b"word", 9_000),
        gif(1, 1, b"\2\x44\1", before=b"!\xfe\1x\0" * 10_000),
    ],
)
def test_given_much_but_not_too_much_then_it_is_read(data: bytes) -> None:
    assert decode_picture(data, LIMIT).mode == "RGB"


def test_scans_are_counted_as_they_are() -> None:
    assert count_scans(seeds()["jpeg RGB baseline"]) == 1
    assert count_scans(seeds()["jpeg RGB progressive"]) == 10
    # The view behind an MPO's first, a thumbnail in its metadata: no scans of the picture.
    assert count_scans(seeds()["mpo"]) == 1
    thumbnail = b"Exif\0\0" + seeds()["jpeg L baseline"]
    assert count_scans(jpeg_segments(0xE1, thumbnail, 3)) == 1
    # Nor is what lies behind the end, as the film behind a phone's picture does.
    assert count_scans(seeds()["jpeg RGB baseline"] + b"\0\0" + b"\xff\xda\0\2" * 200) == 1
    assert count_scans(seeds()["gif"]) == count_scans(b"") == count_scans(b"\xff\xd8\xff") == 0
    with pytest.raises(TooManyParts):
        count_scans(jpeg_scans(8, 8, 100))


def test_pillow_is_left_as_it_was() -> None:
    before = Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_MEMORY
    with pytest.raises(PictureError):
        decode_picture(b"text", 12_345)
    assert before == (Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_MEMORY)


def test_given_no_memory_then_it_is_the_workers_failure_and_not_the_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    def starved(*arguments: object) -> None:
        raise MemoryError

    monkeypatch.setattr(decoding, "_flatten", starved)
    for work in (
        lambda: decode_picture(seeds()["gif"], LIMIT),
        lambda: prepare(seeds()["gif"], COLOUR, max_pixels=LIMIT),
    ):
        with pytest.raises(PictureError, match="this worker has no memory left") as caught:
            work()
        assert caught.value.failure is ItemFailure.FAILED


def test_given_large_pictures_among_small_ones_then_the_large_ones_are_decoded_one_by_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    decoders: dict[bool, set[int]] = {True: set(), False: set()}
    decode = Picture.decode

    def watched(self: Picture, mode: str) -> Image.Image:
        decoders[self.memory > 10_000].add(threading.get_ident())
        return decode(self, mode)

    monkeypatch.setattr(pictures, "_SMALL", 10_000)
    monkeypatch.setattr(Picture, "decode", watched)
    files = [encoded(noise("RGB", i, (300, 200) if i % 2 else (40, 20)), "PNG") for i in range(12)]
    answers = list(prepare_all([*files, b"text"], COLOUR, max_pixels=LIMIT, threads=4))
    assert decoders[True] == {threading.get_ident()}
    assert threading.get_ident() not in decoders[False]
    assert isinstance(answers.pop(), PictureError)
    for data, answer in zip(files, answers, strict=True):
        assert not isinstance(answer, PictureError)
        np.testing.assert_array_equal(answer, prepare(data, COLOUR, max_pixels=LIMIT))


def test_a_picture_is_closed_to_formats_that_were_not_asked_for() -> None:
    for kind in ("BMP", "TIFF", "PPM", "ICO", "JPEG2000", "AVIF"):
        with pytest.raises(PictureError) as caught:
            decode_picture(encoded(noise("RGB"), kind), LIMIT)
        assert caught.value.failure is ItemFailure.UNREADABLE
    assert Image.open(io.BytesIO(encoded(noise("RGB"), "BMP"))).format == "BMP"
