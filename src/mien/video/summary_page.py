"""One page about one clip: pictures along it, apparent valence and arousal over time, time shares, peaks.

The page is a single file that asks for nothing over the network; it holds small pictures of the people in the clip, so
it is as confidential as the clip.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.colours import colour
from mien.io import atomic, pages
from mien.io.images import describe
from mien.io.pages import FAINT
from mien.io.video import VideoError
from mien.video.statistics import Peak, Person, Tally
from mien.wording import several, signed

WORDING: Final = (
    "An expression label describes what a face shows to an observer, and apparent valence and arousal how it looks; "
    "neither says what the person feels."
)

_WIDE, _LEFT, _RIGHT = 920, 46, 12
_TALL: Final = 150
_STILLS: Final = 9

_STYLE: Final = """<style>
.faces { display: flex; flex-wrap: wrap; gap: 1rem; margin: .6rem 0 1rem; }
.faces figure { margin: 0; width: 7.4rem; } .faces img { width: 100%; display: block; border-radius: 6px; }
.faces figcaption { font-size: .82rem; line-height: 1.35; } .faces b { color: var(--ink); font-weight: 600; }
.shares { display: flex; height: 1.1rem; border-radius: 4px; overflow: hidden; margin: .8rem 0 .4rem; }
.sets { display: grid; grid-template-columns: minmax(15rem, 1fr) 2fr; gap: 0 2rem; align-items: start; }
@media (max-width: 45rem) { .sets { grid-template-columns: 1fr; } }
h1 { overflow-wrap: anywhere; } figure.time { overflow-x: auto; }
figure.time svg { width: 100%; min-width: 34rem; max-width: none; }
.swatch { display: inline-block; width: .7rem; height: .7rem; border-radius: 2px; margin-right: .45rem; }
.valence { stroke: var(--accent); } .arousal { stroke: #d55e00; stroke-dasharray: 6 3; }
@media (prefers-color-scheme: dark) { .arousal { stroke: #e69f00; } }
</style>"""


def write(path: str | Path, tally: Tally, source: str, model: str, lag: float) -> None:
    """Write the page of a finished tally.

    Raises:
        VideoError: the file cannot be written.
    """
    try:
        atomic.write({Path(path): html(tally, source, model, lag).encode()})
    except OSError as problem:
        reason = (problem.strerror or str(problem)).lower()
        raise VideoError(f"{describe(path)}: cannot be written: {reason}: name another file") from None


def html(tally: Tally, source: str, model: str, lag: float) -> str:
    """The page as text; `source` names the clip, `model` the weights, `lag` is that of the smoothed values, seconds."""
    name = Path(source).name
    people = tally.shown()
    more = len(tally.people) + tally.passing - len(people)
    body = [
        _STYLE,
        f'<header><h1>{escape(describe(name))}</h1><p class="lead">{escape(_lead(tally))}</p></header><main>',
        _key(tally, lag),
        "<h2>Along the clip</h2>",
        page_figure(_strip(tally), "Pictures at the times below them. Dotted lines below mark cuts."),
    ]
    for person in people:
        body += _person(person, tally)
    if more:
        body.append(f"<p>Seen for a shorter time: {several(more, 'more person', 'more people')}.</p>")
    body += [
        "<h2>How to read this</h2><ul>",
        f"<li>{escape(WORDING)}</li>",
        f"<li>Curves, shares and peaks are of the smoothed values, which lag {lag:g} s behind the picture. "
        "The table holds the raw ones too.</li>",
        "<li>People are told apart within this clip by place and look. One person may have several numbers.</li>",
        f"</ul></main><footer>Weights: {escape(model)}. This page holds pictures of people: treat it as you treat "
        "the clip. Made with mien.</footer>",
    ]
    return pages.document(f"{describe(name)}: expressions over time", body)


def page_figure(svg: str, caption: str) -> str:
    """A figure as wide as the page."""
    return f'<figure class="time">{svg}<figcaption>{escape(caption)}</figcaption></figure>'


def clock(seconds: float) -> str:
    """Seconds as a player shows them, with tenths: 0:07.4, 1:02:07.4."""
    tenths = round(max(0.0, seconds) * 10)
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    text = f"{rest // 10:02}.{rest % 10}"
    return f"{hours}:{minutes:02}:{text}" if hours else f"{minutes}:{text}"


def _lead(tally: Tally) -> str:
    faces = tally.frames - tally.empty
    share = faces / tally.frames if tally.frames else 0.0
    return f"{several(tally.frames, 'frame')} analysed, a face in {share:.0%}."


def _key(tally: Tally, lag: float) -> str:
    facts = (
        ("Length", clock(tally.end), "minutes:seconds"),
        ("People", str(len(tally.people) + tally.passing), "told apart in this clip"),
        ("Shots", str(len(tally.shots) + 1), "parts between cuts"),
        ("Lag of smoothing", f"{lag:g} s", "the same at every frame rate"),
    )
    items = (
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}<small>{escape(note)}</small></dd></div>"
        for name, value, note in facts
    )
    return f'<dl class="key">{"".join(items)}</dl>'


def _jpeg(rgb: NDArray[np.uint8]) -> str:
    """A picture as a data address."""
    _, data = cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 82])
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()


def _x(time: float, tally: Tally) -> float:
    return _LEFT + (_WIDE - _LEFT - _RIGHT) * min(1.0, max(0.0, time / max(tally.end, 1e-6)))


def _ticks(end: float) -> list[float]:
    """At most ten round times from 0 to the end."""
    steps = (0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400)
    step = next((step for step in steps if end / step <= 10), steps[-1])
    return [step * number for number in range(math.floor(end / step + 1e-9) + 1)]


def _strip(tally: Tally) -> str:
    """Pictures whose left edges stand at their times, on the axis of the curves below."""
    stills = tally.stills
    chosen = stills[:: max(1, math.ceil(len(stills) / _STILLS))]
    places = [_x(time, tally) for time, _ in chosen]
    apart = min((after - before for before, after in pairwise(places)), default=_WIDE / 4)
    if len(places) > 1 and _WIDE - places[-1] < 0.6 * apart:
        del chosen[-1], places[-1]
    wide = min(apart - 5, _WIDE - places[-1])
    parts, tall = [], 0.0
    for x, (time, rgb) in zip(places, chosen, strict=True):
        height, width = rgb.shape[:2]
        shown = min(wide, 90 * width / height)
        high = shown * height / width
        parts.append(
            f'<image href="{_jpeg(rgb)}" x="{x:.1f}" y="0" width="{shown:.1f}" height="{high:.1f}"/>'
        )
        parts.append(
            f'<text x="{x:.1f}" y="{high + 14:.1f}" font-size="11" fill="{FAINT}">{clock(time)}</text>'
        )
        tall = max(tall, high + 18)
    return (
        f'<svg viewBox="0 0 {_WIDE} {tall:.0f}" role="img" '
        f'aria-label="{several(len(chosen), "picture")} along the clip">{"".join(parts)}</svg>'
    )


def _person(person: Person, tally: Tally) -> list[str]:
    valence, arousal = person.means
    leading = max(person.labels, key=person.labels.__getitem__)
    told = (
        f"Seen for {person.seconds:.1f} s between {clock(person.first)} and {clock(person.last)}, "
        f"mostly {leading} ({_share(person, leading):.0%})"
    )
    rated = math.isfinite(valence + arousal)  # the network may not have been trained on them
    told += f"; mean valence {signed(valence)}, mean arousal {signed(arousal)}." if rated else "."
    curves = (
        page_figure(
            _curves(person, tally, told),
            "Apparent valence (solid) and arousal (dashed), smoothed, over minutes:seconds.",
        )
        if rated
        else ""
    )
    return [
        f"<h2>Person {person.number}</h2>",
        f"<p>{escape(told)}</p>",
        curves,
        '<div class="sets">',
        f"<div>{_shares(person)}</div>",
        f'<div class="faces">{"".join(_peak(name, peak) for name, peak in person.peaks.items())}</div>',
        "</div>",
    ]


def _share(person: Person, label: str) -> float:
    return person.labels[label] / person.seconds if person.seconds > 0 else 0.0


def _shares(person: Person) -> str:
    ordered = sorted(person.labels, key=lambda label: -person.labels[label])
    kept = [label for label in ordered if person.labels[label] > 0]
    bar = "".join(
        f'<i style="width:{100 * _share(person, label):.2f}%;background:{colour(label, person.labels)}"></i>'
        for label in kept
    )
    rows = [
        (
            f'<i class="swatch" style="background:{colour(label, person.labels)}"></i>{escape(label)}',
            f"{person.labels[label]:.1f} s",
            f"{_share(person, label):.0%}",
        )
        for label in kept
    ]
    table = pages.table("Share of the time for which each label is shown.", ("label", "time", "share"), rows)
    return f'<div class="shares" aria-hidden="true">{bar}</div>{table}'


def _peak(name: str, peak: Peak) -> str:
    if peak.portrait is None:
        return ""
    value = signed(-peak.value if name == "lowest valence" else peak.value)
    if name == "strongest expression":
        value = f"{peak.value:.2f}"
    return (
        f'<figure><img src="{_jpeg(peak.portrait)}" alt="the face at its {escape(name)}">'
        f"<figcaption><b>{escape(name)}</b><br>{value} at {clock(peak.time)}<br>{escape(peak.label)}</figcaption>"
        "</figure>"
    )


def _curves(person: Person, tally: Tally, told: str) -> str:
    top, bottom = 8, _TALL - 22

    def y(value: float) -> float:
        return top + (bottom - top) * (1 - value) / 2

    parts = []
    for value in (-1, 0, 1):
        parts.append(
            f'<line x1="{_LEFT}" x2="{_WIDE - _RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}" stroke="{FAINT}" '
            f'stroke-width="{0.9 if value == 0 else 0.4}"/>'
            f'<text x="{_LEFT - 6}" y="{y(value) + 4:.1f}" font-size="11" text-anchor="end" fill="{FAINT}">'
            f"{value:+d}</text>".replace("+0", "0")
        )
    for cut in tally.shots[:200]:
        x = _x(cut, tally)
        parts.append(
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{bottom}" stroke="{FAINT}" stroke-dasharray="1 3"/>'
        )
    for time in _ticks(tally.end):
        parts.append(
            f'<text x="{_x(time, tally):.1f}" y="{_TALL - 6}" font-size="11" text-anchor="middle" fill="{FAINT}">'
            f"{clock(time).removesuffix('.0')}</text>"
        )
    counts = person.curve[:, 2]
    for column, name in enumerate(("valence", "arousal")):
        for stretch in _runs(counts):
            points = [
                (_x((index + 0.5) * tally.stretch, tally), y(person.curve[index, column] / counts[index]))
                for index in stretch
            ]
            if len(points) == 1:
                points.append((points[0][0] + 2, points[0][1]))
            line = " ".join(f"{x:.1f},{height:.1f}" for x, height in points)
            parts.append(
                f'<polyline class="{name}" points="{line}" fill="none" stroke-width="1.8" stroke-linejoin="round"/>'
            )
    label = escape(f"Valence and arousal of person {person.number} over time. {told}", quote=True)
    return f'<svg viewBox="0 0 {_WIDE} {_TALL}" role="img" aria-label="{label}">{"".join(parts)}</svg>'


def _runs(counts: NDArray[np.float64]) -> Iterable[list[int]]:
    """Stretches with frames, in unbroken runs; a single empty one, as between sparse frames, breaks none."""
    run: list[int] = []
    for index in np.flatnonzero(counts).tolist():
        if run and index - run[-1] > 2:
            yield run
            run = []
        run.append(index)
    if run:
        yield run
