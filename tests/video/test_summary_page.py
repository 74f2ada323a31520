"""A summary adds up, stays small however long the clip is, and its page is whole and harmless."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from mien.actions import ACTIONS
from mien.labels import EXPRESSIONS
from mien.types import Box, Detection, Frame, Landmarks, Pose, Reading, Smoothed, TrackedFace
from mien.video import summary_page
from mien.video.statistics import PEOPLE, STILLS, STRETCHES, Tally

PICTURE = np.random.default_rng(0).integers(0, 256, (36, 64, 3), dtype=np.uint8)


def face(person: int, label: str, valence: float = 0.0, arousal: float = 0.0) -> TrackedFace:
    shares = dict.fromkeys(EXPRESSIONS, 0.02) | {label: 0.86}
    return TrackedFace(
        Detection(Box(20, 5, 20, 25), 0.9),
        Landmarks(((0.0, 0.0),), 1.0),
        Pose(0, 0, 0),
        Reading(shares, valence, arousal, 0.5, False),
        0.8,
        person,
        Smoothed(shares, valence, arousal),
    )


def frame(number: int, time: float, *faces: TrackedFace, shot: int = 0) -> Frame:
    return Frame("clip.mp4", 64, 36, faces, frame=number, time=time, shot=shot, lag=0.25)


def test_times_add_up_at_any_spacing() -> None:
    tally = Tally()
    times = np.cumsum(np.random.default_rng(1).uniform(0.01, 0.3, 200))
    for number, time in enumerate(times):
        tally(frame(number, float(time), face(0, "happiness" if number < 120 else "anger")), PICTURE)
    tally.finish()
    person = tally.people[0]
    last = (times[-1]) / 199
    assert person.seconds == pytest.approx(times[-1] - times[0] + last)
    assert person.labels["happiness"] == pytest.approx(times[120] - times[0])
    assert sum(person.labels.values()) == pytest.approx(person.seconds)


def test_the_actions_that_vary_most_have_curves() -> None:
    tally = Tally()
    for number in range(1300):  # two minutes: stretches are merged
        rise = number / 1300
        values = {
            "mouthSmileLeft": rise,
            "mouthSmileRight": 0.0,
            "jawOpen": 0.9 * rise,
            "browInnerUp": 0.02 * rise,
        }
        values["eyeLookDownLeft"] = values["eyeLookDownRight"] = float(number % 400 < 200)
        one = face(0, "happiness")
        one = replace(one, reading=replace(one.reading, actions=dict.fromkeys(ACTIONS) | values))
        tally(frame(number, number / 10, one), PICTURE)
    tally.finish()
    curves = summary_page._actions(tally.people[0], tally)
    assert [curve["name"] for curve in curves] == [
        "jawOpen",
        "mouthSmile",
    ]  # 0.9, and 0.5: the mean of both sides
    assert len({curve["colour"] for curve in curves}) == 2
    (line,) = curves[0]["lines"]
    heights = [float(point.partition(",")[2]) for point in line.split()]
    assert heights[0] == pytest.approx(summary_page._y(-1), abs=0.6)  # 0 is at the bottom
    assert heights[-1] == pytest.approx(summary_page._y(2 * 0.9 - 1), abs=0.6)
    made = summary_page.html(tally, "clip.mp4", "random", 0.25)
    assert re.search(
        r'<span><svg class="swatch"[^>]*><rect[^>]*fill="#0072B2"/></svg>mouth open <small>jawOpen<', made
    )
    assert "style=" not in made, (
        "the page of the server shows it in a frame that may have no styles but its own"
    )


def test_a_run_without_actions_has_no_curves_of_them() -> None:
    tally = Tally()
    for number in range(20):
        tally(frame(number, number / 10, face(0, "happiness")), PICTURE)
    tally.finish()
    assert summary_page._actions(tally.people[0], tally) == []
    assert "facial actions that vary" not in summary_page.html(tally, "clip.mp4", "random", 0.25)


def test_a_network_without_valence_and_arousal_has_a_page_without_them() -> None:
    tally = Tally()
    unrated = face(0, "happiness", None, None)  # type: ignore[arg-type]
    for number in range(20):
        tally(frame(number, number / 10, unrated), PICTURE)
    tally.finish()
    made = summary_page.html(tally, "clip.mp4", "random", 0.25)
    assert "mean valence" not in made
    assert "<polyline" not in made


def test_peaks_are_where_the_extremes_are() -> None:
    tally = Tally()
    valences = np.sin(np.arange(300) / 20)
    for number, valence in enumerate(valences):
        tally(frame(number, number / 30, face(0, "happiness", valence, -valence / 2)), PICTURE)
    peaks = tally.people[0].peaks
    assert peaks["highest valence"].frame == valences.argmax()
    assert peaks["lowest valence"].frame == valences.argmin() == peaks["highest arousal"].frame
    assert peaks["highest valence"].portrait.shape == (112, 112, 3)  # type: ignore[union-attr]


def test_a_day_of_video_takes_no_more_room_than_a_minute() -> None:
    tally = Tally()
    sums = np.zeros(2)
    for number in range(20_000):
        values = np.sin(number / 300), np.cos(number / 500)
        sums += values
        tally(frame(number, number * 4.3, face(0, "fear", *values), shot=number // 7), PICTURE[::4, ::4])
    person = tally.people[0]
    assert person.curve.shape == (STRETCHES, 3)
    assert person.curve[:, :2].sum(axis=0) == pytest.approx(sums)  # nothing is lost when stretches are joined
    assert person.curve[:, 2].sum() == 20_000
    assert np.flatnonzero(person.curve[:, 2]).max() >= STRETCHES // 2
    assert STILLS // 2 <= len(tally.stills) <= STILLS
    assert len(tally.shots) == 1000


def test_a_crowd_is_counted_and_the_longest_seen_are_kept() -> None:
    tally = Tally()
    for number in range(300):
        regular = face(7, "neutral")
        tally(frame(number, number / 10, regular, face(100 + number, "neutral")), PICTURE)
    tally.finish()
    assert len(tally.people) <= PEOPLE
    assert len(tally.people) + tally.passing == 301
    assert tally.shown(1)[0].number == 7


class Checker(HTMLParser):
    """Collects what the page asks for, and whether its elements are closed in order."""

    VOID = ("meta", "img", "br", "image", "line", "polyline", "path", "use")

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.asked += [value or "" for name, value in attrs if name in ("src", "href", "data", "action")]
        assert tag != "script"
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.asked += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_is_whole_and_asks_for_nothing() -> None:
    tally = Tally()
    for number in range(90):
        faces = [face(0, "happiness", 0.5, 0.25)] if number < 40 or number > 60 else []
        tally(frame(number, number / 30, *faces, shot=int(number > 60)), PICTURE)
    tally.finish()
    text = summary_page.html(tally, "/there/<b>&holiday.mp4", "weights", 0.25)
    page = Checker()
    page.feed(text)
    assert page.open == []
    assert page.asked
    assert all(source.startswith("data:image/jpeg;base64,") for source in page.asked)
    assert "<b>&holiday.mp4" in page.text
    assert "/there" not in text
    assert "mostly happiness (100%); mean valence +0.50, mean arousal +0.25" in page.text
    assert summary_page.WORDING in page.text
    assert "lag 0.25 s" in page.text
    # Two appearances are two strokes, each for valence and arousal: nothing is drawn across the gap.
    assert len(re.findall("<polyline", text)) == 4


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00.0"), (7.44, "0:07.4"), (59.96, "1:00.0"), (3727.4, "1:02:07.4")]
)
def test_clock(seconds: float, text: str) -> None:
    assert summary_page.clock(seconds) == text


def test_a_clip_of_one_frame_and_one_without_faces_have_pages(command: Callable[..., Any]) -> None:
    for faces in ((), (face(0, "anger"),)):
        tally = Tally()
        tally(frame(0, 0.0, *faces), PICTURE)
        tally.finish()
        page = Checker()
        page.feed(summary_page.html(tally, "a.mp4", "weights", 0.0))
        assert page.open == []
