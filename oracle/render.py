"""How the command line shows money, answers and tables. Text from outside is never printed as it came."""

from __future__ import annotations

import sys
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from oracle.client import Outcome
    from oracle.devnet.demo import Line


def plain(text: object) -> str:
    """Text of unknown origin for a terminal: what is not printable (control and bidirectional marks) is escaped."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in str(text)
    )


def ether(wei: int) -> str:
    """An amount of wei in ether, never in scientific notation."""
    from eth_utils.currency import from_wei

    return f"{from_wei(wei, 'ether'):f} ETH"


def wei(text: str) -> int:
    """An amount of ether as a person types it, in wei. Raises typer.BadParameter."""
    try:
        amount = Decimal(text) * 10**18
    except InvalidOperation:
        raise typer.BadParameter("--max-price is a number of ether, such as 0.01") from None
    if not amount.is_finite() or not 0 <= amount < 2**128:
        raise typer.BadParameter("--max-price is a number of ether, such as 0.01")
    return int(amount)


def outcome_facts(outcome: Outcome) -> dict[str, Any]:
    """How a request ended, as JSON-ready values."""
    settled = outcome.settled
    facts: dict[str, Any] = {"state": settled.status.name.lower()}
    if outcome.document is not None and settled.result_cid is not None:
        facts |= {"result": settled.result_cid.text, "labels": outcome.document["labels"], "verified": True}
    elif settled.reason:
        facts |= {"reason": settled.reason.name.lower(), "detail": settled.reason.text}
    return facts


def show(outcome: Outcome) -> None:
    """Print how a request ended: bars for an answer, the reason for a failure."""
    settled = outcome.settled
    if outcome.document is None:
        why = settled.reason.text if settled.reason else "the deadline passed unanswered"
        typer.echo(f"  {settled.status.name.lower()}: {why}. The money went back.")
        return
    for score in outcome.document["labels"]:
        bar = "█" * max(1, round(score["probability"] * 30))
        typer.echo(f"  {plain(score['label']):>12}  {score['probability']:7.2%}  {bar}")
    typer.echo(f"  result    {settled.result_cid} (these bytes hash to the CID on the chain)")


def table(lines: list[Line]) -> None:
    """Print the demo's table."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from oracle.telemetry import short

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name, justify in (
        ("request", "left"), ("asked about", "left"), ("model", "left"), ("answer", "left"), ("confidence", "right"),
        ("result CID", "left"), ("gas asked", "right"), ("gas answered", "right"), ("seconds", "right"),
    ):  # fmt: skip
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    for line in lines:
        mark = {True: "✓ ", False: "✗ ", None: ""}[line.verified]
        table.add_row(
            short(line.request_id),
            line.what,
            line.model,
            escape(plain(f"{mark}{line.answer}" if line.answer else line.state)),
            "" if line.confidence is None else f"{line.confidence:.2%}",
            short(line.result_cid) if line.result_cid else "",
            f"{line.gas_request:,}",
            f"{line.gas_report:,}" if line.gas_report else "",
            f"{line.seconds:.2f}",
        )
    width = None if sys.stdout.isatty() else 170
    Console(width=width).print(table)
