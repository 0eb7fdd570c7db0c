"""The commands that move money: ask, take back, deposit and withdraw."""

from __future__ import annotations

import asyncio
import json
from enum import StrEnum
from typing import Annotated, Any

import typer

from oracle import render
from oracle.console import AsJson, DataDir, RequestId, error_facts, identifier, note, run
from oracle.errors import SibylError

LATER = "The request is paid: `sibyl result ID` reads its answer, `sibyl refund ID` its money after the deadline."


class Role(StrEnum):
    """Whose account."""

    OPERATOR = "operator"
    REQUESTER = "requester"
    PUBLISHER = "publisher"


def request(
    images: Annotated[list[str], typer.Argument(help="Paths of pictures, or CIDs of ones that are pinned already.")],
    model: Annotated[
        str | None,
        typer.Option(
            help="The model's number, or a name that one active model alone bears.", show_default="the deployment's own"
        ),
    ] = None,
    max_price: Annotated[
        str | None,
        typer.Option(
            help="Pay no more than this for a picture: in ether, or in smallest parts of the model's token.",
            show_default="0.01 ether",
        ),
    ] = None,
    from_balance: Annotated[
        bool, typer.Option("--from-balance", help="Pay from the balance at the coordinator; see `sibyl deposit`.")
    ] = False,
    provider: Annotated[
        str | None,
        typer.Option(help="Golem provider that shall compute it (`sibyl providers`); on the oracle's machine only."),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Stay until the answers are on-chain.")] = False,
    timeout: Annotated[float, typer.Option(help="Seconds to stay with --wait.")] = 120.0,
    deadline: Annotated[int, typer.Option(help="Seconds after which the money can be refunded.")] = 600,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Pin pictures, pay for a prediction of each in one transaction, and with --wait show the answers."""
    from oracle.chain.account import TooDear
    from oracle.client import connect
    from oracle.settings import load_settings

    settings = load_settings(data_dir)
    paid: list[dict[str, Any]] = []

    async def work() -> None:
        async with connect(settings) as client:
            chosen = await client.model(model)
            number, token = chosen.on_chain.model_id, chosen.on_chain.token
            limit = render.limit(max_price, token)
            price = await client.reader.quote(number)
            if price > limit:
                raise TooDear(number, price, limit, token)
            if not as_json:
                typer.echo(f"model {number}, {render.plain(chosen.name)}, costs {render.money(price, token)}")
            cids = await client.upload(images)
            try:
                asked = await client.request(
                    *(chosen, cids),
                    provider=provider,
                    deadline=deadline,
                    max_price=limit,
                    from_balance=from_balance,
                )
            except asyncio.CancelledError:
                if client.sent:
                    note(f"interrupted; the payment may be on its way in 0x{client.sent[-1].hex()}")
                raise
            for cid, one in zip(cids, asked, strict=True):
                paid.append(
                    {
                        "request": "0x" + one.request_id.hex(),
                        "model": chosen.name,
                        "model_id": number,
                        "image": cid.text,
                        **render.amount("payment", one.payment, token),
                        "transaction": "0x" + one.transaction_hash.hex(),
                        "gas": one.gas_used,
                        "deadline": one.deadline,
                    }
                )
                if as_json:
                    note(f"paid: request 0x{one.request_id.hex()}")
                else:
                    typer.echo(f"request 0x{one.request_id.hex()}\n  paid {render.money(one.payment, token)}")
            if not as_json:
                typer.echo(f"  gas {asked[0].gas_used:,}, transaction 0x{asked[0].transaction_hash.hex()}")
            for facts, one in zip(paid if wait else (), asked, strict=False):
                facts["state"] = "pending"
                outcome = await client.wait(one.request_id, timeout=timeout)
                facts.update(render.outcome_facts(outcome))
                if not as_json:
                    if len(asked) > 1:
                        typer.echo(facts["request"])
                    render.show(outcome)

    try:
        run(work())
    except (SibylError, OSError) as error:
        if not (as_json and paid):
            raise
        typer.echo(json.dumps(_document(paid, error_facts(error))))
        raise typer.Exit(1) from None
    except typer.Exit:
        if paid and as_json:
            typer.echo(json.dumps(_document(paid, {"error": "interrupted", "remedy": LATER})))
        elif paid:
            note(LATER)
        raise
    if as_json:
        typer.echo(json.dumps(_document(paid, {})))
    if any(facts.get("state") in ("failed", "refunded", "cancelled") for facts in paid):
        raise typer.Exit(3)


def _document(paid: list[dict[str, Any]], more: dict[str, str]) -> dict[str, Any]:
    """One request as an object, several in a list below ``requests``."""
    return {**paid[0], **more} if len(paid) == 1 else {"requests": paid, **more}


def cancel(request_id: RequestId, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Take a request back and get its money, while the coordinator's cancel window is open."""
    from oracle.client import connect
    from oracle.settings import load_settings

    wanted = identifier(request_id)

    async def work() -> str:
        async with connect(load_settings(data_dir)) as client:
            return "0x" + (await client.cancel(wanted)).hex()

    transaction = run(work())
    typer.echo(json.dumps({"transaction": transaction}) if as_json else f"cancelled in {transaction}")


def refund(request_id: RequestId, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Send the money of an unanswered request back, once its deadline has passed."""
    from oracle.client import connect
    from oracle.settings import load_settings

    wanted = identifier(request_id)

    async def work() -> str:
        async with connect(load_settings(data_dir)) as client:
            return "0x" + (await client.refund(wanted)).hex()

    transaction = run(work())
    typer.echo(json.dumps({"transaction": transaction}) if as_json else f"refunded in {transaction}")


def deposit(
    amount: Annotated[str, typer.Argument(help="How much, in ether.")],
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Put ether into the requester's balance at the coordinator; `sibyl request --from-balance` pays with it."""
    from oracle.client import connect
    from oracle.settings import load_settings

    wei = render.wei(amount)
    if wei == 0:
        raise typer.BadParameter("deposit more than nothing")

    async def work() -> tuple[str, int]:
        async with connect(load_settings(data_dir)) as client:
            return await client.deposit(wei)

    account, balance = run(work())
    if as_json:
        typer.echo(json.dumps({"account": account, "deposited_wei": wei, "balance_wei": balance}))
    else:
        typer.echo(f"{render.money(wei)} deposited; the balance of {account} is {render.money(balance)}")


def withdraw(
    role: Annotated[
        Role | None, typer.Option(help="Whose balance.", show_default="operator, with --model publisher")
    ] = None,
    model: Annotated[
        int | None, typer.Option(min=1, help="Number of a model: pay out what it earned, to its payout account.")
    ] = None,
    token: Annotated[str | None, typer.Option(help="Address of an ERC-20 instead of ether.")] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Have the coordinator pay out an account's whole balance, or with --model what a model earned for its publisher.

    A balance holds an operator's earnings, or a requester's deposits and returned money. The operator's key also signs
    the running oracle's reports, and a withdrawal at a report's nonce throws that report away (the oracle notices, and
    sends it again). So for the operator this waits up to ten seconds until no report of the database in --data-dir is
    in flight. With an oracle elsewhere, stop it first.
    """
    from oracle.client import connect
    from oracle.settings import load_settings

    if model is not None and token is not None:
        raise typer.BadParameter("a model earns in its own token; leave --token out")
    token = None if token is None else render.address(token)
    settings = load_settings(data_dir)
    chosen = role or (Role.OPERATOR if model is None else Role.PUBLISHER)

    async def work() -> tuple[str, int, str | None]:
        async with connect(settings) as client:
            if chosen is Role.OPERATOR:
                await _quiet(settings)
            if model is None:
                return *await client.withdraw(chosen.value, token), token
            earned_in = (await client.registered(model)).token
            return *await client.withdraw_earnings(chosen.value, model), earned_in

    account, amount, paid_in = run(work())
    if as_json:
        typer.echo(json.dumps({"account": account, **render.amount("withdrawn", amount, paid_in)}))
    else:
        typer.echo(f"{render.money(amount, paid_in)} paid out to {account}")


async def _quiet(settings: Any) -> None:
    """Wait until the oracle of this machine has no report in flight. Raises SibylError after ten seconds."""
    from oracle.status import reports_in_flight

    for _ in range(100):
        if await reports_in_flight(settings) == 0:
            return
        await asyncio.sleep(0.1)
    raise SibylError(
        "the oracle has reports in flight",
        remedy="Try again when `sibyl status` shows none, or stop the oracle first.",
    )
