"""Transactions of one account with a key on this machine: simulated, signed, sent, and waited for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eth_account.signers.local import LocalAccount
from eth_utils.address import to_checksum_address

from oracle.chain.calls import CallReverted, RevertedInBlock, no_funds, revert_of
from oracle.chain.codec import InvalidData, hexed, quantity, unhexed
from oracle.chain.fees import FeeMarket, FeePolicy
from oracle.chain.rpc import Rpc, RpcFault
from oracle.domain import Fees
from oracle.errors import ChainError, RpcUnavailable, TransactionRefused

_FIRST_POLL_SECONDS = 0.02
_LAST_POLL_SECONDS = 1.0


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


class TransactionSender:
    """Sends transactions of one account, simulated first.

    Every method raises CallReverted with the decoded custom error and a remedy, TransactionRefused (no funds, refused
    by the node), RpcUnavailable, and ChainError when ``receipt_timeout`` seconds pass without a receipt.
    """

    def __init__(
        self,
        rpc: Rpc,
        account: LocalAccount,
        chain_id: int,
        policy: FeePolicy | None = None,
        *,
        receipt_timeout: float = 120.0,
    ) -> None:
        self._rpc = rpc
        self._account = account
        self._chain_id = chain_id
        self._market = FeeMarket(rpc, policy or FeePolicy())
        self._receipt_timeout = receipt_timeout
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

    async def transact(self, to: str | None, data: bytes, *, value: int = 0) -> Mined:
        """Simulate, sign, send and wait for one transaction; ``value`` in wei, ``to`` None creates a contract."""
        transaction = Transaction(to, data, value)
        (mined,) = await self.send([transaction], [await self.gas_for(transaction)])
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

    async def send(self, transactions: Sequence[Transaction], gas_limits: Sequence[int]) -> list[Mined]:
        """Sign and send them together, at nonces that follow each other, and wait until all are mined."""
        fees = await self._market.fees()
        async with self._lock:
            answer = await self._rpc.call("eth_getTransactionCount", [self.address, "pending"])
            try:
                nonce = quantity(answer)
            except InvalidData as error:
                raise RpcUnavailable(f"{self._rpc.host} sent no nonce: {error}") from error
            signed = [
                self._signed(transaction, nonce + i, gas, fees)
                for i, (transaction, gas) in enumerate(zip(transactions, gas_limits, strict=True))
            ]
            try:
                answers = await self._rpc.many_settled([("eth_sendRawTransaction", [hexed(raw)]) for _, raw in signed])
            except RpcUnavailable as error:
                answers = [error] * len(signed)
        # A node that did not answer may have taken the transaction all the same; one that refused has not.
        problems = [self._problem(answer) for answer in answers]
        sent = [
            transaction_hash
            for (transaction_hash, _), problem in zip(signed, problems, strict=True)
            if problem is None or not isinstance(problem, TransactionRefused)
        ]
        self.sent += sent
        try:
            for problem in problems:
                if problem is not None:
                    raise problem
            return await self._receipts(sent)
        except ChainError as error:
            name_sent(error, sent)
            raise

    def _problem(self, answer: object) -> ChainError | None:
        if isinstance(answer, RpcFault):
            if "already known" in answer.reason.lower():
                return None
            refused = TransactionRefused(f"the node refused the transaction: {answer.reason}")
            return no_funds(self.address, answer) or refused
        return answer if isinstance(answer, ChainError) else None

    def _signed(self, transaction: Transaction, nonce: int, gas: int, fees: Fees) -> tuple[bytes, bytes]:
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
        return bytes(signed.hash), bytes(signed.raw_transaction)

    async def _receipts(self, hashes: Sequence[bytes]) -> list[Mined]:
        found: dict[bytes, Mined] = {}
        give_up = time.monotonic() + self._receipt_timeout
        pause = _FIRST_POLL_SECONDS
        while missing := [transaction_hash for transaction_hash in hashes if transaction_hash not in found]:
            trouble = ""
            try:
                answers = await self._rpc.many([("eth_getTransactionReceipt", [hexed(one)]) for one in missing])
            except RpcUnavailable as error:
                # The transactions are out; an endpoint's bad moment must not hide what became of them.
                answers, trouble = [None] * len(missing), f" ({error})"
            for transaction_hash, raw in zip(missing, answers, strict=True):
                if raw is not None and raw.get("blockNumber") is not None:
                    found[transaction_hash] = self._mined(transaction_hash, raw)
            if len(found) == len(hashes):
                break
            if time.monotonic() > give_up:
                raise ChainError(
                    f"{len(hashes) - len(found)} transactions of {self.address} were not mined "
                    f"within {self._receipt_timeout:g} s, first {hexed(missing[0])}{trouble}",
                    remedy="they may still be mined; look at them before sending again",
                )
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, _LAST_POLL_SECONDS)
        return [found[transaction_hash] for transaction_hash in hashes]

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


def name_sent(error: ChainError, sent: Sequence[bytes]) -> None:
    """Add the transactions that went out to an error's message, as far as it does not name them."""
    unnamed = [hexed(one) for one in sent if hexed(one) not in str(error)]
    if unnamed:
        error.args = (f"{error}; on their way, so look before you send again: {', '.join(unnamed)}",)
