"""What the oracle's database says, read beside the running oracle."""

from __future__ import annotations

import time
from typing import Any

from oracle.domain import FailureReason
from oracle.errors import ConfigurationError, SibylError
from oracle.settings import Settings
from oracle.store import SqliteRequestStore


def open_store(settings: Settings) -> SqliteRequestStore:
    """The oracle's database, to read beside it. Raises ConfigurationError where there is none."""
    if not settings.database.exists():
        raise ConfigurationError(
            f"there is no database at {settings.database}",
            remedy="Start the oracle (`sibyl up`, or `sibyl oracle`), or give the right --data-dir.",
        )
    return SqliteRequestStore(settings.database, read_only=True)


async def overview(settings: Settings) -> dict[str, Any]:
    """Counts by status, the last block scanned, and the deployment."""
    store = open_store(settings)
    try:
        checkpoint = await store.checkpoint()
        counts = await store.counts()
        bound = await store.binding()
        return {
            "coordinator": bound.coordinator if bound else None,
            "chain_id": bound.chain_id if bound else None,
            "scanned": checkpoint.number if checkpoint else None,
            "in_flight": len(await store.open_reports()),
            "requests": {status.value: count for status, count in counts.items() if count},
        }
    finally:
        await store.close()


async def reports_in_flight(settings: Settings) -> int:
    """How many reports of this machine's oracle wait for their fate; 0 where there is no database."""
    if not settings.database.exists():
        return 0
    store = open_store(settings)
    try:
        return len(await store.open_reports())
    finally:
        await store.close()


async def request_timeline(settings: Settings, request_id: bytes) -> dict[str, Any]:
    """One request: what was asked, where it stands, and every move with its time. Raises SibylError when unknown."""
    store = open_store(settings)
    try:
        row = await store.get(request_id)
        if row is None:
            raise SibylError(
                f"the oracle has not seen request 0x{request_id.hex()}",
                remedy="Check the id; a new request shows up once its block was scanned.",
            )
        facts: dict[str, Any] = {
            "request": "0x" + request_id.hex(),
            "status": row.status.value,
            "model": row.request.model_id,
            "image": row.request.image_cid.text,
            "requester": row.request.requester,
            "deadline": _clock(row.request.deadline),
        }
        if row.result_cid is not None:
            facts["result"] = row.result_cid.text
        if row.failure is not FailureReason.NONE:
            facts["reason"] = row.failure.text
        if row.detail:
            facts["detail"] = row.detail
        facts["timeline"] = [
            {"at": at, "time": _clock(at), "status": status.value, "detail": detail}
            for status, at, detail in await store.timeline(request_id)
        ]
        return facts
    finally:
        await store.close()


def _clock(at: float) -> str:
    local = time.localtime(at)
    return time.strftime("%Y-%m-%d %H:%M:%S", local) + f".{int(at % 1 * 1000):03d}" + time.strftime(" %z", local)
