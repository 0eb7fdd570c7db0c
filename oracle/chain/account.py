"""What people and deployers do at a coordinator: deploy, publish, ask, cancel, refund, deposit, withdraw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from eth_abi.abi import encode
from eth_utils.currency import from_wei

from oracle.chain.calls import view
from oracle.chain.codec import ETHER, InvalidData, artifact, encode_call, terms_of
from oracle.chain.coordinator import CoordinatorLog, CoordinatorReader, read_log
from oracle.chain.rpc import Rpc
from oracle.chain.transactions import Mined, Save, Transaction, TransactionSender, name_sent
from oracle.chain.wishes import Wish
from oracle.domain import Cid, InferenceRequest
from oracle.errors import ChainError, RpcUnavailable

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
    """A request that was mined: what it paid (in its model's token), where, and what its transaction used (gas)."""

    request_id: bytes
    transaction_hash: bytes
    block_number: int
    payment: int
    deadline: int
    gas_used: int


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


def money(amount: int, token: str | None = None) -> str:
    """An amount for people: ether, or smallest parts of a token."""
    return f"{from_wei(amount, 'ether'):f} ETH" if token is None else f"{amount} of the token {token}"


class TooDear(ChainError):
    """A prediction costs more than the caller wants to pay; nothing was sent. Prices in the model's token."""

    def __init__(self, model_id: int, price: int, max_price: int, token: str | None = None) -> None:
        super().__init__(
            f"model {model_id} costs {money(price, token)}, more than {money(max_price, token)}",
            remedy="Nothing was paid. Choose another model, or allow it: max_price= (command line: --max-price).",
        )
        self.price = price


class AccountSender(TransactionSender):
    """Acts for one account at any coordinator."""

    async def deploy_coordinator(
        self, owner: str | None = None, operators: Sequence[str] = (), quorum: int = 1, cancel_window: int = 0
    ) -> Deployment:
        """Deploy an InferenceCoordinator. Owner and only operator are this account unless given; the window in seconds.

        Requests can be cancelled for ``cancel_window`` seconds, and ``quorum`` operators must sign a report.
        """
        members = sorted(operators or [self.address], key=lambda address: int(address, 16))
        types = ("address", "address[]", "uint256", "uint256")
        return await self._deploy(
            "InferenceCoordinator", encode(types, (owner or self.address, members, quorum, cancel_window))
        )

    async def deploy_digit_reader(self, coordinator: str, model_id: int) -> Deployment:
        """Deploy the example consumer for a coordinator and a digit model."""
        return await self._deploy("DigitReader", encode(["address", "uint256"], [coordinator, model_id]))

    def sign_wish(self, wish: Wish) -> bytes:
        """The account's signature of its wish for a provider; nothing is sent."""
        return wish.sign(self._account)

    async def publish_model(
        self, coordinator: str, manifest_cid: Cid, price: int, payout: str | None = None, token: str | None = None
    ) -> int:
        """Publish a model at a price in its token (None: ether, in wei and whole gwei), for the publishing fee.

        ``payout``, this account unless given, may take what it earns. Returns the model's id.
        """
        (fee,) = await view(self._rpc, coordinator, "publishingFee")
        data = encode_call("publishModel", manifest_cid.value, price, token or ETHER, payout or self.address)
        # The owner publishes for nothing, and then the fee comes back in the same transaction.
        mined = await self.transact(coordinator, data, value=int(fee))
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
        kinds = {(ask.model_id, ask.callback_gas): ask for ask in asks}
        quotes = {kind: await self._quote(coordinator, *kind, max_price) for kind in kinds}
        transactions = [
            Transaction(
                coordinator,
                encode_call("request", ask.model_id, ask.image_cid.value, ask.callback_gas, ask.deadline),
                quotes[ask.model_id, ask.callback_gas],
            )
            for ask in asks
        ]
        by_ask = dict(zip(asks, transactions, strict=True))
        # One simulation for each kind: requests of a kind differ in nothing that takes much more gas.
        gas = {kind: await self.gas_for(by_ask[ask]) for kind, ask in kinds.items()}
        mined: list[Mined] = []
        for start in range(0, len(asks), window):
            part = slice(start, start + window)
            limits = [gas[ask.model_id, ask.callback_gas] for ask in asks[part]]
            try:
                mined += await self.send(transactions[part], limits)
            except ChainError as error:
                name_sent(error, [item.transaction_hash for item in mined])
                raise
        return [asked for item in mined for asked in self._asked(item, coordinator)]

    async def request_many(
        self,
        coordinator: str,
        model_id: int,
        images: Sequence[Cid],
        deadline: int,
        *,
        max_price: int | None = None,
        from_balance: bool = False,
        save: Save | None = None,
    ) -> list[Asked]:
        """Ask one model about several pictures in one transaction: all are asked, or none.

        Paid in ether with the transaction, or from the account's balance in the model's token. ``max_price`` bounds
        each. Raises TooDear before anything is sent.
        """
        total = len(images) * await self._quote(coordinator, model_id, 0, max_price)
        arguments = (model_id, [image.value for image in images], 0, deadline)
        if from_balance:
            data = encode_call("requestManyFromBalance", *arguments, total)
            mined = await self.transact(coordinator, data, save=save)
        else:
            mined = await self.transact(coordinator, encode_call("requestMany", *arguments), value=total, save=save)
        return self._asked(mined, coordinator)

    async def follow_many(
        self, coordinator: str, raws: Sequence[bytes], *, save: Save | None = None, revive: bool = True
    ) -> list[Asked]:
        """What ``request_many`` gives, of a transaction that was signed before; see ``follow``."""
        return self._asked(await self.follow(raws, save=save, revive=revive), coordinator)

    async def ask_digit_reader(self, contract: str, coordinator: str, image_cid: Cid, deadline: int) -> Asked:
        """Ask through the example consumer at its going price; the answer ends in the contract's storage."""
        (price,) = await view(self._rpc, contract, "price")
        mined = await self.transact(contract, encode_call("ask", image_cid.value, deadline), value=int(price))
        (asked,) = self._asked(mined, coordinator)
        return asked

    async def reclaim(self, contract: str, request_id: bytes) -> Mined:
        """Have the example consumer hand a returned payment to the account that asked."""
        return await self.transact(contract, encode_call("reclaim", request_id))

    async def cancel(self, coordinator: str, request: InferenceRequest) -> Mined:
        """Take a request of this account back while its coordinator's cancel window is open."""
        return await self.transact(coordinator, encode_call("cancel", terms_of(request)))

    async def refund(self, coordinator: str, request_id: bytes, *, save: Save | None = None) -> Mined:
        """Send the payment of an unanswered request back to its requester, after its deadline."""
        return await self.transact(coordinator, encode_call("refund", request_id), save=save)

    async def deposit(self, coordinator: str, amount: int) -> Mined:
        """Put ``amount`` wei into this account's balance, which requests can be paid from."""
        return await self.transact(coordinator, encode_call("deposit"), value=amount)

    async def withdraw(self, coordinator: str, to: str | None = None, token: str | None = None) -> int:
        """Pull this account's whole balance in a token (None: ether); returns what was paid out."""
        amount = await CoordinatorReader(self._rpc, coordinator, self._chain_id).balance_of(token, self.address)
        await self.transact(coordinator, encode_call("withdraw", token or ETHER, to or self.address, amount))
        return amount

    async def withdraw_earnings(self, coordinator: str, model_id: int, to: str | None = None) -> int:
        """Pull all that a model has earned, as its payout account; returns what was paid out, in its token."""
        mined = await self.transact(coordinator, encode_call("withdrawEarnings", model_id, to or self.address))
        (_, _, amount) = self._log(mined, coordinator, "EarningsWithdrawn").values
        return int(str(amount))

    async def _quote(self, coordinator: str, model_id: int, callback_gas: int, max_price: int | None) -> int:
        reader = CoordinatorReader(self._rpc, coordinator, self._chain_id)
        price = await reader.quote(model_id, callback_gas)
        if max_price is not None and price > max_price:
            model = await reader.model(model_id)
            raise TooDear(model_id, price, max_price, None if model is None else model.token)
        return price

    async def _deploy(self, name: str, arguments: bytes) -> Deployment:
        mined = await self.transact(None, artifact(name).bytecode + arguments)
        if mined.contract is None:
            raise RpcUnavailable(f"{self._rpc.host} sent a receipt without the new contract's address")
        return Deployment(mined.contract, mined.block_number, mined.gas_used)

    def _logs(self, mined: Mined, coordinator: str, event: str) -> list[CoordinatorLog]:
        try:
            found = [read_log(raw, coordinator) for raw in mined.logs]
        except InvalidData as error:
            raise RpcUnavailable(f"{self._rpc.host} sent a log that cannot be trusted: {error}") from error
        logs = [log for log in found if log is not None and log.event == event]
        if not logs:
            raise RpcUnavailable(f"{self._rpc.host} sent a receipt without its {event}")
        return logs

    def _log(self, mined: Mined, coordinator: str, event: str) -> CoordinatorLog:
        return self._logs(mined, coordinator, event)[0]

    def _asked(self, mined: Mined, coordinator: str) -> list[Asked]:
        where = (mined.transaction_hash, mined.block_number)
        asked: list[Asked] = []
        for log in self._logs(mined, coordinator, "InferenceRequested"):
            match log.values:
                case (bytes(request_id), _, _, _, int(payment), _, int(deadline), _):
                    asked.append(Asked(request_id, *where, payment, deadline, mined.gas_used))
        return asked


async def digit_reading(rpc: Rpc, contract: str, request_id: bytes) -> DigitReading | None:
    """What a DigitReader holds for a request, or None until it is answered."""
    answered, digit, confidence_bps = await view(rpc, contract, "readings", request_id)
    return DigitReading(digit, confidence_bps) if answered else None


async def digit_result_cid(rpc: Rpc, contract: str, request_id: bytes) -> Cid | None:
    """The result CID that a DigitReader holds for a request, or None until it is answered."""
    (value,) = await view(rpc, contract, "resultCidOf", request_id)
    return Cid(value) if value else None
