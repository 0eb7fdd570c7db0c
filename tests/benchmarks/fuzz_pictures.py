"""Hostile pictures against both decoders: every broken file of the test data, pictures made to exhaust, and mutants.

    python -m tests.benchmarks.fuzz_pictures [mutants] [first]

Ends with an error when a decoder crashes, takes 10 s or 2 GiB, or when a provider could not read what the oracle
accepts. A mutant is made again from its number: ``mutant(number, sown())`` of ``tests.pictures``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections import Counter
from collections.abc import Iterator

from tests.pictures.bombs import BOMBS, LARGEST
from tests.pictures.judge import MAX_SECONDS, Judgement, judging
from tests.pictures.mutations import mutant
from tests.pictures.seeds import corpus, sown


def _pictures(mutants: range) -> Iterator[tuple[str, str, bytes]]:
    for name, data in corpus("bad_images").items():
        yield "files", name, data
    for name, make in BOMBS.items():
        data = make()
        assert len(data) <= LARGEST, f"{name} would be refused for its bytes alone"
        yield "bombs", name, data
    seeds = sown()
    for number in mutants:
        yield "mutants", f"mutant {number}", mutant(number, seeds)


async def _run(mutants: range) -> list[tuple[str, str, Judgement]]:
    judged = []
    async with judging() as judge:
        for group, name, data in _pictures(mutants):
            judgement = await judge.judge(data)
            judged.append((group, name, judgement))
            if not judgement.in_limits:
                print(f"{name}: the oracle says {judgement.oracle}, a provider {judgement.provider}", flush=True)
            if len(judged) % 1000 == 0:
                print(f"{len(judged)} pictures", file=sys.stderr, flush=True)
    return judged


def _verdict(judgement: Judgement) -> str:
    oracle = judgement.oracle
    return oracle.reason.removeprefix("IMAGE_").lower() or "accepted"


def _table(judged: list[tuple[str, str, Judgement]]) -> None:
    groups = ("files", "bombs", "mutants")
    print(f"{'the oracle':<14}" + "".join(f"{group:>10}" for group in groups))
    counts = Counter((_verdict(judgement), group) for group, _, judgement in judged)
    for verdict in sorted({verdict for verdict, _ in counts}):
        print(f"{verdict:<14}" + "".join(f"{counts[verdict, group]:>10}" for group in groups))
    stricter = sum(j.oracle.size is None and j.provider.size is not None for _, _, j in judged)
    print(f"refused by the oracle though a provider could read them: {stricter}")
    print(f"\n{'slowest':<60}{'oracle s':>9}{'provider s':>11}")
    for _, name, judgement in sorted(judged, key=lambda one: -one[2].seconds)[:5]:
        print(f"{name[:60]:<60}{judgement.oracle.seconds:>9.2f}{judgement.provider.seconds:>11.2f}")
    print(f"\n{'most memory':<60}{'oracle MB':>9}{'provider MB':>11}")
    for _, name, judgement in sorted(judged, key=lambda one: -one[2].rss_mb)[:5]:
        print(f"{name[:60]:<60}{judgement.oracle.rss_mb:>9.0f}{judgement.provider.rss_mb:>11.0f}")


def main() -> None:
    """Run, print, end with an error when a limit was broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mutants", type=int, nargs="?", default=6000, help="how many (6000)")
    parser.add_argument("first", type=int, nargs="?", default=0, help="number of the first (0)")
    options = parser.parse_args()
    judged = asyncio.run(_run(range(options.first, options.first + options.mutants)))
    _table(judged)
    refused = Counter(_verdict(judgement) for _, _, judgement in judged if judgement.oracle.size is None)
    groups = Counter(group for group, _, _ in judged)
    print(
        json.dumps(
            {
                "files": groups["files"],
                "mutations": groups["bombs"] + groups["mutants"],
                "crashes": sum(judgement.crashed for _, _, judgement in judged),
                "hangs": sum(judgement.seconds >= MAX_SECONDS for _, _, judgement in judged),
                "slowest_s": round(max(judgement.seconds for _, _, judgement in judged), 2),
                "max_rss_mb": round(max(judgement.rss_mb for _, _, judgement in judged)),
                "accepted": len(judged) - refused.total(),
                "refused": dict(refused),
                "disagreements": sum(not judgement.agreed for _, _, judgement in judged),
            }
        )
    )
    sys.exit(not all(judgement.in_limits for _, _, judgement in judged))


if __name__ == "__main__":
    main()
