"""Training data of the editors: faces, each with one requested edit and the analytic editor's result.

An analytic edit takes longer than a training step, so the edits are computed once and kept: luma windows of 64 pixels
before and after (`mien.editing.corrector.views`). Half of the faces are neutral, like most faces that are edited; the
others are spread over the expressions. An interrupted run continues after the last part written.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import cv2
import numpy as np

from mien.data.cropping import content_hashes
from mien.editing import lip_contour
from mien.editing.corrector import views
from mien.editing.editor import asked_plan
from mien.editing.geometry import FaceFrame, Geometry, covariates
from mien.editing.results import Located
from mien.editing.shading import Shading
from mien.editing.target import Target
from mien.errors import DatasetNotFound
from mien.faces.landmarker import box_of_points
from mien.io import atomic, images
from mien.labels import EXPRESSIONS, NEUTRAL
from mien.types import Box, LineProgress, Reading

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mien.data.records import Record

PART: Final = 500
"""Faces per file."""
ENLARGED: Final = 96
"""Pictures smaller than this are enlarged to it before they are edited, as `mien.evaluation.editor.benchmark` does."""
TURNED: Final = 0.25
"""Largest yaw proxy (`mien.editing.geometry.covariates`) of a face that is taken."""
STRENGTHS: Final = (0.3, 1.2)


@dataclass(frozen=True)
class Bank:
    """n faces and one edit of each.

    Attributes:
        before, after: uint8 [n, 64, 64] luma, the face and its analytic edit.
        change: float32 [n, K], the edit's change of the strengths of `ACTIVE`.
        votes: float32 [n, 8], the vote shares of `EXPRESSIONS` for the unedited face.
        target: int64 [n], the requested expression, an index into `EXPRESSIONS`.
        strength: float32 [n], the requested strength; for neutral, how much of the expression is removed.
    """

    before: NDArray[np.uint8]
    after: NDArray[np.uint8]
    change: NDArray[np.float32]
    votes: NDArray[np.float32]
    target: NDArray[np.int64]
    strength: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.before)


def build(
    folder: Path,
    records: Sequence[Record],
    points: dict[str, NDArray[np.float32]],
    count: int,
    seed: int,
    progress: LineProgress,
) -> Bank:
    """The bank in `folder`; missing parts are made.

    Args:
        folder: holds one sub-folder for each combination of the other arguments and of the geometry.
        records: labelled faces with votes, whole pictures.
        points: landmarks [P, 2] in pixels by the record's name; faces without landmarks are left out.
        count: number of faces, at most.
        seed: the seed of the choice of faces and edits.
        progress: called with lines about progress.

    Raises:
        DatasetNotFound: no record has votes and points.
    """
    from mien.editing.provenance import weights_digest

    chosen = _choose(records, points, count, seed)
    if not chosen:
        raise DatasetNotFound("no face with votes and points to learn from: check `ferplus` and `points`")
    content = content_hashes(record.path for record in chosen)
    faces = [[content[record.path], record.votes, points[record.name].tolist()] for record in chosen]
    what = json.dumps(["bank-3", weights_digest(learned=False), seed, faces])
    place = folder / hashlib.sha256(what.encode()).hexdigest()[:16]
    place.mkdir(parents=True, exist_ok=True)
    drawn_by = Geometry.load(), Shading.load()
    parts: list[dict[str, NDArray[Any]]] = []
    for number, start in enumerate(range(0, len(chosen), PART)):
        path = place / f"{number:03}.npz"
        if not path.is_file():
            made: dict[str, Any] = _part(*drawn_by, chosen[start : start + PART], points, [seed, number])
            with atomic.writing(path) as part:
                np.savez(part, **made)
            progress(f"edits drawn: {min(start + PART, len(chosen))} of {len(chosen)}")
        with np.load(path) as stored:
            parts.append({name: stored[name] for name in stored.files})
    return Bank(**{f.name: np.concatenate([part[f.name] for part in parts]) for f in fields(Bank)})


def _choose(
    records: Sequence[Record], points: dict[str, NDArray[np.float32]], count: int, seed: int
) -> list[Record]:
    """Half neutral faces; the other half alternates over the other expressions until each is used up; shuffled."""
    random = np.random.default_rng(seed)
    usable = [
        record
        for record in records
        if sum(record.votes) > 0 and record.name in points and np.isfinite(points[record.name]).all()
    ]
    usable = [usable[n] for n in random.permutation(len(usable))]
    piles: dict[int, list[Record]] = {label: [] for label in range(len(EXPRESSIONS))}
    for record in usable:
        if abs(covariates(_canonical(points[record.name]))[0]) < TURNED:
            piles[int(np.argmax(record.votes))].append(record)
    taken = piles.pop(NEUTRAL)[: count // 2]
    others = list(piles.values())
    while len(taken) < count and any(others):
        for pile in others:
            if pile and len(taken) < count:
                taken.append(pile.pop())
    return [taken[n] for n in random.permutation(len(taken))]


def _canonical(points: NDArray[Any]) -> NDArray[np.float64]:
    return FaceFrame.of(points.astype(np.float64)).to_canonical(points.astype(np.float64))


def _part(
    geometry: Geometry,
    shading: Shading,
    records: Sequence[Record],
    points: dict[str, NDArray[np.float32]],
    seed: list[int],
) -> dict[str, NDArray[Any]]:
    random = np.random.default_rng(seed)
    rows: dict[str, list[Any]] = {f.name: [] for f in fields(Bank)}
    for record in records:
        rgb, places = _enlarged(images.read(record.path), points[record.name].astype(np.float64))
        shares = np.array(record.votes) / sum(record.votes)
        # A target other than the face's expression; neutral only if the face shows one.
        own = int(np.argmax(shares))
        others = [k for k in range(len(EXPRESSIONS)) if k != own]
        asked = int(random.choice(others))
        strength = float(random.uniform(*STRENGTHS))
        if asked == NEUTRAL:
            strength = min(strength, 1.0)
        face = located(rgb, places, shares)
        target = Target.parse(EXPRESSIONS[asked])
        plan = asked_plan(geometry, face, target, strength)
        before, after = views(rgb, plan, shading, target.teeth)
        for name, value in {
            "before": before,
            "after": after,
            "change": plan.change.astype(np.float32),
            "votes": shares.astype(np.float32),
            "target": asked,
            "strength": np.float32(strength),
        }.items():
            rows[name].append(value)
    return {name: np.stack([np.asarray(value) for value in values]) for name, values in rows.items()}


def located(rgb: NDArray[np.uint8], points: NDArray[np.float64], shares: NDArray[np.float64]) -> Located:
    """A face with these landmarks [P, 2] and shares of expressions [8]."""
    left, top, right, bottom = (float(edge) for edge in box_of_points(points))
    said = {name: float(share) for name, share in zip(EXPRESSIONS, shares, strict=True)}
    reading = Reading(said, 0.0, 0.0, 1 - said["neutral"], False)
    box = Box(left, top, right - left, bottom - top)
    return Located(box, lip_contour.refine(rgb, points)[0], points, 0.0, 0.0, reading)


def _enlarged(
    rgb: NDArray[np.uint8], points: NDArray[np.float64]
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    scale = ENLARGED / min(rgb.shape[:2])
    if scale <= 1:
        return rgb, points
    large = cv2.resize(rgb, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    return np.asarray(large, np.uint8), (points + 0.5) * scale - 0.5
