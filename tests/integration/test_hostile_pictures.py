"""Pictures that would break a decoder, against the oracle's and a provider's: each gets a verdict, and soon."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable

import pytest

from tests.pictures.bombs import BOMBS, jpeg_scans
from tests.pictures.judge import MAX_RSS_MB, MAX_SECONDS, Judge, Judgement, judging
from tests.pictures.mutations import mutant
from tests.pictures.seeds import PNG_KINDS, chunk, corpus, encoded, exif, noise, png, seeds

pytestmark = pytest.mark.integration

# The rest of them takes long to make; `make fuzz-pictures` has all.
QUICK = [
    *("png of 1 x 1", "png of 65535 x 1", "png of 1 x 65535", "png of 1 x 40,000,000", "png of 41 megapixels"),
    *("png of 2147483647 x 2147483647", "png of 4294967295 x 1", "png of 0 x 5", "png of 4,000,000,000 frames"),
    *("png with 60 texts of wide letters", "png with 10,000 profiles of a megabyte", "png with a million empty chunks"),
    *("png with 12,000 texts that break off", "png with tags of exif that overlap"),
    *("jpeg of 40 megapixels, colour", "jpeg of 40 megapixels, progressive, cmyk", "jpeg of 65500 x 65500"),
    *("jpeg of 40 megapixels with 20,000 scans", "jpeg of one block with 400,000 scans", "jpeg with 15 MB of exif"),
    *("jpeg with four million comments", "jpeg with 15 MB between its segments", "jpeg with 15 MB of fillings"),
    *("mpo that promises many views", "gif of 65535 x 65535", "gif with a frame beyond its canvas"),
    *("gif with 8 million blocks of one byte", "gif with a million comments", "gif with 15 MB behind its frame"),
    *("webp of 16383 x 16383", "webp of 16777216 x 16777216", "webp with a small picture on a large canvas"),
    *("gif with a jpeg behind", "png with an archive behind", "pdf with a jpeg behind", "riff of sound"),
]


@pytest.fixture
async def judge() -> AsyncIterator[Judge]:
    async with judging() as judge:
        yield judge


async def judged(judge: Judge, pictures: Iterable[tuple[str, bytes]]) -> dict[str, Judgement]:
    """Both verdicts on each; whatever breaks a limit fails the test with its name."""
    judgements = {name: await judge.judge(data) for name, data in pictures}
    for name, judgement in judgements.items():
        assert not judgement.crashed, (name, judgement)
        assert judgement.seconds < MAX_SECONDS, (name, judgement)
        assert judgement.rss_mb < MAX_RSS_MB, (name, judgement)
        assert judgement.agreed, (name, judgement)
    # What came before has done the decoders no harm.
    after = await judge.judge(seeds()["png 2 8 plain"])
    assert after.oracle.size == after.provider.size == (37, 23)
    assert min(after.oracle.rss_mb, after.provider.rss_mb) > 5, "nobody watched the memory"
    return judgements


async def test_every_valid_seed_is_accepted_by_both_unless_it_is_animated(judge: Judge) -> None:
    judgements = await judged(judge, seeds().items())
    refused = {name: judgement.oracle.reason for name, judgement in judgements.items() if not judgement.oracle.size}
    assert refused == dict.fromkeys(("apng", "webp animated", "gif animated"), "IMAGE_UNSUPPORTED")


async def test_given_broken_files_of_decoders_test_suites_then_each_gets_a_verdict(judge: Judge) -> None:
    files = corpus("bad_images")
    if not files:
        pytest.skip("the corpus of broken pictures is not on this machine (shared/data/bad_images, or SIBYL_TEST_DATA)")
    judgements = await judged(judge, files.items())
    assert len(judgements) == len(files)


async def test_given_mutants_then_each_gets_a_verdict_and_a_provider_reads_what_the_oracle_accepts(
    judge: Judge,
) -> None:
    # Of our own seeds alone, so that these are the same pictures on every machine.
    parents = list(seeds().values())
    judgements = await judged(judge, ((f"mutant {i}", mutant(i, parents)) for i in range(400)))
    accepted = sum(judgement.oracle.size is not None for judgement in judgements.values())
    assert 40 <= accepted <= 360, "mutants that are all alike show nothing"


async def test_given_pictures_made_to_exhaust_then_each_gets_a_verdict(judge: Judge) -> None:
    judgements = await judged(judge, ((name, BOMBS[name]()) for name in QUICK))
    slow = {name: judgement.seconds for name, judgement in judgements.items() if judgement.seconds > MAX_SECONDS / 2}
    assert not slow


def test_a_mutant_comes_from_its_number_alone() -> None:
    parents = list(seeds().values())
    some = [mutant(i, parents) for i in range(50)]
    assert some == [mutant(i, parents) for i in range(50)]
    assert len(set(some)) >= 48


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
async def test_given_a_turned_picture_then_both_see_it_as_it_is_to_be_shown(judge: Judge, kind: str) -> None:
    for orientation in range(1, 9):
        judgement = await judge.judge(encoded(noise("RGB"), kind, exif=exif(orientation)))
        expected = (37, 23) if orientation < 5 else (23, 37)
        assert judgement.oracle.size == judgement.provider.size == expected


async def test_given_every_kind_of_png_with_transparency_that_lies_then_both_agree(judge: Judge) -> None:
    lies = [b"", b"\0", b"\1\2\3", bytes(6), b"\xff" * 256, b"\x01\x00" * 200]
    pictures = {
        f"{colour} {depth} {len(lie)}": png(colour, depth, extra=chunk(b"tRNS", lie))
        for colour, depth in PNG_KINDS
        for lie in lies
    }
    await judged(judge, pictures.items())


async def test_given_a_jpeg_of_more_and_more_scans_then_the_limit_is_the_same_for_both(judge: Judge) -> None:
    judgements = await judged(judge, ((str(scans), jpeg_scans(64, 64, scans)) for scans in (1, 90, 98, 99, 200)))
    assert [bool(judgement.oracle.size) for judgement in judgements.values()] == [True, True, True, False, False]
    assert [bool(judgement.provider.size) for judgement in judgements.values()] == [True, True, True, False, False]
