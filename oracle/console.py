"""What every command shares: options, how a run ends, and how it speaks to a person or to a program."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any

import typer

from oracle import render
from oracle.errors import SibylError


class _Output:
    """How this run speaks."""

    as_json = False


_output = _Output()


class _Interrupted(Exception):
    """Ctrl-C, or SIGTERM."""


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
RequestId = Annotated[str, typer.Argument(help="The request's id: 0x and 64 hex digits.")]


def fail(error: SibylError | OSError) -> None:
    """Say what went wrong: a message and a remedy, under --json as JSON on standard output."""
    if _output.as_json:
        typer.echo(json.dumps(error_facts(error)))
    else:
        complain(error)


def error_facts(error: SibylError | OSError) -> dict[str, str]:
    """An error and what to do about it, JSON-ready."""
    if isinstance(error, SibylError):
        return {"error": str(error), "remedy": error.remedy}
    message = error.strerror or str(error)
    return {
        "error": f"{error.filename}: {message}" if error.filename else message,
        "remedy": "Mend the path or its permissions, or choose another (--data-dir says where the state lives).",
    }


def complain(error: SibylError | OSError) -> None:
    """Print an error and what to do about it to standard error."""
    facts = error_facts(error)
    typer.secho(f"error: {render.plain(facts['error'])}", err=True, fg="red")
    if facts["remedy"]:
        typer.echo(f"  {render.plain(facts['remedy'])}", err=True)


def run(work: Coroutine[Any, Any, Any], *, loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None) -> Any:
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
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            return runner.run(guarded())
    except _Interrupted:
        raise typer.Exit(130) from None


def note(text: str) -> None:
    """Tell a person on standard error what goes on."""
    typer.secho(f"· {text}", err=True, dim=True)


def identifier(text: str) -> bytes:
    """A request id as typed. Raises typer.BadParameter."""
    with contextlib.suppress(ValueError):
        value = bytes.fromhex(text.removeprefix("0x"))
        if len(value) == 32:
            return value
    raise typer.BadParameter("a request id is 0x and 64 hex digits")
