"""The numbers of README and docs are those of the cards and reports that they come from."""

from __future__ import annotations

import re
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
    assert figures.written(1438825, ["mb"]) == "1.4 MB"
    assert figures.written(512 * 2**20, ["mib"]) == "512 MiB"
    assert figures.written(2 * 2**30, ["gib"]) == "2 GiB"
    assert figures.written(64_000_000, ["million"]) == "64 million"
    assert figures.written(10.0, ["seconds"]) == "10 s"


MEASURED = re.compile(
    r"(?<![\w.-])\d[\d,]*(?:\.\d+)?\s?"
    r"(?:%|ms\b|s\b|(?:micro|milli)?seconds?\b|minutes?\b|[kMG]i?B\b|times\b|x\b(?! \d)|per\b)"
)
"""A number with the unit of something measured."""

PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md"))
    if "reports" not in path.parts
)

STATED = {
    "docs/actions.md": {"1 %", "5 %", "5 times", "60 %", "80 %"},
    "docs/editing.md": {"1 %", "10 %", "90 %", "110 %", "3.5 %", "1.25 times", "30 minutes"},
    "docs/browser.md": {"14.2 MB", "3.7 MB"},
    "docs/datasets.md": {"2 %"},
    "docs/ethics.md": {"7 %", "3 %"},
    "docs/evaluation.md": {"5 %"},
    "docs/hardening.md": {"20 seconds", "4 GB"},
    "docs/scale.md": {"30 seconds", "85 %"},
    "docs/serving.md": {"1 GiB", "1 MB", "2 kB", "30 seconds", "200 MB"},
    "docs/ten-minutes.md": {"1 GB"},
    "docs/tutorials/photos.md": {"3 MB"},
    "docs/video.md": {"63 %"},
}
"""Facts (a law's, a published package's, arithmetic), goals, advice, limits that tests hold, and what an input of a
test states; everywhere also the 95 % of intervals."""


def prose(figures: ModuleType, page: str) -> str:
    """A page without what comes from a file, code, comments and addresses."""
    text = figures.MARK.sub("", (ROOT / page).read_text(encoding="utf-8"))
    for part in (r"^```.*?^```", r"<!--.*?-->", r"`[^`\n]*`", r"\]\([^)]*\)", r"https?://\S+"):
        text = re.sub(part, " ", text, flags=re.M | re.S)
    return text


@pytest.mark.parametrize("page", PAGES)
def test_what_was_measured_comes_from_a_file(figures: ModuleType, page: str) -> None:
    assert set(MEASURED.findall(prose(figures, page))) - STATED.get(page, set()) <= {"95 %"}
