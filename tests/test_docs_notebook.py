"""The notebook runs from top to bottom, prints what is committed of it, is small and names no machine.

`MIEN_NOTEBOOK=1 pytest tests/test_docs_notebook.py` commits what it prints now.
"""

from __future__ import annotations

import os
import re
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
NOTEBOOK = ROOT / "examples" / "first-steps.ipynb"


NUMBER = re.compile(r"[+-]?\d+\.\d+")


def printed(cell: Any) -> str:
    """What a cell prints and which tables it shows."""
    outputs = cell.get("outputs", [])
    texts = [output.get("text", "") for output in outputs if output.get("name") == "stdout"]
    return "".join(texts + [output.get("data", {}).get("text/html", "") for output in outputs])


def same(shown: str, now: str) -> None:
    """Word for word the same, numbers within 0.05: processors round differently."""
    assert NUMBER.sub("#", shown) == NUMBER.sub("#", now)
    assert list(map(float, NUMBER.findall(shown))) == pytest.approx(
        list(map(float, NUMBER.findall(now))), abs=0.05
    )


def test_a_stale_number_is_noticed() -> None:
    same("neutral (0.54), +0.80", "neutral (0.56), +0.78")
    for stale in ("neutral (0.65), +0.80", "neutral (0.54), -0.80", "anger (0.54), +0.80"):
        with pytest.raises(AssertionError):
            same(stale, "neutral (0.54), +0.80")


def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Jupyter's own packages
        nbformat = pytest.importorskip(
            "nbformat", reason="nbformat is not installed: pip install 'mien[docs]'"
        )
        nbclient = pytest.importorskip(
            "nbclient", reason="nbclient is not installed: pip install 'mien[docs]'"
        )
        pytest.importorskip("ipykernel", reason="ipykernel is not installed: pip install 'mien[docs]'")
        matplotlib = pytest.importorskip("matplotlib")
        monkeypatch.setenv(
            "MPLCONFIGDIR", matplotlib.get_cachedir()
        )  # its list of fonts takes seconds to make
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
        shutil.copytree(ROOT / "examples", tmp_path / "examples")
        notebook = nbformat.read(NOTEBOOK, as_version=4)
        nbformat.validate(notebook)
        committed = [printed(cell) for cell in notebook.cells]
        metadata = notebook.metadata.copy()
        client = nbclient.NotebookClient(
            notebook, timeout=300, resources={"metadata": {"path": str(tmp_path / "examples")}}
        )
        client.execute()  # raises CellExecutionError with the cell's traceback
    if "MIEN_NOTEBOOK" in os.environ:
        notebook.metadata = metadata
        for cell in notebook.cells:
            cell.metadata.pop("execution", None)  # times
        nbformat.write(notebook, NOTEBOOK)
    else:
        for shown, cell in zip(committed, notebook.cells, strict=True):
            same(shown, printed(cell))
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    pictures = [output for output in outputs if "image/jpeg" in output.get("data", {})]
    assert len(pictures) == 4
    warned = [output["text"] for output in outputs if output.get("name") == "stderr"]
    assert not [text for text in warned if "building the font cache" not in text]


def test_what_is_committed_of_the_notebook_is_small_and_names_no_machine() -> None:
    text = NOTEBOOK.read_text(encoding="utf-8")
    assert len(text) < 500_000
    assert not re.search(r"(/home/|/Users/|/root/|/tmp/|/work/)", text)
