"""The ``sibyl`` command. Each command imports what it needs when it runs, so that ``--help`` is instant."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Coroutine
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from oracle import render
from oracle.errors import SibylError

app = typer.Typer(
    name="sibyl",
    help="Paid predictions about pictures, for smart contracts and for people.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
train_app = typer.Typer(help="Train the models that ship with Sibyl.", no_args_is_help=True)
app.add_typer(train_app, name="train")


def _remember(as_json: bool) -> bool:
    _output.as_json = as_json
    return as_json


DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", help="Where the state lives.", show_default=".sibyl, or SIBYL_DATA_DIR"),
]
AsJson = Annotated[
    bool,
    typer.Option("--json", callback=_remember, help="Print JSON for a program instead of text for a person."),
]
IpfsApi = Annotated[
    str | None,
    typer.Option(envvar="SIBYL_IPFS_API", help="Multiaddr of a Kubo to use instead of Sibyl's own store."),
]


class Role(StrEnum):
    """Whose account."""

    OPERATOR = "operator"
    REQUESTER = "requester"


RequestId = Annotated[str, typer.Argument(help="The request's id: 0x and 64 hex digits.")]


class _Output:
    """How this run speaks."""

    as_json = False


_output = _Output()


class _Interrupted(Exception):
    """Ctrl-C, or SIGTERM."""


def main() -> None:
    """Run the command line; errors end in a message, a remedy and exit code 1, under --json as JSON on stdout."""
    try:
        app(standalone_mode=True)
    except (SibylError, OSError) as error:
        if _output.as_json:
            typer.echo(json.dumps(_error_facts(error)))
        else:
            _complain(error)
        sys.exit(1)


def _error_facts(error: SibylError | OSError) -> dict[str, str]:
    if isinstance(error, SibylError):
        return {"error": str(error), "remedy": error.remedy}
    message = error.strerror or str(error)
    return {
        "error": f"{error.filename}: {message}" if error.filename else message,
        "remedy": "Mend the path or its permissions, or choose another (--data-dir says where the state lives).",
    }


def _complain(error: SibylError | OSError) -> None:
    facts = _error_facts(error)
    typer.secho(f"error: {render.plain(facts['error'])}", err=True, fg="red")
    if facts["remedy"]:
        typer.echo(f"  {render.plain(facts['remedy'])}", err=True)


def _run(work: Coroutine[Any, Any, Any]) -> Any:
    """Run to the end; Ctrl-C and SIGTERM cancel it, and what it holds is closed in order."""

    async def guarded() -> Any:
        task = asyncio.ensure_future(work)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, task.cancel)
        try:
            return await task
        except asyncio.CancelledError:
            raise _Interrupted from None

    try:
        return asyncio.run(guarded())
    except _Interrupted:
        raise typer.Exit(130) from None


def _note(text: str) -> None:
    typer.secho(f"· {text}", err=True, dim=True)


def _identifier(text: str) -> bytes:
    with contextlib.suppress(ValueError):
        value = bytes.fromhex(text.removeprefix("0x"))
        if len(value) == 32:
            return value
    raise typer.BadParameter("a request id is 0x and 64 hex digits")


@app.command()
def up(
    data_dir: DataDir = None,
    chain_port: Annotated[int, typer.Option(help="Port of the chain's RPC; 0 takes a free one.")] = 8545,
    ipfs_port: Annotated[int, typer.Option(help="Port of the IPFS API and gateway; 0 takes a free one.")] = 5001,
    block_time: Annotated[
        float | None, typer.Option(help="Mine a block every so many seconds instead of at once.")
    ] = None,
    ipfs_api: IpfsApi = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget the chain, the store and the database first.")] = False,
    as_json: AsJson = False,
) -> None:
    """Everything on one machine: chain, IPFS store, contracts, oracle. Stays until Ctrl-C."""
    from oracle.devnet.stack import Ports, run_stack
    from oracle.settings import DEPLOYMENT_FILE, Settings

    # The environment may be made for another deployment: of it, only the folder is taken here.
    default = Settings.model_fields["data_dir"].default
    folder = data_dir or Path(os.environ.get("SIBYL_DATA_DIR") or default)
    if fresh and folder.exists():
        if not (folder / DEPLOYMENT_FILE).exists():
            raise SibylError(f"{folder} was not made by `sibyl up`", remedy="Delete it yourself, if you are sure.")
        shutil.rmtree(folder)

    async def work() -> None:
        ports = Ports(chain_port, ipfs_port)
        async with run_stack(folder, ports=ports, progress=_note, ipfs_api=ipfs_api, block_time=block_time) as stack:
            settings = stack.settings
            facts = {
                "rpc_url": settings.rpc_url,
                "chain_id": settings.chain_id,
                "coordinator": settings.coordinator,
                "digit_reader": settings.digit_reader,
                "ipfs_api": settings.ipfs_api,
                "gateway_url": f"{settings.gateway_url}/ipfs/",
                "data_dir": str(settings.data_dir),
            }
            if as_json:
                typer.echo(json.dumps(facts))
            else:
                typer.echo("Sibyl is up.")
                for name, value in facts.items():
                    typer.echo(f"  {name.replace('_', ' '):13} {value}")
                there = "" if data_dir is None else f" --data-dir {data_dir}"
                typer.echo(f"\nAsk:   sibyl request PICTURE --wait{there}\nStop:  Ctrl-C")
            await stack.failed()

    try:
        _run(work())
    except typer.Exit:
        _note("everything is stopped")
        raise typer.Exit(0) from None


@app.command()
def demo(
    as_json: AsJson = False,
    keep: Annotated[Path | None, typer.Option(help="Keep chain, store and database in this folder.")] = None,
    ipfs_api: IpfsApi = None,
) -> None:
    """The main job once: paid requests with real pictures, and the answers that came back on-chain."""
    from oracle.devnet.demo import run_demo
    from oracle.devnet.stack import Ports, run_stack

    @contextlib.asynccontextmanager
    async def folder() -> AsyncIterator[Path]:
        if keep is not None:
            yield keep
        else:
            with tempfile.TemporaryDirectory(prefix="sibyl-demo-") as name:
                yield Path(name)

    async def work() -> bool:
        async with folder() as data_dir, run_stack(data_dir, ports=Ports(), progress=_note, ipfs_api=ipfs_api) as stack:
            pictures, lines, summary = await run_demo(stack, _note)
        if not as_json:
            render.table(lines)
            typer.echo(
                f"\nPictures: {pictures.source}. Each result was read again by its CID, hashed here, "
                "and compared with the chain."
            )
        typer.echo(json.dumps(summary.as_json()))
        return summary.lost == 0 and summary.wrong == 0 and summary.fulfilled + summary.refunded == summary.requests

    if not _run(work()):
        # The summary stays the last line of standard output.
        _complain(
            SibylError("the demo lost a request or got a wrong answer", remedy="Use --keep DIR and read DIR/logs.")
        )
        raise typer.Exit(1)


@app.command()
def oracle(data_dir: DataDir = None) -> None:
    """Run the oracle against the configured chain and IPFS node, as operators do. Stops at Ctrl-C or SIGTERM."""
    from oracle import telemetry
    from oracle.service import oracle as start_oracle
    from oracle.settings import load_settings

    settings = load_settings(data_dir)
    telemetry.configure(settings.log_level, as_json=settings.log_json)

    async def work() -> None:
        async with start_oracle(settings) as ended:
            typer.echo(json.dumps({"ready": True, "coordinator": settings.coordinator}))
            await ended()

    try:
        _run(work())
    except typer.Exit:
        raise typer.Exit(0) from None


@app.command()
def request(
    image: Annotated[str, typer.Argument(help="A picture's path, or the CID of one that is pinned already.")],
    model: Annotated[
        str | None,
        typer.Option(
            help="The model's number, or a name that one active model alone bears.", show_default="the deployment's own"
        ),
    ] = None,
    max_price: Annotated[str, typer.Option(help="Pay no more than this, in ether.")] = "0.01",
    wait: Annotated[bool, typer.Option("--wait", help="Stay until the answer is on-chain.")] = False,
    timeout: Annotated[float, typer.Option(help="Seconds to stay with --wait.")] = 120.0,
    deadline: Annotated[int, typer.Option(help="Seconds after which the money can be refunded.")] = 600,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Pin a picture, pay for a prediction, and with --wait show the answer."""
    from oracle.chain.account import TooDear
    from oracle.client import connect
    from oracle.domain import Cid
    from oracle.settings import load_settings

    settings = load_settings(data_dir)
    limit = render.wei(max_price)
    facts: dict[str, Any] = {}

    async def work() -> None:
        async with connect(settings) as client:
            chosen = await client.model(model)
            number, price = chosen.on_chain.model_id, await client.reader.quote(chosen.on_chain.model_id)
            if price > limit:
                raise TooDear(number, price, limit)
            if not as_json:
                typer.echo(f"model {number}, {render.plain(chosen.name)}, costs {render.ether(price)}")
            path = Path(image)
            if path.is_file():
                data = path.read_bytes()
                if len(data) > settings.image_max_bytes:
                    raise SibylError(
                        f"{image} has {len(data):,} bytes; the limit is {settings.image_max_bytes:,}",
                        remedy="Send a smaller picture.",
                    )
                cid = await client.upload(data)
            else:
                try:
                    cid = Cid.parse(image)
                except ValueError as error:
                    raise SibylError(
                        f"{image} is neither a file nor a CID", remedy="Give a picture's path, or a CID of IPFS."
                    ) from error
            try:
                asked = await client.ask(number, cid, deadline=deadline, max_price=limit)
            except asyncio.CancelledError:
                if client.sender.sent:
                    _note(f"interrupted; the payment may be on its way in 0x{client.sender.sent[-1].hex()}")
                raise
            facts.update(
                {
                    "request": "0x" + asked.request_id.hex(),
                    "model": chosen.name,
                    "model_id": number,
                    "image": cid.text,
                    "payment_wei": asked.payment,
                    "transaction": "0x" + asked.transaction_hash.hex(),
                    "gas": asked.gas_used,
                    "deadline": asked.deadline,
                }
            )
            if as_json:
                _note(f"paid: request {facts['request']}")
            else:
                typer.echo(f"request {facts['request']}\n  paid {render.ether(asked.payment)}, gas {asked.gas_used:,}")
            if wait:
                facts["state"] = "pending"
                outcome = await client.wait(asked.request_id, timeout=timeout)
                facts.update(render.outcome_facts(outcome))
                if not as_json:
                    render.show(outcome)

    later = "The request is paid: `sibyl result ID` reads its answer, `sibyl refund ID` its money after the deadline."
    try:
        _run(work())
    except (SibylError, OSError) as error:
        if not (as_json and facts):
            raise
        facts |= _error_facts(error)
        typer.echo(json.dumps(facts))
        raise typer.Exit(1) from None
    except typer.Exit:
        if facts and as_json:
            typer.echo(json.dumps({**facts, "error": "interrupted", "remedy": later}))
        elif facts:
            _note(later)
        raise
    if as_json:
        typer.echo(json.dumps(facts))
    if facts.get("state") in ("failed", "refunded"):
        raise typer.Exit(3)


@app.command()
def result(
    request_id: RequestId,
    out: Annotated[Path, typer.Option(help="Folder for the result's files.")] = Path(),
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Read a request's result by its CID, check it against the chain, and save its files."""
    from oracle.client import connect
    from oracle.settings import load_settings

    identifier = _identifier(request_id)

    async def work() -> dict[str, Any]:
        async with connect(load_settings(data_dir)) as client:
            outcome = await client.outcome(identifier)
            facts = {"request": "0x" + identifier.hex(), **render.outcome_facts(outcome)}
            if outcome.raw:
                out.mkdir(parents=True, exist_ok=True)
                file = out / f"{identifier.hex()[:12]}.result.json"
                file.write_bytes(outcome.raw)
                facts["files"] = [str(file)]
            if not as_json:
                render.show(outcome)
                for file_name in facts.get("files", []):
                    typer.echo(f"  saved     {file_name}")
            return facts

    facts = _run(work())
    if as_json:
        typer.echo(json.dumps(facts))


@app.command()
def refund(request_id: RequestId, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Send the money of an unanswered request back, once its deadline has passed."""
    from oracle.client import connect
    from oracle.settings import load_settings

    identifier = _identifier(request_id)

    async def work() -> str:
        async with connect(load_settings(data_dir)) as client:
            return "0x" + (await client.refund(identifier)).hex()

    transaction = _run(work())
    typer.echo(json.dumps({"transaction": transaction}) if as_json else f"refunded in {transaction}")


@app.command()
def withdraw(
    role: Annotated[Role, typer.Option(help="Whose credit.")] = Role.OPERATOR,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Have the coordinator pay out an account's credit: an operator's earnings, or a requester's returned money.

    The operator's key also signs the running oracle's reports, and a withdrawal at a report's nonce throws that report
    away (the oracle notices, and sends it again). So this waits up to ten seconds until no report of the database in
    --data-dir is in flight. With an oracle elsewhere, stop it first.
    """
    from oracle.client import connect
    from oracle.settings import load_settings
    from oracle.status import reports_in_flight

    settings = load_settings(data_dir)

    async def work() -> tuple[str, int]:
        async with connect(settings) as client:
            for _ in range(100 if role is Role.OPERATOR else 0):
                if await reports_in_flight(settings) == 0:
                    break
                await asyncio.sleep(0.1)
            else:
                if role is Role.OPERATOR:
                    raise SibylError(
                        "the oracle has reports in flight",
                        remedy="Try again when `sibyl status` shows none, or stop the oracle first.",
                    )
            return await client.withdraw(role.value)

    account, amount = _run(work())
    if as_json:
        typer.echo(json.dumps({"account": account, "withdrawn_wei": amount}))
    else:
        typer.echo(f"{render.ether(amount)} paid out to {account}")


@app.command()
def status(
    request_id: Annotated[str | None, typer.Argument(help="One request, with its timeline.")] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """What the oracle's database holds: requests by status, or one request's timeline."""
    from oracle.settings import load_settings
    from oracle.status import overview, request_timeline

    settings = load_settings(data_dir)
    if request_id is None:
        facts = _run(overview(settings))
    else:
        facts = _run(request_timeline(settings, _identifier(request_id)))
    if as_json:
        typer.echo(json.dumps(facts))
        return
    for name, value in facts.items():
        if name == "timeline":
            for move in value:
                typer.echo(f"  {move['time']}  {move['status']:10} {render.plain(move['detail'])}")
        elif isinstance(value, dict):
            typer.echo(f"{name}:")
            for key, count in value.items():
                typer.echo(f"  {key:10} {count}")
        else:
            typer.echo(f"{name.replace('_', ' '):12} {render.plain(value)}")


@app.command()
def models(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """The models that the coordinator's registry holds, with their prices."""
    from oracle.client import connect
    from oracle.settings import load_settings

    async def work() -> list[dict[str, Any]]:
        async with connect(load_settings(data_dir)) as client:
            return [
                {
                    "id": model.on_chain.model_id,
                    "name": model.name,
                    "task": model.manifest.task if model.manifest else None,
                    "price_wei": model.on_chain.price,
                    "active": model.on_chain.active,
                    "manifest": model.on_chain.manifest_cid.text,
                    "problem": model.problem,
                }
                for model in await client.models()
            ]

    listed = _run(work())
    if as_json:
        typer.echo(json.dumps(listed))
        return
    if not listed:
        typer.echo("The registry holds no model yet.")
    for model in listed:
        state = render.plain(model["problem"]) or ("" if model["active"] else "paused by its publisher")
        price = render.ether(model["price_wei"])
        typer.echo(f"{model['id']:>4}  {model['name']:16} {model['task'] or '?':15} {price:>14}  {state}")


@app.command()
def check(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Look at every connection and key before the oracle is started; each problem comes with a remedy."""
    from oracle.preflight import preflight
    from oracle.settings import load_settings

    results = _run(preflight(load_settings(data_dir)))
    if as_json:
        typer.echo(json.dumps([{"check": r.name, "ok": r.ok, "detail": r.detail, "remedy": r.remedy} for r in results]))
    else:
        for item in results:
            mark = typer.style("ok  ", fg="green") if item.ok else typer.style("FAIL", fg="red")
            typer.echo(f"{mark} {item.name:18} {render.plain(item.detail)}")
            if not item.ok and item.remedy:
                typer.echo(f"     {'':18} {render.plain(item.remedy)}")
    if not all(item.ok for item in results):
        raise typer.Exit(1)


@train_app.command("mnist")
def train_mnist(
    data: Annotated[Path | None, typer.Option(help="Folder with MNIST's t10k files; else downloaded.")] = None,
    out: Annotated[Path | None, typer.Option(help="Where the files go.", show_default="the shipped ones")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training data.")] = None,
    seed: Annotated[int | None, typer.Option(help="Fixes the split, the initial weights and every distortion.")] = None,
) -> None:
    """Train the digit CNN again; the command, the data, the seed and the score go into its manifest."""
    import subprocess

    command = [sys.executable, "-m", "provider_images.mnist.train"]
    for name, value in (("--data", data), ("--out", out), ("--epochs", epochs), ("--seed", seed)):
        if value is not None:
            command += [name, str(value)]
    raise typer.Exit(subprocess.run(command, check=False).returncode)


if __name__ == "__main__":
    main()
