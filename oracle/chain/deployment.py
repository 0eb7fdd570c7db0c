"""What the settings say of a deployment: the coordinator's address, the accounts, what a transaction may cost."""

from __future__ import annotations

from typing import Literal

from eth_account.signers.local import LocalAccount
from eth_utils.address import is_address, to_checksum_address

from oracle.chain.fees import GWEI, FeePolicy
from oracle.chain.keys import load_account
from oracle.errors import ConfigurationError
from oracle.settings import Settings

Role = Literal["operator", "requester", "publisher", "gateway"]


def coordinator_address(settings: Settings) -> str:
    """The configured coordinator as a checksum address. Raises ConfigurationError when there is none."""
    if settings.coordinator is None:
        raise ConfigurationError(
            "no coordinator is configured",
            remedy="Run `sibyl up` for a chain of your own, or set SIBYL_RPC_URL and SIBYL_COORDINATOR.",
        )
    if not is_address(settings.coordinator):
        raise ConfigurationError(
            "SIBYL_COORDINATOR is not an address", remedy="Give 0x and 40 hex digits, as the deployment printed it."
        )
    return str(to_checksum_address(settings.coordinator))


def account_of(role: Role, settings: Settings) -> LocalAccount:
    """The account that plays a role. Raises ConfigurationError."""
    key, key_file = {
        "operator": (settings.operator_key, settings.operator_key_file),
        "requester": (settings.requester_key, settings.requester_key_file),
        "publisher": (settings.publisher_key, settings.publisher_key_file),
        "gateway": (settings.gateway_key, settings.gateway_key_file),
    }[role]
    return load_account(role, key=key, key_file=key_file, password_file=settings.key_password_file)


def fee_policy(settings: Settings) -> FeePolicy:
    """What a transaction may cost."""
    return FeePolicy(int(settings.max_fee_gwei * GWEI), int(settings.priority_fee_gwei * GWEI))
