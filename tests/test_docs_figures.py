"""The numbers of README and docs are those of the cards and reports that they come from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def figures(load_script: Callable[[Path], ModuleType]) -> ModuleType:
    """`scripts/figures.py`."""
    return load_script(ROOT / "scripts" / "figures.py")


def test_every_page_says_what_its_files_state(figures: ModuleType) -> None:
    for page in figures.pages():
        text = page.read_text(encoding="utf-8")
        assert figures.filled(text) == text, f"{page.relative_to(ROOT)} is stale: run  make figures"


def test_what_is_claimed_first_comes_from_a_file(figures: ModuleType) -> None:
    """A number that stands in a page without its mark is what goes stale."""
    needed = {
        "README.md": ("recogniser:metrics/accuracy", "recogniser:metrics/calibration_error"),
        "docs/weights.md": ("recogniser:metrics/accuracy", "recogniser:metrics/macro_accuracy", "landmarks:"),
        "docs/methods/baseline.md": ("baseline-ferplus/comparison:", "methods-ferplus/ferplus-tenth:"),
        **{
            f"docs/methods/{name}.md": ("methods-ferplus/ferplus-tenth:",)
            for name in ("ke2nt", "jadfer", "cclls")
        },
        "docs/methods/cal.md": ("cal-rendered/measured:",),
        "docs/methods/meca.md": ("meca-ferplus/measured:",),
        "docs/reports/cal-rendered/README.md": ("cal-rendered/comparison:", "cal-rendered/measured:"),
        "docs/reports/meca-ferplus/README.md": ("meca-ferplus/comparison:", "meca-ferplus/measured:"),
        "docs/reports/baseline-ferplus/README.md": ("s0/report:", "s1/report:", "s2/report:"),
        "docs/reports/methods-ferplus/README.md": ("methods-ferplus/ferplus-tenth:",),
    }
    for page, sources in needed.items():
        marks = " ".join(
            f"{name}:{keys}"
            for name, keys, _, _ in figures.MARK.findall((ROOT / page).read_text(encoding="utf-8"))
        )
        assert [source for source in sources if source not in marks] == [], page


def test_a_stale_number_is_seen_and_filled_in(figures: ModuleType) -> None:
    stale = "right in <!-- recogniser:metrics/accuracy = percent interval -->12.3 % [4.5, 6.7]<!-- --> of all"
    fresh = figures.filled(stale)
    assert fresh != stale
    assert figures.filled(fresh) == fresh
    assert fresh.endswith(" of all")


def test_how_numbers_are_written(figures: ModuleType) -> None:
    value = {"value": 0.86579, "low": 0.85342, "high": 0.87722}
    change = {"mean": {"value": 0.0123}, "seed_sd": 0.0048}
    assert figures.written(change, ["gain", "seeds"]) == "+1.2 ± 0.5"
    assert figures.written(value, ["percent", "interval"]) == "86.6 % [85.3, 87.7]"
    assert figures.written({"mean": value, "seed_sd": 0.0012}, ["points", "seeds"]) == "86.6 ± 0.1"
    assert figures.written(-0.0001, ["gain"]) == "+0.0"
    assert (
        figures.written({"value": 0.0123, "low": -0.0041, "high": 0.02}, ["gain3", "range"])
        == "-0.004 to +0.020"
    )
    single = {"mean": {"value": 0.5, "low": None, "high": None}, "seed_sd": None}
    assert figures.written(single, ["points", "seeds", "interval"]) == "50.0"
    assert figures.written(None, ["three"]) == "–"
    assert figures.written(13681, ["count"]) == "13,681"
    assert figures.written(0.895, ["three"]) == "0.895"
