"""``ports.ProviderLedger`` on the store's database: providers, agreements, documents, work and known answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection, Row, Table, delete, select
from sqlalchemy.dialects.sqlite import insert

from oracle.domain import ItemResult, LabelScore, SegmentScore
from oracle.market import Agreement, Decision, Document, DocumentKind, KnownAnswer, Price, Provider, Work
from oracle.store.tables import agreements, documents, known_answers, providers, work

T = TypeVar("T")

_OUTCOME = ("labels", "size", "segments", "found", "familiarity")


class _Transactions(Protocol):
    async def __call__(self, work: Callable[[Connection], T]) -> T: ...


def read_providers(connection: Connection) -> list[Provider]:
    """Every provider ever seen, the last seen first."""
    query = select(providers).order_by(providers.c.last_seen.desc(), providers.c.node_id)
    return [_provider(row) for row in connection.execute(query)]


class SqliteLedger:
    """The ledger in a store's file; ``read`` and ``write`` are the store's transactions."""

    def __init__(self, read: _Transactions, write: _Transactions) -> None:
        self._read, self._write = read, write

    async def providers(self) -> Sequence[Provider]:
        """Every provider ever seen, the last seen first."""
        return await self._read(read_providers)

    async def save_providers(self, providers_: Sequence[Provider]) -> None:
        """Write providers down."""
        rows = [_priced(provider) for provider in providers_]
        await self._write(lambda connection: _upsert(connection, providers, rows))

    async def agreement(self, agreement_id: str) -> Agreement | None:
        """One agreement."""
        query = select(agreements).where(agreements.c.agreement_id == agreement_id)
        row = await self._read(lambda connection: connection.execute(query).one_or_none())
        return None if row is None else _agreement(row)

    async def open_agreements(self) -> Sequence[Agreement]:
        """Agreements that were not closed, by this run or by an earlier one."""
        query = select(agreements).where(agreements.c.closed_at.is_(None)).order_by(agreements.c.opened_at)
        return await self._read(lambda connection: [_agreement(row) for row in connection.execute(query)])

    async def unbilled_agreements(self, since: float) -> Sequence[Agreement]:
        """Agreements that ended after ``since`` and whose invoice was neither accepted nor refused yet."""
        decided = select(documents.c.agreement_id).where(
            documents.c.kind == DocumentKind.INVOICE, documents.c.decision != Decision.DEFERRED
        )
        query = select(agreements).where(
            agreements.c.closed_at > since, agreements.c.refused == "", agreements.c.agreement_id.not_in(decided)
        )
        return await self._read(lambda connection: [_agreement(row) for row in connection.execute(query)])

    async def save_agreement(self, agreement: Agreement) -> None:
        """Write an agreement down."""
        await self._write(lambda connection: _upsert(connection, agreements, [_priced(agreement)]))

    async def document(self, document_id: str) -> Document | None:
        """One invoice or debit note."""
        query = select(documents).where(documents.c.document_id == document_id)
        row = await self._read(lambda connection: connection.execute(query).one_or_none())
        return None if row is None else Document(**row._mapping)

    async def documents(
        self, *, agreement_id: str | None = None, decision: Decision | None = None, unsettled: bool = False
    ) -> Sequence[Document]:
        """Documents of an agreement, with a decision, or accepted and not yet settled; the oldest first."""
        query = select(documents).order_by(documents.c.decided_at)
        if agreement_id is not None:
            query = query.where(documents.c.agreement_id == agreement_id)
        if decision is not None:
            query = query.where(documents.c.decision == decision)
        if unsettled:
            query = query.where(documents.c.decision == Decision.ACCEPTED, documents.c.settled.is_(False))
        return await self._read(lambda connection: [Document(**row._mapping) for row in connection.execute(query)])

    async def save_document(self, document: Document) -> None:
        """Write a document and its decision down."""
        await self._write(lambda connection: _upsert(connection, documents, [asdict(document)]))

    async def spent(self, since: float) -> int:
        """What was accepted from ``since`` on; of an agreement's cumulative documents the largest counts."""
        accepted = documents.c.decision == Decision.ACCEPTED
        recent = select(documents.c.agreement_id).where(accepted, documents.c.decided_at >= since)
        query = select(documents.c.agreement_id, documents.c.amount, documents.c.decided_at).where(
            accepted, documents.c.agreement_id.in_(recent)
        )
        rows = await self._read(lambda connection: connection.execute(query).all())
        now: dict[str, int] = {}
        before: dict[str, int] = {}
        for row in rows:
            at = now if row.decided_at >= since else before
            at[row.agreement_id] = max(at.get(row.agreement_id, 0), row.amount)
        return sum(max(0, amount - before.get(agreement, 0)) for agreement, amount in now.items())

    async def save_work(self, done: Work) -> None:
        """Write down what a task came to; a later verdict on it replaces the earlier one."""
        row = asdict(done)
        statement = insert(work).values(row)
        update = statement.on_conflict_do_update(index_elements=["task", "agreement_id"], set_=row)
        await self._write(lambda connection: connection.execute(update))

    async def known_answers(self, model: str) -> Sequence[KnownAnswer]:
        """Pictures with known answers for a manifest's CID, the newest first."""
        query = select(known_answers).where(known_answers.c.model == model).order_by(known_answers.c.learnt_at.desc())
        return await self._read(lambda connection: [_known(row) for row in connection.execute(query)])

    async def forget_known_answer(self, model: str, image_cid: str) -> None:
        """Forget one that turned out to be wrong."""
        statement = delete(known_answers).where(known_answers.c.model == model, known_answers.c.image_cid == image_cid)
        await self._write(lambda connection: connection.execute(statement))

    async def save_known_answer(self, answer: KnownAnswer, *, keep: int) -> Sequence[str]:
        """Remember one, and forget the oldest beyond ``keep`` of its model; the CIDs of the pictures forgotten."""
        row = {name: getattr(answer, name) for name in answer.__slots__} | {"outcome": _outcome_text(answer.outcome)}

        def save(connection: Connection) -> list[str]:
            _upsert(connection, known_answers, [row])
            mine = known_answers.c.model == answer.model
            old = select(known_answers.c.image_cid).where(mine).order_by(known_answers.c.learnt_at.desc()).offset(keep)
            forgotten = list(connection.execute(old).scalars())
            connection.execute(delete(known_answers).where(mine, known_answers.c.image_cid.in_(forgotten)))
            needed = select(known_answers.c.image_cid).where(known_answers.c.image_cid.in_(forgotten))
            return sorted(set(forgotten) - set(connection.execute(needed).scalars()))

        return await self._write(save)


def _upsert(connection: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> None:
    for row in rows:
        statement = insert(table).values(row)
        keys = [column.name for column in table.primary_key]
        connection.execute(statement.on_conflict_do_update(index_elements=keys, set_=row))


def _priced(record: Provider | Agreement) -> dict[str, Any]:
    row = {name: getattr(record, name) for name in record.__slots__ if name != "price"}
    price = record.price
    return row | {
        "price_start": price.start,
        "price_second": price.second,
        "price_cpu_second": price.cpu_second,
    }


def _unpriced(row: Row[Any]) -> dict[str, Any]:
    values = dict(row._mapping)
    price = Price(values.pop("price_start"), values.pop("price_second"), values.pop("price_cpu_second"))
    return values | {"price": price}


def _provider(row: Row[Any]) -> Provider:
    return Provider(**_unpriced(row))


def _agreement(row: Row[Any]) -> Agreement:
    return Agreement(**_unpriced(row))


def _known(row: Row[Any]) -> KnownAnswer:
    return KnownAnswer(row.model, row.image_cid, row.size, _outcome(row.outcome), row.learnt_at)


def _outcome_text(item: ItemResult) -> str:
    values = asdict(item)
    return json.dumps({name: values[name] for name in _OUTCOME})


def _outcome(text: str) -> ItemResult:
    body = json.loads(text)
    return ItemResult(
        request_id=b"",
        labels=tuple(LabelScore(**score) for score in body["labels"]),
        size=tuple(body["size"]) if body["size"] else None,
        segments=tuple(SegmentScore(**(one | {"box": tuple(one["box"])})) for one in body["segments"]),
        found=body["found"],
        familiarity=body["familiarity"],
    )
