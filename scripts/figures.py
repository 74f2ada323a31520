"""Fills in the numbers of README and docs from the files that state them: cards of weights and reports.

    python scripts/figures.py           # writes what has changed
    python scripts/figures.py --check   # only says what differs, and exits with 1

A number in a page is between two comments, which a reader does not see:

    accuracy <!-- recogniser:metrics/accuracy = percent interval -->86.6 % [85.3, 87.7]<!-- -->

Before the colon is a card of `src/mien/weights` by its name, a JSON file below `docs`, or `package` for what the code
states (`stated_by_the_package`); behind it the keys to the value; then how it is written: `percent`, `whole` (per cent
without digits), `points` (per cent without its sign), `gain` (points with plus or minus), `gain3` (three digits with
plus or minus), `count`, `two` or `three` (digits), `degrees`, `million`, `megabytes` (of a number in MB), `mb` (10^6
bytes), `mib` or `gib` (2^20 or 2^30 bytes), `seconds`, or `plain`. With `interval` its 95 % interval follows, with
`seeds` the deviation over seeds, where they are known; `range` is the interval alone. A line must not begin with a
mark: Markdown would take the line for HTML.

`tests/test_docs_figures.py` holds every page to its files.
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
MARK = re.compile(r"<!-- ([\w./-]+):([^>]*?) = ([\w ]+) -->(.*?)<!-- -->")


def stated_by_the_package() -> dict[str, Any]:
    """Numbers that are facts of the code: counts, limits, sizes of files."""
    from mien import EXPRESSIONS, config
    from mien.actions import ACTIONS
    from mien.batch import plan
    from mien.data import protocols
    from mien.faces import detect, detector_network, pipeline
    from mien.io import images
    from mien.landmarks import POINTS
    from mien.server import live, protocol, uploads
    from mien.server.limits import Limits
    from mien.video import identities, smoothing, tracking
    from mien.web import site

    page = site.site({})

    folder = ROOT / "src" / "mien" / "weights"
    sizes = {
        path.relative_to(folder).as_posix(): path.stat().st_size
        for path in folder.rglob("*")
        if path.suffix in (".onnx", ".npz")
    }
    return {
        "expressions": len(EXPRESSIONS),
        "actions": len(ACTIONS),
        "points": len(POINTS),
        "bytes": sizes | {"editor": sum(size for name, size in sizes.items() if name.startswith("editor/"))},
        "pictures": {
            "pixels": images.MAX_PIXELS,
            "scans": images.MAX_SCANS,
            "metadata": images.MAX_METADATA,
            "brackets": config.DEEPEST,
        },
        "video": {
            "lag": smoothing.LAG,
            "shortest": tracking.SHORTEST,
            "longest": tracking.LONGEST,
            "same": identities.SAME,
            "views": identities._VIEWS,
            "people": identities._PEOPLE,
        },
        "detector": {
            "unsure": detector_network.UNSURE,
            "presence": round(pipeline.needed_presence(0.0, pipeline.PRESENCE), 4),
            "first": detect.MienDetector.first,
            "side": detect.MienDetector.side,
            "others": detect.Searching.side,
            "minimum": detect.Searching.minimum,
            "small": detect._SMALL,
        },
        "protocols": {name: protocols.load(name).expected for name in protocols.names()},
        "web": {
            "weights": sum(len(data) for name, data in page.items() if name.startswith("weights/")),
            "page": sum(
                len(data) for name, data in page.items() if not name.startswith(("weights/", "runtime/"))
            ),
        },
        "batch": {"least": plan.SMALLEST},
        "server": asdict(Limits())
        | {
            "uploads": uploads.Uploads(Limits()).most,
            "silence": uploads.SILENCE,
            "headers": protocol.HEADERS,
            "idle": live.IDLE,
        },
    }


@cache
def stated(name: str) -> Any:
    """The content of a card, of a JSON file below `docs`, or what the package states."""
    if name == "package":
        return stated_by_the_package()
    cards = {path.stem: path for path in (ROOT / "src" / "mien" / "weights").rglob("*.json")}
    path = cards.get(name) or ROOT / "docs" / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8"))


def value_of(name: str, keys: str) -> Any:
    """What a file states under keys separated by "/"; a number takes an item of a list."""
    found = stated(name)
    for key in keys.split("/"):
        found = found[int(key)] if isinstance(found, list) else found[key]
    return found


def written(value: Any, ways: list[str]) -> str:
    """A value as a page shows it."""
    way, *more = ways
    if way == "plain":
        return str(value)
    if way == "count":
        return f"{value:,}"
    if way == "seconds":
        return f"{value:g} s"
    scale, digits, unit = {
        "percent": (100, 1, " %"),
        "whole": (100, 0, " %"),
        "points": (100, 1, ""),
        "gain": (100, 1, ""),
        "gain3": (1, 3, ""),
        "two": (1, 2, ""),
        "three": (1, 3, ""),
        "degrees": (1, 1, "°"),
        "million": (1e-6, 0, " million"),
        "mb": (1e-6, 1, " MB"),
        "mib": (2**-20, 0, " MiB"),
        "gib": (2**-30, 0, " GiB"),
        "megabytes": (1, 0, " MB"),
    }[way]

    def number(one: float) -> str:
        sign = "+" if way.startswith("gain") else ""
        return f"{round(one * scale, digits) + 0.0:{sign}.{digits}f}"

    if value is None:
        return "–"
    if "range" in more:
        return f"{number(value['low'])} to {number(value['high'])}"
    known = value["mean"] if isinstance(value, dict) and "mean" in value else value
    text = number(known["value"] if isinstance(known, dict) else known)
    if "seeds" in more and value["seed_sd"] is not None:
        text += f" ± {number(value['seed_sd']).lstrip('+')}"
    text += unit
    bounded = "interval" in more and known["low"] is not None
    return text + f" [{number(known['low'])}, {number(known['high'])}]" if bounded else text


def filled(text: str) -> str:
    """A page with its numbers as the files state them now."""

    def fill(mark: re.Match[str]) -> str:
        name, keys, ways, old = mark.groups()
        return (
            mark[0].removesuffix(f"{old}<!-- -->") + f"{written(value_of(name, keys), ways.split())}<!-- -->"
        )

    return MARK.sub(fill, text)


def pages() -> list[Path]:
    """Every page that may hold such numbers."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def main() -> None:
    """Write the pages again, or with --check only name those that differ."""
    stale = [
        page
        for page in pages()
        if filled(page.read_text(encoding="utf-8")) != page.read_text(encoding="utf-8")
    ]
    for page in stale:
        print(page.relative_to(ROOT))
        if "--check" not in sys.argv:
            page.write_text(filled(page.read_text(encoding="utf-8")), encoding="utf-8")
    sys.exit(bool(stale) and "--check" in sys.argv)


if __name__ == "__main__":
    main()
