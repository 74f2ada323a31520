"""The notebook runs from top to bottom, and what is committed of it is small and names no machine."""

from __future__ import annotations

import re
import shutil
import warnings
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NOTEBOOK = ROOT / "examples" / "first-steps.ipynb"


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
        client = nbclient.NotebookClient(
            notebook, timeout=300, resources={"metadata": {"path": str(tmp_path / "examples")}}
        )
        client.execute()  # raises CellExecutionError with the cell's traceback
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    pictures = [output for output in outputs if "image/jpeg" in output.get("data", {})]
    assert len(pictures) == 4
    warned = [output["text"] for output in outputs if output.get("name") == "stderr"]
    assert not [text for text in warned if "building the font cache" not in text]


def test_what_is_committed_of_the_notebook_is_small_and_names_no_machine() -> None:
    text = NOTEBOOK.read_text(encoding="utf-8")
    assert len(text) < 500_000
    assert not re.search(r"(/home/|/Users/|/root/|/tmp/|/work/)", text)
