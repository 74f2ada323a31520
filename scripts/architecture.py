"""Draws how the package is built, from its imports and the contract `floors`: docs/images/architecture.svg.

    python scripts/architecture.py      # writes the picture

Each box is a folder of `src/mien`; an arrow means "imports". Only direct ways are drawn: `video` also
imports `io`, but so does `faces`, which it imports. Imports that the contract tolerates for now are left out.
`tests/test_docs_architecture.py` compares the picture with the code.
"""

from __future__ import annotations

import re
from html import escape
from pathlib import Path

import grimp
import tomllib

ROOT = Path(__file__).parent.parent
PICTURE = ROOT / "docs" / "images" / "architecture.svg"

WIDTH, HEIGHT = 150, 34  # of a box, pixels
STEP = 64  # from one row to the next
LEFT, TOP, MARGIN = 24, 26, 14

STYLE = """<style>
text { font: 13px system-ui, -apple-system, "Segoe UI", Arial, sans-serif; text-anchor: middle; fill: #1b1c1e }
.half { font-size: 12px; fill: #5a5e66 } .panel { fill: #f3f4f6 } .box { fill: #fefefd; stroke: #8a8d93 }
.arrow { fill: none; stroke: #5a5e66; stroke-width: 1.2; marker-end: url(#head) } .head { fill: #5a5e66 }
</style>
<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">
<path class="head" d="M0 0L8 4L0 8z"/></marker></defs>"""


def contracts() -> tuple[list[list[str]], set[str], set[tuple[str, str]]]:
    """The folders of each layer, top first; those of the core; and the imports that the contract tolerates."""
    linter = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    floors, core = linter["contracts"][:2]
    layers = [
        [name.removeprefix("mien.") for name in re.split(r" [|:] ", layer)] for layer in floors["layers"]
    ]
    folders = [[name for name in layer if (ROOT / "src" / "mien" / name).is_dir()] for layer in layers]
    tolerated = {tuple(line.split(" -> ")) for line in floors.get("ignore_imports", ())}
    return (
        [layer for layer in folders if layer],
        {name.removeprefix("mien.") for name in core["source_modules"]},
        {(first, second) for first, second in tolerated},
    )


def imports(folders: set[str], tolerated: set[tuple[str, str]]) -> dict[str, set[str]]:
    """Which folders each folder imports, from the code; annotations count."""
    graph = grimp.build_graph("mien", cache_dir=None)
    for first, second in tolerated:
        graph.remove_import(importer=first, imported=second)
    for name in folders:
        graph.squash_module(f"mien.{name}")
    return {
        name: {
            other.removeprefix("mien.")
            for other in graph.find_modules_directly_imported_by(f"mien.{name}")
            if other.removeprefix("mien.") in folders - {name}
        }
        for name in folders
    }


def arrows(found: dict[str, set[str]]) -> list[tuple[str, str]]:
    """The imports that no chain of other imports says."""

    def reached(start: str, left_out: str) -> set[str]:
        seen: set[str] = set()
        waiting = [name for name in found[start] if name != left_out]
        while waiting:
            name = waiting.pop()
            if name not in seen:
                seen.add(name)
                waiting += found[name]
        return seen

    return sorted((one, other) for one in found for other in found[one] if other not in reached(one, other))


def picture() -> str:
    """The SVG: the core on the left, the lab on the right, what imports further up."""
    layers, core, tolerated = contracts()
    above, *halves = layers
    columns = [
        [layer for layer in halves if layer[0] in core],
        [layer for layer in halves if layer[0] not in core],
    ]
    rows = max(map(len, columns))
    place: dict[str, tuple[float, float]] = {}
    panels, x = [], LEFT
    for title, column in zip(("core: runs without torch", "lab: needs torch"), columns, strict=True):
        across = max(map(len, column))
        wide = across * WIDTH + (across + 1) * MARGIN
        high = TOP + rows * STEP
        panels.append(f'<rect class="panel" x="{x}" y="{STEP}" width="{wide}" height="{high}" rx="8"/>')
        panels.append(f'<text class="half" x="{x + wide / 2:g}" y="{STEP + high - 10}">{title}</text>')
        for row, layer in enumerate(reversed(column)):
            gap = (wide - len(layer) * WIDTH) / (len(layer) + 1)
            for index, name in enumerate(layer):
                middle = x + gap * (index + 1) + WIDTH * (index + 0.5)
                place[name] = middle, STEP + (rows - row - 0.5) * STEP
        x += wide + 3 * LEFT
    width, height = x - 2 * LEFT, STEP + TOP + rows * STEP + LEFT
    for name in above:
        place[name] = width / 2, STEP / 2 - 8
    lines = [_arrow(place[one], place[other]) for one, other in arrows(imports(set(place), tolerated))]
    boxes = [
        f'<rect class="box" x="{x - WIDTH / 2:g}" y="{y - HEIGHT / 2:g}" width="{WIDTH}" height="{HEIGHT}" rx="5"/>'
        f'<text x="{x:g}" y="{y + 4:g}">{escape(name)}</text>'
        for name, (x, y) in place.items()
    ]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" role="img">',
            "<title>The folders of mien and what they import</title>",
            STYLE,
            f'<rect width="{width}" height="{height}" fill="#fefefd"/>',
            *panels,
            *lines,
            *boxes,
            "</svg>\n",
        ]
    )


def _arrow(start: tuple[float, float], end: tuple[float, float]) -> str:
    """An arrow between two boxes: down to the next row, across to the other half, or round the boxes between."""
    (x, y), (to_x, to_y) = start, end
    if abs(x - to_x) > 1.5 * WIDTH and y > STEP:
        x, to_x, bend = x - WIDTH / 2, to_x + WIDTH / 2, LEFT * 2
        path = f"M{x:g} {y:g}C{x - bend:g} {y:g} {to_x + bend:g} {to_y:g} {to_x:g} {to_y:g}"
    elif to_y - y > STEP and y > STEP:
        x, to_x = x + WIDTH / 2, to_x + WIDTH / 2
        bend = max(x, to_x) + LEFT
        path = f"M{x:g} {y:g}C{bend:g} {y:g} {bend:g} {to_y:g} {to_x:g} {to_y:g}"
    else:
        y, to_y = y + HEIGHT / 2, to_y - HEIGHT / 2
        bend = (to_y - y) / 2
        path = f"M{x:g} {y:g}C{x:g} {y + bend:g} {to_x:g} {to_y - bend:g} {to_x:g} {to_y:g}"
    return f'<path class="arrow" d="{path}"/>'


if __name__ == "__main__":
    PICTURE.write_text(picture(), encoding="utf-8")
