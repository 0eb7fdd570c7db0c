"""``sibyl demo``: the main job from one command."""

from __future__ import annotations

import json

from conftest import run_sibyl


def test_given_a_fresh_folder_when_the_demo_runs_then_every_request_ends_and_the_last_line_says_so() -> None:
    done = run_sibyl("demo", timeout=110)
    assert done.returncode == 0, done.stderr
    *lines, last = done.stdout.splitlines()
    summary = json.loads(last)
    assert summary["requests"] == 12
    assert (summary["fulfilled"], summary["refunded"]) == (9, 3)
    assert (summary["lost"], summary["wrong"]) == (0, 0)
    assert summary["gas_request"] > 21_000
    assert summary["gas_fulfil_per_item"] > 10_000
    text = "\n".join(lines)
    assert text.count("✓") == 9
    assert "does not name a whole, readable picture" in text
    assert "nobody here can run this model" in text
    assert "refunded" in text
