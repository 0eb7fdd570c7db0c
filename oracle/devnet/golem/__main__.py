"""The network as a process of its own: ``python -m oracle.devnet.golem --data DIR``."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from oracle.devnet.golem.network import NAMES, run_network
from oracle.errors import SibylError


async def _run(options: argparse.Namespace) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    starting = run_network(
        options.data, images=options.image, providers=options.providers, settlement=options.settlement
    )
    async with starting as network:
        sys.stdout.write(json.dumps(network.describe()) + "\n")
        sys.stdout.flush()
        waits = [asyncio.create_task(stop.wait()), asyncio.create_task(network.failed())]
        done, pending = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        for task in done:
            task.result()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the network until SIGTERM or SIGINT. Prints one JSON line with what a requestor needs when it is ready."""
    parser = argparse.ArgumentParser(
        prog="python -m oracle.devnet.golem", description="A Golem network for one machine."
    )
    parser.add_argument("--data", type=Path, required=True, help="directory for everything that outlives a run")
    parser.add_argument("--image", type=Path, nargs="+", action="extend", default=[], help="descriptors of images")
    parser.add_argument("--providers", type=int, default=3, choices=range(1, len(NAMES) + 1), help="how many providers")
    parser.add_argument("--no-settlement", dest="settlement", action="store_false", help="pay nobody on a chain")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        asyncio.run(_run(options))
    except SibylError as error:
        sys.stderr.write(f"{error}\n{error.remedy}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
