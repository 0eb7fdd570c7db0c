"""The file in which anvil keeps a chain between two runs, made fit for the next one."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def prepare_state(file: Path) -> Path | None:
    """See that anvil goes on with the chain in ``file``; where a broken file was set aside. Raises OSError.

    Each anvil adds a genesis block of its own to those of the file, and which of them is block 0 after the next start
    is chance; so all but the oldest are taken out. A file that was cut off in the middle of a save is set aside as
    ``<name>.broken``, and the chain begins anew.
    """
    try:
        state = json.loads(file.read_bytes())
        born = {index: _birth(block) for index, block in enumerate(state["blocks"]) if _number(block) == 0}
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError, RecursionError):
        broken = file.with_name(f"{file.name}.broken")
        file.replace(broken)
        return broken
    if len(born) > 1:
        oldest = min(born, key=lambda index: born[index])
        state["blocks"] = [b for index, b in enumerate(state["blocks"]) if index not in born or index == oldest]
        _replace(file, state)
    return None


def _number(block: dict[str, Any]) -> int:
    return int(block["header"]["number"], 16)


def _birth(block: dict[str, Any]) -> int:
    return int(block["header"]["timestamp"], 16)


def _replace(file: Path, state: object) -> None:
    fresh = file.with_name(f"{file.name}.new")
    with fresh.open("w", encoding="utf-8") as out:
        json.dump(state, out, separators=(",", ":"))
        out.flush()
        os.fsync(out.fileno())
    fresh.replace(file)
