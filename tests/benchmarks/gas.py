"""``make bench-gas``: what each transaction of the coordinator costs, beside what others' cost.

forge runs ``GasTest`` with every call in a transaction of its own (``--isolate``); the figures are whole transactions.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from tests.benchmarks.machine import machine

ROOT = Path(__file__).resolve().parents[2]
LIMITS = {
    "request_contract": 72_000,
    "request_wallet": 60_000,
    "fulfil_one_empty": 52_000,
    "fulfil_16_empty_each": 18_500,
    "fulfil_16_none_each": 16_000,
    "refund": 42_000,
    "cancel": 42_000,
}
OTHERS = {
    "request_contract": "Pyth Entropy 103,110; Infernet 178,048; Chainlink Functions 180,333; ORA 224,305",
    "fulfil_one_empty": "Pyth Entropy 67,898; ORA 71,048",
    "fulfil_16_empty_each": "Chainlink Functions 42,895; Boundless 42,900",
    "refund": "58,382",
}


def measure() -> dict[str, int]:
    """Gas by name. Raises SystemExit when forge fails, a figure above its bound included."""
    run = subprocess.run(
        ["scripts/forge", "test", "--match-contract", "^GasTest$", "-vv"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=900,
        env=os.environ | {"FOUNDRY_PROFILE": "default", "NO_COLOR": "1"},
    )
    if run.returncode != 0:
        raise SystemExit(run.stdout[-4000:] + run.stderr[-2000:])
    return {name: int(gas) for name, gas in re.findall(r"^  (\w+): (\d+)$", run.stdout, re.MULTILINE)}


def main() -> None:
    """Print the table, the machine and one line of JSON."""
    figures = measure()
    missing = LIMITS.keys() - figures.keys()
    if missing:
        raise SystemExit(f"forge printed no figure for {', '.join(sorted(missing))}")
    names = [*LIMITS, *sorted(figures.keys() - LIMITS.keys())]
    print(f"{'gas of a whole transaction':36} {'here':>8} {'at most':>8}  others")
    for name in names:
        limit = f"{LIMITS[name]:,}" if name in LIMITS else ""
        print(f"{name:36} {figures[name]:>8,} {limit:>8}  {OTHERS.get(name, '')}".rstrip())
    versions = json.loads((ROOT / "package.json").read_text())["devDependencies"]
    print(machine())
    print(", ".join(f"{name} {versions[name]}" for name in ("solc", "@foundry-rs/forge", "@openzeppelin/contracts")))
    print(json.dumps({name: figures[name] for name in names}))


if __name__ == "__main__":
    sys.exit(main())
