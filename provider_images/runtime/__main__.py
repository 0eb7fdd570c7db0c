"""The commands of a provider's image.

``start`` brings up the resident model process and prints what this machine is worth, as one line of JSON.
``run TASK.tar RESULT.json`` has it do a job, and starts it when it is not there.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from provider_images.runtime.client import Client, ResidentError

WORK = Path("/golem/work")


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 when it is done, 1 with a line on stderr when it is not."""
    parser = argparse.ArgumentParser(prog="python -m provider_images.runtime", description=__doc__)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--work", type=Path, default=WORK, help="the activity's volume")
    common.add_argument("--memory-mb", type=int, default=4096, help="limit of the model process")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("start", parents=[common])
    run = commands.add_parser("run", parents=[common])
    run.add_argument("task", type=Path)
    run.add_argument("result", type=Path)
    options = parser.parse_args(arguments)
    client = Client(options.work.absolute(), memory_mb=options.memory_mb)
    try:
        if options.command == "start":
            reply = client.ask({"op": "start"})
            del reply["ok"]
            sys.stdout.write(json.dumps(reply) + "\n")
        else:
            # Whatever goes wrong, the result of an earlier run must not be taken for this one's.
            options.result.unlink(missing_ok=True)
            client.ask({"op": "task", "tar": str(options.task.absolute()), "result": str(options.result.absolute())})
    except (ResidentError, OSError) as error:
        sys.stderr.write(" ".join(str(error).split()) + "\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
