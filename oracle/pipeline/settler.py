"""The settler: answers and failures go into reports, reports into transactions, and receipts end the requests."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence

from oracle.domain import FailureReason, Fulfilment, OnChainStatus, ReportReceipt, RequestStatus
from oracle.errors import ReportReverted, TransactionRefused
from oracle.pipeline.duty import Bell, backoff
from oracle.ports import ChainReader, Clock, Move, ReportSender, RequestRow, RequestStore, Spool, StoredReport
from oracle.telemetry import logger, short

log = logger("settler")

WAITING = (RequestStatus.COMPUTED, RequestStatus.FAILED)
CALLBACK_GAS = 8_000_000  # sum of callback gas in one report, well below what one transaction may use (EIP-7825)
SKIPPED_PAUSE = 60.0  # seconds before a skipped item is reported again
EXPIRY_CHECK = 1.0  # seconds between two looks for requests whose deadline has passed


class Settler:
    """COMPUTED and FAILED -> POSTING -> FULFILLED and REJECTED.

    A report is signed and saved before it is broadcast, so that a restart at any instruction finds it and sends the
    very same bytes; one that is not mined in time is replaced at its nonce with raised fees.
    """

    name = "settler"

    def __init__(
        self,
        *,
        store: RequestStore,
        chain: ChainReader,
        sender: ReportSender,
        spool: Spool,
        clock: Clock,
        confirmations: int,
        items: int,
        in_flight: int,
        replace_after: float,
    ) -> None:
        self.bell = Bell()
        self._store, self._chain, self._sender, self._spool, self._clock = store, chain, sender, spool, clock
        self._confirmations, self._items, self._in_flight = confirmations, items, in_flight
        self._replace_after = replace_after
        self._expired_at = 0.0
        self.in_flight = 0  # reports signed and not yet confirmed deep enough

    async def step(self) -> bool:
        """Look after the reports in flight, then send another if the rules say so."""
        await self._expire()
        open_nonces, unmined = await self._reconcile()
        self.in_flight = len(open_nonces)
        rows = await self._store.select(WAITING, due=self._clock.now(), limit=self._items)
        rows = _within_gas([row for row in rows if row.request.deadline > self._clock.now()])
        # While one report waits for a block, company for the next one is coming: wait until it is full.
        if not rows or unmined >= self._in_flight or (unmined and len(rows) < self._items):
            return False
        await self._send(rows, open_nonces)
        return True

    async def _expire(self) -> None:
        now = self._clock.now()
        if now - self._expired_at >= EXPIRY_CHECK:
            self._expired_at = now
            expired = await self._store.expire(now)
            if expired:
                log.warning("%d requests passed their deadline unanswered; anyone may refund them", expired)

    async def _reconcile(self) -> tuple[set[int], int]:
        """Close what is confirmed, send again what is not known, replace what is stuck.

        Returns the nonces still open and how many of them are not in a block.
        """
        by_nonce: dict[int, list[StoredReport]] = defaultdict(list)
        for stored in await self._store.open_reports():
            by_nonce[stored.report.nonce].append(stored)
        still_open: set[int] = set()
        unmined = 0
        for nonce, reports in sorted(by_nonce.items()):
            receipt = await self._receipt(reports)
            if receipt is None:
                await self._nudge(nonce, reports)
                still_open.add(nonce)
                unmined += 1
            elif await self._is_deep(receipt):
                await self._close(receipt, reports)
            else:
                still_open.add(nonce)
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
        return (await self._chain.head()).number - receipt.block.number + 1 >= self._confirmations

    async def _close(self, receipt: ReportReceipt, reports: Sequence[StoredReport]) -> None:
        if not receipt.succeeded:
            log.error("report %s reverted on-chain; its requests go back", short(receipt.transaction_hash))
        await self._store.close_report(receipt)
        await self._defer(receipt)
        log.info(
            "report %s confirmed",
            short(receipt.transaction_hash),
            extra={"settled": len(receipt.settled), "skipped": len(receipt.skipped), "gas": receipt.gas_used},
        )
        ids = {request_id for stored in reports for request_id in stored.report.request_ids}
        await self._spool.discard(await self._store.spent_images(ids))

    async def _nudge(self, nonce: int, reports: Sequence[StoredReport]) -> None:
        newest = reports[-1]
        if newest.broadcast_at is None:
            await self._broadcast(newest, reports)
            return
        if time.time() - newest.broadcast_at < self._replace_after:
            return
        if await self._sender.next_nonce() > nonce and await self._receipt(reports) is None:
            log.error("nonce %d went to a transaction that is not ours; is the key used elsewhere?", nonce)
            await self._store.abandon_report(
                newest.report.transaction_hash, "its nonce was used by another transaction"
            )
            return
        items = await self._items_of(newest)
        replacement = await self._sender.replace(newest.report, items)
        await self._store.save_report(replacement, replaces=newest.report.transaction_hash)
        log.warning(
            "report %s is stuck; replaced by %s",
            short(newest.report.transaction_hash),
            short(replacement.transaction_hash),
        )
        await self._sender.broadcast(replacement)
        await self._store.mark_broadcast(replacement.transaction_hash)

    async def _broadcast(self, newest: StoredReport, siblings: Sequence[StoredReport]) -> None:
        """Send the newest report at its nonce; when the nonce is spent and not by one of ours, give them all up."""
        try:
            await self._sender.broadcast(newest.report)
        except TransactionRefused as error:
            if await self._sender.next_nonce() <= newest.report.nonce:
                raise
            if await self._receipt(siblings) is None:
                for stored in siblings:
                    await self._store.abandon_report(stored.report.transaction_hash, str(error))
            return
        await self._store.mark_broadcast(newest.report.transaction_hash)

    async def _defer(self, receipt: ReportReceipt) -> None:
        """What the contract skipped although it is open (a reorg took the request away) is not sent again at once."""
        later = self._clock.now() + SKIPPED_PAUSE
        rows = [
            await self._store.get(request_id)
            for request_id, status in receipt.skipped.items()
            if status in (OnChainStatus.UNKNOWN, OnChainStatus.PENDING)
        ]
        moves = [
            Move(row.request_id, row.status, not_before=later, detail="the coordinator skipped it")
            for row in rows
            if row is not None and row.status in WAITING
        ]
        if moves:
            await self._store.move(moves, expected=WAITING)

    async def _items_of(self, stored: StoredReport) -> list[Fulfilment]:
        rows = [await self._store.get(request_id) for request_id in stored.report.request_ids]
        return [_fulfilment(row) for row in rows if row is not None]

    async def _send(self, rows: Sequence[RequestRow], open_nonces: set[int]) -> None:
        nonce = max([await self._sender.next_nonce(), *(open_nonce + 1 for open_nonce in open_nonces)])
        try:
            report = await self._sender.prepare([_fulfilment(row) for row in rows], nonce)
        except ReportReverted as error:
            await self._isolate(rows, open_nonces, error)
            return
        await self._store.save_report(report)
        open_nonces.add(nonce)
        stored = StoredReport(report, time.time())
        await self._broadcast(stored, [stored])
        log.debug("report %s sent", short(report.transaction_hash), extra={"items": len(rows), "nonce": nonce})

    async def _isolate(self, rows: Sequence[RequestRow], open_nonces: set[int], error: ReportReverted) -> None:
        """A report that would revert is halved until the item at fault stands alone; that one waits."""
        if len(rows) > 1:
            middle = len(rows) // 2
            await self._send(rows[:middle], open_nonces)
            await self._send(rows[middle:], open_nonces)
            return
        row = rows[0]
        attempts = row.attempts + 1
        log.error("request %s cannot be reported: %s", short(row.request_id), error)
        await self._store.move(
            [
                Move(
                    row.request_id,
                    row.status,
                    attempts=attempts,
                    not_before=self._clock.now() + backoff(attempts),
                    detail=str(error),
                )
            ],
            expected=[row.status],
        )


def _within_gas(rows: Sequence[RequestRow]) -> list[RequestRow]:
    """The first rows whose callbacks fit one transaction; one row always does."""
    total = 0
    for count, row in enumerate(rows):
        total += row.request.callback_gas
        if count and total > CALLBACK_GAS:
            return list(rows[:count])
    return list(rows)


def _fulfilment(row: RequestRow) -> Fulfilment:
    gas = row.request.callback_gas
    if row.failure is not FailureReason.NONE:
        return Fulfilment(row.request_id, failure=row.failure)
    return Fulfilment(row.request_id, result_cid=row.result_cid, answer=row.answer, callback_gas=gas)
