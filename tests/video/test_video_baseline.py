"""A video's people are compared with their own calmest second, or with a span of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mien.video
from mien.errors import ConfigError
from mien.faces.pipeline import Pipeline
from mien.io import tables
from mien.labels import EXPRESSIONS
from mien.types import Box, Detection, Frame, Landmarks, Pose, Reading, Smoothed, TrackedFace
from mien.video.baseline import CalmestSecond, Span, parsed


def frame(
    number: int, neutral: float, jaw: float, person: int = 0, quality: float = 0.9, shot: int = 0
) -> Frame:
    """A frame of 25 a second with one face."""
    shares = dict.fromkeys(EXPRESSIONS, (1 - neutral) / 7) | {"neutral": neutral}
    reading = Reading(shares, neutral, None, 1 - neutral, False, actions={"jawOpen": jaw, "tongueOut": None})
    face = TrackedFace(
        Detection(Box(0, 0, 1, 1), 1.0), Landmarks((), 1.0), Pose(0, 0, 0), reading, quality, person,
        Smoothed(shares, neutral, None, 1 - neutral),
    )  # fmt: skip
    return Frame("clip", 9, 9, (face,), frame=number, time=number / 25, shot=shot)


def test_the_calmest_second_is_still_and_neutral() -> None:
    talking = [frame(n, 0.8, 0.3 * (n % 2)) for n in range(50)]
    resting = [frame(n, 0.9, 0.02) for n in range(50, 80)]
    smiling = [frame(n, 0.05, 0.2) for n in range(80, 130)]
    (baseline,) = CalmestSecond().of([*talking, *resting, *smiling]).values()
    assert baseline.name == "calmest 2.00-3.00 s"
    assert baseline.probabilities["neutral"] == pytest.approx(0.9)
    assert baseline.actions["jawOpen"] == pytest.approx(0.02)
    assert baseline.actions["tongueOut"] is baseline.arousal is None
    # Without the rest a neutral face that moves a little comes before a held smile, and one that moves much after it.
    for jaw, neutral in ((0.2, 0.8), (0.4, 0.05)):
        moving = [frame(n, 0.8, jaw * (n % 2)) for n in range(50)]
        (other,) = CalmestSecond().of([*moving, *smiling]).values()
        assert other.probabilities["neutral"] == pytest.approx(neutral)


def test_a_second_neither_crosses_a_cut_nor_a_gap_nor_counts_poor_faces() -> None:
    short = [frame(n, 0.9, 0) for n in range(19)]
    assert CalmestSecond().of(short) == {}  # 0.72 s
    assert CalmestSecond().of([*short, *(frame(n, 0.9, 0, shot=1) for n in range(19, 38))]) == {}
    assert CalmestSecond().of([*short, *(frame(n, 0.9, 0) for n in range(33, 48))]) == {}
    assert CalmestSecond().of(frame(n, 0.9, 0, quality=0.3) for n in range(60)) == {}
    assert len(CalmestSecond().of(frame(n, 0.9, 0) for n in range(60))) == 1
    # Of frames far apart few are enough, of two not.
    assert len(CalmestSecond().of(frame(12 * n, 0.9, 0) for n in range(4))) == 1
    assert CalmestSecond().of(frame(24 * n, 0.9, 0) for n in range(4)) == {}


def test_each_person_has_a_baseline_of_their_own() -> None:
    frames = [frame(n, 0.2 + 0.5 * (n % 2), 0, person=n % 2) for n in range(80)]
    baselines = CalmestSecond().of(frames)
    assert {number: round(one.probabilities["neutral"], 3) for number, one in baselines.items()} == {
        0: 0.2,
        1: 0.7,
    }
    del baselines[1]
    first, second = (one.relative_to(baselines).faces[0].change for one in frames[:2])
    assert first is not None
    assert first.valence == pytest.approx(0)
    assert second is None


def test_a_span_is_the_mean_within_it() -> None:
    frames = [frame(n, 0.01 * n, 0) for n in range(100)]
    (baseline,) = Span(1.0, 2.0).of(frames).values()
    assert baseline.valence == pytest.approx(0.01 * np.mean(range(25, 51)))
    assert baseline.actions == {"jawOpen": 0.0, "tongueOut": None}
    assert baseline.name == "1.00-2.00 s"
    assert Span(5.0, 6.0).of(frames) == {}


def test_what_names_a_place_in_a_video() -> None:
    span = parsed("0:02-1:00:04.5")
    assert isinstance(span, Span)
    assert (span.start, span.end) == (2.0, 3604.5)
    assert isinstance(parsed("calmest"), CalmestSecond)
    assert parsed("neutral.jpg") is parsed("2-") is None
    with pytest.raises(ConfigError, match="ends before it begins"):
        parsed("0:04-0:02")


@pytest.mark.parametrize("where", ["calmest", "0:00-0:01"])
def test_a_table_is_filled_in_at_the_end_and_resumed_alike(
    where: str,
    clip: Path,
    recogniser_file: Path,
    pipeline: Pipeline,
    command: Callable[..., Any],
    tmp_path: Path,
) -> None:
    asked = (
        "video",
        clip,
        "--weights",
        recogniser_file,
        "--threads",
        "1",
        "--every",
        "2",
        "--baseline",
        where,
    )
    ran = command(*asked, "--out", tmp_path / "faces.csv", "--json")
    assert ran.code == 0, ran.err
    rows = list(tables.load(tmp_path / "faces.csv"))
    frames = list(mien.video.analyse(clip, pipeline, every=2))
    collect = parsed(where)
    assert collect is not None
    baselines = collect.of(frames)
    assert 0 in baselines
    expected = [one.relative_to(baselines) for one in frames]
    changes = [one.faces[0].change if one.faces else None for one in expected]
    assert [row["jawOpen_change"] for row in rows] == [
        None if change is None else change.actions["jawOpen"] for change in changes
    ]
    assert [row["baseline"] for row in rows] == [
        None if change is None else change.baseline for change in changes
    ]
    assert len({row["valence_change"] for row in rows}) > 9
    assert [Frame.from_json(line) for line in ran.out.splitlines()] == [
        replace(one, source=str(clip)) for one in expected
    ]
    made = tables.made_of(tmp_path / "faces.csv")["made_with"]["baseline"]
    assert made["method"] == ("calmest" if where == "calmest" else "span")

    whole = (tmp_path / "faces.csv").read_bytes()
    ran = command(*asked, "--out", tmp_path / "faces.csv", "--resume")
    assert (ran.code, (tmp_path / "faces.csv").read_bytes()) == (0, whole)
    other = command(*asked[:-1], "0:00-0:02", "--out", tmp_path / "faces.csv", "--resume")
    assert other.code == 2
    assert "was begun with baseline" in other.err


def test_a_place_stands_alone_and_a_table_is_refused(
    clip: Path, command: Callable[..., Any], tmp_path: Path
) -> None:
    ran = command("video", clip, "--baseline", "calmest", "--baseline", "a.jpg")
    assert (ran.code, "stands alone" in ran.err) == (2, True)
    (tmp_path / "people.csv").write_text("path,person,neutral\na.jpg,anna,yes\n")
    ran = command("video", clip, "--baseline", tmp_path / "people.csv")
    assert (ran.code, "not in a video" in ran.err) == (2, True)
    assert json.dumps(ran.out) == '""'
