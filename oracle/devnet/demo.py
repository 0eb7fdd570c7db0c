"""The main job, end to end: paid requests with real pictures, and what came back on-chain."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from oracle.answers import tally
from oracle.chain.account import AccountSender, Ask, digit_reading, digit_result_cid
from oracle.chain.calls import CallReverted
from oracle.chain.codec import quantity
from oracle.client import Client, NotAnsweredYet, Outcome, connect
from oracle.content.cid import name_block
from oracle.devnet.pictures import MANIFEST, Digits, digits, scene
from oracle.devnet.stack import PRICE, Stack
from oracle.domain import CODEC_RAW, Cid, OnChainStatus
from oracle.errors import SibylError
from oracle.market import to_glm
from oracle.status import open_store

DIGITS = 8
SEGMENTER = "mask-rcnn-shapes"
DEADLINE = 600  # seconds
PATIENCE = 90.0  # seconds for every answer that can come to come
SETTLING = 40.0  # seconds for the providers to be paid
GRACE = 5.0  # seconds in which the oracle takes note of a deadline that passed


@dataclass(frozen=True, slots=True)
class Line:
    """A row of the demo's table: ``seconds`` from send to answer, gas of the request and its share of the report."""

    what: str
    request_id: str
    model: str
    answer: str
    confidence: float | None
    result_cid: str
    state: str
    gas_request: int
    gas_report: int
    seconds: float
    verified: bool | None


@dataclass(frozen=True, slots=True)
class Summary:
    """The demo's last line."""

    requests: int
    fulfilled: int
    refunded: int
    lost: int
    wrong: int
    seconds: float
    gas_request: int
    gas_fulfil_per_item: int
    paid_glm: str | None = None

    def as_json(self) -> dict[str, Any]:
        """The summary as JSON-ready values."""
        return asdict(self)


@dataclass(slots=True)
class _Sent:
    what: str
    model: str
    request_id: bytes
    gas: int
    at: float
    expected: str = ""
    contract: str | None = None
    seconds: float = 0.0


async def run_demo(stack: Stack, progress: Callable[[str], None]) -> tuple[Digits, list[Line], Summary]:
    """Ask, wait, compare. Raises SibylError when the stack itself fails; a wrong or lost answer is in the summary."""
    async with connect(stack.settings) as client:
        started = time.monotonic()
        pictures = digits(DIGITS + 1)
        progress(
            f"asking about {DIGITS + 1} digits ({pictures.source}), a scene and three things that cannot be answered"
        )
        sent = await _ask_everything(stack, client, pictures)
        outcomes = await asyncio.gather(*(_await(client, one) for one in sent[:-1]))
        progress(
            "the last request's picture exists nowhere: moving the chain's clock past its deadline, then refunding"
        )
        outcomes.append(await _refund_late(stack, client, sent[-1]))
        seconds = time.monotonic() - started
        lines = [await _line(client, one, outcome) for one, outcome in zip(sent, outcomes, strict=True)]
    summary = _summary(sent, outcomes, lines, seconds)
    if stack.golem is not None:
        progress("waiting until the provider's invoice is settled on the payment chain")
        summary = replace(summary, paid_glm=await _paid(stack))
    return pictures, lines, summary


async def _paid(stack: Stack) -> str:
    """What the providers got, in GLM, once every invoice is settled; what was settled by then when time is up."""
    store = open_store(stack.settings)
    try:
        for _ in range(int(SETTLING / 0.5)):
            _, books = await store.books()
            if books.accepted and not books.owed and not await store.ledger.open_agreements():
                break
            await asyncio.sleep(0.5)
        return to_glm(books.accepted - books.owed)
    finally:
        await store.close()


async def _ask_everything(stack: Stack, client: Client, pictures: Digits) -> list[_Sent]:
    model = (await client.model()).on_chain.model_id
    coordinator = client.reader.address
    *for_person, for_contract = pictures.items
    shapes, seen = await client.model(SEGMENTER), await asyncio.to_thread(scene)
    not_a_picture = b"Whoever reads this as a picture sees more than Sibyl does.\n"
    abacus = json.loads(MANIFEST.read_text()) | {"name": "abacus", "engine": "abacus"}
    files = [*(digit.png for digit in for_person), for_contract.png, not_a_picture, seen.png]
    files.append(json.dumps(abacus).encode())
    cids = list(await client.content.add(files))
    publisher = AccountSender(client.rpc, stack.publisher, stack.settings.chain_id or 0)
    unservable = await publisher.publish_model(coordinator, cids[-1], PRICE)
    nowhere = name_block(b"these bytes were never stored", codec=CODEC_RAW, version=1)
    until = await client.deadline(DEADLINE)

    sent = []
    at = time.monotonic()
    asks = [Ask(model, cid, until) for cid in cids[:DIGITS]]
    for digit, asked in zip(for_person, await client.sender.request_inferences(coordinator, asks), strict=True):
        sent.append(
            _Sent(f"a {digit.value}, as a person", "mnist-cnn", asked.request_id, asked.gas_used, at, str(digit.value))
        )
    contract = stack.settings.digit_reader or ""
    at = time.monotonic()
    asked = await client.sender.ask_digit_reader(contract, coordinator, cids[DIGITS], until)
    sent.append(
        _Sent(
            f"a {for_contract.value}, through a contract",
            "mnist-cnn",
            asked.request_id,
            asked.gas_used,
            at,
            str(for_contract.value),
            contract,
        )
    )
    for what, model_id, name, cid, expected in (
        ("a scene of shapes and digits", shapes.on_chain.model_id, SEGMENTER, cids[DIGITS + 2], tally(seen.things)),
        ("a text, not a picture", model, "mnist-cnn", cids[DIGITS + 1], ""),
        ("a model nobody can run", unservable, "abacus", cids[0], ""),
        ("a picture that is nowhere", model, "mnist-cnn", nowhere, ""),
    ):
        at = time.monotonic()
        asked = await client.sender.request_inference(coordinator, Ask(model_id, cid, until))
        sent.append(_Sent(what, name, asked.request_id, asked.gas_used, at, expected))
    return sent


async def _await(client: Client, one: _Sent) -> Outcome | None:
    try:
        outcome = await client.wait(one.request_id, timeout=PATIENCE)
    except NotAnsweredYet:
        outcome = None
    one.seconds = time.monotonic() - one.at
    return outcome


async def _refund_late(stack: Stack, client: Client, one: _Sent) -> Outcome | None:
    """The way out that needs no oracle: the deadline passes and anyone refunds with the id alone."""
    await stack.chain.increase_time(DEADLINE + 1)
    for _ in range(int(GRACE / 0.5)):
        try:
            await client.refund(one.request_id)
            break
        except CallReverted:
            await asyncio.sleep(0.5)
    return await _await(client, one)


async def _line(client: Client, one: _Sent, outcome: Outcome | None) -> Line:
    identifier = "0x" + one.request_id.hex()
    if outcome is None:
        return Line(one.what, identifier, one.model, "", None, "", "lost", one.gas, 0, one.seconds, None)
    settled = outcome.settled
    cid = settled.result_cid.text if settled.result_cid else ""
    if outcome.answer is None:
        how = "refunded" if settled.status is OnChainStatus.REFUNDED else f"failed: {settled.reason.text}"
        return Line(one.what, identifier, one.model, "", None, cid, how, one.gas, 0, one.seconds, None)
    gas = await _report_share(client, settled.position.transaction_hash)
    return Line(
        one.what,
        identifier,
        one.model,
        outcome.label,
        outcome.confidence,
        cid,
        "fulfilled",
        one.gas,
        gas,
        one.seconds,
        await _right(client, one, outcome, settled.result_cid),
    )


async def _right(client: Client, one: _Sent, outcome: Outcome, cid: Cid | None) -> bool:
    """The digit is the one drawn and, where a contract asked, its storage holds the same answer."""
    if outcome.label != one.expected:
        return False
    if one.contract is None:
        return True
    reading = await digit_reading(client.rpc, one.contract, one.request_id)
    held = await digit_result_cid(client.rpc, one.contract, one.request_id)
    return reading is not None and str(reading.digit) == one.expected and held == cid


async def _report_share(client: Client, transaction_hash: bytes) -> int:
    """A report's gas divided by the items it settled."""
    receipt = await client.rpc.call("eth_getTransactionReceipt", ["0x" + transaction_hash.hex()])
    if receipt is None:
        raise SibylError("a settled request's report has no receipt", remedy="The chain was reorganised; run it again.")
    block = quantity(receipt["blockNumber"])
    settled = [
        event
        for event in await client.reader.events(block, block)
        if event.position.transaction_hash == transaction_hash
    ]
    return quantity(receipt["gasUsed"]) // max(1, len(settled))


def _summary(
    sent: Sequence[_Sent], outcomes: Sequence[Outcome | None], lines: Sequence[Line], seconds: float
) -> Summary:
    fulfilled = [line for line in lines if line.state == "fulfilled"]
    back = [o for o in outcomes if o and o.settled.status in (OnChainStatus.FAILED, OnChainStatus.REFUNDED)]
    by_person = [one.gas for one in sent if one.contract is None]
    return Summary(
        requests=len(sent),
        fulfilled=len(fulfilled),
        refunded=len(back),
        lost=sum(outcome is None for outcome in outcomes),
        wrong=sum(line.verified is False for line in lines),
        seconds=round(seconds, 2),
        gas_request=sum(by_person) // len(by_person),
        gas_fulfil_per_item=sum(line.gas_report for line in fulfilled) // max(1, len(fulfilled)),
    )
