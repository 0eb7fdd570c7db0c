"""The room where answers come in: wait, read by CID, compare with the chain, read the drawings."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping
from typing import Any

from oracle.answers import Answer, decode_answer
from oracle.client.comparing import agrees, same_model
from oracle.client.errors import HistoryTooLong, NotAnsweredYet, UnknownRequest
from oracle.client.models import Models
from oracle.client.outcome import Outcome, RequestLike, cid_from, id_of
from oracle.documents import read_result
from oracle.domain import ChainEvent, Cid, OnChainStatus, RequestSeen, RequestSettled
from oracle.errors import ContentCorrupt, ContentUnavailable, RpcRangeRefused, RpcUnavailable, SibylError

RESULT_LIMIT = 8 * 1024 * 1024
PATIENCE = 120.0  # seconds that a wait takes unless told otherwise
LAG = 5.0  # seconds in which the nodes behind one address come to agree on a new block
HISTORY_SECONDS = 240.0  # within which a request's logs are found, or too many blocks are searched
_PNG = b"\x89PNG\r\n\x1a\n"
_DISTRUST = "Do not trust either."
_PENDING = "wait() for it (command line: `sibyl status ID` says how far it is)."
_FEWER = (
    "give start_block (SIBYL_START_BLOCK), the block in which the coordinator was deployed, or an endpoint that serves "
    "the logs of more blocks at once."
)


class Reading(Models):
    """Reads what became of requests, whoever made them; no key is needed."""

    async def wait(self, request: RequestLike, *, timeout: float = PATIENCE) -> Outcome:
        """Wait until the request ends, through bad moments of the endpoint and of content.

        Raises NotAnsweredYet after ``timeout`` seconds, of which a last look may take ``LAG`` more, UnknownRequest, and
        what ``outcome`` raises.
        """
        request_id = id_of(request)
        until = time.monotonic() + timeout
        pause = min(0.1, self.settings.poll_interval)
        ended: float | None = None  # when a node first said so; the node that serves the logs may lag behind it
        trouble: SibylError | None = None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout + LAG):
                while True:
                    try:
                        if (await self.reader.request_of(request_id)).status is OnChainStatus.PENDING:
                            ended = trouble = None
                        else:
                            ended = ended or time.monotonic()
                            return await self.outcome(request_id)
                    except (RpcUnavailable, ContentUnavailable, NotAnsweredYet, UnknownRequest) as error:
                        trouble = error
                    agreed = ended is None or time.monotonic() > ended + LAG
                    if agreed and isinstance(trouble, NotAnsweredYet | UnknownRequest):
                        raise trouble
                    if agreed and time.monotonic() > until:
                        break
                    await asyncio.sleep(pause)
                    pause = min(pause * 1.5, self.settings.poll_interval)
        if isinstance(trouble, ContentUnavailable | UnknownRequest):
            raise trouble
        why = f" ({trouble})" if trouble else ""
        if ended is not None:
            raise NotAnsweredYet(
                f"0x{request_id.hex()} has ended, but its logs and result were not read within {timeout:g} s{why}",
                remedy=f"Wait longer, or search fewer blocks: {_FEWER}",
            )
        raise NotAnsweredYet(
            f"no answer to 0x{request_id.hex()} within {timeout:g} s{why}",
            remedy="It may still come: outcome() later, or refund() after its deadline "
            "(command line: `sibyl result ID`, `sibyl refund ID`).",
        )

    async def outcome(self, request: RequestLike) -> Outcome:
        """How a request ended, its result read by CID and compared with the chain.

        The model's manifest is read with it: it is what gives the classes their names. Raises UnknownRequest,
        NotAnsweredYet, HistoryTooLong, ContentUnavailable, and ContentCorrupt when the document and the chain disagree.
        """
        request_id = id_of(request)
        asked, settled = await self.history(request_id)
        if asked is None:
            raise unknown(request_id)
        if settled is None:
            raise NotAnsweredYet(f"0x{request_id.hex()} is still pending", remedy=_PENDING)
        if settled.status is not OnChainStatus.FULFILLED or settled.result_cid is None:
            return Outcome(asked, settled, None, None)
        raw = await self.content.fetch(settled.result_cid, limit=RESULT_LIMIT, timeout=self.settings.fetch_timeout)
        try:
            answer = decode_answer(settled.answer)
        except ValueError as error:
            raise ContentCorrupt(
                f"the answer on-chain cannot be read: {error}", remedy="A newer Sibyl may know its form."
            ) from None
        document = read_result(raw)
        await self._compare(asked, settled, answer, document)
        return Outcome(asked, settled, answer, document, raw)

    async def verify(self, request: RequestLike) -> Outcome:
        """Check a request's answer from the ground up, now: logs, result and drawings are read again.

        The result's bytes must hash to the CID on-chain, the document must say what the answer on-chain says, name the
        model that the registry holds and each class as its manifest does, the coordinator must vouch for all of it, and
        the drawings must hash to the CIDs that the document names. An outcome that is given must say the same. Returns
        what was read. Raises ContentCorrupt where any of it is not so, NotAnsweredYet, UnknownRequest,
        HistoryTooLong, ContentUnavailable.

        The chain is what ``rpc_url`` says it is: where the API named that endpoint, it is checked against itself.
        """
        fresh = await self.outcome(request)
        if isinstance(request, Outcome) and _claims(request) != _claims(fresh):
            raise ContentCorrupt(
                f"the outcome of 0x{fresh.request_id.hex()} is not the one on-chain",
                remedy="Use what this call returns for the request's id.",
            )
        await self.files(fresh)
        return fresh

    async def fetch(self, cid: Cid | str, *, limit: int = RESULT_LIMIT) -> bytes:
        """The file behind a CID, at most ``limit`` bytes, hashed here. Raises SibylError for what is no CID.

        Raises ContentUnavailable, ContentCorrupt, ContentTooLarge, ContentMalformed.
        """
        return await self.content.fetch(cid_from(cid), limit=limit, timeout=self.settings.fetch_timeout)

    async def history(self, request_id: bytes) -> tuple[RequestSeen | None, RequestSettled | None]:
        """A request's logs: how it was asked and how it ended, as far as it has.

        Raises HistoryTooLong after ``HISTORY_SECONDS``.
        """
        first = self.settings.start_block
        asked: RequestSeen | None = None
        settled: RequestSettled | None = None
        try:
            async with asyncio.timeout(HISTORY_SECONDS):
                events = await self._events(request_id, first, (await self.reader.head()).number)
        except TimeoutError:
            raise HistoryTooLong(
                f"the logs of 0x{request_id.hex()} from block {first} on were not read within {HISTORY_SECONDS:g} s",
                remedy=f"Search fewer blocks: {_FEWER}",
            ) from None
        for event in events:
            if isinstance(event, RequestSeen):
                asked = event
            else:
                settled = event
        return asked, settled

    async def _events(self, request_id: bytes, first: int, last: int) -> list[ChainEvent]:
        """A request's logs in [first, last], in halves where the endpoint refuses the whole."""
        try:
            return list(await self.reader.events(first, last, request_id=request_id))
        except RpcRangeRefused:
            if first >= last:
                raise
            middle = (first + last) // 2
            older = await self._events(request_id, first, middle)
            return older + await self._events(request_id, middle + 1, last)

    async def files(self, outcome: Outcome) -> dict[str, bytes]:
        """The drawings that belong to a result, PNG, by name: each hashed here against its CID.

        Raises ContentCorrupt for what is no PNG, and what the content store raises, such as ContentUnavailable.
        """
        named = outcome.document.get("files", {}) if outcome.document else {}
        found = {}
        for name, file in named.items():
            cid = Cid.parse(file["cid"])
            data = await self.content.fetch(cid, limit=file["bytes"], timeout=self.settings.fetch_timeout)
            if len(data) != file["bytes"] or not data.startswith(_PNG):
                raise ContentCorrupt(f"the drawing {name} ({cid}) is not what the result says", remedy=_DISTRUST)
            found[name] = data
        return found

    async def _compare(
        self, asked: RequestSeen, settled: RequestSettled, answer: Answer, document: Mapping[str, Any]
    ) -> None:
        request, cid = asked.request, settled.result_cid
        if cid is None or not agrees(request, answer, document):
            raise ContentCorrupt("the result document and the answer on-chain disagree", remedy=_DISTRUST)
        if not await self.reader.verify_result(request.request_id, cid, settled.answer):
            raise ContentCorrupt("the coordinator does not vouch for this result", remedy="Do not trust it.")
        model = await self.registered(request.model_id)
        manifest = await self.manifest(model, timeout=self.settings.fetch_timeout)
        if not same_model(model.manifest_cid, manifest, document):
            raise ContentCorrupt(
                f"the result document names another model than number {request.model_id} of the registry, "
                "or a class otherwise than the model's manifest",
                remedy="Its names cannot be trusted; the answer on-chain has the classes by number.",
            )


def _claims(outcome: Outcome) -> tuple[object, ...]:
    """All that an outcome says of the answer; where its logs lie may change with a reorg."""
    settled = outcome.settled
    return (
        *(outcome.asked.request, settled.status, settled.reason, settled.result_cid, settled.answer),
        *(outcome.answer, outcome.document, outcome.raw),
    )


def unknown(request_id: bytes) -> UnknownRequest:
    """The error for an id that the coordinator does not know."""
    return UnknownRequest(
        f"the coordinator has no request 0x{request_id.hex()}", remedy="Check the id, the chain and the address."
    )
