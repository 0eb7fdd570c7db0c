"""``sibyl api``: the REST API and the page."""

from __future__ import annotations

import gc
import json
from typing import Annotated

import typer

from oracle.console import DataDir, note, run


def api(
    data_dir: DataDir = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.", show_default="127.0.0.1")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65_535, help="Port; 0 takes a free one.", show_default="8080")
    ] = None,
) -> None:
    """Serve the REST API and the page, beside the oracle. Stops at Ctrl-C or SIGTERM."""
    import uvloop

    from oracle import telemetry
    from oracle.settings import load_settings
    from oracle.web import page_built, serving

    settings = load_settings(data_dir)
    changes = {name: value for name, value in (("api_host", host), ("api_port", port)) if value is not None}
    settings = settings.model_copy(update=changes)
    telemetry.configure(settings.log_level, as_json=settings.log_json)
    if not page_built(settings.page_dir):
        note(f"the page is not built ({settings.page_dir}): `make page` does so; the API serves without it")

    async def work() -> None:
        async with serving(settings) as (url, ended):
            # A full look for garbage stopped every answer for 0.1 s: now what is there for good is left out, and a
            # burst of small things, such as figures are made of, starts none.
            gc.collect()
            gc.freeze()
            gc.set_threshold(5_000, 10, 10)
            typer.echo(json.dumps({"ready": True, "api_url": url}))
            await ended()

    try:
        run(work(), loop_factory=uvloop.new_event_loop)
    except typer.Exit:
        raise typer.Exit(0) from None
