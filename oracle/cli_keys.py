"""API keys: who may ask at the gateway's expense, and for how much a day. ``fund`` fills the balance that pays."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from oracle import render
from oracle.console import AsJson, DataDir, run
from oracle.errors import SibylError

if TYPE_CHECKING:
    from oracle.settings import Settings
    from oracle.store.gateway import SqliteGatewayStore

app = typer.Typer(help="API keys of the gateway, which pays for those without a wallet.", no_args_is_help=True)
LOOKS = 100  # at what is in flight, a tenth of a second apart
Name = Annotated[str, typer.Argument(help="What the key is called in this list.")]


@app.command()
def add(
    name: Name,
    per_day: Annotated[
        str | None,
        typer.Option(help="Ether that it may spend in 24 hours, fees included.", show_default="SIBYL_GATEWAY_DAY"),
    ] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Make a key. It is printed once, and only its hash is kept."""
    settings = _settings(data_dir)
    limit = render.wei(str(settings.gateway_day) if per_day is None else per_day)

    async def work() -> str:
        store = _open(settings)
        try:
            return await store.add_key(name, limit)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None
        finally:
            await store.close()

    key = run(work())
    if as_json:
        typer.echo(json.dumps({"name": name, "key": key, "per_day_wei": limit}))
    else:
        typer.echo(key)
        typer.echo(f"{name} may spend {render.money(limit)} in 24 hours. The key is not shown again.", err=True)


@app.command("list")
def list_keys(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Every key by its name, with its limit and what it spent in the last 24 hours."""
    settings = _settings(data_dir)

    async def work() -> list[dict[str, Any]]:
        store = _open(settings)
        try:
            return [
                {
                    "name": key.name,
                    "per_day_wei": key.per_day,
                    "spent_wei": key.spent,
                    "created_at": key.created_at,
                    "revoked_at": key.revoked_at,
                }
                for key in await store.keys()
            ]
        finally:
            await store.close()

    listed = run(work())
    if as_json:
        typer.echo(json.dumps(listed))
        return
    for one in listed:
        spent, limit = render.money(one["spent_wei"]), render.money(one["per_day_wei"])
        gone = "  revoked" if one["revoked_at"] is not None else ""
        typer.echo(f"{one['name']:24} {spent} of {limit} in 24 hours{gone}")
    if not listed:
        typer.echo("There is no key yet: sibyl keys add NAME --per-day ETHER")


@app.command()
def revoke(name: Name, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Have a key count no more, from now on."""
    settings = _settings(data_dir)

    async def work() -> None:
        store = _open(settings)
        try:
            await store.revoke(name)
        finally:
            await store.close()

    run(work())
    typer.echo(json.dumps({"name": name, "revoked": True}) if as_json else f"{name} counts no more")


@app.command()
def fund(
    amount: Annotated[str, typer.Argument(help="How much, in ether.")],
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Put ether of the gateway's account into its balance at the coordinator, which pays for requests.

    A running API signs with the same account, so this waits up to ten seconds until nothing of its books is in flight.
    """
    settings = _settings(data_dir)
    wei = render.wei(amount)
    if wei == 0:
        raise typer.BadParameter("fund it with more than nothing")

    async def work() -> tuple[str, int]:
        from oracle.chain.account import AccountSender
        from oracle.chain.deployment import account_of, fee_policy
        from oracle.client import connect

        async with connect(settings) as client:
            await _quiet(settings)
            chain_id = await client.reader.chain_id()
            sender = AccountSender(client.rpc, account_of("gateway", settings), chain_id, fee_policy(settings))
            await sender.deposit(client.reader.address, wei)
            return sender.address, await client.reader.balance_of(None, sender.address)

    account, balance = run(work())
    if as_json:
        typer.echo(json.dumps({"account": account, "funded_wei": wei, "balance_wei": balance}))
    else:
        typer.echo(f"{render.money(wei)} added; the balance of {account} is {render.money(balance)}")


async def _quiet(settings: Settings) -> None:
    """Wait until nothing of the gateway's books is in flight: two transactions at one nonce throw one away."""
    store = _open(settings)
    try:
        for _ in range(LOOKS):
            if await store.in_flight() == 0:
                return
            await asyncio.sleep(0.1)
    finally:
        await store.close()
    raise SibylError(
        "the gateway has transactions in flight",
        remedy="Try again in a while. What a stopped API left is looked after once it runs again: sibyl api.",
    )


def _settings(data_dir: Any) -> Settings:
    from oracle.settings import load_settings

    return load_settings(data_dir)


def _open(settings: Settings) -> SqliteGatewayStore:
    from oracle.store.gateway import SqliteGatewayStore

    return SqliteGatewayStore(settings.gateway_database)
