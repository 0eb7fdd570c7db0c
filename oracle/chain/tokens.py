"""What an ERC-20 says of itself. Any contract may stand there, so nothing it says is more than a text and a number."""

from __future__ import annotations

from eth_abi.abi import decode
from eth_abi.exceptions import DecodingError

from oracle.chain.calls import UnexpectedAnswer, revert_of
from oracle.chain.codec import InvalidData, unhexed
from oracle.chain.rpc import Rpc, RpcFault

_UNREADABLE = (DecodingError, InvalidData, ValueError, OverflowError)
_SYMBOL, _DECIMALS = "0x95d89b41", "0x313ce567"  # selectors of symbol() and decimals() (EIP-20)


async def read_token(rpc: Rpc, address: str) -> tuple[str, int]:
    """Symbol, as it came, empty where it says none; and decimals, without which no amount can be read.

    Raises UnexpectedAnswer where there is no such token, RpcUnavailable.
    """
    symbol, decimals = await rpc.many_settled(
        [("eth_call", [{"to": address, "data": selector}, "latest"]) for selector in (_SYMBOL, _DECIMALS)]
    )
    if isinstance(decimals, Exception):
        raise decimals
    if isinstance(symbol, Exception):
        if not isinstance(symbol, RpcFault) or revert_of(symbol) is None:
            raise symbol
        symbol = ""  # EIP-20 asks nobody for one
    try:
        (count,) = decode(["uint8"], unhexed(decimals))
    except _UNREADABLE as error:
        raise UnexpectedAnswer(f"{address} does not speak as an ERC-20: {error}") from error
    return _text(symbol), int(count)


def _text(answer: object) -> str:
    try:
        data = unhexed(answer)
        if len(data) == 32:  # some old tokens answer with bytes32
            return data.rstrip(b"\0").decode("utf-8", "replace")
        (text,) = decode(["string"], data, strict=False)
        return str(text)
    except _UNREADABLE:
        return ""
