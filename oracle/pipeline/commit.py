"""Committing moves so that one that can't be written doesn't hold up the others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from oracle.domain import RequestStatus
from oracle.ports import Move, RequestStore
from oracle.telemetry import logger, short

log = logger("pipeline")


async def commit(store: RequestStore, moves: Sequence[Move], *, expected: Iterable[RequestStatus]) -> list[Move]:
    """Write moves in one transaction or, when it fails, each in its own. Those that cannot be written are logged and
    returned; their requests stay where they are.
    """
    expected = list(expected)
    if not moves:
        return []
    try:
        await store.move(moves, expected=expected)
    except Exception as error:  # noqa: BLE001
        # Whatever is wrong with the common transaction, only the move at fault may suffer from it.
        log.warning("%d moves were not written together: %s", len(moves), ascii(str(error)))
        return [move for move in moves if not await _alone(store, move, expected)]
    return []


async def _alone(store: RequestStore, move: Move, expected: Sequence[RequestStatus]) -> bool:
    try:
        await store.move([move], expected=expected)
    except Exception:
        log.exception("request %s cannot be moved to %s", short(move.request_id), move.to.value)
        return False
    return True
