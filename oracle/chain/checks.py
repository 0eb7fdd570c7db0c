"""The checks made before anything is trusted to a deployment."""

from __future__ import annotations

from oracle.chain.calls import NOT_OPERATOR, QUORUM_ABOVE_ONE, CallReverted, UnexpectedAnswer, read_number, view
from oracle.chain.rpc import Rpc
from oracle.errors import ConfigurationError, WrongChain

MINIMUM_BALANCE = 10**16
"""Wei that an operator must hold at the start: about thirty full reports at 1 gwei per gas."""


async def verify_deployment(rpc: Rpc, address: str, expected_chain_id: int | None = None) -> int:
    """Check that the endpoint serves the expected chain, if any, and that a coordinator lives at the address.

    Returns the chain id that it serves.
    Raises WrongChain with a remedy, RpcUnavailable.
    """
    served = await read_number(rpc, "eth_chainId")
    if expected_chain_id is not None and served != expected_chain_id:
        raise WrongChain(
            f"{rpc.host} serves chain {served}, not {expected_chain_id}",
            remedy="set the RPC endpoint and the chain id to the same chain",
        )
    code = await rpc.call("eth_getCode", [address, "latest"])
    if code in ("0x", None):
        raise WrongChain(
            f"there is no contract at {address} on chain {served}",
            remedy="check the coordinator's address, and that the node has caught up",
        )
    try:
        await view(rpc, address, "modelCount")
        await view(rpc, address, "isOperator", address)
        await view(rpc, address, "quorum")
        await view(rpc, address, "cancelWindow")
        await view(rpc, address, "requestOf", bytes(32))
    except (CallReverted, UnexpectedAnswer) as error:
        raise WrongChain(
            f"the contract at {address} is not an InferenceCoordinator: {error}",
            remedy="check the coordinator's address; it is printed when the coordinator is deployed",
        ) from error
    return served


async def verify_operator(rpc: Rpc, coordinator: str, operator: str, minimum_balance: int = MINIMUM_BALANCE) -> None:
    """Check that the operator may report alone and holds at least ``minimum_balance`` wei for gas.

    Raises ConfigurationError with a remedy, RpcUnavailable.
    """
    (allowed,) = await view(rpc, coordinator, "isOperator", operator)
    if not allowed:
        raise ConfigurationError(
            f"{operator} is not an operator of the coordinator {coordinator}",
            remedy=NOT_OPERATOR,
        )
    (quorum,) = await view(rpc, coordinator, "quorum")
    if quorum != 1:
        raise ConfigurationError(
            f"{quorum} operators of the coordinator {coordinator} must sign each report", remedy=QUORUM_ABOVE_ONE
        )
    balance = await read_number(rpc, "eth_getBalance", operator, "latest")
    if balance < minimum_balance:
        raise ConfigurationError(
            f"the operator {operator} holds {balance} wei, less than the {minimum_balance} wei it needs for gas",
            remedy=f"send ether to {operator} on this chain",
        )
