"""The oracle's books as its database tells them: what requests earned, what reports and providers cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, select

from oracle.domain import RequestStatus
from oracle.market import Decision
from oracle.store.tables import documents, report_items, reports, requests, work


@dataclass(frozen=True, slots=True)
class ModelBooks:
    """One model's requests that we answered: each payment, and the wei that their share of the reports cost."""

    model_id: int
    payments: tuple[int, ...]
    gas: int


@dataclass(frozen=True, slots=True)
class ProviderBooks:
    """What providers' accepted documents came to (10^-18 GLM), in all, unsettled, and by manifest's CID.

    ``by_model`` holds the inputs computed and the amount; what was paid for no task of any model is under "".
    """

    accepted: int
    owed: int
    by_model: dict[str, tuple[int, int]]


def model_books(connection: Connection) -> Sequence[ModelBooks]:
    """Income and gas by model. A report's gas is shared out evenly among the requests that it carried."""
    mined = (
        select(reports.c.transaction_hash, reports.c.gas_used, reports.c.gas_price)
        .where(reports.c.status.in_(("mined", "reverted")))
        .order_by(reports.c.seq)
    )
    carried: dict[bytes, list[int]] = {}
    items = (
        select(report_items.c.report, requests.c.model_id)
        .join(requests, requests.c.request_id == report_items.c.request_id)
        .order_by(report_items.c.report, report_items.c.position)
    )
    for row in connection.execute(items):
        carried.setdefault(row.report, []).append(row.model_id)
    gas: dict[int, int] = {}
    for report in connection.execute(mined):
        models = carried.get(report.transaction_hash, [])
        cost = (report.gas_used or 0) * (report.gas_price or 0)
        for place, model_id in enumerate(models):
            # The first ones take what rounding left, so that nothing is lost.
            part = cost // len(models) + (place < cost % len(models))
            gas[model_id] = gas.get(model_id, 0) + part
    payments: dict[int, list[int]] = {}
    answered = select(requests.c.model_id, requests.c.payment).where(requests.c.status == RequestStatus.FULFILLED)
    for request in connection.execute(answered):
        payments.setdefault(request.model_id, []).append(request.payment)
    return [
        ModelBooks(model_id, tuple(payments.get(model_id, ())), gas.get(model_id, 0))
        for model_id in sorted(payments.keys() | gas.keys())
    ]


def provider_books(connection: Connection) -> ProviderBooks:
    """What providers got and will get. A document is cumulative, so of an agreement's the largest counts.

    What was accepted for an agreement is shared out among its tasks by what each may have cost.
    """
    accepted: dict[str, int] = {}
    settled: dict[str, int] = {}
    query = select(documents.c.agreement_id, documents.c.amount, documents.c.settled).where(
        documents.c.decision == Decision.ACCEPTED
    )
    for row in connection.execute(query):
        accepted[row.agreement_id] = max(accepted.get(row.agreement_id, 0), row.amount)
        if row.settled:
            settled[row.agreement_id] = max(settled.get(row.agreement_id, 0), row.amount)
    tasks: dict[str, list[tuple[str, int, int]]] = {}
    for done in connection.execute(select(work.c.model, work.c.agreement_id, work.c.cost, work.c.inputs)):
        tasks.setdefault(done.agreement_id, []).append((done.model, done.cost, done.inputs))
    by_model: dict[str, tuple[int, int]] = {}
    for agreement, amount in accepted.items():
        shares = tasks.get(agreement, []) or [("", 1, 0)]
        whole = sum(cost for _, cost, _ in shares) or 1
        left = amount
        for place, (model, cost, inputs) in enumerate(shares):
            part = left if place == len(shares) - 1 else amount * cost // whole
            left -= part
            known_inputs, known_amount = by_model.get(model, (0, 0))
            by_model[model] = (known_inputs + inputs, known_amount + part)
    total = sum(accepted.values())
    return ProviderBooks(total, total - sum(settled.values()), by_model)
