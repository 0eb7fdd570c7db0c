"""What the API serves in ``make bench-api``: a deployment on a chain of its own, and an oracle's database of a day.

The database is made through the store's own methods, each request through its whole life; nothing was computed.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from oracle.chain.account import AccountSender
from oracle.chain.rpc import Rpc
from oracle.content.ipfs import IpfsContentStore
from oracle.content.unixfs import cid_of
from oracle.devnet.chain import Anvil
from oracle.devnet.ipfs import DevnetIpfs
from oracle.devnet.pictures import digits
from oracle.devnet.stack import shipped_files
from oracle.domain import (
    BlockRef,
    Cid,
    Fees,
    ImageFacts,
    InferenceRequest,
    ItemResult,
    LabelScore,
    LogPosition,
    OnChainStatus,
    ReportReceipt,
    RequestSeen,
    RequestSettled,
    RequestStatus,
    ServableModel,
    SignedReport,
    TaskInput,
    TaskResult,
)
from oracle.manifests import read_manifest
from oracle.market import Price, Provider
from oracle.pipeline.results import compact_answer, result_document
from oracle.ports import Move
from oracle.settings import DEPLOYMENT_FILE
from oracle.store import SqliteRequestStore

PRICE = 10**14
BATCH = 16
PICTURES = 20
DAY = 86_400
NAMES = ("ada", "boole", "curie")
_S = RequestStatus


@dataclass(frozen=True, slots=True)
class World:
    """Where everything is: the folder of the oracle's state, and what can be asked about."""

    folder: Path
    requests: tuple[str, ...]
    accounts: tuple[str, ...]
    pinned: tuple[str, ...]
    answered: tuple[str, ...]
    """Those whose results can be read."""
    rpc_url: str
    coordinator: str


@asynccontextmanager
async def world(folder: Path, requests: int, block_seconds: float) -> AsyncIterator[World]:
    """A chain, a content node and a database of so many requests, for as long as it is entered.

    An oracle at work writes a block down every ``block_seconds``.
    """
    async with AsyncExitStack() as stack:
        anvil = await stack.enter_async_context(Anvil())
        ipfs = DevnetIpfs(folder / "ipfs")
        stack.push_async_callback(ipfs.close)
        node = await ipfs.start()
        content = IpfsContentStore(node.rpc)
        stack.push_async_callback(content.close)
        rpc = Rpc(anvil.url)
        stack.push_async_callback(rpc.close)
        owner, publisher = (AccountSender(rpc, account, anvil.chain_id) for account in anvil.accounts[:2])
        files = shipped_files("mnist")
        _, manifest = await content.add(files)
        deployed = await owner.deploy_coordinator()
        await publisher.publish_model(deployed.address, manifest, PRICE)
        facts = {
            "rpc_url": anvil.url,
            "chain_id": anvil.chain_id,
            "coordinator": deployed.address,
            "start_block": deployed.block_number,
            "default_model": 1,
            "ipfs_api": node.rpc,
        }
        (folder / DEPLOYMENT_FILE).write_text(json.dumps(facts))
        genesis = await rpc.call("eth_getBlockByNumber", ["0x0", False])
        pictures = [digit.png for digit in digits(PICTURES).items]
        await content.add(pictures)
        model = ServableModel(1, manifest, read_manifest(files[1]), Path())
        made = await fill(
            folder / "oracle.sqlite3",
            requests,
            binding=(anvil.chain_id, deployed.address, bytes.fromhex(genesis["hash"][2:])),
            pictures=pictures,
            model=model,
            accounts=[str(account.address) for account in anvil.accounts[2:6]],
            content=content,
        )
        following = asyncio.create_task(follow(folder / "oracle.sqlite3", 2 * requests, block_seconds))
        stack.push_async_callback(stop, following)
        accounts = tuple(str(account.address) for account in anvil.accounts[2:6])
        pinned = tuple(cid_of(data).text for data in pictures)
        ids = tuple("0x" + one.hex() for one in made)
        yield World(folder, ids, accounts, pinned, ids[:BATCH], anvil.url, deployed.address)


async def follow(path: Path, height: int, seconds: float) -> None:
    """An oracle at work, for ever: every so often it writes down that a block was scanned."""
    store = SqliteRequestStore(path)
    try:
        while True:
            await asyncio.sleep(seconds)
            height += 1
            block = _block(height, time.time())
            await store.commit_scan([], [block], block)
    finally:
        await store.close()


async def stop(task: asyncio.Task[None]) -> None:
    """End a task."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def fill(
    path: Path,
    count: int,
    *,
    binding: tuple[int, str, bytes],
    pictures: Sequence[bytes],
    model: ServableModel,
    accounts: Sequence[str],
    content: IpfsContentStore | None,
) -> list[bytes]:
    """Requests of the last day, sixteen at a time, all answered but the last sixteen; the ids, the oldest first.

    The results of the first sixteen are pinned where there is ``content``.
    """
    chance = random.Random(6)
    now = [time.time() - DAY]
    store = SqliteRequestStore(path, now=lambda: now[0])
    made: list[bytes] = []
    try:
        await store.bind(*binding)
        await store.ledger.save_providers([_provider(number) for number in range(len(NAMES))])
        for turn, first in enumerate(range(0, count, BATCH)):
            now[0] = time.time() - DAY + DAY * first / count
            last = first + BATCH >= count
            members = range(first, min(first + BATCH, count))
            made += await _batch(store, turn, members, last, now, chance, pictures, model, accounts, content)
    finally:
        await store.close()
    return made


async def _batch(
    store: SqliteRequestStore,
    turn: int,
    members: range,
    last: bool,
    now: list[float],
    chance: random.Random,
    pictures: Sequence[bytes],
    model: ServableModel,
    accounts: Sequence[str],
    content: IpfsContentStore | None,
) -> list[bytes]:
    asked_in, answered_in = (_block(2 * turn + more, now[0] + 5 * more) for more in (0, 1))
    asked = [_request(number, now[0], pictures, model, accounts) for number in members]
    ids = [request.request_id for request in asked]
    seen = [RequestSeen(request, LogPosition(asked_in, _hash("ask", turn), at)) for at, request in enumerate(asked)]
    await store.commit_scan(seen, [asked_in], asked_in)
    now[0] += chance.uniform(1, 3)
    await store.confirm(asked_in.number)
    now[0] += chance.uniform(0.05, 0.2)
    sizes = [len(pictures[number % len(pictures)]) for number in members]
    facts = [ImageFacts("PNG", 28, 28, size) for size in sizes]
    ready = [Move(one, _S.READY, image=image) for one, image in zip(ids, facts, strict=True)]
    await store.move(ready, expected=[_S.CONFIRMED])
    if last:
        return ids
    now[0] += 0.1
    await store.open_batch(f"batch-{turn}", ids)
    now[0] += chance.uniform(0.05, 1.5)
    moves, settled, files = [], [], []
    transaction = _hash("report", turn)
    for at, (number, request) in enumerate(zip(members, asked, strict=True)):
        document, answer = _result(number, request, sizes[at], model, now[0])
        cid = cid_of(document)
        files.append(document)
        provider = f"0x{number % 3:040x}"
        moves.append(Move(request.request_id, _S.COMPUTED, result_cid=cid, answer=answer, provider=provider))
        where = LogPosition(answered_in, transaction, at)
        settled.append(
            RequestSettled(request.request_id, OnChainStatus.FULFILLED, where, result_cid=cid, answer=answer)
        )
    await store.move(moves, expected=[_S.COMPUTING])
    await store.save_report(SignedReport(transaction, b"raw", turn, Fees(10**9, 10**9), 10**6, tuple(ids)))
    await store.mark_broadcast(transaction)
    now[0] += chance.uniform(0.5, 2)
    await store.close_report(
        ReportReceipt(transaction, answered_in, True, 500_000, 10**9, tuple(settled), {}, frozenset())
    )
    await store.commit_scan(settled, [answered_in], answered_in)
    if content is not None and turn == 0:
        await content.add(files)
    return ids


def _request(
    number: int, at: float, pictures: Sequence[bytes], model: ServableModel, accounts: Sequence[str]
) -> InferenceRequest:
    image = cid_of(pictures[number % len(pictures)])
    who = accounts[number % len(accounts)]
    deadline = int(time.time()) + 10 * DAY
    return InferenceRequest(request_id(number), 1, who, image, PRICE, 0, deadline, number, int(at))


def _result(number: int, request: InferenceRequest, size: int, model: ServableModel, at: float) -> tuple[bytes, bytes]:
    top = number % 10
    scores = [0.9 if label == top else 0.1 / 9 for label in range(10)]
    order = sorted(range(10), key=lambda label: -scores[label])
    labels = tuple(LabelScore(label, str(label), scores[label]) for label in order[: model.manifest.top_k])
    item = ItemResult(request.request_id, labels, familiarity=200)
    source = TaskInput(request.request_id, request.image_cid, Path(), size)
    task = TaskResult(f"batch-{number // BATCH}", f"0x{number % 3:040x}", (item,), at - 0.1, at, 0.004, "numpy")
    # The picture itself stands for the drawing, which is a PNG as well.
    drawings = {"labels": (request.image_cid, size)}
    return result_document(item, source, task, model, drawings), compact_answer(item)


def _provider(number: int) -> Provider:
    price = Price(Decimal(0), Decimal("0.00002"), Decimal("0.00001"))
    now = time.time()
    return Provider(
        f"0x{number:040x}", NAMES[number], price, 2, now - DAY, now, images_per_second=200.0, good=5.0 + number
    )


def request_id(number: int) -> bytes:
    """The id of a request by its place."""
    return _hash("request", number)


def picture(number: int) -> bytes:
    """The picture that it is about."""
    return digits(PICTURES).items[number % PICTURES].png


def _hash(kind: str, number: int) -> bytes:
    return hashlib.sha256(f"{kind} {number}".encode()).digest()


def _block(number: int, at: float) -> BlockRef:
    return BlockRef(number, _hash("block", number), int(at))


def example_document(number: int) -> dict[str, Any]:
    """The JSON of one request as the API shows it, for trying the other servers without the API."""
    moves = ["seen", "confirmed", "ready", "computing", "computed", "posting", "fulfilled"]
    return {
        "id": "0x" + request_id(number).hex(),
        "status": "fulfilled",
        "model": 1,
        "model_name": "mnist-cnn",
        "requester": f"0x{number:040x}",
        "image_cid": cid_of(str(number).encode()).text,
        "image": {"format": "PNG", "width": 28, "height": 28, "bytes": 300},
        "payment": str(PRICE),
        "token": None,
        "callback_gas": 0,
        "deadline": 1_800_000_000,
        "created_at": 1_790_000_000,
        "block": 7,
        "transaction": "0x" + _hash("ask", number).hex(),
        "provider": f"0x{number:040x}",
        "provider_name": "ada",
        "result_cid": cid_of(str(number).encode()).text,
        "answer": "0x" + bytes(32).hex(),
        "top": {"label": "7", "confidence": 0.9},
        "failure": None,
        "detail": "",
        "report_transaction": "0x" + _hash("report", number).hex(),
        "nonce": number,
        "refundable_at": 1_800_000_001,
        "timeline": [{"at": 1_790_000_000.123 + at, "status": name, "detail": ""} for at, name in enumerate(moves)],
    }


__all__ = ["Cid", "World", "example_document", "fill", "world"]
