"""The palette can be told apart with any common colour vision and without colour; files are deterministic."""

from __future__ import annotations

import re
import threading
from itertools import combinations

import numpy as np
import pytest

from mien.colours import COLOURS
from mien.figures import palette
from mien.labels import EXPRESSIONS

# Machado, Oliveira & Fernandes 2009, severity 1, on linear RGB.
VISION = {
    "usual": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}


def linear(colour: str) -> np.ndarray:
    """#RRGGBB in linear RGB."""
    values = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    """Linear RGB in CIE L*a*b* under D65."""
    matrix = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = matrix @ np.clip(rgb, 0, 1) / np.array([0.9505, 1.0, 1.089])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("vision", VISION)
def test_expression_colours_stay_apart(vision: str) -> None:
    seen = {name: lab(VISION[vision] @ linear(COLOURS[name])) for name in EXPRESSIONS}
    gaps = {(a, b): float(np.linalg.norm(seen[a] - seen[b])) for a, b in combinations(EXPRESSIONS, 2)}
    close = min(gaps, key=gaps.__getitem__)
    assert gaps[close] > 14, f"{close} look alike with {vision}: {gaps[close]:.1f}"


def test_markers_tell_expressions_apart_without_colour() -> None:
    assert set(palette.MARKERS) == set(COLOURS) == set(EXPRESSIONS)
    assert len(set(palette.MARKERS.values())) == len(EXPRESSIONS)


def test_lines_differ_in_dashes_too() -> None:
    styles = [palette.series(i) for i in range(8)]
    assert len({style["color"] for style in styles}) == 8
    assert styles[0]["linestyle"] != styles[1]["linestyle"]


def plain():
    """A small figure."""
    figure, (axis,) = palette.canvas(2, 2)
    axis.plot([0, 1], [0, 1], "o-", label="line")
    axis.text(0.5, 0.5, "here", path_effects=palette.halo())
    palette.legend(axis)
    return figure


def test_the_same_figure_gives_the_same_bytes(tmp_path) -> None:
    first, second = palette.save(plain(), tmp_path / "a"), palette.save(plain(), tmp_path / "b")
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()
    assert [path.suffix for path in first] == [".png", ".svg"]


def test_two_figures_on_one_page_share_no_id_and_follow_the_ink() -> None:
    one, two = palette.markup(plain(), "one", "a line"), palette.markup(plain(), "two", 'a "second" line')
    ids = [set(re.findall(r'\bid="([^"]+)"', text)) for text in (one, two)]
    assert ids[0]
    assert not ids[0] & ids[1]
    for text, own in zip((one, two), ids, strict=True):
        assert set(re.findall(r'href="#([^"]+)"', text)) | set(re.findall(r"url\(#([^)]+)\)", text)) <= own
        assert palette.INK.lower() not in text.lower()
        assert "currentColor" in text
        assert f"stroke: var(--paper, {palette.PAPER})" in text
        assert "#ffffff" not in text.lower(), "a white ground would hide the ink of a dark page"
    assert 'aria-label="a &quot;second&quot; line"' in two


def test_drawing_touches_no_global_state() -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    done: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: done.append(palette.markup(plain(), "x", "y").encode()))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert done[0] == done[1]
    assert dict(matplotlib.rcParams) == before


def test_names_at_the_right_edge_stay_out_of_the_legend() -> None:
    _, (axis,) = palette.canvas(5.2, 4.2)
    axis.set(xlim=(0, 1), ylim=(0, 1))
    axis.autoscale(False)
    palette.name_points(axis, ["middle", "edge"], [(0.5, 0.5), (0.99, 0.5)])
    sides = {note.get_text(): (note.get_ha(), note.get_position()[0]) for note in axis.texts}
    assert sides == {"middle": ("left", 8), "edge": ("right", -8)}


def test_svg_files_have_a_background_and_inline_ones_follow_the_page(tmp_path) -> None:
    figure, (axis,) = palette.canvas()
    axis.plot([0, 1], [0, 1])
    svg = next(path for path in palette.save(figure, tmp_path / "a") if path.suffix == ".svg").read_text()
    assert "fill: #ffffff" in svg
    assert "fill: #ffffff" not in palette.markup(figure, "a", "a line")


def test_names_of_points_in_one_place_do_not_cover_each_other() -> None:
    figure, (axis,) = palette.canvas(4, 4)
    axis.plot([0, 10], [0, 10], ".")
    palette.name_points(axis, ["anger", "disgust", "fear"], [(5.0, 5.0), (5.0, 5.1), (0.0, 0.0)])
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in axis.texts]
    assert [text.get_text() for text in axis.texts] == ["disgust", "anger", "fear"]
    assert not any(a.overlaps(b) for a, b in combinations(boxes, 2))
