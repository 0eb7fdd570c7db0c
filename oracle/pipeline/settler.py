"""The settler: answers and failures go into reports, reports into transactions, and receipts end the requests."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from oracle.domain import FailureReason, Fulfilment, OnChainStatus, ReportReceipt, RequestStatus
from oracle.errors import ChainError, ReportReverted, RpcUnavailable, TransactionRefused
from oracle.pipeline.duty import Bell, backoff
from oracle.pipeline.worth import Worth
from oracle.ports import ChainReader, Clock, Move, ReportSender, RequestRow, RequestStore, Spool, StoredReport
from oracle.telemetry import logger, short

log = logger("settler")

NOBODYS_FAULT = ("NotOperator", "QuorumNotMet", "EmptyReport")
WAITING = (RequestStatus.COMPUTED, RequestStatus.FAILED)
CALLBACK_GAS = 8_000_000  # sum of callback gas in one report, well below what one transaction may use (EIP-7825)
LOOK_BEYOND = 1024  # rows read when some of the first pay too little
ITEM_GAS = 60_000  # a generous guess at what one item costs without its callback
SKIPPED_PAUSE = 60.0  # seconds before a skipped item is reported again
COSTLY_PAUSE = 30.0  # seconds before a request that pays too little for the present fees is looked at again
EXPIRY_CHECK = 1.0  # seconds between two looks for requests whose deadline has passed
REFUSED_PAUSE = 2.0  # seconds before a report that a node refused is sent again
MOST_REFUSALS = 3  # after that a report that no node ever took is signed anew, at the fees of the day
LONGEST_REST = 3600.0  # seconds between two tries of a request whose report reverted
STUCK_BLOCKS = 3  # blocks that pass over a report which is not outbid, before its fees are raised all the same


@dataclass(slots=True)
class _Care:
    """When a report that is not mined was last sent, and what the head was; its trouble since."""

    at: float
    head: int
    refusals: int = 0


class Settler:
    """COMPUTED and FAILED -> POSTING -> FULFILLED and REJECTED.

    A report is signed and saved before it is broadcast, so that a restart at any instruction finds it and sends the
    very same bytes. One that is not mined in time is sent again; its fees are raised, at its nonce, when others offer
    more or blocks pass over it. A request whose report reverted is reported alone from then on. ``cost_ratio`` bounds
    what posting may cost beside what the request's payment is worth.
    """

    name = "settler"

    def __init__(
        self,
        *,
        store: RequestStore,
        chain: ChainReader,
        sender: ReportSender,
        spool: Spool,
        worth: Worth,
        clock: Clock,
        confirmations: int,
        items: int,
        in_flight: int,
        replace_after: float,
        posting_time: float,
        cost_ratio: float,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.bell = Bell()
        self._store, self._chain, self._sender, self._spool = store, chain, sender, spool
        self._worth, self._clock = worth, clock
        self._confirmations, self._items, self._in_flight = confirmations, items, in_flight
        self._replace_after, self._posting_time, self._cost_ratio = replace_after, posting_time, cost_ratio
        self._wall = wall
        self._expired_at = 0.0
        self._alone_next = False
        self._care: dict[int, _Care] = {}
        self._head: int | None = None
        self._spent = 0  # nonces below it have a confirmed receipt
        self.in_flight = 0  # reports signed and not yet confirmed deep enough

    async def step(self) -> bool:
        """Look after the reports in flight, then send another if the rules say so."""
        self._head = None
        await self._expire()
        open_nonces, unmined = await self._reconcile()
        self.in_flight = len(open_nonces)
        if unmined >= self._in_flight:
            return False
        rows, full = await self._next_rows()
        # While one report waits for a block, company for the next one is coming: wait until it is full.
        if not rows or (unmined and not full):
            return False
        await self._send(rows, open_nonces)
        return True

    async def _expire(self) -> None:
        """Past its deadline is what is past it by this machine's clock and by the chain's: one of them may lie."""
        now = self._wall()
        if now - self._expired_at < EXPIRY_CHECK:
            return
        self._expired_at = now
        checkpoint = await self._store.checkpoint()
        if checkpoint is None:
            return
        expired = await self._store.expire(min(now, checkpoint.timestamp))
        if expired:
            log.warning("%d requests passed their deadline unanswered; anyone may refund them", expired)

    # -----------------------------------------------------------------------------------------------------------
    # What to send next
    # -----------------------------------------------------------------------------------------------------------

    async def _next_rows(self) -> tuple[list[RequestRow], bool]:
        """The items of the next report, and whether it is full. What was in a report that reverted goes alone."""
        fresh, full = await self._affordable(tried=False)
        again, _ = await self._affordable(tried=True)
        self._alone_next = bool(again) and (not fresh or not self._alone_next)
        if self._alone_next:
            return again[:1], True
        return fresh, full

    async def _affordable(self, *, tried: bool) -> tuple[list[RequestRow], bool]:
        now = self._clock.now()
        # An answer that comes too late is skipped by the coordinator, and its gas is lost.
        in_time = now + self._posting_time
        rows = await self._store.select(WAITING, due=now, tried=tried, after=in_time, limit=self._items)
        if not rows:
            return [], False
        price = await self._sender.gas_price()
        dear = [row for row in rows if await self._is_dear(row, price)]
        if dear:
            # Those who pay too little must not hide the others, however many they are.
            rows = await self._store.select(WAITING, due=now, tried=tried, after=in_time, limit=LOOK_BEYOND)
            dear = [row for row in rows if await self._is_dear(row, price)]
            log.warning("%d requests pay too little for fees of %d wei per gas; they wait", len(dear), price)
            pauses = [Move(row.request_id, row.status, not_before=now + COSTLY_PAUSE) for row in dear]
            await self._store.move(pauses, expected=WAITING)
        passed_over = {row.request_id for row in dear}
        kept = [row for row in rows if row.request_id not in passed_over][: self._items]
        taken = _within_gas(kept)
        return taken, len(taken) < len(kept) or len(kept) == self._items

    async def _is_dear(self, row: RequestRow, gas_price: int) -> bool:
        worth = await self._worth.of(row.request) or 0
        return (ITEM_GAS + _callback_gas(row)) * gas_price > self._cost_ratio * worth

    # -----------------------------------------------------------------------------------------------------------
    # Reports in flight
    # -----------------------------------------------------------------------------------------------------------

    async def _reconcile(self) -> tuple[set[int], int]:
        """Close what is confirmed, send again what is not known, replace what is stuck.

        Returns the nonces still open and how many of them are not in a block. The trouble of one report holds up
        neither the others nor what waits to be sent.
        """
        by_nonce: dict[int, list[StoredReport]] = defaultdict(list)
        for stored in await self._store.open_reports():
            by_nonce[stored.report.nonce].append(stored)
        self._care = {nonce: care for nonce, care in self._care.items() if nonce in by_nonce}
        still_open: set[int] = set()
        unmined = 0
        for nonce, reports in sorted(by_nonce.items()):
            if not self._sender.signed(reports[-1].report):
                await self._give_up(reports, "another operator's key signed it")
                continue
            receipt = await self._receipt(reports)
            if receipt is not None and await self._is_deep(receipt):
                await self._close(receipt, reports)
                continue
            still_open.add(nonce)
            if receipt is not None:
                continue
            unmined += 1
            try:
                await self._nudge(nonce, reports, lowest=unmined == 1)
            except ChainError as error:
                log.warning("report %s: %s", short(reports[-1].report.transaction_hash), error)
        return still_open, unmined

    async def _receipt(self, reports: Sequence[StoredReport]) -> ReportReceipt | None:
        for stored in reversed(reports):
            receipt = await self._sender.receipt(stored.report.transaction_hash)
            if receipt is not None:
                return receipt
        return None

    async def _is_deep(self, receipt: ReportReceipt) -> bool:
        if self._confirmations <= 1:
            return True
        return await self._height() - receipt.block.number + 1 >= self._confirmations

    async def _height(self) -> int:
        """The head's number, asked once a step."""
        if self._head is None:
            self._head = (await self._chain.head()).number
        return self._head

    async def _close(self, receipt: ReportReceipt, reports: Sequence[StoredReport]) -> None:
        ids = list(dict.fromkeys(request_id for stored in reports for request_id in stored.report.request_ids))
        await self._store.close_report(receipt)
        self._spent = max(self._spent, reports[-1].report.nonce + 1)
        if receipt.succeeded:
            await self._defer_skipped(receipt)
        else:
            log.error("report %s reverted on-chain; its requests go alone", short(receipt.transaction_hash))
            await self._set_apart(ids, "its report reverted on-chain")
        log.info(
            "report %s confirmed",
            short(receipt.transaction_hash),
            extra={"settled": len(receipt.settled), "skipped": len(receipt.skipped), "gas": receipt.gas_used},
        )
        await self._spool.discard(await self._store.spent_images(ids))

    async def _nudge(self, nonce: int, reports: Sequence[StoredReport], *, lowest: bool) -> None:
        """A report without a receipt is sent, sent again, replaced or given up, as its age and the chain ask."""
        newest = reports[-1]
        care = self._care.get(nonce)
        if care is None:
            if newest.broadcast_at is None:
                await self._broadcast(newest, reports)
                return
            care = self._care[nonce] = _Care(newest.broadcast_at, await self._height())
        pause = self._replace_after if newest.broadcast_at is not None else REFUSED_PAUSE * 2 ** min(care.refusals, 6)
        if self._wall() - care.at < min(pause, self._replace_after):
            return
        upcoming = await self._sender.next_nonce()
        if upcoming > nonce:
            # Mined between the two looks, or spent by a stranger; the next receipt will tell.
            if await self._receipt(reports) is None:
                await self._give_up(reports, "another transaction took its nonce; is the key used elsewhere?")
            return
        if lowest and upcoming < nonce:
            # A reorg took the account's transaction before it; what it carries goes into that gap.
            await self._give_up(reports, "a nonce below it is free again")
            return
        passed = await self._height() - care.head
        refused = newest.broadcast_at is None
        # Only the lowest nonce can be mined next, and only a block that left it out says that it pays too little.
        if lowest and (passed or refused):
            outbid = await self._sender.is_outbid(newest.report)
            if (outbid or (passed >= STUCK_BLOCKS and not refused)) and await self._replace(newest, reports):
                return
        await self._broadcast(newest, reports)

    async def _replace(self, newest: StoredReport, reports: Sequence[StoredReport]) -> bool:
        """Sign the same items at the same nonce with raised fees; False when the fee cap or a revert forbids it."""
        try:
            replacement = await self._sender.replace(newest.report, await self._items_of(newest))
        except (TransactionRefused, ReportReverted) as error:
            log.warning("report %s stays as it is: %s", short(newest.report.transaction_hash), error)
            return False
        await self._store.save_report(replacement, replaces=newest.report.transaction_hash)
        log.warning(
            "report %s is stuck; replaced by %s",
            short(newest.report.transaction_hash),
            short(replacement.transaction_hash),
        )
        stored = StoredReport(replacement, self._wall(), replaces=newest.report.transaction_hash)
        await self._broadcast(stored, [*reports, stored])
        return True

    async def _broadcast(self, newest: StoredReport, siblings: Sequence[StoredReport]) -> None:
        """Send a report, note when, and act on a refusal: new fees, smaller reports, or giving a lost nonce up."""
        nonce = newest.report.nonce
        known = self._care.get(nonce)
        care = self._care[nonce] = _Care(self._wall(), await self._height(), known.refusals if known else 0)
        try:
            await self._sender.broadcast(newest.report)
        except TransactionRefused as error:
            care.refusals += 1
            if await self._sender.next_nonce() > nonce:
                if await self._receipt(siblings) is None:
                    await self._give_up(siblings, str(error))
            elif (error.too_large or care.refusals >= MOST_REFUSALS) and not any(one.broadcast_at for one in siblings):
                await self._give_up(siblings, str(error))
                if error.underpriced or error.unfunded:
                    await self._pause(newest.report.request_ids, COSTLY_PAUSE, str(error))
                else:
                    await self._set_apart(newest.report.request_ids, str(error))
            elif error.underpriced and care.refusals == 1:
                await self._replace(newest, siblings)
            else:
                raise
            return
        except RpcUnavailable:
            # Nobody has judged it yet, so it need not wait for its turn.
            self._care.pop(nonce, None)
            raise
        care.refusals = 0
        await self._store.mark_broadcast(newest.report.transaction_hash)

    async def _give_up(self, reports: Sequence[StoredReport], why: str) -> None:
        log.error("nonce %d is given up: %s", reports[-1].report.nonce, why)
        for stored in reports:
            await self._store.abandon_report(stored.report.transaction_hash, why)

    async def _items_of(self, stored: StoredReport) -> list[Fulfilment]:
        rows = [await self._store.get(request_id) for request_id in stored.report.request_ids]
        return [_fulfilment(row) for row in rows if row is not None]

    # -----------------------------------------------------------------------------------------------------------
    # New reports
    # -----------------------------------------------------------------------------------------------------------

    async def _send(self, rows: Sequence[RequestRow], open_nonces: set[int]) -> None:
        nonce = await self._free_nonce(open_nonces)
        try:
            report = await self._sender.prepare([_fulfilment(row) for row in rows], nonce)
        except ReportReverted as error:
            await self._isolate(rows, open_nonces, error)
            return
        await self._store.save_report(report)
        open_nonces.add(nonce)
        stored = StoredReport(report, self._wall())
        await self._broadcast(stored, [stored])
        log.debug("report %s sent", short(report.transaction_hash), extra={"items": len(rows), "nonce": nonce})

    async def _free_nonce(self, open_nonces: set[int]) -> int:
        """The lowest nonce that neither the chain nor an open report has: a gap would hold up all that follow."""
        # A node that lags behind must not hand out a nonce whose receipt we have seen already.
        nonce = max(await self._sender.next_nonce(), self._spent)
        while nonce in open_nonces:
            nonce += 1
        return nonce

    async def _isolate(self, rows: Sequence[RequestRow], open_nonces: set[int], error: ReportReverted) -> None:
        """A report that would revert is halved until the item at fault stands alone; that one waits.

        A revert that no item can be at fault for is raised.
        """
        if error.error.startswith(NOBODYS_FAULT):
            raise error
        if len(rows) > 1:
            middle = len(rows) // 2
            await self._send(rows[:middle], open_nonces)
            await self._send(rows[middle:], open_nonces)
            return
        log.error("request %s cannot be reported: %s", short(rows[0].request_id), error)
        await self._set_apart([rows[0].request_id], str(error))

    async def _set_apart(self, request_ids: Sequence[bytes], why: str) -> None:
        """These requests are reported alone from now on, each try later than the one before."""
        rows = [row for row in [await self._store.get(i) for i in request_ids] if row and row.status in WAITING]
        now = self._clock.now()
        moves = [
            Move(
                row.request_id,
                row.status,
                attempts=row.attempts + 1,
                not_before=now + backoff(row.attempts + 1, first=2.0, longest=LONGEST_REST),
                detail=why,
            )
            for row in rows
        ]
        if moves:
            await self._store.move(moves, expected=WAITING)

    async def _defer_skipped(self, receipt: ReportReceipt) -> None:
        """What the contract skipped although it is open (a reorg took the request away) is not sent again at once."""
        still_open = (OnChainStatus.UNKNOWN, OnChainStatus.PENDING)
        skipped = [request_id for request_id, status in receipt.skipped.items() if status in still_open]
        await self._pause(skipped, SKIPPED_PAUSE, "the coordinator skipped it")

    async def _pause(self, request_ids: Sequence[bytes], seconds: float, why: str) -> None:
        """Leave these requests alone for a while; it is no fault of theirs."""
        rows = [row for row in [await self._store.get(i) for i in request_ids] if row and row.status in WAITING]
        later = self._clock.now() + seconds
        moves = [Move(row.request_id, row.status, not_before=later, detail=why) for row in rows]
        if moves:
            await self._store.move(moves, expected=WAITING)


def _callback_gas(row: RequestRow) -> int:
    """Gas for the requester's callback, which only an answer gets."""
    return row.request.callback_gas if row.failure is FailureReason.NONE else 0


def _within_gas(rows: Sequence[RequestRow]) -> list[RequestRow]:
    """The first rows whose callbacks fit one transaction; one row always does."""
    total = 0
    for count, row in enumerate(rows):
        total += _callback_gas(row)
        if count and total > CALLBACK_GAS:
            return list(rows[:count])
    return list(rows)


def _fulfilment(row: RequestRow) -> Fulfilment:
    if row.failure is not FailureReason.NONE:
        return Fulfilment(row.request_id, failure=row.failure)
    return Fulfilment(row.request_id, result_cid=row.result_cid, answer=row.answer, callback_gas=_callback_gas(row))
