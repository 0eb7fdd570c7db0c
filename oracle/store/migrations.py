"""The history of the schema: step ``n`` takes a file from ``PRAGMA user_version`` n to n + 1.

A released step is never edited; a change of the schema is a new step at the end. A migration library such as alembic
was weighed and left out: one file, one writer and an ordered list need no branches, autogeneration or version table.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

APPLICATION_ID = 0x5349424C
"""``PRAGMA application_id`` of a Sibyl database: "SIBL" in ASCII."""

Step = tuple[str, ...]

_INITIAL: Step = (
    """
CREATE TABLE binding (
    -- The deployment this file belongs to; one row.
    id INTEGER PRIMARY KEY CHECK (id = 1),
    chain_id INTEGER NOT NULL,
    coordinator TEXT NOT NULL,
    genesis TEXT NOT NULL
)
""",
    """
CREATE TABLE checkpoint (
    -- The last block scanned; one row.
    id INTEGER PRIMARY KEY CHECK (id = 1),
    number INTEGER NOT NULL,
    hash TEXT NOT NULL,
    timestamp INTEGER NOT NULL
)
""",
    """
CREATE TABLE blocks (
    -- Blocks scanned lately, for walking back to a fork.
    number INTEGER PRIMARY KEY,
    hash TEXT NOT NULL,
    timestamp INTEGER NOT NULL
)
""",
    """
CREATE TABLE requests (
    request_id TEXT NOT NULL PRIMARY KEY,
    -- The queue. Legal moves (one to itself notes a retry):
    --   seen      -> confirmed | orphaned | fulfilled | rejected | refunded
    --   orphaned  -> seen
    --   confirmed -> confirmed | ready | failed | expired | orphaned | fulfilled | rejected | refunded
    --   ready     -> confirmed | computing | failed | expired | orphaned | fulfilled | rejected | refunded
    --   computing -> computed | ready | failed | expired | orphaned | fulfilled | rejected | refunded
    --   computed  -> computed | posting | expired | orphaned | fulfilled | rejected | refunded
    --   failed    -> failed | posting | expired | orphaned | fulfilled | rejected | refunded
    --   posting   -> computed | failed | expired | orphaned | fulfilled | rejected | refunded
    --   fulfilled -> orphaned | seen | computed | failed | posting
    --   rejected  -> orphaned | seen | computed | failed | posting
    --   expired   -> orphaned | fulfilled | rejected | refunded
    --   refunded  -> orphaned | seen | computed | failed | posting | expired
    status TEXT NOT NULL CHECK (status IN (
        'seen', 'orphaned', 'confirmed', 'ready', 'computing', 'computed', 'failed', 'posting',
        'fulfilled', 'rejected', 'expired', 'refunded'
    )),
    -- What was asked, as the log says it. payment is wei in decimal; deadline is Unix seconds.
    model_id INTEGER NOT NULL,
    requester TEXT NOT NULL,
    image_cid TEXT NOT NULL,
    payment TEXT NOT NULL,
    callback_gas INTEGER NOT NULL,
    deadline INTEGER NOT NULL,
    nonce INTEGER NOT NULL,
    -- Where the log stands.
    block INTEGER NOT NULL,
    block_hash TEXT NOT NULL,
    transaction_hash TEXT NOT NULL,
    log_index INTEGER NOT NULL,
    -- Retries of the present stage; no work before not_before (Unix seconds).
    attempts INTEGER NOT NULL DEFAULT 0,
    not_before REAL NOT NULL DEFAULT 0,
    -- What intake learnt.
    image_format TEXT,
    image_width INTEGER,
    image_height INTEGER,
    image_size INTEGER,
    -- What compute gave: an answer or a failure, never both. What the chain holds in the end is in settlements.
    batch TEXT REFERENCES batches (key),
    provider TEXT NOT NULL DEFAULT '',
    result_cid TEXT,
    answer TEXT NOT NULL DEFAULT '0x',
    failure TEXT NOT NULL DEFAULT 'none',
    detail TEXT NOT NULL DEFAULT '',
    -- The newest report that carries it while it is posting.
    report TEXT REFERENCES reports (transaction_hash),
    CONSTRAINT computed_holds_a_result CHECK (status <> 'computed' OR result_cid IS NOT NULL),
    CONSTRAINT failed_holds_a_reason CHECK (status <> 'failed' OR failure <> 'none'),
    CONSTRAINT posting_holds_either CHECK (status <> 'posting' OR result_cid IS NOT NULL OR failure <> 'none'),
    CONSTRAINT answer_or_failure CHECK (result_cid IS NULL OR failure = 'none')
)
""",
    # The queue in the order it is served; not_before is in it so that waiting requests are passed over cheaply.
    "CREATE INDEX requests_queue ON requests (status, deadline, block, log_index, not_before)",
    "CREATE INDEX requests_seen ON requests (block) WHERE status = 'seen'",
    "CREATE INDEX requests_by_block ON requests (block, log_index)",
    "CREATE INDEX requests_needing_image ON requests (image_cid) WHERE status IN ('confirmed', 'ready', 'computing')",
    """
CREATE TABLE moves (
    -- Every move of every request: the timeline. from_status is NULL for the first; equal statuses note a retry.
    id INTEGER PRIMARY KEY,
    request_id TEXT NOT NULL REFERENCES requests (request_id),
    from_status TEXT,
    to_status TEXT NOT NULL,
    at REAL NOT NULL,
    detail TEXT NOT NULL
)
""",
    "CREATE INDEX moves_by_request ON moves (request_id, to_status, at)",
    """
CREATE TABLE settlements (
    -- How the chain ended a request, whoever posted it. Not tied to requests: one made before the first scanned block
    -- may be settled later. log_index is NULL when only a skipped item of a report of ours told us.
    request_id TEXT NOT NULL PRIMARY KEY,
    status TEXT NOT NULL CHECK (status IN ('fulfilled', 'rejected', 'refunded')),
    block INTEGER NOT NULL,
    block_hash TEXT NOT NULL,
    transaction_hash TEXT NOT NULL,
    log_index INTEGER,
    reason TEXT NOT NULL,
    result_cid TEXT,
    answer TEXT NOT NULL
)
""",
    "CREATE INDEX settlements_by_block ON settlements (block)",
    """
CREATE TABLE batches (
    key TEXT NOT NULL PRIMARY KEY,
    opened_at REAL NOT NULL,
    members INTEGER NOT NULL
)
""",
    """
CREATE TABLE reports (
    -- Signed transactions of ours. Several may share a nonce; at most one of them is mined.
    --   open      -> mined | reverted | replaced | abandoned
    --   mined, reverted, replaced -> open, when a reorg takes the receipt away
    seq INTEGER PRIMARY KEY,
    transaction_hash TEXT NOT NULL UNIQUE,
    status TEXT NOT NULL CHECK (status IN ('open', 'mined', 'reverted', 'replaced', 'abandoned')),
    nonce INTEGER NOT NULL,
    raw TEXT NOT NULL,
    max_fee TEXT NOT NULL,
    max_priority_fee TEXT NOT NULL,
    gas_limit INTEGER NOT NULL,
    replaces TEXT REFERENCES reports (transaction_hash),
    saved_at REAL NOT NULL,
    broadcast_at REAL,
    closed_at REAL,
    block INTEGER,
    gas_used INTEGER,
    gas_price TEXT,
    detail TEXT NOT NULL DEFAULT ''
)
""",
    "CREATE INDEX reports_by_nonce ON reports (nonce)",
    "CREATE INDEX reports_open ON reports (nonce, seq) WHERE status = 'open'",
    "CREATE INDEX reports_by_block ON reports (block) WHERE block IS NOT NULL",
    """
CREATE TABLE report_items (
    report TEXT NOT NULL REFERENCES reports (transaction_hash),
    position INTEGER NOT NULL,
    request_id TEXT NOT NULL REFERENCES requests (request_id),
    PRIMARY KEY (report, position)
) WITHOUT ROWID
""",
    "CREATE INDEX report_items_by_request ON report_items (request_id, report)",
)

# A request can be cancelled, and says when it was made. SQLite changes no CHECK in place, so both tables are made anew.
_CANCELLED: Step = (
    """
CREATE TABLE requests_2 (
    request_id TEXT NOT NULL PRIMARY KEY,
    -- The queue. Legal moves (one to itself notes a retry):
    --   seen      -> confirmed | orphaned | fulfilled | rejected | refunded | cancelled
    --   orphaned  -> seen
    --   confirmed -> confirmed | ready | failed | expired | orphaned | fulfilled | rejected | refunded | cancelled
    --   ready     -> confirmed | computing | failed | expired | orphaned | fulfilled | rejected | refunded | cancelled
    --   computing -> computed | ready | failed | expired | orphaned | fulfilled | rejected | refunded | cancelled
    --   computed  -> computed | posting | expired | orphaned | fulfilled | rejected | refunded | cancelled
    --   failed    -> failed | posting | expired | orphaned | fulfilled | rejected | refunded | cancelled
    --   posting   -> computed | failed | expired | orphaned | fulfilled | rejected | refunded | cancelled
    --   fulfilled -> orphaned | seen | computed | failed | posting
    --   rejected  -> orphaned | seen | computed | failed | posting
    --   expired   -> orphaned | fulfilled | rejected | refunded | cancelled
    --   refunded  -> orphaned | seen | computed | failed | posting | expired
    --   cancelled -> orphaned | seen | computed | failed | posting
    status TEXT NOT NULL CHECK (status IN (
        'seen', 'orphaned', 'confirmed', 'ready', 'computing', 'computed', 'failed', 'posting',
        'fulfilled', 'rejected', 'expired', 'refunded', 'cancelled'
    )),
    -- What was asked, as the log and its block say it. payment is in decimal, in wei or the smallest part of the
    -- model's token; deadline and created_at are Unix seconds.
    model_id INTEGER NOT NULL,
    requester TEXT NOT NULL,
    image_cid TEXT NOT NULL,
    payment TEXT NOT NULL,
    callback_gas INTEGER NOT NULL,
    deadline INTEGER NOT NULL,
    nonce INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    -- Where the log stands.
    block INTEGER NOT NULL,
    block_hash TEXT NOT NULL,
    transaction_hash TEXT NOT NULL,
    log_index INTEGER NOT NULL,
    -- Retries of the present stage; no work before not_before (Unix seconds), at first the end of the cancel window.
    attempts INTEGER NOT NULL DEFAULT 0,
    not_before REAL NOT NULL DEFAULT 0,
    -- What intake learnt.
    image_format TEXT,
    image_width INTEGER,
    image_height INTEGER,
    image_size INTEGER,
    -- What compute gave: an answer or a failure, never both. What the chain holds in the end is in settlements.
    batch TEXT REFERENCES batches (key),
    provider TEXT NOT NULL DEFAULT '',
    result_cid TEXT,
    answer TEXT NOT NULL DEFAULT '0x',
    failure TEXT NOT NULL DEFAULT 'none',
    detail TEXT NOT NULL DEFAULT '',
    -- The newest report that carries it while it is posting.
    report TEXT REFERENCES reports (transaction_hash),
    CONSTRAINT computed_holds_a_result CHECK (status <> 'computed' OR result_cid IS NOT NULL),
    CONSTRAINT failed_holds_a_reason CHECK (status <> 'failed' OR failure <> 'none'),
    CONSTRAINT posting_holds_either CHECK (status <> 'posting' OR result_cid IS NOT NULL OR failure <> 'none'),
    CONSTRAINT answer_or_failure CHECK (result_cid IS NULL OR failure = 'none')
)
""",
    """
INSERT INTO requests_2 (
    request_id, status, model_id, requester, image_cid, payment, callback_gas, deadline, nonce, created_at,
    block, block_hash, transaction_hash, log_index, attempts, not_before, image_format, image_width, image_height,
    image_size, batch, provider, result_cid, answer, failure, detail, report
)
SELECT
    request_id, status, model_id, requester, image_cid, payment, callback_gas, deadline, nonce,
    coalesce((SELECT timestamp FROM blocks WHERE blocks.number = requests.block), 0),
    block, block_hash, transaction_hash, log_index, attempts, not_before, image_format, image_width, image_height,
    image_size, batch, provider, result_cid, answer, failure, detail, report
FROM requests
""",
    "DROP TABLE requests",
    "ALTER TABLE requests_2 RENAME TO requests",
    "CREATE INDEX requests_queue ON requests (status, deadline, block, log_index, not_before)",
    "CREATE INDEX requests_seen ON requests (block) WHERE status = 'seen'",
    "CREATE INDEX requests_by_block ON requests (block, log_index)",
    "CREATE INDEX requests_needing_image ON requests (image_cid) WHERE status IN ('confirmed', 'ready', 'computing')",
    """
CREATE TABLE settlements_2 (
    -- How the chain ended a request, whoever posted it. Not tied to requests: one made before the first scanned block
    -- may be settled later. log_index is NULL when only a skipped item of a report of ours told us.
    request_id TEXT NOT NULL PRIMARY KEY,
    status TEXT NOT NULL CHECK (status IN ('fulfilled', 'rejected', 'refunded', 'cancelled')),
    block INTEGER NOT NULL,
    block_hash TEXT NOT NULL,
    transaction_hash TEXT NOT NULL,
    log_index INTEGER,
    reason TEXT NOT NULL,
    result_cid TEXT,
    answer TEXT NOT NULL
)
""",
    "INSERT INTO settlements_2 SELECT * FROM settlements",
    "DROP TABLE settlements",
    "ALTER TABLE settlements_2 RENAME TO settlements",
    "CREATE INDEX settlements_by_block ON settlements (block)",
)

_MARKET: Step = (
    """
CREATE TABLE providers (
    -- Who sells computing, what was offered last, and how it behaved. Prices in GLM as decimal text.
    node_id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    price_start TEXT NOT NULL,
    price_second TEXT NOT NULL,
    price_cpu_second TEXT NOT NULL,
    threads INTEGER NOT NULL,
    first_seen REAL NOT NULL,
    last_seen REAL NOT NULL,
    images_per_second REAL NOT NULL,
    load_seconds REAL NOT NULL,
    avx BOOLEAN CHECK (avx IN (0, 1)),
    -- Tasks, as of judged_at; they count for half after a week.
    good REAL NOT NULL,
    failed REAL NOT NULL,
    lied REAL NOT NULL,
    judged_at REAL NOT NULL,
    blocked_until REAL NOT NULL,
    standing TEXT NOT NULL CHECK (standing IN ('', 'trusted', 'banned')),
    detail TEXT NOT NULL
)
""",
    """
CREATE TABLE agreements (
    -- What was agreed, and from when to when we had an activity there: the bound of what may be billed.
    agreement_id TEXT NOT NULL PRIMARY KEY,
    node_id TEXT NOT NULL,
    price_start TEXT NOT NULL,
    price_second TEXT NOT NULL,
    price_cpu_second TEXT NOT NULL,
    threads INTEGER NOT NULL,
    opened_at REAL NOT NULL,
    expires_at REAL NOT NULL,
    closed_at REAL,
    refused TEXT NOT NULL
)
""",
    "CREATE INDEX agreements_open ON agreements (opened_at) WHERE closed_at IS NULL",
    """
CREATE TABLE documents (
    -- Invoices and debit notes with what was decided. A debit note's amount is cumulative.
    document_id TEXT NOT NULL PRIMARY KEY,
    kind TEXT NOT NULL CHECK (kind IN ('invoice', 'debit_note')),
    agreement_id TEXT NOT NULL,
    amount TEXT NOT NULL,
    decision TEXT NOT NULL CHECK (decision IN ('accepted', 'refused', 'deferred')),
    decided_at REAL NOT NULL,
    reason TEXT NOT NULL,
    settled BOOLEAN NOT NULL CHECK (settled IN (0, 1))
)
""",
    "CREATE INDEX documents_by_agreement ON documents (agreement_id)",
    "CREATE INDEX documents_by_time ON documents (decided_at)",
    """
CREATE TABLE work (
    -- Tasks at providers. cost is the most that the task's time can cost, in the smallest part of GLM.
    id INTEGER PRIMARY KEY,
    task TEXT NOT NULL,
    model TEXT NOT NULL,
    agreement_id TEXT NOT NULL,
    node_id TEXT NOT NULL,
    inputs INTEGER NOT NULL,
    started REAL NOT NULL,
    finished REAL NOT NULL,
    cost TEXT NOT NULL,
    verdict TEXT NOT NULL CHECK (verdict IN ('good', 'failed', 'lied')),
    UNIQUE (task, agreement_id)
)
""",
    "CREATE INDEX work_by_agreement ON work (agreement_id)",
    """
CREATE TABLE known_answers (
    -- Pictures that were answered alike by several providers; some are asked again among others.
    model TEXT NOT NULL,
    image_cid TEXT NOT NULL,
    size INTEGER NOT NULL,
    labels TEXT NOT NULL,
    learnt_at REAL NOT NULL,
    PRIMARY KEY (model, image_cid)
)
""",
)

_OUTCOMES: Step = (
    # An answer may be segments now, not only labels. What was known is learnt again.
    "DELETE FROM known_answers",
    "ALTER TABLE known_answers RENAME COLUMN labels TO outcome",
)

# What people ask the API for: an account's history, a model's latest answers, a span of time.
_READING: Step = (
    "CREATE INDEX requests_by_requester ON requests (requester, block, log_index)",
    "CREATE INDEX requests_by_model ON requests (model_id, block, log_index)",
    "CREATE INDEX requests_by_time ON requests (created_at, status)",
    "CREATE INDEX moves_fulfilled ON moves (at, request_id) WHERE to_status = 'fulfilled'",
)

# A page of requests in a status is read in its order, rather than all of them sorted for each page.
_BY_STATUS: Step = ("CREATE INDEX requests_by_status ON requests (status, block, log_index, request_id)",)

MIGRATIONS: Sequence[Step] = (_INITIAL, _CANCELLED, _MARKET, _OUTCOMES, _READING, _BY_STATUS)


def version_of(connection: sqlite3.Connection) -> int:
    """The schema version of a file; 0 for an empty one. Raises sqlite3.DatabaseError when it is no database."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def migrate(connection: sqlite3.Connection, steps: Sequence[Step]) -> None:
    """Apply the steps that the file lacks, each in a transaction of its own, so that a kill leaves a whole version.

    The connection must be in autocommit mode. Raises sqlite3.DatabaseError; the failed step leaves no trace.
    """
    (enforced,) = connection.execute("PRAGMA foreign_keys").fetchone()
    for target in range(version_of(connection) + 1, len(steps) + 1):
        # Else a table that others refer to could not be dropped and made anew.
        connection.execute("PRAGMA foreign_keys = OFF")
        connection.execute("BEGIN IMMEDIATE")
        try:
            # Another process that opened the file at the same moment may have been first.
            for statement in steps[target - 1] if version_of(connection) < target else ():
                connection.execute(statement)
            if connection.execute("PRAGMA foreign_key_check").fetchone() is not None:
                raise sqlite3.IntegrityError(f"step {target} leaves a row that refers to nothing")
            connection.execute(f"PRAGMA user_version = {max(target, version_of(connection))}")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        finally:
            connection.execute(f"PRAGMA foreign_keys = {enforced}")
