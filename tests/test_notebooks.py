"""Every notebook runs from top to bottom, and what it shows was made by its own code."""

import json
import os
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def kernel_of_these_tests(folder: Path) -> str:
    """Describe a kernel that runs this interpreter, whatever kernels the machine knows; name it."""
    kernel = folder / "kernels" / "mainspring"
    kernel.mkdir(parents=True)
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    description = {"argv": command, "display_name": "Mainspring", "language": "python"}
    (kernel / "kernel.json").write_text(json.dumps(description))
    return kernel.name


def test_there_are_notebooks() -> None:
    assert NOTEBOOKS


@pytest.mark.end_to_end
@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_a_notebook_runs_and_shows_a_figure(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    notebook = nbformat.read(file, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = []

    client = NotebookClient(
        notebook,
        timeout=600,
        kernel_name=kernel_of_these_tests(tmp_path),
        resources={"metadata": {"path": str(ROOT / "notebooks")}},
    )
    client.execute()

    outputs = [out for cell in notebook.cells for out in cell.get("outputs", [])]
    assert not [out for out in outputs if out.output_type == "error"]
    assert [out for out in outputs if "image/png" in out.get("data", {})]
