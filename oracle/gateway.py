"""Pays for requests of the API's users, from a balance that the gateway's account prepaid at the coordinator.

An amount is counted before its transaction is signed, and the transaction is written down before it is sent. What
cannot be told at once (a kill, an endpoint's bad moment) is told by what was written down, when the same idempotency
key comes again or ``tidy`` comes by: one of those transactions is mined, or none ever will be.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import replace
from typing import Protocol

from oracle.api.ports import Holder, Paid
from oracle.chain.account import AccountSender, TooDear
from oracle.chain.calls import CallReverted, RevertedInBlock
from oracle.chain.coordinator import CoordinatorReader
from oracle.chain.transactions import NotMined, Save, Signed
from oracle.domain import Cid, OnChainStatus
from oracle.errors import (
    BalanceTooLow,
    ChainError,
    KeyNeeded,
    ModelNotSold,
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
REFUND_GAS = 60_000
"""Gas of a refund, generously."""
DEADLINE = 600  # seconds for an answer; what is not answered by then is refunded to the gateway
MARGIN = 60  # seconds after the deadline by which every node behind one endpoint has seen it pass
PATIENCE = 60.0  # seconds in which a request should be mined; it is followed beyond them, but nobody waits for it
AT_ONCE = 50  # spendings that are looked after in one go
CLOSE_SECONDS = 30.0  # for what is on its way when the gateway closes

_NOT_SOLD = ("UnknownModel(", "ModelInactive(", "CallbackNotSold(")
_TELL = "Tell the operator; or pay with a wallet of your own."
_log = logger("gateway")


class WishBox(Protocol):
    """Where wishes for a provider are left by several who share an account."""

    async def leave(self, requester: str, image_cid: Cid, provider: str) -> None:
        """The first wish for a picture stands for an hour. Raises WishTaken, Retryable, ConfigurationError."""


class Books:
    """What ``api.ports.Payer`` knows without the chain. ``open_limit`` in wei for 24 hours is for all without a key
    together, None when they are not served.
    """

    def __init__(self, store: SqliteGatewayStore, open_limit: int | None = None) -> None:
        self._store, self._open_limit = store, open_limit

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

    async def paid(self, request_id: bytes) -> Paid | None:
        """A request that was paid for, or None. Raises StoreError."""
        spending = await self._store.spending_of(request_id)
        return None if spending is None else _paid(spending)


class Gateway:
    """Pays as ``api.ports.Payer`` says, with one account. Limits in wei for 24 hours."""

    def __init__(
        self,
        *,
        reader: CoordinatorReader,
        sender: AccountSender,
        store: SqliteGatewayStore,
        wishes: WishBox,
        total_limit: int,
        deadline: int = DEADLINE,
        patience: float = PATIENCE,
    ) -> None:
        self._reader, self._sender, self._store, self._wishes = reader, sender, store, wishes
        self._total_limit, self._deadline, self._patience = total_limit, deadline, patience
        self._running: dict[int, asyncio.Task[Paid | None]] = {}
        self._lock = asyncio.Lock()  # between a look at the balance or the books and what follows from it

    @property
    def address(self) -> str:
        """The account that pays."""
        return self._sender.address

    async def affordable(self, holder: Holder, model_id: int) -> int:
        """What the model costs, in wei, if it can be asked now. Raises what ``ask`` raises; nothing is reserved."""
        price = await self._price(model_id)
        await self._check_balance(price)
        cost = price + await self._fee()
        await self._store.check(holder.name, cost, holder_limit=holder.limit, total_limit=self._total_limit)
        return price

    async def begun(self, holder: Holder, model_id: int, image_cid: Cid, idempotency: str) -> Paid | None:
        """The request that this idempotency key gave already, or None. Raises what ``ask`` raises."""
        async with self._lock:
            known = await self._store.begun(mark(holder.scope, idempotency), model_id, image_cid)
            task = None if known is None else self._task(known, fresh=False)
        return None if known is None or task is None else await self._result(known, task)

    async def ask(
        self, holder: Holder, model_id: int, image_cid: Cid, *, provider: str = "", idempotency: str | None = None
    ) -> Paid:
        """Pay and ask; back when the request is on-chain. The same idempotency key again gives the same request.

        A caller that is cancelled changes nothing for the request. Raises ModelNotSold, BalanceTooLow, DayLimitReached,
        AskedOtherwise, StillAsking, WishTaken, StoreError, and ChainError's other leaves.
        """
        if (
            idempotency is not None
            and (known := await self.begun(holder, model_id, image_cid, idempotency)) is not None
        ):
            return known
        price = await self._price(model_id)
        if provider:
            await self._wishes.leave(self.address, image_cid, provider)
        head = await self._reader.head()
        deadline = int(max(time.time(), head.timestamp)) + await self._seconds()
        marked = None if idempotency is None else mark(holder.scope, idempotency)
        question = Question(holder.name, price, model_id, image_cid, deadline, marked, await self._fee())
        async with self._lock:
            await self._check_balance(price)
            limits = {"holder_limit": holder.limit, "total_limit": self._total_limit}
            spending, fresh = await self._store.reserve(question, **limits)
            task = self._task(spending, fresh=fresh)
        paid = await self._result(spending, task)
        if paid is None:
            raise await self._still_asking(spending)
        return paid

    async def tidy(self) -> None:
        """Look after what is open: follow what may be on its way, have refunded what was not answered in time.

        A bounded number of spendings, each of which comes up again by itself. Raises StoreError.
        """
        async with self._lock:
            due = await self._store.due(AT_ONCE)
            for spending in due:
                if spending.state is SpendingState.RESERVED:
                    self._task(spending, fresh=False)
        for spending in due:
            try:
                if spending.request_id is not None:
                    await self._refund(spending.id, spending.request_id)
            except ChainError as error:
                _log.info("the refund of spending %d waits: %s", spending.id, error)

    async def close(self) -> None:
        """Wait for what is on its way, within bounds; what is then not known yet is followed by the next gateway."""
        if self._running:
            await asyncio.wait(list(self._running.values()), timeout=CLOSE_SECONDS)
        for task in list(self._running.values()):
            task.cancel()
        await asyncio.gather(*self._running.values(), return_exceptions=True)

    def _task(self, spending: Spending, *, fresh: bool) -> asyncio.Task[Paid | None]:
        """What is done for a spending; one task for all who wait for it."""
        running = self._running.get(spending.id)
        if running is None:
            running = asyncio.create_task(self._pay(spending, fresh=fresh), name=f"ask {spending.id}")
            self._running[spending.id] = running
            running.add_done_callback(lambda done: self._ended(spending.id, done))
        return running

    async def _result(self, spending: Spending, task: asyncio.Task[Paid | None]) -> Paid | None:
        await asyncio.wait({task}, timeout=self._patience)
        if not task.done():
            raise await self._still_asking(spending)
        return task.result()

    async def _still_asking(self, spending: Spending) -> StillAsking:
        what = "the request was begun, and the chain has not said yet what became of it"
        if spending.question.idempotency is not None:
            return StillAsking(
                what, remedy="Send it with the same Idempotency-Key again in a while; it is not paid twice."
            )
        sent = None
        with contextlib.suppress(StoreError):
            sent = await self._store.newest(spending.id)
        if sent is not None:
            what += f": transaction 0x{sent.hex()}, or a dearer one in its place, is on its way"
        error = StillAsking(
            what,
            remedy="Do not send it again: that would be another request, and paid for. Look for the transaction on the "
            "chain; next time an Idempotency-Key lets you ask again safely.",
        )
        error.retry_after = None
        return error

    def _ended(self, spending: int, task: asyncio.Task[Paid | None]) -> None:
        self._running.pop(spending, None)
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
        # In this order: what is mined between the two is then counted twice rather than not at all.
        on_their_way = await self._store.on_their_way()
        balance = await self._reader.balance_of(None, self.address)
        if balance - on_their_way < price:
            raise BalanceTooLow("the gateway's balance at the coordinator does not cover this", remedy=_TELL)

    def _save(self, spending: int) -> Save:
        async def save(signed: Signed) -> None:
            await self._store.signed(spending, signed.transaction_hash, signed.nonce, signed.raw)

        return save

    async def _pay(self, spending: Spending, *, fresh: bool) -> Paid | None:
        """Send a fresh spending's request, or follow what was sent of it.

        None when it is certain that nothing was paid, nor will be. Raises StillAsking.
        """
        asked, address, save = spending.question, self._reader.address, self._save(spending.id)
        if (known := _paid(spending)) is not None:
            return known
        if spending.state is not SpendingState.RESERVED:
            raise await self._still_asking(spending)
        raws = () if fresh else await self._store.transactions(spending.id)
        if not fresh and not raws:
            await self._store.release(spending.id)
            return None
        # The coordinator takes no request whose deadline has passed.
        late = not fresh and (await self._reader.head()).timestamp > asked.deadline + MARGIN
        try:
            if raws:
                (found,) = await self._sender.follow_many(address, raws, save=save, revive=not late)
            else:
                model, images, price = asked.model_id, [asked.image_cid], asked.amount
                (found,) = await self._sender.request_many(
                    address, model, images, asked.deadline, max_price=price, from_balance=True, save=save
                )
        except RevertedInBlock as error:
            # Whoever publishes a model can make it so; were the fee not counted, it could be spent without a limit.
            await self._store.burnt(spending.id)
            raise self._translated(error) from error
        except ChainError as error:
            if late and isinstance(error, NotMined):
                await self._store.release(spending.id)
                return None
            # The simulation or the node said no, or nothing had been signed yet: nothing was paid.
            refused = isinstance(error, CallReverted | TransactionRefused | TooDear)
            if refused or not await self._store.transactions(spending.id):
                await self._store.release(spending.id)
                raise self._translated(error) from error
            raise await self._still_asking(spending) from error
        # The price may have fallen since it was counted.
        spending = replace(
            spending,
            question=replace(asked, amount=found.payment),
            request_id=found.request_id,
            transaction_hash=found.transaction_hash,
        )
        due = asked.deadline + MARGIN
        try:
            await self._store.asked(spending.id, found.request_id, found.transaction_hash, due, amount=found.payment)
        except StoreError as error:
            # It was counted before, and the chain knows it: the one who asked shall hear of it all the same.
            _log.error("spending %d could not be closed: %s", spending.id, error)
        return _paid(spending)

    async def _refund(self, spending: int, request_id: bytes) -> None:
        """Have the money of a request that was not answered in time come back, where that is worth its fee."""
        known = await self._reader.request_of(request_id)
        if known.status is OnChainStatus.UNKNOWN:
            return  # a reorganisation took it away for now
        unanswered = known.status is OnChainStatus.PENDING
        raws = await self._store.transactions(spending)
        try:
            if raws:
                await self._sender.follow(raws, save=self._save(spending), revive=unanswered)
            elif unanswered:
                head = await self._reader.head()
                if head.timestamp <= known.deadline or known.payment <= REFUND_GAS * await self._sender.gas_price():
                    return
                await self._sender.refund(self._reader.address, request_id, save=self._save(spending))
        except (RevertedInBlock, NotMined) as error:
            if unanswered:
                if not isinstance(error, NotMined) or error.taken:
                    await self._store.refund_failed(spending)
                raise
        await self._store.closed(spending)

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


def _paid(spending: Spending) -> Paid | None:
    if spending.request_id is None or spending.transaction_hash is None:
        return None
    asked = spending.question
    return Paid(
        spending.request_id, spending.transaction_hash, asked.amount, asked.model_id, asked.image_cid, asked.deadline
    )


__all__ = ["Books", "Gateway", "WishBox"]
