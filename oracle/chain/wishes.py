"""Who chooses a request's provider: the requester alone, by signed typed data (EIP-712), since nobody else pays."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from eth_abi.abi import decode, encode
from eth_abi.exceptions import DecodingError
from eth_account import Account
from eth_account.messages import SignableMessage, encode_typed_data
from eth_account.signers.local import LocalAccount
from eth_keys.exceptions import BadSignature
from eth_utils.crypto import keccak
from eth_utils.exceptions import ValidationError

from oracle.chain.calls import revert_of
from oracle.chain.codec import InvalidData, unhexed
from oracle.chain.rpc import Rpc, RpcFault
from oracle.domain import Cid

_TYPES = {
    "Wish": [
        {"name": "requester", "type": "address"},
        {"name": "image", "type": "string"},
        {"name": "provider", "type": "string"},
        {"name": "signedAt", "type": "uint256"},
    ]
}
_VALID = bytes.fromhex("1626ba7e")  # both the function isValidSignature(bytes32,bytes) and its yes (ERC-1271)


@dataclass(frozen=True, slots=True)
class Wish:
    """That a requester (checksum address) wants a picture computed by a provider, said at ``signed_at`` (Unix seconds)
    of requests at one deployment.
    """

    chain_id: int
    coordinator: str
    requester: str
    image_cid: Cid
    provider: str
    signed_at: int

    def sign(self, account: LocalAccount) -> bytes:
        """The requester's signature: 65 bytes."""
        return bytes(account.sign_message(self._message()).signature)

    async def signed(self, rpc: Rpc, signature: bytes) -> bool:
        """Whether the requester signed: by its key, or as its contract says (ERC-1271). Raises RpcUnavailable."""
        message = self._message()
        with contextlib.suppress(BadSignature, ValidationError, ValueError, IndexError):
            if Account.recover_message(message, signature=signature) == self.requester:
                return True
        digest = keccak(b"\x19" + message.version + message.header + message.body)
        data = _VALID + encode(["bytes32", "bytes"], [digest, signature])
        try:
            answer = await rpc.call("eth_call", [{"to": self.requester, "data": "0x" + data.hex()}, "latest"])
            return decode(["bytes4"], unhexed(answer)) == (_VALID,)
        except RpcFault as error:
            if revert_of(error) is None:
                raise
        except (DecodingError, InvalidData):
            pass  # no contract is there, or one of another kind
        return False

    def _message(self) -> SignableMessage:
        return encode_typed_data(
            {"name": "Sibyl", "version": "1", "chainId": self.chain_id, "verifyingContract": self.coordinator},
            _TYPES,
            {
                "requester": self.requester,
                "image": self.image_cid.text,
                "provider": self.provider,
                "signedAt": self.signed_at,
            },
        )


__all__ = ["Wish"]
