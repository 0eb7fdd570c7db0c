"""The ``sibyl`` command. Each command imports what it needs when it runs, so that ``--help`` is instant."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import sys
import tempfile
from collections.abc import AsyncIterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from oracle import cli_api, cli_keys, cli_models, cli_money, render
from oracle.console import AsJson, DataDir, RequestId, complain, fail, identifier, note, run
from oracle.errors import SibylError

app = typer.Typer(
    name="sibyl",
    help="Paid predictions about pictures, for smart contracts and for people.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
train_app = typer.Typer(help="Train the models that ship with Sibyl.", no_args_is_help=True)
app.add_typer(cli_models.app, name="models")
app.add_typer(train_app, name="train")
app.add_typer(cli_keys.app, name="keys")


class BackendKind(StrEnum):
    """Where models run."""

    GOLEM = "golem"
    LOCAL = "local"


Backend = Annotated[
    BackendKind | None,
    typer.Option(
        help="Where models run: on a Golem network of this machine, or in a worker process.",
        show_default="golem where this machine can run it",
    ),
]
DEMO_IDLE = 1.0  # seconds that the demo's idle provider waits for more: it is to be paid before the demo ends
IpfsApi = Annotated[
    str | None,
    typer.Option(envvar="SIBYL_IPFS_API", help="Multiaddr of a Kubo to use instead of Sibyl's own store."),
]


def main() -> None:
    """Run the command line; errors end in a message, a remedy and exit code 1, under --json as JSON on stdout."""
    try:
        app(standalone_mode=True)
    except (SibylError, OSError) as error:
        fail(error)
        sys.exit(1)


@app.command()
def up(
    data_dir: DataDir = None,
    chain_port: Annotated[int, typer.Option(help="Port of the chain's RPC; 0 takes a free one.")] = 8545,
    ipfs_port: Annotated[int, typer.Option(help="Port of the IPFS API and gateway; 0 takes a free one.")] = 5001,
    api_port: Annotated[int, typer.Option(help="Port of the REST API and the page; 0 takes a free one.")] = 8080,
    block_time: Annotated[
        float | None, typer.Option(help="Mine a block every so many seconds instead of at once.")
    ] = None,
    cancel_window: Annotated[
        int | None,
        typer.Option(
            min=0, max=600, help="Seconds in which a request can be cancelled.", show_default="0, or what is deployed"
        ),
    ] = None,
    ipfs_api: IpfsApi = None,
    backend: Backend = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget the chain, the store and the database first.")] = False,
    as_json: AsJson = False,
) -> None:
    """Everything on one machine: chain, IPFS store, contracts, oracle, API and page. Stays until Ctrl-C."""
    from oracle.devnet.stack import Ports, claimed, run_stack
    from oracle.devnet.trees import remove_tree
    from oracle.settings import DEPLOYMENT_FILE, Settings

    # The environment may be made for another deployment: of it, only the folder is taken here.
    default = Settings.model_fields["data_dir"].default
    folder = data_dir or Path(os.environ.get("SIBYL_DATA_DIR") or default)
    if fresh and folder.exists():
        if not (folder / DEPLOYMENT_FILE).exists():
            raise SibylError(f"{folder} was not made by `sibyl up`", remedy="Delete it yourself, if you are sure.")
        with claimed(folder):
            remove_tree(folder)
        if folder.exists():
            raise SibylError(f"{folder} cannot be removed", remedy="Delete what is left of it yourself.")

    async def work() -> None:
        ports = Ports(chain_port, ipfs_port, api_port)
        async with run_stack(
            folder,
            ports=ports,
            progress=note,
            ipfs_api=ipfs_api,
            block_time=block_time,
            cancel_window=cancel_window,
            backend=backend,
        ) as stack:
            settings = stack.settings
            facts = {
                "rpc_url": settings.rpc_url,
                "chain_id": settings.chain_id,
                "coordinator": settings.coordinator,
                "digit_reader": settings.digit_reader,
                "ipfs_api": settings.ipfs_api,
                "gateway_url": f"{settings.gateway_url}/ipfs/",
                "api_url": stack.api_url,
                "backend": settings.backend,
                "data_dir": str(settings.data_dir),
            }
            if as_json:
                typer.echo(json.dumps(facts))
            else:
                typer.echo("Sibyl is up.")
                for name, value in facts.items():
                    typer.echo(f"  {name.replace('_', ' '):13} {value}")
                typer.echo(f"\nPage:  {stack.api_url}\nAsk:   {_next_command(data_dir)}\nStop:  Ctrl-C")
            await stack.failed()

    try:
        run(work())
    except typer.Exit:
        note("everything is stopped")
        raise typer.Exit(0) from None


def _next_command(data_dir: Path | None) -> str:
    there = "" if data_dir is None else f" --data-dir {shlex.quote(str(data_dir))}"
    return f"sibyl request PICTURE --wait{there}"


@app.command()
def demo(
    as_json: AsJson = False,
    keep: Annotated[Path | None, typer.Option(help="Keep chain, store and database in this folder.")] = None,
    ipfs_api: IpfsApi = None,
    backend: Backend = None,
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
        async with (
            folder() as data_dir,
            run_stack(
                data_dir, ports=Ports(), progress=note, ipfs_api=ipfs_api, backend=backend, idle_release=DEMO_IDLE
            ) as stack,
        ):
            pictures, lines, summary = await run_demo(stack, note)
        if not as_json:
            render.table(lines)
            typer.echo(
                f"\nPictures: {pictures.source}. Each result was read again by its CID, hashed here, "
                "and compared with the chain."
            )
            if summary.paid_glm is not None:
                typer.echo(
                    f"Computed by Golem providers, who were paid {summary.paid_glm} GLM on a chain of their own."
                )
        typer.echo(json.dumps(summary.as_json()))
        return summary.lost == 0 and summary.wrong == 0 and summary.fulfilled + summary.refunded == summary.requests

    if not run(work()):
        # The summary stays the last line of standard output.
        complain(
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
        run(work())
    except typer.Exit:
        raise typer.Exit(0) from None


app.command()(cli_api.api)
for command in (cli_money.request, cli_money.cancel, cli_money.refund, cli_money.deposit, cli_money.withdraw):
    app.command()(command)


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

    wanted = identifier(request_id)

    async def work() -> dict[str, Any]:
        async with connect(load_settings(data_dir)) as client:
            outcome = await client.outcome(wanted)
            facts = {"request": "0x" + wanted.hex(), **render.outcome_facts(outcome)}
            if outcome.raw:
                out.mkdir(parents=True, exist_ok=True)
                files = {"result.json": outcome.raw}
                try:
                    files |= {f"{name}.png": data for name, data in (await client.files(outcome)).items()}
                except SibylError as error:
                    complain(error)  # the answer itself is here
                facts["saved"] = []
                for name, data in files.items():
                    file = out / f"{wanted.hex()[:12]}.{name}"
                    file.write_bytes(data)
                    facts["saved"].append(str(file))
            if not as_json:
                render.show(outcome)
                for file_name in facts.get("saved", []):
                    typer.echo(f"  saved     {file_name}")
            return facts

    facts = run(work())
    if as_json:
        typer.echo(json.dumps(facts))


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
    work = overview(settings) if request_id is None else request_timeline(settings, identifier(request_id))
    facts = run(work)
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
def providers(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """The Golem providers that the oracle has seen: price, measured speed, reputation."""
    from oracle.accounts import provider_list
    from oracle.settings import load_settings

    listed = run(provider_list(load_settings(data_dir)))
    if as_json:
        typer.echo(json.dumps(listed))
    else:
        render.providers(listed)


@app.command()
def accounts(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """What requests earned, what gas and providers cost, what is owed, and the margin of each model."""
    from oracle.accounts import accounts as books
    from oracle.settings import load_settings

    facts = run(books(load_settings(data_dir)))
    if as_json:
        typer.echo(json.dumps(facts))
    else:
        render.accounts(facts)


@app.command()
def check(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Look at every connection and key before the oracle is started; each problem comes with a remedy."""
    from oracle.preflight import preflight
    from oracle.settings import load_settings

    results = run(preflight(load_settings(data_dir)))
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

    command = [sys.executable, "-P", "-m", "provider_images.mnist.train"]
    for name, value in (("--data", data), ("--out", out), ("--epochs", epochs), ("--seed", seed)):
        if value is not None:
            command += [name, str(value)]
    raise typer.Exit(subprocess.run(command, check=False).returncode)


if __name__ == "__main__":
    main()
