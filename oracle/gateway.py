"""Pays for requests of the API's users, from a balance that the gateway's account prepaid at the coordinator.

An amount is counted before its transaction is sent. What cannot be told at once (a kill, an endpoint's bad moment) is
looked for on the chain when the same idempotency key comes again: it is found there, or its deadline has passed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from oracle.api.ports import Holder, Paid, WishBox
from oracle.chain.account import AccountSender, TooDear
from oracle.chain.calls import CallReverted, RevertedInBlock
from oracle.chain.coordinator import CoordinatorReader
from oracle.domain import ChainEvent, Cid, RequestSeen
from oracle.errors import (
    BalanceTooLow,
    ChainError,
    KeyNeeded,
    ModelNotSold,
    RpcRangeRefused,
    RpcUnavailable,
    StillAsking,
    StoreError,
    TransactionRefused,
)
from oracle.store.gateway import Question, Spending, SpendingState, SqliteGatewayStore, mark
from oracle.telemetry import logger

GAS = 100_000
"""Gas of a request from a balance, generously: a day's limit counts the network's fee, which the gateway pays, too.

Else models that cost nothing could be asked until nothing is left for gas.
"""
DEADLINE = 600  # seconds for an answer; what is not answered by then can be refunded to the gateway
CLOSE_SECONDS = 30.0  # for what is on its way when the gateway closes

_NOT_SOLD = ("UnknownModel(", "ModelInactive(", "CallbackNotSold(")
_TELL = "Tell the operator; or pay with a wallet of your own."
_log = logger("gateway")


class Gateway:
    """``api.ports.Payer`` with one account. Limits in wei for 24 hours; ``open_limit`` for all without a key together,
    None when they are not served.
    """

    def __init__(
        self,
        *,
        reader: CoordinatorReader,
        sender: AccountSender,
        store: SqliteGatewayStore,
        wishes: WishBox,
        open_limit: int | None,
        total_limit: int,
        deadline: int = DEADLINE,
    ) -> None:
        self._reader, self._sender, self._store, self._wishes = reader, sender, store, wishes
        self._open_limit, self._total_limit, self._deadline = open_limit, total_limit, deadline
        self._running: dict[int, asyncio.Task[Paid]] = {}
        self._on_their_way: dict[int, int] = {}  # spending -> wei that the balance may not show yet

    @property
    def address(self) -> str:
        """The account that pays."""
        return self._sender.address

    @property
    def open(self) -> bool:
        """Whether it pays for those without a key."""
        return self._open_limit is not None

    async def holder(self, token: str | None, client: str) -> Holder:
        """Who pays with this key, or without one as this client. Raises KeyNeeded, StoreError."""
        if token is None:
            if self._open_limit is None:
                raise KeyNeeded(
                    "this gateway pays for those who hold an API key",
                    remedy="Send it as Authorization: Bearer KEY, or pay with a wallet of your own.",
                )
            return Holder("", self._open_limit, f"client {client}")
        key = await self._store.key(token)
        if key is None:
            raise KeyNeeded("this API key is not known here, or was revoked", remedy="Ask the operator for another.")
        return Holder(key.name, key.per_day, f"key {key.name}")

    async def affordable(self, holder: Holder, model_id: int) -> int:
        """What the model costs, in wei, if it can be asked now. Raises what ``ask`` raises; nothing is reserved."""
        price = await self._price(model_id)
        await self._check_balance(price)
        cost = price + await self._fee()
        await self._store.check(holder.name, cost, holder_limit=holder.limit, total_limit=self._total_limit)
        return price

    async def ask(
        self, holder: Holder, model_id: int, image_cid: Cid, *, provider: str = "", idempotency: str | None = None
    ) -> Paid:
        """Pay and ask; back when the request is on-chain. The same idempotency key again gives the same request.

        A caller that is cancelled changes nothing for the request. Raises ModelNotSold, BalanceTooLow, DayLimitReached,
        AskedOtherwise, StillAsking, WishTaken, StoreError, and ChainError's other leaves.
        """
        marked = None if idempotency is None else mark(holder.scope, idempotency)
        if marked is not None:
            known = await self._store.begun(marked, model_id, image_cid)
            if known is not None and (paid := await self._again(known)) is not None:
                return paid
        price = await self._price(model_id)
        await self._check_balance(price)
        if provider:
            await self._wishes.leave(self.address, image_cid, provider)
        head = await self._reader.head()
        deadline = int(max(time.time(), head.timestamp)) + await self._seconds()
        question = Question(holder.name, price, model_id, image_cid, deadline, head.number, marked, await self._fee())
        spending, fresh = await self._store.reserve(question, holder_limit=holder.limit, total_limit=self._total_limit)
        if not fresh:
            paid = await self._again(spending)
            if paid is None:
                raise _still_asking()
            return paid
        self._on_their_way[spending.id] = price
        task = asyncio.create_task(self._send(spending), name=f"ask {spending.id}")
        self._running[spending.id] = task
        task.add_done_callback(lambda done: self._ended(spending.id, done))
        return await asyncio.shield(task)

    async def paid(self, request_id: bytes) -> Paid | None:
        """A request that it paid for, or None."""
        spending = await self._store.spending_of(request_id)
        if spending is None or spending.transaction_hash is None:
            return None
        asked = spending.question
        return Paid(request_id, spending.transaction_hash, asked.amount, asked.model_id, asked.image_cid)

    async def close(self) -> None:
        """Wait for what is on its way, within bounds; what is then not known yet counts as spent."""
        if self._running:
            await asyncio.wait(list(self._running.values()), timeout=CLOSE_SECONDS)
        for task in list(self._running.values()):
            task.cancel()
        await asyncio.gather(*self._running.values(), return_exceptions=True)

    def _ended(self, spending: int, task: asyncio.Task[Paid]) -> None:
        self._running.pop(spending, None)
        self._on_their_way.pop(spending, None)
        if not self._running:
            self._sender.sent.clear()
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.info("spending %d: %s", spending, error)

    async def _seconds(self) -> int:
        # Nobody begins before the window is over in which the request could be cancelled.
        window = await self._reader.cancel_window()
        return max(self._deadline, 2 * window + self._deadline if window else 0)

    async def _fee(self) -> int:
        return GAS * await self._sender.gas_price()

    async def _price(self, model_id: int) -> int:
        try:
            model = await self._reader.model(model_id)
            price = await self._reader.quote(model_id) if model is not None else 0
        except CallReverted as error:
            raise self._translated(error) from error
        if model is None or not model.active:
            raise ModelNotSold(
                f"there is no active model {model_id}", remedy="See /v1/models for those that can be asked."
            )
        if model.token is not None:
            raise ModelNotSold(
                f"model {model_id} is priced in a token, and the gateway pays in ether",
                remedy="Choose another model, or pay with a wallet of your own.",
            )
        return price

    async def _check_balance(self, price: int) -> None:
        balance = await self._reader.balance_of(None, self.address)
        if balance - sum(self._on_their_way.values()) < price:
            raise BalanceTooLow("the gateway's balance at the coordinator does not cover this", remedy=_TELL)

    async def _send(self, spending: Spending) -> Paid:
        asked = spending.question
        before = len(self._sender.sent)
        try:
            (found,) = await self._sender.request_many(
                self._reader.address,
                asked.model_id,
                [asked.image_cid],
                asked.deadline,
                max_price=asked.amount,
                from_balance=True,
            )
        except RevertedInBlock as error:
            # Whoever publishes a model can make it so; were the fee not counted, it could be spent without a limit.
            await self._store.burnt(spending.id)
            raise self._translated(error) from error
        except ChainError as error:
            # The simulation or the node said no, or nothing had gone out yet: nothing was paid.
            if isinstance(error, CallReverted | TransactionRefused | TooDear) or len(self._sender.sent) == before:
                await self._store.release(spending.id)
                raise self._translated(error) from error
            raise StillAsking(
                "the transaction was sent, and the chain has not said yet what became of it",
                remedy="Send the same request with the same Idempotency-Key again in a while; it is not paid twice.",
            ) from error
        return await self._noted(spending, found.request_id, found.transaction_hash)

    async def _noted(self, spending: Spending, request_id: bytes, transaction_hash: bytes) -> Paid:
        try:
            await self._store.asked(spending.id, request_id, transaction_hash)
        except StoreError as error:
            # It was counted before, and the chain knows it: the one who asked shall hear of it all the same.
            _log.error("spending %d could not be closed: %s", spending.id, error)
        asked = spending.question
        return Paid(request_id, transaction_hash, asked.amount, asked.model_id, asked.image_cid)

    def _translated(self, error: ChainError) -> Exception:
        if isinstance(error, CallReverted):
            if error.error.startswith(_NOT_SOLD):
                return ModelNotSold("the model cannot be asked now", remedy="See /v1/models for those that can.")
            if error.error.startswith("BalanceTooLow("):
                return BalanceTooLow("the gateway's balance at the coordinator does not cover this", remedy=_TELL)
        if isinstance(error, TransactionRefused) and error.unfunded:
            return BalanceTooLow("the gateway's account has no ether for the network's fee", remedy=_TELL)
        if isinstance(error, TransactionRefused):
            return RpcUnavailable(str(error), remedy="Try again in a moment.")
        if isinstance(error, TooDear):
            return ModelNotSold("the model's price has just risen", remedy="Ask for a quote, and try again.")
        return error

    async def _again(self, spending: Spending) -> Paid | None:
        """What became of a spending that was begun before; None when it is certain that nothing did.

        Raises StillAsking.
        """
        running = self._running.get(spending.id)
        if running is not None:
            return await asyncio.shield(running)
        asked = spending.question
        if spending.state is SpendingState.ASKED and spending.request_id and spending.transaction_hash:
            return Paid(spending.request_id, spending.transaction_hash, asked.amount, asked.model_id, asked.image_cid)
        head = await self._reader.head()
        found = [
            event
            for event in await self._events(asked.block, head.number)
            if isinstance(event, RequestSeen)
            and event.request.requester == self.address
            and (event.request.model_id, event.request.image_cid, event.request.deadline)
            == (asked.model_id, asked.image_cid, asked.deadline)
        ]
        taken = await self._store.known([event.request.request_id for event in found])
        for event in found:
            if event.request.request_id not in taken:
                return await self._noted(spending, event.request.request_id, event.position.transaction_hash)
        if head.timestamp > asked.deadline:
            # The coordinator takes no request whose deadline has passed.
            await self._store.release(spending.id)
            return None
        raise _still_asking()

    async def _events(self, first: int, last: int) -> Sequence[ChainEvent]:
        """Logs in [first, last], in halves where the endpoint refuses the whole."""
        if first > last:
            return []
        try:
            return await self._reader.events(first, last)
        except RpcRangeRefused:
            if first == last:
                raise
            middle = (first + last) // 2
            return [*await self._events(first, middle), *await self._events(middle + 1, last)]


def _still_asking() -> StillAsking:
    return StillAsking(
        "this request was begun before, and the chain does not show it yet",
        remedy="Send it with the same Idempotency-Key again in a while; it is not paid twice.",
    )


__all__ = ["Gateway"]
