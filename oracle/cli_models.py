"""``sibyl models``: what the registry holds, the families that are built in, and how models come into the registry."""

from __future__ import annotations

import json
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from oracle import render
from oracle.console import AsJson, DataDir, note, run

if TYPE_CHECKING:
    from rich.progress import Progress

    from oracle.catalogue import Family
    from oracle.publishing import Publication
    from oracle.settings import Settings
    from provider_images.runtime.dry_run import DryRun

PRICE = "0.0001"  # ether a prediction, unless the publisher says otherwise
QUIET_SECONDS = 10.0  # between two words about a fetch where no bar can be drawn
SHOWN = 3  # answers to a picture

app = typer.Typer(
    help="The models in the coordinator's registry, with their prices; and how to bring and publish others.",
    invoke_without_command=True,
)

Price = Annotated[
    str, typer.Option(help="What a prediction costs: in ether, or in smallest parts of --token.", show_default=True)
]


@app.callback()
def models(context: typer.Context, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """The models that the coordinator's registry holds, with their prices."""
    if context.invoked_subcommand is not None:
        if data_dir is not None or as_json:
            raise typer.BadParameter(f"put options behind the command: sibyl models {context.invoked_subcommand} ...")
        return
    from oracle.client import connect
    from oracle.settings import load_settings

    async def work() -> list[dict[str, Any]]:
        async with connect(load_settings(data_dir)) as client:
            return [
                {
                    "id": model.on_chain.model_id,
                    "name": model.name,
                    "task": model.manifest.task if model.manifest else None,
                    "price_wei" if model.on_chain.token is None else "price": model.on_chain.price,
                    "token": model.on_chain.token,
                    "active": model.on_chain.active,
                    "manifest": model.on_chain.manifest_cid.text,
                    "problem": model.problem,
                }
                for model in await client.models()
            ]

    listed = run(work())
    if as_json:
        typer.echo(json.dumps(listed))
        return
    if not listed:
        typer.echo("The registry holds no model yet.")
    for model in listed:
        state = render.plain(model["problem"]) or ("" if model["active"] else "paused by its publisher")
        price = render.money(model.get("price_wei", model.get("price")), model["token"])
        typer.echo(f"{model['id']:>4}  {model['name']:16} {model['task'] or '?':21} {price:>14}  {state}")


@app.command()
def catalogue(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """The families that are built in: where their official weights are, and whether they are here."""
    from oracle.catalogue import families, is_pulled
    from oracle.settings import load_settings

    folder = load_settings(data_dir).data_dir / "models"
    listed = [_family_facts(family, is_pulled(family, folder)) for family in families().values()]
    if as_json:
        typer.echo(json.dumps(listed))
        return
    for facts in listed:
        size, parameters = "x".join(map(str, facts["input"])), f"{facts['parameters'] / 1e6:.1f}M"
        here = "shipped" if facts["shipped"] else "here" if facts["pulled"] else ""
        digest = facts["digest"] or "no digest stated"
        typer.echo(f"{facts['name']:20} {facts['task']:21} {size:>11} {parameters:>8}  {here:8} {digest}")
        typer.echo(f"{'':20} {facts['url'] or 'in this checkout'}")


def _family_facts(family: Family, pulled: bool) -> dict[str, Any]:
    template = family.template
    return {
        "name": family.name,
        "task": template["task"],
        "input": [template["input"][side] for side in ("height", "width", "channels")],
        "parameters": template["resources"]["parameters"],
        "licence": template["licence"],
        "url": family.url or None,
        "digest": family.digest or None,
        "format": family.format,
        "shipped": family.shipped is not None,
        "pulled": pulled,
    }


@app.command()
def pull(
    name: Annotated[str, typer.Argument(help="A family, as `sibyl models catalogue` names it.")],
    source: Annotated[
        str | None,
        typer.Option("--from", metavar="FILE|CID", help="Take the weights from here, not from their own address."),
    ] = None,
    price: Annotated[str, typer.Option(help="What a prediction costs, in ether.")] = PRICE,
    no_publish: Annotated[bool, typer.Option("--no-publish", help="Bring and pin it only.")] = False,
    out: Annotated[
        Path | None, typer.Option(help="Folder of weights and manifest.", show_default="models/NAME in --data-dir")
    ] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Bring a family's official weights, check them, try the model out, and publish it."""
    from oracle import publishing
    from oracle.settings import load_settings

    settings, wei = load_settings(data_dir), render.wei(price)
    with _Shown() as shown:
        done: Publication = run(
            publishing.pull(settings, name, report=shown, source=source, out=out, price=wei, publish=not no_publish)
        )
    _say(settings, done, data_dir, as_json)


@app.command()
def check(
    manifest: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="The manifest, JSON.")],
    weights: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="Its file: .keras, .tflite, weights.")],
    picture: Annotated[
        list[Path] | None, typer.Option(exists=True, dir_okay=False, help="Have it answer this one; may be repeated.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Try a model out as a provider would run it, before anything is published."""
    from oracle import publishing

    pictures = picture or []
    draft, trial = run(publishing.check(manifest, weights, pictures))
    names = [str(path) for path in pictures] or ["a white page", "a ramp of colours", "noise"]
    if as_json:
        facts: dict[str, Any] = {"name": draft.manifest.name, **_trial_facts(trial), "pictures": []}
        for shown, answer in zip(names, trial.answers, strict=True):
            labels = [{"label": label, "score": score} for label, score in answer]
            facts["pictures"].append({"picture": shown, "labels": labels})
        typer.echo(json.dumps(facts))
        return
    typer.echo(f"{draft.manifest.name} is accepted.")
    _show_trial(trial)
    for shown, answer in zip(names, trial.answers, strict=True):
        best = ", ".join(f"{render.plain(label)} {score:.1%}" for label, score in answer[:SHOWN])
        typer.echo(f"  {render.plain(shown)}: {best or 'nothing found'}")


@app.command()
def publish(
    manifest: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="The manifest, JSON.")],
    weights: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="Its file: .keras, .tflite, weights.")],
    price: Price,
    token: Annotated[str | None, typer.Option(help="Address of an ERC-20 that it is priced in, not ether.")] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Publish a model of one's own: tried out first, then pinned, then its manifest's CID goes on-chain.

    The manifest may leave weights.bytes, weights.cid and weights.sha256 out: they are filled in.
    """
    from oracle import publishing
    from oracle.settings import load_settings

    if token is not None and not (price.isascii() and price.isdigit() and len(price) < 40):
        raise typer.BadParameter("a price in a token is a whole number of its smallest parts")
    amount = render.wei(price) if token is None else int(price)
    checked = None if token is None else render.address(token)
    settings = load_settings(data_dir)
    with _Shown() as shown:
        done: Publication = run(
            publishing.publish(settings, manifest, weights, price=amount, token=checked, report=shown)
        )
    _say(settings, done, data_dir, as_json)


def _say(settings: Settings, done: Publication, data_dir: Path | None, as_json: bool) -> None:
    """What came of it, and what to do next."""
    from oracle import publishing

    draft = done.draft
    following, warning = None, ""
    if done.number is not None:
        called = run(publishing.name_for_requests(settings, draft.manifest.name, done.number))
        there = "" if data_dir is None else f" --data-dir {shlex.quote(str(data_dir))}"
        following = f"sibyl request PICTURE --model {called} --wait{there}"
        if publishing.without_image(settings, draft.manifest):
            command = publishing.build_command(settings, draft)
            make = f"Make it, then start the oracle (`sibyl up`) anew:\n  {command}"
            warning = (
                "The oracle here runs models on Golem and has no provider image for this one: until it has, it refuses "
                f"requests for it.\n{make if command else 'docs/images.md says how one is made.'}"
            )
    if as_json:
        facts = {
            "name": draft.manifest.name,
            "model_id": done.number,
            "already_published": done.already,
            "manifest": draft.cid.text,
            "weights": {
                "path": str(draft.weights),
                "bytes": draft.facts.size,
                "sha256": draft.facts.sha256,
                "cid": draft.facts.cid.text,
            },
            "trial": None if done.trial is None else _trial_facts(done.trial),
            "warning": warning or None,
            "next": following,
        }
        typer.echo(json.dumps(facts))
        return
    if done.number is None:
        typer.echo(f"{draft.manifest.name} is here and pinned; it is not published.")
    elif done.already:
        typer.echo(f"{draft.manifest.name} is published already, as model {done.number}; nothing was sent.")
    else:
        typer.echo(f"{draft.manifest.name} is published as model {done.number}.")
    typer.echo(f"  manifest  {draft.cid}")
    typer.echo(f"  weights   {draft.facts.cid}, {draft.facts.size:,} bytes")
    typer.echo(f"  sha256    {draft.facts.sha256}")
    typer.echo(f"  licence   {render.plain(draft.manifest.document['licence'])}")
    if done.trial is not None:
        _show_trial(done.trial)
    if warning:
        typer.echo(warning)
    if following:
        typer.echo(f"Ask:   {following}")


def _trial_facts(trial: DryRun) -> dict[str, Any]:
    return {
        "engine": trial.engine,
        "decode_seconds": trial.decode_seconds,
        "inference_seconds": trial.inference_seconds,
    }


def _show_trial(trial: DryRun) -> None:
    count = len(trial.answers)
    typer.echo(
        f"  trial     {count} picture{'s' if count != 1 else ''} on {render.plain(trial.engine)}: "
        f"{trial.decode_seconds:.2f} s to decode, {trial.inference_seconds:.2f} s to answer"
    )


class _Shown:
    """Says what goes on, on standard error: a bar for what comes, on a terminal; else a word now and then."""

    def __init__(self) -> None:
        self._bar: Progress | None = None
        self._said = time.monotonic()

    def __enter__(self) -> _Shown:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def note(self, text: str) -> None:
        """A step, in words."""
        self._end()
        note(render.plain(text))

    def watch(self, done: int, total: int | None) -> None:
        """Bytes that came, and how many there will be."""
        if sys.stderr.isatty():
            self._draw(done, total)
        elif time.monotonic() > self._said + QUIET_SECONDS:
            self._said = time.monotonic()
            note(f"{done / 1e6:,.0f} MB" + (f" of {total / 1e6:,.0f} MB" if total else ""))

    def _draw(self, done: int, total: int | None) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

        if self._bar is None:
            columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
            self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
            self._bar.add_task("weights", total=total)
            self._bar.start()
        self._bar.update(self._bar.task_ids[0], completed=done, total=total)

    def _end(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
