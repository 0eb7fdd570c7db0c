"""How the command line shows money, answers and tables. Text from outside is never printed as it came."""

from __future__ import annotations

import sys
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from oracle.client import Outcome
    from oracle.devnet.demo import Line


DEFAULT_LIMIT = "0.01"  # ether


def plain(text: object) -> str:
    """Text of unknown origin for a terminal: what is not printable (control and bidirectional marks) is escaped."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in str(text)
    )


def money(amount: int, token: str | None = None) -> str:
    """Wei in ether, never in scientific notation, or the smallest parts of a token."""
    from oracle.chain import account

    return account.money(amount, token)


def amount(name: str, value: int, token: str | None) -> dict[str, Any]:
    """An amount under its name, JSON-ready: in wei, or in smallest parts of the token beside it."""
    return {f"{name}_wei": value} if token is None else {name: value, "token": token}


def wei(text: str) -> int:
    """An amount of ether as a person types it, in wei. Raises typer.BadParameter."""
    try:
        amount = Decimal(text) * 10**18
    except InvalidOperation:
        raise typer.BadParameter(f"{plain(text)} is not a number of ether, such as 0.01") from None
    if not amount.is_finite() or not 0 <= amount < 2**128:
        raise typer.BadParameter(f"{plain(text)} is not a number of ether, such as 0.01")
    return int(amount)


def limit(text: str | None, token: str | None) -> int:
    """The most that a picture may cost, as a person types it: in ether, or in smallest parts of a token.

    Raises typer.BadParameter; a token has no limit that suits everyone.
    """
    if token is None:
        return wei(DEFAULT_LIMIT if text is None else text)
    if text is None or not (text.isascii() and text.isdigit()):
        raise typer.BadParameter(f"the model is priced in the token {token}: give --max-price in its smallest part")
    return int(text)


def address(text: str) -> str:
    """A checksum address from what a person types. Raises typer.BadParameter."""
    from eth_utils.address import is_address, to_checksum_address

    if not is_address(text):
        raise typer.BadParameter(f"{plain(text)} is not an address: 0x and 40 hex digits")
    return str(to_checksum_address(text))


_WITHOUT_REASON = {"REFUNDED": "the deadline passed unanswered", "CANCELLED": "its requester took it back"}


_SHOWN = ("labels", "segments", "found", "familiarity", "files")


def outcome_facts(outcome: Outcome) -> dict[str, Any]:
    """How a request ended, as JSON-ready values."""
    settled = outcome.settled
    facts: dict[str, Any] = {"state": settled.status.name.lower()}
    if outcome.document is not None and settled.result_cid is not None:
        shown = {key: outcome.document[key] for key in _SHOWN if key in outcome.document}
        facts |= {"result": settled.result_cid.text, **shown, "verified": True}
    elif settled.reason:
        facts |= {"reason": settled.reason.name.lower(), "detail": settled.reason.text}
    return facts


def show(outcome: Outcome) -> None:
    """Print how a request ended: bars for an answer, the reason for a failure."""
    settled = outcome.settled
    if outcome.document is None:
        why = settled.reason.text if settled.reason else _WITHOUT_REASON[settled.status.name]
        typer.echo(f"  {settled.status.name.lower()}: {why}. The money went back.")
        return
    for score in outcome.document.get("labels", ()):
        _bar(score["label"], score["probability"])
    for one in outcome.document.get("segments", ()):
        x, y, width, height = (round(edge) for edge in one["bbox"])
        _bar(one["label"], one["score"], f"  {width} x {height} pixels at {x}, {y}")
    if outcome.document.get("segments") == []:
        typer.echo("  nothing was found")
    if "familiarity" in outcome.document:
        typer.echo(
            f"  familiar  {outcome.document['familiarity']:.0%} (so many of the known pictures are less typical)"
        )
    typer.echo(f"  result    {settled.result_cid} (these bytes hash to the CID on the chain)")


def _bar(label: str, share: float, more: str = "") -> None:
    bar = "█" * max(1, round(share * 30))
    typer.echo(f"  {plain(label):>12}  {share:7.2%}  {bar}{more}")


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
    width = None if sys.stdout.isatty() else 190
    Console(width=width).print(table)


def providers(listed: list[dict[str, Any]]) -> None:
    """Providers, a line each."""
    if not listed:
        typer.echo("No provider was seen yet.")
        return
    typer.echo(f"{'provider':14} {'node':13} {'GLM a second':>13} {'images/s':>9} {'reputation':>10}  state")
    for one in listed:
        price = Decimal(one["price_second_glm"]) + one["threads"] * Decimal(one["price_cpu_second_glm"])
        speed = "" if one["images_per_second"] is None else f"{one['images_per_second']:.1f}"
        state = plain(one["blocked"]) or one["standing"] or ""
        node = f"{one['node_id'][:6]}\u2026{one['node_id'][-4:]}"
        typer.echo(
            f"{plain(one['name'])[:14]:14} {node:13} {price:>13f} {speed:>9} {one['reputation']:>10.2f}  {state}"
        )


def accounts(facts: dict[str, Any]) -> None:
    """The books: a line for each model, then the sums."""
    typer.echo(f"{'model':18} {'answered':>8} {'earned':>18} {'gas':>18} {'providers':>20} {'margin':>18}")
    for line in facts["models"]:
        margin = "" if line["margin_wei"] is None else signed_money(line["margin_wei"])
        typer.echo(
            f"{plain(line['model'])[:18]:18} {line['answered']:>8} {money(line['earned'], line['token']):>18} "
            f"{money(line['gas_wei']):>18} {line['providers_glm'] + ' GLM':>20} {margin:>18}"
        )
    typer.echo(f"\nearned      {money(facts['earned_wei'])} (and tokens above), less {money(facts['gas_wei'])} of gas")
    typer.echo(f"providers   {facts['providers_glm']} GLM accepted, {facts['settled_glm']} GLM settled on their chain")
    typer.echo(f"owed        {facts['owed_glm']} GLM")
    if facts["other_glm"] != "0":
        typer.echo(f"            {facts['other_glm']} GLM of it for agreements in which no task was done")
    if any(line["margin_wei"] is None and line["token"] is None for line in facts["models"]):
        typer.echo("margins     set SIBYL_GLM_PRICE (wei that one GLM is worth) to see them")


def signed_money(value: int) -> str:
    """Wei that may be below zero, in ether."""
    return ("-" if value < 0 else "") + money(abs(value))
