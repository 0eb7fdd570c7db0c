"""Calls that change nothing, and what a node's refusal of a call or of a transaction means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from oracle.chain.codec import InvalidData, decode_result, describe_revert, encode_call, hexed, quantity, unhexed
from oracle.chain.rpc import Rpc, RpcFault
from oracle.errors import ChainError, RpcUnavailable, TransactionRefused

NOT_OPERATOR = (
    "the coordinator's owner must propose a set of operators with this account (proposeOperators), and put it in force "
    "seven days later (applyOperators)"
)
QUORUM_ABOVE_ONE = "this oracle reports alone; use a coordinator with a quorum of one, or have the owner change it"
_REMEDIES = {
    "UnknownModel": "list the models with: sibyl models",
    "ModelInactive": "its publisher paused the model; choose another with: sibyl models",
    "ModelPricedInToken": "its price is in a token; pay it from a balance of that token: --from-balance",
    "NotModelPublisher": "use the key that published the model",
    "NotModelPayout": "use the key of the model's payout account",
    "NothingEarned": "the model has earned nothing since the last time",
    "InvalidCid": "name content by a CID of version 0 or 1 with sha2-256",
    "PriceNotRepresentable": "give a price in whole gwei, at most 1000 ether",
    "TokenUnsupported": "price the model in ether or in an ERC-20 that states at most 18 decimals",
    "PaymentTooLow": "ask for a quote and send at least that much",
    "PaymentAboveMaximum": "the price has changed; ask for a quote and try again",
    "BalanceTooLow": "put money into the balance with: sibyl deposit",
    "CallbackNotSold": "ask without a callback; the owner has set no price for it in this token",
    "DeadlineOutOfRange": "choose a deadline between 30 seconds and 7 days from now; check this machine's clock",
    "CallbackGasTooHigh": "ask for less callback gas",
    "NotOperator": NOT_OPERATOR,
    "QuorumNotMet": QUORUM_ABOVE_ONE,
    "NotCancellable": "only its requester can cancel a request, and only while the cancel window is open; "
    "after its deadline: sibyl refund",
    "NotRefundable": "a request can be refunded once, and only after its deadline passed unanswered",
    "EnforcedPause": "the coordinator's owner paused new requests; try again later",
    "OwnableUnauthorizedAccount": "use the key of the coordinator's owner",
    "InsufficientGas": "send fewer items in one report or raise the gas limit",
}


class CallReverted(ChainError):
    """A contract would revert, or reverted, the call. ``error`` is the decoded custom error."""

    def __init__(self, error: str) -> None:
        super().__init__(f"the contract reverts: {error}", remedy=remedy_of(error))
        self.error = error


class RevertedInBlock(CallReverted):
    """A transaction was mined and reverted: its fee is spent, and nothing else."""


class UnexpectedAnswer(RpcUnavailable):
    """A call returned bytes that the function cannot return: no contract there, another one, or a lying endpoint."""


def remedy_of(error: str) -> str:
    """What to do about a decoded custom error, or nothing."""
    return _REMEDIES.get(error.partition("(")[0], "")


def revert_of(fault: RpcFault) -> str | None:
    """The decoded reason when a fault is a revert, else None. Nodes put the revert data in different places."""
    data: object = fault.data
    while isinstance(data, Mapping):
        data = data.get("data")
    if isinstance(data, str):
        try:
            return describe_revert(unhexed(data.removeprefix("Reverted ")))
        except InvalidData:
            pass
    reason = fault.reason.lower()
    if fault.code == 3 or "revert" in reason or "gas required exceeds" in reason or "out of gas" in reason:
        return fault.reason
    return None


def no_funds(account: str, fault: RpcFault) -> TransactionRefused | None:
    """The error for an account that cannot pay, when the fault says so."""
    if "insufficient funds" not in fault.reason.lower():
        return None
    error = TransactionRefused(
        f"{account} has not enough ether for the transaction", remedy=f"send ether to {account} on this chain"
    )
    error.unfunded = True
    return error


def has_it_already(fault: RpcFault) -> bool:
    """Whether a node refuses a transaction because it was sent it before."""
    return _says(
        fault, "already known", "known transaction", "already imported", "already exists", "already in mempool"
    )


def nonce_is_used(fault: RpcFault) -> bool:
    """Whether a node refuses a transaction because one of its nonce is mined, maybe itself."""
    return _says(fault, "nonce too low", "nonce is too low")


def has_trouble(fault: RpcFault) -> bool:
    """Whether a node refuses for reasons of its own: it may take the same transaction later, or have taken it."""
    return _says(
        fault, "pool is full", "txpool full", "limit exceeded", "rate limit", "timeout", "internal error", "too many"
    )


def _says(fault: RpcFault, *parts: str) -> bool:
    reason = fault.reason.lower()
    return any(part in reason for part in parts)


async def view(rpc: Rpc, contract: str, function: str, *arguments: object) -> tuple[Any, ...]:
    """Call a view function at the newest block.

    Raises CallReverted with the decoded error, UnexpectedAnswer when the answer is not what the function
    returns, RpcUnavailable.
    """
    call = {"to": contract, "data": hexed(encode_call(function, *arguments))}
    try:
        return decode_view(rpc, function, await rpc.call("eth_call", [call, "latest"]))
    except RpcFault as fault:
        error = revert_of(fault)
        if error is None:
            raise
        raise CallReverted(error) from fault


def decode_view(rpc: Rpc, function: str, answer: object) -> tuple[Any, ...]:
    """What an ``eth_call`` returned. Raises UnexpectedAnswer when the function cannot have returned it."""
    try:
        return decode_result(function, unhexed(answer))
    except InvalidData as error:
        raise UnexpectedAnswer(f"{rpc.host} gave an answer that is not {function}'s: {error}") from error


async def read_number(rpc: Rpc, method: str, *parameters: object) -> int:
    """A call whose result is one number. Raises RpcUnavailable."""
    try:
        return quantity(await rpc.call(method, parameters))
    except InvalidData as error:
        raise RpcUnavailable(f"{rpc.host} answered {method} with something else: {error}") from error
