"""Runs the programs that the builder needs, each within a limit of time."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from provider_images.builder.errors import BuilderError, HostUnsupported

_LAST_WORDS = 400


def run(
    command: Sequence[str | Path],
    *,
    within: float,
    environment: Mapping[str, str] | None = None,
    inherit: bool = True,
    folder: Path | None = None,
) -> str:
    """Run a program and return what it printed. ``within`` is in seconds.

    ``environment`` comes on top of ours, or with ``inherit=False`` alone.

    Raises HostUnsupported when there is no such program, BuilderError when it fails or takes too long.
    """
    name = Path(command[0]).name
    # A date in the environment would contradict the one that mksquashfs is given.
    inherited = {key: value for key, value in os.environ.items() if inherit and key != "SOURCE_DATE_EPOCH"}
    try:
        ran = subprocess.run(
            command,
            cwd=folder,
            env={**inherited, "LC_ALL": "C.UTF-8", **(environment or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=within,
            check=False,
        )
    except FileNotFoundError:
        raise HostUnsupported(f"{name} is not installed") from None
    except subprocess.TimeoutExpired:
        raise BuilderError(
            f"{name} took longer than {within:g} s", remedy="Try again when the machine or the network is less busy."
        ) from None
    if ran.returncode != 0:
        said = " ".join((ran.stderr or ran.stdout).split())[-_LAST_WORDS:]
        raise BuilderError(f"{name} failed ({ran.returncode}): {said}", remedy="Read what it said; then build again.")
    return ran.stdout
