"""What is known, as the JSON that goes out; ``schemas`` documents it, and tests hold both against each other."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from oracle.answers import ClassificationAnswer, decode_answer, tally
from oracle.api.answers import hexed
from oracle.api.registry import KnownModel
from oracle.domain import FailureReason, ModelManifest, RequestStatus
from oracle.market import Provider, Standing, to_glm
from oracle.views import Figures, ModelSpeed, Moved, RequestView

POINTS = 1000

_CHAINS = {
    1: "Ethereum",
    10: "OP Mainnet",
    137: "Polygon",
    8453: "Base",
    17_000: "Holesky",
    31_337: "Local chain",
    42_161: "Arbitrum One",
    560_048: "Hoodi",
    11_155_111: "Sepolia",
}
_COINS = {137: "POL"}


def chain_name(chain_id: int) -> str:
    """What people call a chain."""
    return _CHAINS.get(chain_id, f"Chain {chain_id}")


def coin(chain_id: int) -> str:
    """The symbol of a chain's own coin."""
    return _COINS.get(chain_id, "ETH")


# ---------------------------------------------------------------------------------------------------------------
# Requests
# ---------------------------------------------------------------------------------------------------------------


def request(view: RequestView, model: KnownModel | None) -> dict[str, Any]:
    """A request; of a model that is not known, its number."""
    row, asked = view.row, view.row.request
    failed = row.failure is not FailureReason.NONE
    image = row.image
    return {
        "id": hexed(asked.request_id),
        "status": row.status.value,
        "model": asked.model_id,
        "model_name": model.name if model else f"model {asked.model_id}",
        "requester": asked.requester,
        "image_cid": asked.image_cid.text,
        "image": (
            {"format": image.format, "width": image.width, "height": image.height, "bytes": image.size}
            if image
            else None
        ),
        "payment": str(asked.payment),
        "token": model.on_chain.token if model else None,
        "callback_gas": asked.callback_gas,
        "deadline": asked.deadline,
        "created_at": asked.created_at,
        "block": row.block,
        "transaction": hexed(view.asked_in),
        "provider": row.provider,
        "provider_name": view.provider_name,
        "result_cid": row.result_cid.text if row.result_cid else None,
        "answer": hexed(row.answer) if row.answer else None,
        "top": top(row.answer, model.manifest if model else None) if row.answer else None,
        "failure": {"reason": row.failure.name.lower(), "text": row.failure.text} if failed else None,
        "detail": row.detail,
        "report_transaction": hexed(row.transaction_hash) if row.transaction_hash else None,
        "nonce": asked.nonce,
        "refundable_at": asked.deadline + 1,  # the deadline's own second is still in time
        "timeline": timeline(view.moves),
    }


def timeline(moves: Iterable[Moved]) -> list[dict[str, Any]]:
    """The steps of a request."""
    return [{"at": move.at, "status": move.status.value, "detail": move.detail} for move in moves]


def top(answer: bytes, manifest: ModelManifest | None) -> dict[str, Any] | None:
    """An on-chain answer in a few words; None for one of another form, or of nothing found."""
    try:
        read = decode_answer(answer)
    except ValueError:
        return None
    labels = manifest.labels if manifest else ()

    def label(index: int) -> str:
        return labels[index] if index < len(labels) else f"class {index}"

    if isinstance(read, ClassificationAnswer):
        best = read.entries[0]
        return {"label": label(best.class_index), "confidence": best.confidence_bps / 10_000}
    if not read.instances:
        return None
    found = tally(label(one.class_index) for one in read.instances)
    return {"label": found, "confidence": read.instances[0].score_bps / 10_000}


# ---------------------------------------------------------------------------------------------------------------
# Models and providers
# ---------------------------------------------------------------------------------------------------------------


def model(known: KnownModel, speed: ModelSpeed | None, *, example: bool, symbol: str) -> dict[str, Any]:
    """A model; ``symbol`` is the coin's."""
    listed, manifest = known.on_chain, known.manifest
    document: Mapping[str, Any] = manifest.document if manifest else {}
    priced = {"token_symbol": symbol, "token_decimals": 18}
    if listed.token is not None:
        token = known.token
        priced = {
            "token_symbol": token.symbol if token else "token",
            "token_decimals": token.decimals if token else None,
        }
    return {
        "id": listed.model_id,
        "name": known.name,
        "task": manifest.task if manifest else "",
        "engine": manifest.engine if manifest else "",
        "description": document.get("description", ""),
        "price": str(listed.price),
        "token": listed.token,
        **priced,
        "active": listed.active,
        "payout": listed.payout,
        "share_bps": listed.share,
        "manifest_cid": listed.manifest_cid.text,
        "weights_cid": manifest.weights_cid.text if manifest else None,
        "weights_sha256": manifest.weights_sha256 if manifest else "",
        "weights_bytes": document["weights"]["bytes"] if manifest else None,
        "classes": len(manifest.labels) if manifest else 0,
        "licence": document.get("licence", ""),
        "familiarity": "familiarity" in document,
        "comparison": document["comparison"]["class"] if manifest else "",
        "usual_seconds": _rounded(speed.usual_seconds) if speed else None,
        "answered": speed.answered if speed else 0,
        "example": example,
        "problem": known.problem,
    }


def provider(one: Provider, now: float, *, banned: bool, trusted: bool) -> dict[str, Any]:
    """A provider as of ``now``; the operator's own lists count over what is written down."""
    known = one.decayed(now)
    standing = Standing.BANNED if banned else Standing.TRUSTED if trusted else one.standing
    blocked = now < one.blocked_until and standing is not Standing.TRUSTED
    speed = one.images_per_second
    return {
        "id": one.node_id,
        "name": one.name,
        "price": {
            "start": f"{one.price.start:f}",
            "second": f"{one.price.second:f}",
            "cpu_second": f"{one.price.cpu_second:f}",
        },
        "picture_glm": to_glm(math.ceil(one.price.rate(one.threads) / speed)) if speed > 0 else None,
        "threads": one.threads,
        "images_per_second": _rounded(speed) or None,
        "load_seconds": _rounded(one.load_seconds) or None,
        "good": round(known.good, 2),
        "failed": round(known.failed, 2),
        "lied": round(known.lied, 2),
        "reputation": round(one.reputation(now), 4),
        "reasons": _reasons(known, standing, blocked),
        "standing": standing.value,
        "blocked_until": one.blocked_until if blocked else None,
        "first_seen": one.first_seen,
        "last_seen": one.last_seen,
    }


def _reasons(known: Provider, standing: Standing, blocked: bool) -> list[str]:
    told = []
    if standing is not Standing.NONE:
        told.append(f"{standing.value} by the operator")
    for count, text in (
        (known.good, "tasks done well"),
        (known.failed, "tasks failed"),
        (known.lied, "results that others contradict"),
    ):
        if count >= 0.05:
            told.append(f"{count:.3g} {text}")
    if known.avx is False:
        told.append("its processor lacks AVX")
    if blocked:
        told.append(f"gets no work for now: {known.detail}" if known.detail else "gets no work for now")
    return told or ["nothing is known of it yet"]


# ---------------------------------------------------------------------------------------------------------------
# Figures
# ---------------------------------------------------------------------------------------------------------------


def stats(found: Figures, names: Mapping[int, str]) -> dict[str, Any]:
    """What a span of time came to."""
    counts = found.counts
    good = counts.get(RequestStatus.FULFILLED, 0)
    ended = good + sum(
        counts.get(status, 0) for status in (RequestStatus.REJECTED, RequestStatus.EXPIRED, RequestStatus.REFUNDED)
    )
    times: dict[int, list[float]] = defaultdict(list)
    for point in found.points:
        times[point.model_id].append(point.total_seconds)
    return {
        "requests": {status.value: count for status, count in counts.items() if count},
        "success_rate": good / ended if ended else None,
        "queue": found.queue,
        "throughput_per_hour": [{"at": at, "count": count} for at, count in found.per_hour],
        "by_model": [_spread(number, names, sorted(seconds)) for number, seconds in sorted(times.items())],
        "points": points(found),
    }


def points(found: Figures) -> list[dict[str, Any]]:
    """The newest answers, each a point."""
    return [
        {
            "id": hexed(point.request_id),
            "model": point.model_id,
            "provider": point.provider,
            "bytes": point.size,
            "pixels": point.pixels,
            "compute_s": _rounded(point.compute_seconds),
            "total_s": _rounded(point.total_seconds),
            "at": point.at,
        }
        for point in found.points[:POINTS]
    ]


def _spread(number: int, names: Mapping[int, str], seconds: Sequence[float]) -> dict[str, Any]:
    if len(seconds) == 1:
        tenths = [seconds[0]] * 9
        quarters = [seconds[0]] * 3
    else:
        tenths = statistics.quantiles(seconds, n=10, method="inclusive")
        quarters = statistics.quantiles(seconds, n=4, method="inclusive")
    return {
        "model": number,
        "name": names.get(number, f"model {number}"),
        "count": len(seconds),
        "median_s": _rounded(quarters[1]),
        "p90_s": _rounded(tenths[8]),
        "box": [_rounded(value) for value in (seconds[0], *quarters, seconds[-1])],
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
