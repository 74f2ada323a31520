"""Real people: the curves follow what two clips show. Set MIEN_DATA to a folder that holds `video/`; see docs/video.md.

`single_face.mp4` shows a man who is neutral and then smiles; `WolfgangLanger_Pexels.mp4` a woman who is sad, hides her
face in her hand, and ends in a broad smile; `face_noface.mov` the same man, and then nobody.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

import mien
from mien.faces.pipeline import Pipeline
from mien.types import Frame
from mien.video import analyse

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def shipped() -> Pipeline:
    return mien.load()


def clip(name: str) -> Path:
    folder = os.environ.get("MIEN_DATA")
    if folder is None or not (Path(folder) / "video" / name).is_file():
        pytest.skip(f"set MIEN_DATA to a folder that holds video/{name}")
    return Path(folder) / "video" / name


def between(frames: list[Frame], start: float, end: float, value: str) -> float:
    """Mean of a smoothed value of the first face from `start` to `end` seconds."""
    found = [
        getattr(f.faces[0].smoothed, value) for f in frames if start <= (f.time or 0.0) < end and f.faces
    ]
    return float(np.mean(found))


def test_the_mans_valence_rises_from_neutral_to_smile(shipped: Pipeline) -> None:
    frames = list(analyse(clip("single_face.mp4"), shipped))
    assert len(frames) == 72
    assert {face.person for frame in frames for face in frame.faces} == {0}
    smooth = [frame.faces[0].smoothed for frame in frames]
    times = [frame.time for frame in frames]
    # The last two frames are a fade to the next shot, in which the smile goes.
    assert spearmanr(times, [one.valence for one in smooth]).statistic >= 0.9
    assert spearmanr(times, [one.intensity for one in smooth]).statistic >= 0.9
    assert smooth[0].expression == "neutral"
    assert smooth[-5].expression == "happiness"
    assert abs(between(frames, 0, 0.4, "valence")) < 0.15
    assert between(frames, 1.5, 2.2, "valence") > 0.5


def test_the_woman_goes_from_sad_to_smiling(shipped: Pipeline) -> None:
    frames = list(analyse(clip("WolfgangLanger_Pexels.mp4"), shipped))
    assert {face.person for frame in frames for face in frame.faces} == {0}  # also behind her hand
    assert between(frames, 2, 5, "valence") < -0.3
    assert between(frames, 14, 19, "valence") > 0.5
    # Crying with the head down is calmer than laughing, and both are stronger than the pause between.
    assert between(frames, 3, 5.5, "arousal") < 0
    assert between(frames, 14, 19, "arousal") > 0.25
    pause = between(frames, 7.5, 9, "intensity")
    assert pause < between(frames, 3, 5.5, "intensity") - 0.2
    assert pause < between(frames, 14, 19, "intensity") - 0.2


def test_when_the_man_leaves_rows_go_on_without_him(shipped: Pipeline) -> None:
    frames = list(analyse(clip("face_noface.mov"), shipped))
    counts = [len(frame.faces) for frame in frames]
    gone = counts.index(0)
    assert counts == [1] * gone + [0] * (169 - gone)
    assert 65 <= gone <= 75
    assert [frame.shot for frame in frames[gone - 1 : gone + 2]] == [0, 0, 1], (
        "one frame between is of neither"
    )
