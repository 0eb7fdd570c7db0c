"""Transactions of one account with a key on this machine: simulated, signed, sent, and waited for."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eth_account.signers.local import LocalAccount
from eth_account.typed_transactions.typed_transaction import TypedTransaction
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak
from hexbytes import HexBytes

from oracle.chain.calls import (
    CallReverted,
    RevertedInBlock,
    has_it_already,
    has_trouble,
    no_funds,
    nonce_is_used,
    read_number,
    revert_of,
)
from oracle.chain.codec import InvalidData, hexed, quantity, unhexed
from oracle.chain.fees import FeeMarket, FeePolicy
from oracle.chain.rpc import Rpc, RpcFault
from oracle.domain import Fees
from oracle.errors import ChainError, RpcUnavailable, TransactionRefused
from oracle.telemetry import logger, short

MOST_REPLACEMENTS = 8
"""Dearer transactions in the place of one that is stuck; each costs an eighth more, and at least the going fees."""

_FIRST_POLL_SECONDS = 0.02
_LAST_POLL_SECONDS = 1.0
_LOOKS = 4
_log = logger("chain")


@dataclass(frozen=True, slots=True)
class Mined:
    """A transaction in a block, successful. ``contract`` is what it created; ``effective_gas_price`` in wei per gas."""

    transaction_hash: bytes
    block_number: int
    gas_used: int
    effective_gas_price: int
    contract: str | None
    logs: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Transaction:
    """What is to be sent: ``to`` None creates a contract, ``value`` in wei."""

    to: str | None
    data: bytes
    value: int = 0


@dataclass(frozen=True, slots=True)
class Signed:
    """A transaction as it goes out; ``raw`` holds all the rest."""

    transaction: Transaction
    nonce: int
    gas_limit: int
    fees: Fees
    transaction_hash: bytes
    raw: bytes


Save = Callable[[Signed], Awaitable[None]]
"""Called before a transaction goes out; what it raises keeps it here."""


class NotMined(ChainError):
    """There was no receipt in time, says a node that answered. ``taken``: another one has its nonce."""

    taken = False


class TransactionSender:
    """Sends transactions of one account, simulated first.

    Every method raises CallReverted with the decoded custom error and a remedy, TransactionRefused (no funds, refused
    by the node), RpcUnavailable, and NotMined when ``receipt_timeout`` seconds pass without a receipt. One that is not
    mined after ``replace_after`` seconds is replaced at its nonce by a dearer one, as far as the policy allows.
    """

    def __init__(
        self,
        rpc: Rpc,
        account: LocalAccount,
        chain_id: int,
        policy: FeePolicy | None = None,
        *,
        receipt_timeout: float = 120.0,
        replace_after: float = math.inf,
    ) -> None:
        self._rpc = rpc
        self._account = account
        self._chain_id = chain_id
        self._market = FeeMarket(rpc, policy or FeePolicy())
        self._receipt_timeout = receipt_timeout
        self._replace_after = replace_after
        self._lock = asyncio.Lock()
        self.sent: list[bytes] = []
        """Hashes of the transactions that a node took, or may have taken."""

    @property
    def address(self) -> str:
        """The account's checksum address."""
        return str(self._account.address)

    async def gas_price(self) -> int:
        """Wei per gas that a transaction mined in the next block pays."""
        return await self._market.gas_price()

    async def transact(self, to: str | None, data: bytes, *, value: int = 0, save: Save | None = None) -> Mined:
        """Simulate, sign, send and wait for one transaction; ``value`` in wei, ``to`` None creates a contract."""
        transaction = Transaction(to, data, value)
        (mined,) = await self.send([transaction], [await self.gas_for(transaction)], save=save)
        return mined

    async def follow(self, raws: Sequence[bytes], *, save: Save | None = None, revive: bool = True) -> Mined:
        """Wait for a transaction that was signed before: all that was saved of it, at one nonce, the oldest first.

        A node whose pool has forgotten it is sent it again, unless ``revive`` is false: then it is only looked for.
        """
        tried = [read_signed(raw) for raw in raws]
        newest, timeout = tried[-1], self._receipt_timeout
        latest, pending = await self._count("latest"), await self._count("pending")
        if latest > newest.nonce or (pending <= newest.nonce and not revive):
            timeout = 0.0
        else:
            await self._push(newest)
        try:
            (mined,) = await self._receipts([tried], save, timeout)
        except NotMined as error:
            error.taken = latest > newest.nonce
            raise
        return mined

    async def gas_for(self, transaction: Transaction) -> int:
        """Simulate; the gas limit to give it."""
        call = {"from": self.address, "data": hexed(transaction.data), "value": hex(transaction.value)}
        if transaction.to is not None:
            call["to"] = transaction.to
        try:
            # A quarter more: state may change before it is mined, and a payment's 63/64 check wants room.
            return quantity(await self._rpc.call("eth_estimateGas", [call, "latest"])) * 5 // 4
        except InvalidData as error:
            raise RpcUnavailable(f"{self._rpc.host} sent no estimate: {error}") from error
        except RpcFault as fault:
            reason = revert_of(fault)
            funds = no_funds(self.address, fault)
            if funds is None and reason is not None:
                raise CallReverted(reason) from fault
            raise (funds or fault) from fault

    async def send(
        self, transactions: Sequence[Transaction], gas_limits: Sequence[int], *, save: Save | None = None
    ) -> list[Mined]:
        """Sign and send them together, at nonces that follow each other, and wait until all are mined."""
        fees = await self._market.fees()
        async with self._lock:
            nonce = await self._count("pending")
            signed = [
                self._signed(transaction, nonce + i, gas, fees)
                for i, (transaction, gas) in enumerate(zip(transactions, gas_limits, strict=True))
            ]
            if save is not None:
                for one in signed:
                    await save(one)
            try:
                answers = await self._rpc.many_settled([("eth_sendRawTransaction", [hexed(one.raw)]) for one in signed])
            except RpcUnavailable as error:
                answers = [error] * len(signed)
        # A node that did not answer may have taken the transaction all the same; one that refused has not.
        problems = [await self._problem(one, answer) for one, answer in zip(signed, answers, strict=True)]
        tried = [
            [one]
            for one, problem in zip(signed, problems, strict=True)
            if problem is None or not isinstance(problem, TransactionRefused)
        ]
        self.sent += [one.transaction_hash for (one,) in tried]
        try:
            for problem in problems:
                if problem is not None:
                    raise problem
            return await self._receipts(tried, save, self._receipt_timeout)
        except ChainError as error:
            name_sent(error, [one.transaction_hash for same in tried for one in same])
            raise

    async def _count(self, block: str) -> int:
        return await read_number(self._rpc, "eth_getTransactionCount", self.address, block)

    async def _problem(self, signed: Signed, answer: object) -> ChainError | None:
        if isinstance(answer, RpcFault):
            if has_it_already(answer):
                return None
            if has_trouble(answer):
                return answer
            if nonce_is_used(answer) and await self._is_mined(signed):
                return None  # it was sent again after an answer that was lost
            refused = TransactionRefused(f"the node refused the transaction: {answer.reason}")
            return no_funds(self.address, answer) or refused
        return answer if isinstance(answer, ChainError) else None

    def _signed(self, transaction: Transaction, nonce: int, gas: int, fees: Fees) -> Signed:
        fields: dict[str, Any] = {
            "type": 2,
            "chainId": self._chain_id,
            "nonce": nonce,
            "value": transaction.value,
            "data": transaction.data,
            "gas": gas,
            "maxFeePerGas": fees.max_fee,
            "maxPriorityFeePerGas": fees.max_priority_fee,
        }
        if transaction.to is not None:
            fields["to"] = to_checksum_address(transaction.to)
        signed = self._account.sign_transaction(fields)
        return Signed(transaction, nonce, gas, fees, bytes(signed.hash), bytes(signed.raw_transaction))

    async def _receipts(self, tried: Sequence[list[Signed]], save: Save | None, timeout: float) -> list[Mined]:
        """Wait until one of each list is mined; those of a list share a nonce, and a dearer one may join them."""
        found: dict[int, Mined] = {}
        begun = time.monotonic()
        hurry_at = begun + self._replace_after
        pause = _FIRST_POLL_SECONDS
        while True:
            missing = [(place, one) for place, same in enumerate(tried) if place not in found for one in same]
            trouble: RpcUnavailable | None = None
            try:
                answers = await self._rpc.many(
                    [("eth_getTransactionReceipt", [hexed(one.transaction_hash)]) for _, one in missing]
                )
            except RpcUnavailable as error:
                # The transactions are out; an endpoint's bad moment must not hide what became of them.
                answers, trouble = [None] * len(missing), error
            for (place, one), raw in zip(missing, answers, strict=True):
                if raw is not None and raw.get("blockNumber") is not None:
                    found[place] = self._mined(one.transaction_hash, raw)
            stuck = [same for place, same in enumerate(tried) if place not in found]
            if not stuck:
                return [found[place] for place in range(len(tried))]
            now = time.monotonic()
            if now - begun >= timeout:
                raise self._not_mined(stuck, timeout, trouble)
            if now >= hurry_at:
                hurry_at = now + self._replace_after
                for same in stuck:
                    await self._hurry(same, save)
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, _LAST_POLL_SECONDS)

    def _not_mined(
        self, stuck: Sequence[Sequence[Signed]], timeout: float, trouble: RpcUnavailable | None
    ) -> ChainError:
        text = (
            f"{len(stuck)} transactions of {self.address} were not mined "
            f"within {timeout:g} s, first {hexed(stuck[0][0].transaction_hash)}"
        )
        remedy = "they may still be mined; look at them before sending again"
        if trouble is not None:
            return RpcUnavailable(f"{text} ({trouble})", remedy=remedy)
        return NotMined(text, remedy=remedy)

    async def _hurry(self, same: list[Signed], save: Save | None) -> None:
        """Send again what is stuck: dearer, unless it waits behind another of the account, or may cost no more."""
        newest = same[-1]
        try:
            if len(same) <= MOST_REPLACEMENTS and await self._count("latest") == newest.nonce:
                fees = await self._market.raised(newest.fees)
                newest = self._signed(newest.transaction, newest.nonce, newest.gas_limit, fees)
                if save is not None:
                    await save(newest)
                same.append(newest)
                self.sent.append(newest.transaction_hash)
                _log.warning(
                    "transaction %s is stuck; replaced by %s",
                    short(same[-2].transaction_hash),
                    short(newest.transaction_hash),
                )
        except ChainError as error:
            _log.warning("transaction %s stays as it is: %s", short(newest.transaction_hash), error)
        await self._push(newest)

    async def _push(self, signed: Signed) -> None:
        """Send it once more; whatever the node says, its receipt tells."""
        try:
            await self._rpc.call("eth_sendRawTransaction", [hexed(signed.raw)])
        except RpcUnavailable as error:
            _log.debug("transaction %s: %s", short(signed.transaction_hash), error)

    async def _is_mined(self, signed: Signed) -> bool:
        """Whether there is a receipt; a node behind the one that took it gets a moment to catch up."""
        for look in range(_LOOKS):
            await asyncio.sleep(_FIRST_POLL_SECONDS if look == 0 else _LAST_POLL_SECONDS)
            try:
                if await self._rpc.call("eth_getTransactionReceipt", [hexed(signed.transaction_hash)]) is not None:
                    return True
            except RpcUnavailable as error:
                _log.debug("transaction %s: %s", short(signed.transaction_hash), error)
        return False

    def _mined(self, transaction_hash: bytes, raw: Mapping[str, Any]) -> Mined:
        try:
            if quantity(raw.get("status")) != 1:
                raise RevertedInBlock(f"transaction {hexed(transaction_hash)} was mined and reverted")
            contract = raw.get("contractAddress")
            return Mined(
                transaction_hash=transaction_hash,
                block_number=quantity(raw.get("blockNumber")),
                gas_used=quantity(raw.get("gasUsed")),
                effective_gas_price=quantity(raw.get("effectiveGasPrice")),
                contract=to_checksum_address(unhexed(contract, 20)) if contract else None,
                logs=tuple(raw.get("logs") or ()),
            )
        except InvalidData as error:
            raise RpcUnavailable(f"{self._rpc.host} sent a receipt that cannot be read: {error}") from error


def read_signed(raw: bytes) -> Signed:
    """A transaction of ours from its bytes. Raises ValueError when they are none."""
    fields = TypedTransaction.from_bytes(HexBytes(raw)).as_dict()
    to = bytes(fields["to"])
    transaction = Transaction(to_checksum_address(to) if to else None, bytes(fields["data"]), fields["value"])
    fees = Fees(fields["maxFeePerGas"], fields["maxPriorityFeePerGas"])
    return Signed(transaction, fields["nonce"], fields["gas"], fees, keccak(raw), raw)


def name_sent(error: ChainError, sent: Sequence[bytes]) -> None:
    """Add the transactions that went out to an error's message, as far as it does not name them."""
    unnamed = [hexed(one) for one in sent if hexed(one) not in str(error)]
    if unnamed:
        error.args = (f"{error}; on their way, so look before you send again: {', '.join(unnamed)}",)
