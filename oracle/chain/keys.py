"""Private keys: a hex string or an encrypted JSON keystore, never shown again."""

from __future__ import annotations

import json
from pathlib import Path

from eth_account import Account
from eth_account.signers.local import LocalAccount
from pydantic import SecretStr

from oracle.errors import ConfigurationError


def load_account(
    role: str, *, key: SecretStr | None, key_file: Path | None, password_file: Path | None
) -> LocalAccount:
    """The account of ``role`` ("operator", "requester") from a hex key, or a file with a hex key or a JSON keystore.

    Raises ConfigurationError with the setting to mend. No error repeats any part of a key or password.
    """
    setting = f"SIBYL_{role.upper()}_KEY_FILE"
    if key is not None:
        return _from_hex(key.get_secret_value(), f"SIBYL_{role.upper()}_KEY")
    if key_file is None:
        raise ConfigurationError(
            f"there is no {role} key", remedy=f"Set {setting} to a file with a hex key or a JSON keystore."
        )
    text = _read(key_file, setting)
    if not text.startswith("{"):
        return _from_hex(text, str(key_file))
    if password_file is None:
        raise ConfigurationError(
            f"{key_file} is an encrypted keystore", remedy="Set SIBYL_KEY_PASSWORD_FILE to a file with its password."
        )
    try:
        secret = Account.decrypt(json.loads(text), _read(password_file, "SIBYL_KEY_PASSWORD_FILE"))
    except (ValueError, KeyError, TypeError):
        raise ConfigurationError(
            f"{key_file} does not open with the password given",
            remedy="Check SIBYL_KEY_PASSWORD_FILE and the keystore.",
        ) from None
    account: LocalAccount = Account.from_key(secret)
    return account


def _read(path: Path, setting: str) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise ConfigurationError(f"{path} cannot be read: {reason}", remedy=f"Check {setting}.") from None


def _from_hex(text: str, source: str) -> LocalAccount:
    try:
        account: LocalAccount = Account.from_key(text.strip())
    except (ValueError, TypeError):  # the library's message would repeat the key
        raise ConfigurationError(
            f"{source} holds no private key", remedy="Give 32 bytes as 64 hex digits, with or without 0x."
        ) from None
    return account
