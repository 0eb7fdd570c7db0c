"""Transactions of people and deployers: deploy, publish, ask, refund, withdraw, with a key on this machine."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eth_abi.abi import encode
from eth_account.signers.local import LocalAccount
from eth_utils.address import to_checksum_address
from eth_utils.currency import from_wei

from oracle.chain.calls import CallReverted, no_funds, revert_of, view
from oracle.chain.codec import InvalidData, artifact, encode_call, hexed, quantity, unhexed
from oracle.chain.coordinator import CoordinatorLog, CoordinatorReader, read_log
from oracle.chain.fees import FeeMarket, FeePolicy
from oracle.chain.rpc import Rpc, RpcFault
from oracle.domain import Cid, Fees
from oracle.errors import ChainError, RpcUnavailable, TransactionRefused

_FIRST_POLL_SECONDS = 0.02
_LAST_POLL_SECONDS = 1.0
_WINDOW = 64  # transactions of one account that a node's pool holds without complaint


@dataclass(frozen=True, slots=True)
class Ask:
    """One question: which model, about which picture, with how much callback gas, answered by when (Unix seconds)."""

    model_id: int
    image_cid: Cid
    deadline: int
    callback_gas: int = 0


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that was mined: what it paid (wei), where, and what its transaction used (gas)."""

    request_id: bytes
    transaction_hash: bytes
    block_number: int
    payment: int
    deadline: int
    gas_used: int


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
class Deployment:
    """A new contract: its address, the block that holds it and the gas it took."""

    address: str
    block_number: int
    gas_used: int


@dataclass(frozen=True, slots=True)
class DigitReading:
    """What the example consumer holds of an answer; confidence in basis points."""

    digit: int
    confidence_bps: int


@dataclass(frozen=True, slots=True)
class _Transaction:
    to: str | None
    data: bytes
    value: int = 0


class TooDear(ChainError):
    """A prediction costs more than the caller wants to pay; nothing was sent. Prices in wei."""

    def __init__(self, model_id: int, price: int, max_price: int) -> None:
        super().__init__(
            f"model {model_id} costs {from_wei(price, 'ether'):f} ETH, more than {from_wei(max_price, 'ether'):f} ETH",
            remedy="Nothing was paid. Choose another model, or allow the price with --max-price.",
        )
        self.price = price


class AccountSender:
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

    async def deploy_coordinator(self, owner: str | None = None) -> Deployment:
        """Deploy an InferenceCoordinator; ``owner`` is this account unless given."""
        return await self._deploy("InferenceCoordinator", encode(["address"], [owner or self.address]))

    async def deploy_digit_reader(self, coordinator: str, model_id: int) -> Deployment:
        """Deploy the example consumer for a coordinator and a digit model."""
        return await self._deploy("DigitReader", encode(["address", "uint256"], [coordinator, model_id]))

    async def set_operator(self, coordinator: str, operator: str, *, allowed: bool = True) -> Mined:
        """Allow an account to report, or no longer; only the coordinator's owner."""
        return await self.transact(coordinator, encode_call("setOperator", operator, allowed))

    async def publish_model(self, coordinator: str, manifest_cid: Cid, price: int, payout: str | None = None) -> int:
        """Publish a model at a price in wei (whole gwei); the publisher's share goes to ``payout``. Returns its id."""
        data = encode_call("publishModel", manifest_cid.value, price, payout or self.address)
        mined = await self.transact(coordinator, data)
        (model_id, *_) = self._log(mined, coordinator, "ModelPublished").values
        return int(str(model_id))

    async def request_inference(self, coordinator: str, ask: Ask, *, max_price: int | None = None) -> Asked:
        """Pay for one prediction at the going quote, at most ``max_price`` wei, and wait until the request is mined.

        Raises TooDear before anything is sent.
        """
        (asked,) = await self.request_inferences(coordinator, [ask], max_price=max_price)
        return asked

    async def request_inferences(
        self, coordinator: str, asks: Sequence[Ask], *, window: int = _WINDOW, max_price: int | None = None
    ) -> list[Asked]:
        """Many requests from one account, signed ahead, ``window`` of them sent together; each its own transaction.

        ``max_price`` in wei bounds each. When one cannot be sent, the error names the transactions that were.
        """
        reader = CoordinatorReader(self._rpc, coordinator, self._chain_id)
        kinds = {(ask.model_id, ask.callback_gas): ask for ask in asks}
        quotes = {kind: await reader.quote(*kind) for kind in kinds}
        for (model_id, _), price in quotes.items():
            if max_price is not None and price > max_price:
                raise TooDear(model_id, price, max_price)
        transactions = [
            _Transaction(
                coordinator,
                encode_call("request", ask.model_id, ask.image_cid.value, ask.callback_gas, ask.deadline),
                quotes[ask.model_id, ask.callback_gas],
            )
            for ask in asks
        ]
        by_ask = dict(zip(asks, transactions, strict=True))
        # One simulation for each kind: requests of a kind differ in nothing that takes much more gas.
        gas = {kind: await self._gas(by_ask[ask]) for kind, ask in kinds.items()}
        mined: list[Mined] = []
        for start in range(0, len(asks), window):
            part = slice(start, start + window)
            limits = [gas[ask.model_id, ask.callback_gas] for ask in asks[part]]
            try:
                mined += await self._send(transactions[part], limits)
            except ChainError as error:
                _tell(error, [item.transaction_hash for item in mined])
                raise
        return [self._asked(item, coordinator) for item in mined]

    async def ask_digit_reader(self, contract: str, coordinator: str, image_cid: Cid, deadline: int) -> Asked:
        """Ask through the example consumer at its going price; the answer ends in the contract's storage."""
        (price,) = await view(self._rpc, contract, "price")
        mined = await self.transact(contract, encode_call("ask", image_cid.value, deadline), value=int(price))
        return self._asked(mined, coordinator)

    async def reclaim(self, contract: str, request_id: bytes) -> Mined:
        """Have the example consumer hand a returned payment to the account that asked."""
        return await self.transact(contract, encode_call("reclaim", request_id))

    async def refund(self, coordinator: str, request_id: bytes) -> Mined:
        """Send the payment of an unanswered request back to its requester, after its deadline."""
        return await self.transact(coordinator, encode_call("refund", request_id))

    async def withdraw(self, coordinator: str, to: str | None = None) -> int:
        """Pull this account's whole credit; returns the wei paid out."""
        mined = await self.transact(coordinator, encode_call("withdraw", to or self.address))
        (_, _, amount) = self._log(mined, coordinator, "Withdrawn").values
        return int(str(amount))

    async def transact(self, to: str | None, data: bytes, *, value: int = 0) -> Mined:
        """Simulate, sign, send and wait for one transaction; ``value`` in wei, ``to`` None creates a contract."""
        transaction = _Transaction(to, data, value)
        (mined,) = await self._send([transaction], [await self._gas(transaction)])
        return mined

    async def _deploy(self, name: str, arguments: bytes) -> Deployment:
        mined = await self.transact(None, artifact(name).bytecode + arguments)
        if mined.contract is None:
            raise RpcUnavailable(f"{self._rpc.host} sent a receipt without the new contract's address")
        return Deployment(mined.contract, mined.block_number, mined.gas_used)

    async def _gas(self, transaction: _Transaction) -> int:
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

    async def _send(self, transactions: Sequence[_Transaction], gas_limits: Sequence[int]) -> list[Mined]:
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
            _tell(error, sent)
            raise

    def _problem(self, answer: object) -> ChainError | None:
        if isinstance(answer, RpcFault):
            if "already known" in answer.reason.lower():
                return None
            refused = TransactionRefused(f"the node refused the transaction: {answer.reason}")
            return no_funds(self.address, answer) or refused
        return answer if isinstance(answer, ChainError) else None

    def _signed(self, transaction: _Transaction, nonce: int, gas: int, fees: Fees) -> tuple[bytes, bytes]:
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
                raise CallReverted(f"transaction {hexed(transaction_hash)} was mined and reverted")
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

    def _log(self, mined: Mined, coordinator: str, event: str) -> CoordinatorLog:
        try:
            for raw in mined.logs:
                log = read_log(raw, coordinator)
                if log is not None and log.event == event:
                    return log
        except InvalidData as error:
            raise RpcUnavailable(f"{self._rpc.host} sent a log that cannot be trusted: {error}") from error
        raise RpcUnavailable(f"{self._rpc.host} sent a receipt without its {event}")

    def _asked(self, mined: Mined, coordinator: str) -> Asked:
        match self._log(mined, coordinator, "InferenceRequested").values:
            case (bytes(request_id), _, _, _, int(payment), _, int(deadline), _):
                return Asked(request_id, mined.transaction_hash, mined.block_number, payment, deadline, mined.gas_used)
        raise AssertionError("unreachable: decode_log returns the event's types")


def _tell(error: ChainError, sent: Sequence[bytes]) -> None:
    """Add the transactions that went out to an error's message, as far as it does not name them."""
    unnamed = [hexed(one) for one in sent if hexed(one) not in str(error)]
    if unnamed:
        error.args = (f"{error}; on their way, so look before you send again: {', '.join(unnamed)}",)


async def digit_reading(rpc: Rpc, contract: str, request_id: bytes) -> DigitReading | None:
    """What a DigitReader holds for a request, or None until it is answered."""
    answered, digit, confidence_bps = await view(rpc, contract, "readings", request_id)
    return DigitReading(digit, confidence_bps) if answered else None


async def digit_result_cid(rpc: Rpc, contract: str, request_id: bytes) -> Cid | None:
    """The result CID that a DigitReader holds for a request, or None until it is answered."""
    (value,) = await view(rpc, contract, "resultCidOf", request_id)
    return Cid(value) if value else None
