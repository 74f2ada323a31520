"""A method can be read to the end: few files, few lines; and every method's own norms stay live."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch.nn.modules.batchnorm import _BatchNorm

from mien.methods import ABLATIONS, METHODS, build
from mien.training import initialise


@pytest.fixture(scope="module")
def pages(load_script: Callable[[Path], ModuleType]) -> ModuleType:
    """`scripts/method_pages.py`."""
    return load_script(Path(__file__).parents[2] / "scripts" / "method_pages.py")


@pytest.mark.parametrize("paper", ABLATIONS)
def test_a_methods_page_of_code_can_be_finished(paper: str, pages: ModuleType) -> None:
    assert set(pages.PAPERS) == set(ABLATIONS)
    files = pages.page(paper)
    assert len(files) <= pages.FILES, files
    assert sum(files.values()) <= pages.LINES, files
    assert next(iter(files)) == f"mien/methods/{paper}.py"
    others = {f"mien/methods/{other}.py" for other in pages.PAPERS if other != paper}
    assert not others & set(files)


def test_imports_are_followed_through_annotations_and_not_into_functions(
    pages: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "mien"
    package.mkdir()
    lines = [
        "from mien import one",
        "if TYPE_CHECKING:",
        "    from mien.two import Word",
        "def call():",
        "    import mien.three",
        "import mien.four, numpy",
    ]
    for name in ("one", "two", "three", "four"):
        (package / f"{name}.py").write_text("")
    (package / "page.py").write_text("\n".join(lines))
    monkeypatch.setattr(pages, "ROOT", tmp_path)
    assert {path.stem for path in pages.imported(package / "page.py")} == {"one", "two", "four"}


@pytest.mark.parametrize("name", METHODS)
def test_frozen_norms_are_the_backbones_alone(name: str, drawn) -> None:
    """A method's own norms follow the batch with `norms: frozen` too: they begin on random layers."""
    torch.manual_seed(0)
    options = {"cclls": {"layer_weights": [0.1, 0.1, 0.1]}, "ke2nt": {"projection": "double"}}.get(name, {})
    method = build({"name": name, "backbone": "mobilefacenet", **options}, 64).train()
    initialise.freeze_norms(method)
    norms = {key: one for key, one in method.named_modules() if isinstance(one, _BatchNorm)}
    before = {key: one.running_mean.clone() for key, one in norms.items()}
    batch = drawn(8)
    for turn in method.turns:
        method(batch, turn)
    for key, norm in norms.items():
        frozen = key.startswith("backbone.")
        assert norm.training != frozen, key
        assert torch.equal(norm.running_mean, before[key]) == frozen, key
    own = {
        "ke2nt": 2,
        "jadfer": 4,
        "cclls": 5,
        "cal": 1,
    }  # projections, paths, fusion with four summaries, features
    assert sum(not key.startswith("backbone.") for key in norms) == own.get(name, 0)
