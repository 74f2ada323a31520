"""The basic types of data: a `Record` is one labelled picture on disk, a `Batch` is the input of a training step."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mien.labels import UNLABELLED

if TYPE_CHECKING:
    pass

Split = Literal["train", "valid", "test"]


@dataclass(frozen=True, slots=True)
class Record:
    """One labelled face picture.

    Attributes:
        path: the picture's file; for a video frame, the video.
        split: "train", "valid" or "test" by the dataset's protocol.
        expression: index into `mien.labels.EXPRESSIONS`, or `UNLABELLED`.
        valence, arousal: in [-1, 1], or None.
        votes: one non-negative count or share for each of `EXPRESSIONS`, or () for none.
        subject: the person, if the set states it; video: the clip; frame: its number in the clip, from 0.
        box: (left, top, right, bottom) in pixels if the set gives one; None means detect it, or the whole picture.
        name: the dataset's own name of the picture, stable across machines; sorts and hashes file lists.
        attributes: anything else the set states, such as gender, race and age codes for subgroups.
    """

    path: Path
    split: Split
    expression: int = UNLABELLED
    valence: float | None = None
    arousal: float | None = None
    votes: tuple[float, ...] = ()
    subject: str | None = None
    video: str | None = None
    frame: int | None = None
    box: tuple[float, float, float, float] | None = None
    name: str = ""
    attributes: dict[str, Any] = field(default_factory=dict)
