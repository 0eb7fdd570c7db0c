"""One job, then the end: ``python -m provider_images.runtime run DIR`` turns DIR/job.json into DIR/results.json."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from provider_images.runtime import sandbox
from provider_images.runtime.job import JobError


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 when results.json was written, 1 with a line on stderr when the job or its model is wrong."""
    parser = argparse.ArgumentParser(prog="python -m provider_images.runtime", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="run the job in a folder")
    run.add_argument("folder", type=Path)
    run.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    run.add_argument("--memory-mb", type=int, default=4096)
    options = parser.parse_args(arguments)
    sandbox.limit_memory(options.memory_mb)
    sandbox.leave_network()
    os.environ.update(TF_CPP_MIN_LOG_LEVEL="2", ONEDNN_DEFAULT_FPMATH_MODE="STRICT")
    from provider_images.runtime.engines import ModelError, ModelShelf
    from provider_images.runtime.execute import run_folder

    try:
        run_folder(options.folder, ModelShelf(threads=options.threads, capacity=1))
    except (JobError, ModelError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
