"""The notebook of docs/, run as it stands against `sibyl up`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import nbformat
import pytest
from conftest import Running
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[2] / "docs" / "quickstart.ipynb"
KERNEL = "sibyl-test"


def test_given_the_notebook_in_the_repository_when_read_then_it_holds_no_outputs() -> None:
    for cell in json.loads(NOTEBOOK.read_text())["cells"]:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


def test_given_a_running_stack_when_the_notebook_runs_then_the_drawn_digit_is_read_and_a_lie_is_caught(
    up: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A kernel of this very Python, whatever else is installed on the machine.
    spec = tmp_path / "jupyter" / "kernels" / KERNEL
    spec.mkdir(parents=True)
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (spec / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": KERNEL, "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    monkeypatch.setenv("SIBYL_DATA_DIR", str(up.folder))

    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(
        notebook, timeout=60, startup_timeout=60, kernel_name=KERNEL, resources={"metadata": {"path": str(tmp_path)}}
    ).execute()

    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    said = "".join(output["text"] for output in outputs if output.output_type == "stream")
    assert all(output.get("name") != "stderr" for output in outputs), said
    assert "fulfilled 7" in said
    assert "verified: 7" in said
    assert "a changed answer is caught" in said
    shown = [output for output in outputs if output.output_type == "display_data"]
    assert len(shown) >= 2
    assert all("image/png" in output["data"] for output in shown)
