"""The tables as the queries see them; ``migrations`` is what makes them in a file, and a test keeps both equal.

Everything is stored so that the ``sqlite3`` shell shows it as people write it: hashes and ids as 0x-prefixed hex, CIDs
and statuses as text, wei as decimal text because they do not fit SQLite's 64-bit integers.
"""

from __future__ import annotations

from decimal import Decimal
from enum import Enum, StrEnum
from typing import Any

from sqlalchemy import Boolean, Column, Float, Integer, MetaData, Table, Text
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

from oracle.domain import Cid, FailureReason, RequestStatus
from oracle.market import Decision, DocumentKind, Standing, Verdict


class Hex(TypeDecorator[bytes]):
    """Bytes as 0x-prefixed hex text."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: bytes | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        """To the database."""
        return None if value is None else "0x" + value.hex()

    def process_result_value(self, value: Any | None, dialect: Dialect) -> bytes | None:  # noqa: ARG002
        """From the database."""
        return None if value is None else bytes.fromhex(value[2:])


class Wei(TypeDecorator[int]):
    """An amount of wei, or of a token's smallest part, as decimal text."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: int | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        """To the database."""
        return None if value is None else str(value)

    def process_result_value(self, value: Any | None, dialect: Dialect) -> int | None:  # noqa: ARG002
        """From the database."""
        return None if value is None else int(value)


class Note(TypeDecorator[str]):
    """Words for people, often from outside (a node, a worker): cut to 500 characters, and always valid UTF-8."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        """To the database."""
        # JSON can carry half of a surrogate pair, which SQLite cannot store.
        return None if value is None else value[:500].encode("utf-8", "backslashreplace").decode()

    def process_result_value(self, value: Any | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        """From the database."""
        return value


class Glm(TypeDecorator[Decimal]):
    """A price in GLM as decimal text."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        """To the database."""
        return None if value is None else f"{value:f}"

    def process_result_value(self, value: Any | None, dialect: Dialect) -> Decimal | None:  # noqa: ARG002
        """From the database."""
        return None if value is None else Decimal(value)


class CidText(TypeDecorator[Cid]):
    """A CID as the text that every IPFS tool prints."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Cid | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        """To the database."""
        return None if value is None else value.text

    def process_result_value(self, value: Any | None, dialect: Dialect) -> Cid | None:  # noqa: ARG002
        """From the database."""
        return None if value is None else Cid.parse(value)


class Named(TypeDecorator[Any]):
    """A member of an enumeration as its name in lower case."""

    impl = Text
    cache_ok = True

    def __init__(self, kind: type[Enum]) -> None:
        super().__init__()
        self.kind = kind

    def process_bind_param(self, value: Enum | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        """To the database."""
        return None if value is None else value.name.lower()

    def process_result_value(self, value: Any | None, dialect: Dialect) -> Enum | None:  # noqa: ARG002
        """From the database."""
        return None if value is None else self.kind[value.upper()]


class Valued(TypeDecorator[Any]):
    """A member of an enumeration of texts as its value."""

    impl = Text
    cache_ok = True

    def __init__(self, kind: type[StrEnum]) -> None:
        super().__init__()
        self.kind = kind

    def process_bind_param(self, value: StrEnum | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        """To the database."""
        return None if value is None else value.value

    def process_result_value(self, value: Any | None, dialect: Dialect) -> StrEnum | None:  # noqa: ARG002
        """From the database."""
        return None if value is None else self.kind(value)


metadata = MetaData()

binding = Table(
    "binding",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("chain_id", Integer, nullable=False),
    Column("coordinator", Text, nullable=False),
    Column("genesis", Hex, nullable=False),
)

checkpoint = Table(
    "checkpoint",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("number", Integer, nullable=False),
    Column("hash", Hex, nullable=False),
    Column("timestamp", Integer, nullable=False),
)

blocks = Table(
    "blocks",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("hash", Hex, nullable=False),
    Column("timestamp", Integer, nullable=False),
)

requests = Table(
    "requests",
    metadata,
    Column("request_id", Hex, primary_key=True),
    Column("status", Named(RequestStatus), nullable=False),
    Column("model_id", Integer, nullable=False),
    Column("requester", Text, nullable=False),
    Column("image_cid", CidText, nullable=False),
    Column("payment", Wei, nullable=False),
    Column("callback_gas", Integer, nullable=False),
    Column("deadline", Integer, nullable=False),
    Column("nonce", Integer, nullable=False),
    Column("created_at", Integer, nullable=False),
    Column("block", Integer, nullable=False),
    Column("block_hash", Hex, nullable=False),
    Column("transaction_hash", Hex, nullable=False),
    Column("log_index", Integer, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("not_before", Float, nullable=False),
    Column("image_format", Text),
    Column("image_width", Integer),
    Column("image_height", Integer),
    Column("image_size", Integer),
    Column("batch", Text),
    Column("provider", Text, nullable=False),
    Column("result_cid", CidText),
    Column("answer", Hex, nullable=False),
    Column("failure", Named(FailureReason), nullable=False),
    Column("detail", Note, nullable=False),
    Column("report", Hex),
)

moves = Table(
    "moves",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("request_id", Hex, nullable=False),
    Column("from_status", Named(RequestStatus)),
    Column("to_status", Named(RequestStatus), nullable=False),
    Column("at", Float, nullable=False),
    Column("detail", Note, nullable=False),
)

settlements = Table(
    "settlements",
    metadata,
    Column("request_id", Hex, primary_key=True),
    Column("status", Named(RequestStatus), nullable=False),
    Column("block", Integer, nullable=False),
    Column("block_hash", Hex, nullable=False),
    Column("transaction_hash", Hex, nullable=False),
    Column("log_index", Integer),
    Column("reason", Named(FailureReason), nullable=False),
    Column("result_cid", CidText),
    Column("answer", Hex, nullable=False),
)

batches = Table(
    "batches",
    metadata,
    Column("key", Text, primary_key=True),
    Column("opened_at", Float, nullable=False),
    Column("members", Integer, nullable=False),
)

reports = Table(
    "reports",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("transaction_hash", Hex, nullable=False),
    Column("status", Text, nullable=False),
    Column("nonce", Integer, nullable=False),
    Column("raw", Hex, nullable=False),
    Column("max_fee", Wei, nullable=False),
    Column("max_priority_fee", Wei, nullable=False),
    Column("gas_limit", Integer, nullable=False),
    Column("replaces", Hex),
    Column("saved_at", Float, nullable=False),
    Column("broadcast_at", Float),
    Column("closed_at", Float),
    Column("block", Integer),
    Column("gas_used", Integer),
    Column("gas_price", Wei),
    Column("detail", Note, nullable=False),
)

report_items = Table(
    "report_items",
    metadata,
    Column("report", Hex, primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("request_id", Hex, nullable=False),
)

providers = Table(
    "providers",
    metadata,
    Column("node_id", Text, primary_key=True),
    Column("name", Note, nullable=False),
    Column("price_start", Glm, nullable=False),
    Column("price_second", Glm, nullable=False),
    Column("price_cpu_second", Glm, nullable=False),
    Column("threads", Integer, nullable=False),
    Column("first_seen", Float, nullable=False),
    Column("last_seen", Float, nullable=False),
    Column("images_per_second", Float, nullable=False),
    Column("load_seconds", Float, nullable=False),
    Column("avx", Boolean),
    Column("good", Float, nullable=False),
    Column("failed", Float, nullable=False),
    Column("lied", Float, nullable=False),
    Column("judged_at", Float, nullable=False),
    Column("blocked_until", Float, nullable=False),
    Column("standing", Valued(Standing), nullable=False),
    Column("detail", Note, nullable=False),
)

agreements = Table(
    "agreements",
    metadata,
    Column("agreement_id", Text, primary_key=True),
    Column("node_id", Text, nullable=False),
    Column("price_start", Glm, nullable=False),
    Column("price_second", Glm, nullable=False),
    Column("price_cpu_second", Glm, nullable=False),
    Column("threads", Integer, nullable=False),
    Column("opened_at", Float, nullable=False),
    Column("expires_at", Float, nullable=False),
    Column("closed_at", Float),
    Column("refused", Note, nullable=False),
)

documents = Table(
    "documents",
    metadata,
    Column("document_id", Text, primary_key=True),
    Column("kind", Valued(DocumentKind), nullable=False),
    Column("agreement_id", Text, nullable=False),
    Column("amount", Wei, nullable=False),
    Column("decision", Valued(Decision), nullable=False),
    Column("decided_at", Float, nullable=False),
    Column("reason", Note, nullable=False),
    Column("settled", Boolean, nullable=False),
)

work = Table(
    "work",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("task", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("agreement_id", Text, nullable=False),
    Column("node_id", Text, nullable=False),
    Column("inputs", Integer, nullable=False),
    Column("started", Float, nullable=False),
    Column("finished", Float, nullable=False),
    Column("cost", Wei, nullable=False),
    Column("verdict", Valued(Verdict), nullable=False),
)

known_answers = Table(
    "known_answers",
    metadata,
    Column("model", Text, primary_key=True),
    Column("image_cid", Text, primary_key=True),
    Column("size", Integer, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("learnt_at", Float, nullable=False),
)
