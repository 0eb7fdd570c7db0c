"""The tables of the gateway's books, and the history of their schema."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from sqlalchemy import Column, Float, Integer, MetaData, Table, Text

from oracle.store.migrations import Step
from oracle.store.tables import CidText, Hex, Valued, Wei

_FIRST: Step = (
    """
CREATE TABLE keys (
    -- API keys. hash is the SHA-256 of the key itself, which is nowhere. per_day is wei in decimal.
    name TEXT NOT NULL PRIMARY KEY,
    hash TEXT NOT NULL UNIQUE,
    per_day TEXT NOT NULL,
    created_at REAL NOT NULL,
    revoked_at REAL
)
""",
    """
CREATE TABLE spendings (
    -- What the gateway pays for. Legal moves of state:
    --   reserved -> asked      the request is on-chain
    --   reserved -> released   nothing was sent, for certain
    -- A row that stays reserved counts as spent: its transaction may have been sent.
    id INTEGER PRIMARY KEY,
    -- Name of the key; empty for those without one.
    holder TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('reserved', 'asked', 'released')),
    -- Wei in decimal: what the request costs, and what is set aside for the network's fee. Both count.
    amount TEXT NOT NULL,
    fee TEXT NOT NULL,
    at REAL NOT NULL,
    -- What is asked; deadline is Unix seconds. Nothing older than block can be the request.
    model_id INTEGER NOT NULL,
    image_cid TEXT NOT NULL,
    deadline INTEGER NOT NULL,
    block INTEGER NOT NULL,
    -- SHA-256 of whose idempotency key it is and of the key.
    idempotency TEXT UNIQUE,
    request_id TEXT UNIQUE,
    transaction_hash TEXT,
    CHECK ((state = 'asked') = (request_id IS NOT NULL))
)
""",
    "CREATE INDEX spendings_by_time ON spendings (at)",
)

# The books know which deployment they speak of, and which transactions were signed for what.
_BOUND: Step = (
    """
CREATE TABLE binding (
    -- The deployment whose spendings count: chain id, coordinator and genesis block. One row; empty at first.
    id INTEGER PRIMARY KEY CHECK (id = 1),
    deployment TEXT NOT NULL
)
""",
    "INSERT INTO binding VALUES (1, '')",
    """
CREATE TABLE spendings_2 (
    -- What the gateway pays for. Legal moves of state:
    --   reserved -> asked      the request is on-chain
    --   reserved -> released   nothing was paid, for certain
    --   reserved -> burnt      its transaction reverted in its block: the network's fee was spent
    --   asked    -> closed     the request has ended
    -- All but what was released counts as spent.
    id INTEGER PRIMARY KEY,
    deployment TEXT NOT NULL,
    -- Name of the key; empty for those without one.
    holder TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('reserved', 'asked', 'released', 'burnt', 'closed')),
    -- Wei in decimal: what the request costs, and what is set aside for the network's fee. Both count.
    amount TEXT NOT NULL,
    fee TEXT NOT NULL,
    at REAL NOT NULL,
    -- When it is looked after next while it is reserved or asked.
    due REAL NOT NULL,
    -- What is asked; deadline is Unix seconds.
    model_id INTEGER NOT NULL,
    image_cid TEXT NOT NULL,
    deadline INTEGER NOT NULL,
    -- SHA-256 of whose idempotency key it is and of the key.
    idempotency TEXT,
    request_id TEXT,
    transaction_hash TEXT,
    UNIQUE (deployment, idempotency),
    UNIQUE (deployment, request_id),
    CHECK ((state IN ('asked', 'closed')) = (request_id IS NOT NULL))
)
""",
    # Nobody wrote down what was sent for a row that stayed reserved: it counts, and its key stays taken.
    """
INSERT INTO spendings_2
    SELECT id, '', holder, CASE state WHEN 'reserved' THEN 'burnt' ELSE state END, amount, fee, at, deadline,
        model_id, image_cid, deadline, idempotency, request_id, transaction_hash
    FROM spendings
""",
    "DROP TABLE spendings",
    "ALTER TABLE spendings_2 RENAME TO spendings",
    # Holds all that a day's sums need.
    "CREATE INDEX spendings_counted ON spendings (deployment, at, holder, state, amount, fee)",
    "CREATE INDEX spendings_due ON spendings (deployment, state, due)",
    "CREATE INDEX spendings_by_time ON spendings (at)",
    """
CREATE TABLE transactions (
    -- What was signed for a spending: for its request while it is reserved, for its refund once it is asked. All of a
    -- spending share a nonce, and one of them is mined at most.
    id INTEGER PRIMARY KEY,
    spending INTEGER NOT NULL REFERENCES spendings (id) ON DELETE CASCADE,
    hash TEXT NOT NULL,
    nonce INTEGER NOT NULL,
    raw TEXT NOT NULL
)
""",
    "CREATE INDEX transactions_by_spending ON transactions (spending)",
)
STEPS: Sequence[Step] = (_FIRST, _BOUND)


class SpendingState(StrEnum):
    """How far a spending got."""

    RESERVED = "reserved"
    ASKED = "asked"
    RELEASED = "released"
    BURNT = "burnt"
    CLOSED = "closed"


metadata = MetaData()

binding = Table(
    "binding",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("deployment", Text, nullable=False),
)

keys = Table(
    "keys",
    metadata,
    Column("name", Text, primary_key=True),
    Column("hash", Hex, nullable=False),
    Column("per_day", Wei, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("revoked_at", Float),
)

spendings = Table(
    "spendings",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("deployment", Text, nullable=False),
    Column("holder", Text, nullable=False),
    Column("state", Valued(SpendingState), nullable=False),
    Column("amount", Wei, nullable=False),
    Column("fee", Wei, nullable=False),
    Column("at", Float, nullable=False),
    Column("due", Float, nullable=False),
    Column("model_id", Integer, nullable=False),
    Column("image_cid", CidText, nullable=False),
    Column("deadline", Integer, nullable=False),
    Column("idempotency", Hex),
    Column("request_id", Hex),
    Column("transaction_hash", Hex),
)

transactions = Table(
    "transactions",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("spending", Integer, nullable=False),
    Column("hash", Hex, nullable=False),
    Column("nonce", Integer, nullable=False),
    Column("raw", Hex, nullable=False),
)

__all__ = ["STEPS", "SpendingState", "binding", "keys", "metadata", "spendings", "transactions"]
