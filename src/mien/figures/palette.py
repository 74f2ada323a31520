"""The common style of all figures: a colour and a marker per expression, plain axes, PNG and SVG of the same figure.

The colours are those of Okabe and Ito (2008), which can be distinguished with any common colour vision; neutral is grey
instead of their black, so that it is visible on dark backgrounds too. In greyscale prints the markers distinguish them.

Figures are made with matplotlib's objects on the Agg canvas, never with pyplot, so no global state changes, and a
server or a notebook can draw at the same time.
"""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mien.colours import SERIES
from mien.errors import ExtraMissing
from mien.io import atomic, lettering
from mien.labels import EXPRESSIONS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.legend import Legend

MARKERS: dict[str, str] = dict(zip(EXPRESSIONS, ("o", "^", "s", "v", "D", "P", "X", "*"), strict=True))
"""A matplotlib marker for each expression."""

DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (5, 2, 1, 2)))
"""Line styles used with `SERIES`, so that lines differ without colour."""

INK = "#1B1C1E"
"""Colour of text and axes. A dark page replaces it by its own text colour, see `markup`."""

PAPER = "#FEFEFD"
"""The background colour of a figure, for outlines of text. A dark page replaces it by its own."""

DENSITY = "Blues"
"""Sequential colour map of counts and shares."""

HEAT = "inferno"
"""Sequential colour map of saliency: rises in lightness, so that it works in greyscale too."""

DPI = 200
"""Dots per inch of PNG files."""

_SETTINGS = threading.Lock()


NAME_WIDTH, NAME_HEIGHT = 48.0, 10.0
"""Width in points of the longest name beside a point."""


def marker(name: str, labels: Sequence[str] = EXPRESSIONS) -> str:
    """The matplotlib marker of a label among `labels`, as in `colour`."""
    if name in MARKERS and set(labels) <= MARKERS.keys():
        return MARKERS[name]
    return tuple(MARKERS.values())[list(labels).index(name) % len(MARKERS)]


def readable(labels: Sequence[str]) -> list[str]:
    """Names of labels in a form that matplotlib can draw: missing letters and long names as in `lettering`.

    Dollar signs are escaped, so that they do not begin a formula.
    """
    own = "DejaVuSans.ttf"
    drawn = []
    for place, name in enumerate(labels):
        plain = name.isascii() or (lettering.font_file(name) or "").endswith(own)
        drawn.append(lettering.short(name).replace("$", r"\$") if plain else f"#{place}")
    return drawn


def canvas(
    width: float = 4.2, height: float = 3.6, rows: int = 1, columns: int = 1
) -> tuple[Figure, list[Axes]]:
    """A figure of `width` x `height` inches and its rows x columns axes in reading order, in the package's style.

    Raises:
        ExtraMissing: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise ExtraMissing("figures", "matplotlib") from None
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = [axis for row in figure.subplots(rows, columns, squeeze=False) for axis in row]
    for axis in axes:
        dress(axis)
    return figure, axes


def dress(axis: Axes) -> None:
    """Apply the package's style to an axis: two thin spines, unobtrusive tick marks."""
    axis.set_facecolor("none")
    for side, spine in axis.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(INK)
        spine.set_linewidth(0.8)
    axis.tick_params(colors=INK, labelsize=8, width=0.8, length=3)
    axis.xaxis.label.set(color=INK, fontsize=9)
    axis.yaxis.label.set(color=INK, fontsize=9)
    axis.title.set(color=INK, fontsize=9.5)


def legend(axis: Axes, **options: Any) -> Legend:
    """A frameless legend in the text colour."""
    return axis.legend(
        **{"frameon": False, "fontsize": 8, "labelcolor": INK, "handletextpad": 0.5, **options}
    )


def opaque(key: Legend) -> None:
    """Draw a legend's markers opaque, even if those in the plot are faint."""
    for handle in key.legend_handles:
        if handle is not None:
            handle.set_alpha(1.0)


def halo() -> list[Any]:
    """Path effects that keep a small label readable over points: a thin outline in the background colour."""
    from matplotlib.patheffects import withStroke

    return [withStroke(linewidth=2, foreground=PAPER)]


def name_points(axis: Axes, names: Sequence[str], places: Sequence[tuple[float, float]]) -> None:
    """Write a name beside each point (data coordinates); overlapping names are moved apart.

    Names at the right edge are written to the left of their points, so that they do not run into a legend. Call it
    after everything else is drawn, because it depends on the axis limits.
    """
    axis.autoscale_view()
    dots: Any = axis.transData.transform(list(places)) * 72 / axis.figure.dpi if len(places) else []
    edge = axis.transAxes.transform((1, 1))[0] * 72 / axis.figure.dpi - NAME_WIDTH
    taken: list[tuple[float, float]] = []
    for name, place, (x, y) in sorted(
        zip(names, places, dots, strict=False), key=lambda one: float(-one[2][1])
    ):
        up, beyond = 5.0, x > edge
        x -= (NAME_WIDTH + 16) * beyond
        while any(abs(x - left) < NAME_WIDTH and abs(y + up - high) < NAME_HEIGHT for left, high in taken):
            up -= 1
        taken.append((x, y + up))
        axis.annotate(
            name,
            place,
            xytext=(-8 if beyond else 8, up),
            textcoords="offset points",
            ha="right" if beyond else "left",
            fontsize=8,
            color=INK,
            zorder=6,
            path_effects=halo(),
        )


def series(index: int) -> dict[str, Any]:
    """Colour and line style of the line with this index: distinct in colour first, then also in dashes."""
    return {
        "color": SERIES[index % len(SERIES)],
        "linestyle": DASHES[(index // len(SERIES) + index) % len(DASHES)],
    }


def _written(figure: Figure, form: str, paper: str = PAPER) -> bytes:
    """The figure's bytes on a background of this colour; the same figure gives the same bytes."""
    from matplotlib import rc_context

    memory = io.BytesIO()
    # matplotlib takes the salt of its ids only from global settings, so two threads must not set them at once.
    metadata = {"Date": None} if form == "svg" else {"Software": None}
    with _SETTINGS, rc_context({"svg.hashsalt": "mien", "svg.fonttype": "path"}):
        figure.savefig(memory, format=form, dpi=DPI, metadata=metadata, facecolor=paper)
    return memory.getvalue()


FORMS: Final = ("png", "svg")
"""Suffixes of the files of a figure."""


def save(figure: Figure, stem: Path | str, forms: tuple[str, ...] = FORMS) -> tuple[Path, ...]:
    """Write `stem`.png and `stem`.svg, on a white background so that dark pages can show them; returns the paths."""
    stem = Path(stem)
    stem.parent.mkdir(parents=True, exist_ok=True)
    paths = tuple(stem.with_name(f"{stem.name}.{form}") for form in forms)
    atomic.write({path: _written(figure, form, "white") for path, form in zip(paths, forms, strict=True)})
    return paths


def markup(figure: Figure, name: str, description: str) -> str:
    """The figure as an inline `<svg>` for a page: ink follows the page's text colour, ids are unique under `name`.

    `description` is the alternative text for screen readers.
    """
    from html import escape

    text = _written(figure, "svg", "none").decode()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', text)
    text = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", text)
    text = re.sub(r'(xlink:href|href)="#([^"]+)"', rf'\1="#{name}-\2"', text)
    text = re.sub(re.escape(INK), "currentColor", text, flags=re.IGNORECASE)
    text = re.sub(re.escape(PAPER), f"var(--paper, {PAPER})", text, flags=re.IGNORECASE)
    return text.replace(
        "<svg ", f'<svg role="img" aria-label="{escape(description, quote=True)}" ', 1
    ).strip()
