"""What a requester does: upload a picture, ask, wait, read the result, take the money back. Signs on this machine.

    async with connect() as client: ...          # asyncio
    with connect_sync() as client: ...           # the same without

``connect`` says how a deployment is chosen.
"""

from oracle.client.asking import DEFAULT_DEADLINE, DEFAULT_MAX_PRICE, SHORTEST_DEADLINE
from oracle.client.connecting import Client, Options, connect
from oracle.client.errors import (
    CallTimedOut,
    HistoryTooLong,
    NotAnsweredYet,
    NotCancellable,
    NothingToWithdraw,
    NotYours,
    UnknownRequest,
)
from oracle.client.models import ListedModel
from oracle.client.outcome import Outcome, Price
from oracle.client.sync import SyncClient, connect_sync

__all__ = [
    "DEFAULT_DEADLINE",
    "DEFAULT_MAX_PRICE",
    "SHORTEST_DEADLINE",
    "CallTimedOut",
    "Client",
    "HistoryTooLong",
    "ListedModel",
    "NotAnsweredYet",
    "NotCancellable",
    "NotYours",
    "NothingToWithdraw",
    "Options",
    "Outcome",
    "Price",
    "SyncClient",
    "UnknownRequest",
    "connect",
    "connect_sync",
]
