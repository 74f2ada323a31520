"""The summary page of a video: pictures along it, apparent valence and arousal over time, time shares, peaks.

The page is a single file that loads nothing over the network; it holds small pictures of the people in the clip, so
it is as confidential as the clip.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.actions import ACTIONS, GAZE, SIDES, WORDS
from mien.colours import SERIES, colour
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

_TEMPLATE: Final = Path(__file__).parent / "templates" / "summary.html"
_WIDE, _LEFT, _RIGHT = 920, 46, 12
_TALL, _TOP, _BOTTOM = 150, 8, 128
"""Of the curves: height of the picture, and where 1 and -1 are; widths and heights are in units of the picture."""
_STILLS: Final = 9

_MOVES: Final = 5
"""Actions with a curve, at most."""

_VARIES: Final = 0.03
"""Least standard deviation over the stretches of an action with a curve."""


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
    """The page as text; `source` names the clip, `model` the weights, `lag` is that of the smoothed values, seconds.

    Raises:
        ExtraMissing: Jinja2 is not installed.
    """
    name, people = describe(Path(source).name), tally.shown()
    more = len(tally.people) + tally.passing - len(people)
    share = (tally.frames - tally.empty) / tally.frames if tally.frames else 0.0
    return pages.render(
        _TEMPLATE,
        "video",
        title=f"{name}: expressions over time",
        name=name,
        lead=f"{several(tally.frames, 'frame')} analysed, {share:.0%} of them with a face.",
        length=clock(tally.end),
        people_count=len(tally.people) + tally.passing,
        lag=f"{lag:g}",
        strip=_strip(tally),
        people=[_person(person, tally) for person in people],
        more=several(more, "more person", "more people") if more else "",
        cuts=[_x(cut, tally) for cut in tally.shots],
        ticks=[(_x(time, tally), clock(time).removesuffix(".0")) for time in _ticks(tally.end)],
        levels=[(value, _y(value)) for value in (-1, 0, 1)],
        shares=[(share, _y(2 * share - 1)) for share in (0, 0.5, 1)],
        wide=_WIDE,
        tall=_TALL,
        left=_LEFT,
        right=_WIDE - _RIGHT,
        faint=FAINT,
        wording=WORDING,
        model=model,
    )


def clock(seconds: float) -> str:
    """Seconds as a player shows them, with tenths: 0:07.4, 1:02:07.4."""
    tenths = round(max(0.0, seconds) * 10)
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    text = f"{rest // 10:02}.{rest % 10}"
    return f"{hours}:{minutes:02}:{text}" if hours else f"{minutes}:{text}"


def _jpeg(rgb: NDArray[np.uint8]) -> str:
    """A picture as a data address."""
    _, data = cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 82])
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()


def _x(time: float, tally: Tally) -> float:
    share = min(1.0, max(0.0, time / max(tally.end, 1e-6)))
    return round(_LEFT + (_WIDE - _LEFT - _RIGHT) * share, 1)


def _y(value: float) -> float:
    """The height at which a value in [-1, 1] is drawn."""
    return round(_TOP + (_BOTTOM - _TOP) * (1 - value) / 2, 1)


def _ticks(end: float) -> list[float]:
    """At most ten round times from 0 to the end."""
    steps = (0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400)
    step = next((step for step in steps if end / step <= 10), steps[-1])
    return [step * number for number in range(math.floor(end / step + 1e-9) + 1)]


def _strip(tally: Tally) -> dict[str, Any]:
    """Pictures with their left edges at their times, on the axis of the curves below."""
    chosen = tally.stills[:: max(1, math.ceil(len(tally.stills) / _STILLS))]
    places = [_x(time, tally) for time, _ in chosen]
    apart = min((after - before for before, after in pairwise(places)), default=_WIDE / 4)
    if len(places) > 1 and _WIDE - places[-1] < 0.6 * apart:
        del chosen[-1], places[-1]
    room = min(apart - 5, _WIDE - places[-1])
    stills = []
    for x, (time, rgb) in zip(places, chosen, strict=True):
        height, width = rgb.shape[:2]
        shown = min(room, 90 * width / height)
        high = shown * height / width
        stills.append(
            {
                "image": _jpeg(rgb),
                "x": x,
                "width": round(shown, 1),
                "height": round(high, 1),
                "base": round(high + 14, 1),
                "time": clock(time),
            }
        )
    return {
        "stills": stills,
        "height": round(max(still["base"] for still in stills) + 4),
        "label": f"{several(len(stills), 'picture')} along the clip",
    }


def _person(person: Person, tally: Tally) -> dict[str, Any]:
    valence, arousal = person.means
    leading = max(person.labels, key=person.labels.__getitem__)
    summary = (
        f"Seen for {person.seconds:.1f} s between {clock(person.first)} and {clock(person.last)}, "
        f"mostly {leading} ({_share(person, leading):.0%})"
    )
    rated = math.isfinite(valence + arousal)  # the network may not have been trained on them
    summary += f"; mean valence {signed(valence)}, mean arousal {signed(arousal)}." if rated else "."
    peaks = ((name, peak) for name, peak in person.peaks.items() if peak.portrait is not None)
    return {
        "number": person.number,
        "summary": summary,
        "curves": list(_curves(person, tally)) if rated else [],
        "actions": _actions(person, tally),
        "labels": _labels(person),
        "peaks": [_peak(name, peak) for name, peak in peaks],
    }


def _share(person: Person, label: str) -> float:
    return person.labels[label] / person.seconds if person.seconds > 0 else 0.0


def _labels(person: Person) -> list[dict[str, str]]:
    """The labels that a person shows, the one shown longest first."""
    ordered = sorted(person.labels, key=lambda label: -person.labels[label])
    shares = [100 * _share(person, label) for label in ordered]
    return [
        {
            "name": label,
            "colour": colour(label, person.labels),
            "from": f"{start:.2f}",
            "width": f"{share:.2f}",
            "time": f"{person.labels[label]:.1f}",
            "share": f"{_share(person, label):.0%}",
        }
        for label, share, start in zip(ordered, shares, accumulate(shares, initial=0.0), strict=False)
        if share > 0
    ]


def _peak(name: str, peak: Peak) -> dict[str, str]:
    value = signed(-peak.value if name == "lowest valence" else peak.value)
    if name == "strongest expression":
        value = f"{peak.value:.2f}"
    image = "" if peak.portrait is None else _jpeg(peak.portrait)
    return {"name": name, "value": value, "time": clock(peak.time), "label": peak.label, "image": image}


def _curves(person: Person, tally: Tally) -> Iterable[tuple[str, str]]:
    """Unbroken lines: (valence or arousal, points in the form of an SVG polyline)."""
    for column, name in enumerate(("valence", "arousal")):
        for points in _lines(person.curve[:, column], person, tally):
            yield name, points


def _lines(sums: NDArray[Any], person: Person, tally: Tally, low: float = -1.0) -> Iterable[str]:
    """The means over stretches as unbroken lines, from `low` at the bottom to 1 at the top."""
    counts = person.curve[:, 2]
    for stretch in _runs(counts):
        points = [
            (
                _x((index + 0.5) * tally.stretch, tally),
                _y(1 - 2 * (1 - sums[index] / counts[index]) / (1 - low)),
            )
            for index in stretch
        ]
        if len(points) == 1:
            points.append((points[0][0] + 2, points[0][1]))
        yield " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _actions(person: Person, tally: Tally) -> list[dict[str, Any]]:
    """The movements that vary most over time, each with its colour and its lines; the mean of both sides.

    Where a person looks is left out: it says little of the expression and varies more than most.
    """
    seen = person.curve[:, 2] > 0
    sums = {
        name: person.actions[:, [ACTIONS.index(side) for side in sides]].mean(axis=1)
        for name, sides in SIDES.items()
        if not name.startswith(GAZE)
    }
    spread = {name: float((some[seen] / person.curve[seen, 2]).std()) for name, some in sums.items()}
    moved = sorted((name for name in sums if spread[name] >= _VARIES), key=lambda name: -spread[name])[
        :_MOVES
    ]
    return [
        {
            "name": name,
            "words": WORDS[name],
            "colour": colour,
            "lines": list(_lines(sums[name], person, tally, low=0.0)),
        }
        for name, colour in zip(moved, SERIES, strict=False)
    ]


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
