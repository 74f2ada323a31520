"""Measure the accuracy of a network of actions: the figures on its card.

- on renderings of unseen people: Pearson's correlation with the exact values, and the slope of the regression of the
  exact value on the answer (1: the answers have the right size);
- on photographs of unseen people: Pearson's correlation with the teacher, beside the teacher's correlation with itself
  on a shifted square, which bounds it;
- on people with a neutral and a smiling picture: how much units rise, as a paired effect size (the mean change over its
  standard deviation); and the difference between a mirrored picture's actions and the mirrored actions.

Correlations of an action that hardly varies in a set are meaningless and left out.

Tests: tests/training/actions/test_train.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mien.actions import ACTIONS, LIDS, MIRROR, SHUT, units
from mien.errors import DatasetNotFound
from mien.faces import pipeline
from mien.faces.action_reader import ActionReader
from mien.io import images
from mien.training.actions.draws import middle
from mien.training.actions.faces import ActionFaces

Floats = NDArray[Any]  # float32 or float64

VARIES: Final = 0.02
"""Smallest standard deviation of an action in a set for which its correlation is given."""

RELIABLE: Final = 0.9
"""Smallest correlation of the teacher with itself at which its answers are used as ground truth."""

SMILE: Final = ("AU12", "AU06", "AU25")
"""Units that rise in a smile."""


def pearson(one: Floats, other: Floats) -> Floats:
    """Pearson's correlation [52] of each column of two [n, 52]; NaN where a column of `other` hardly varies."""
    result = np.full(one.shape[1], np.nan)
    for column, (x, y) in enumerate(zip(one.T, other.T, strict=True)):
        known = np.isfinite(x) & np.isfinite(y)
        if known.sum() > 2 and y[known].std() > VARIES and x[known].std() > 1e-6:
            result[column] = np.corrcoef(x[known], y[known])[0, 1]
    return result


def slope(said: Floats, exact: Floats) -> Floats:
    """The slope [52] of the regression of the exact values on the answers [n, 52]; NaN likewise."""
    return np.asarray(pearson(said, exact) * exact.std(axis=0) / np.maximum(said.std(axis=0), 1e-6))


def answers(network: Callable[[Any], Any], faces: ActionFaces) -> tuple[Floats, Floats]:
    """The actions [n, 52] and gaze [n, 2] that a network (a session's `run` with its inputs by name) answers for stored
    faces, without augmentation."""
    crops, values = middle(faces.crops), [(np.empty((0, len(ACTIONS))), np.empty((0, 2)))]
    for first in range(0, len(faces), 64):
        rows = slice(first, first + 64)
        values.append(network({"crops": crops[rows], "points": faces.points[rows]}))
    actions, gaze = (np.concatenate(part) for part in zip(*values, strict=True))
    return actions, gaze


def figures(network: Callable[[Any], Any], held: Mapping[str, ActionFaces]) -> dict[str, dict[str, Any]]:
    """The figures of each held-out set: `n`, `pearson` and, by kind, `slope`, `retest` or `teacher` as [52] arrays."""
    result: dict[str, dict[str, Any]] = {}
    for name, faces in held.items():
        said, gaze = answers(network, faces)
        result[name] = {"n": len(faces), "pearson": pearson(said, faces.actions)}
        open_eyes = np.isfinite(faces.gaze).all(axis=1) & ~(faces.actions[:, LIDS].mean(axis=1) > SHUT)
        if open_eyes.any():
            result[name]["gaze"] = _apart(gaze[open_eyes], faces.gaze[open_eyes])
        if name.startswith("rendered"):
            result[name]["slope"] = slope(said, faces.actions)
            result[name]["teacher"] = pearson(faces.again, faces.actions)
        else:
            result[name]["retest"] = pearson(faces.again, faces.actions)
    return result


def people(reader: ActionReader, root: Path) -> dict[str, Any]:
    """Measure a reader of all actions on people who have a picture in `neutral/` and one in `smiling/`.

    A person is identified by the part of the file name before the first underscore.

    Returns:
        `people`, `smile` with a paired effect size and its 95 % bootstrap interval for each of `SMILE`, and `mirror`
        with the mean and the largest mean difference of an action between a picture and its mirror image.

    Raises:
        DatasetNotFound: there are no such pictures.
    """
    neutral, smiling = (
        {path.name.split("_")[0]: path for path in sorted((root / kind).glob("*.jpg"))}
        for kind in ("neutral", "smiling")
    )
    both = sorted(neutral.keys() & smiling.keys())
    if len(both) < 2:
        raise DatasetNotFound(
            f"{root}: no people with a picture in neutral/ and in smiling/: leave 'people' out"
        )
    find = pipeline.load(actions=False, threads=1).find
    changes, mirrored, gazes = [], [], []
    for person in both:
        rows = []
        for path in (neutral[person], smiling[person]):
            picture = images.read(path)
            plain, other = _one(find, reader, picture), _one(find, reader, picture[:, ::-1])
            if plain is not None and other is not None:
                mirrored.append(abs(other[0][MIRROR] - plain[0]))
            if plain is not None:
                rows.append(units(_named(plain[0])))
                gazes.append(plain[1])
        if len(rows) == 2:
            changes.append([float(rows[1][name] or 0) - float(rows[0][name] or 0) for name in SMILE])
    differences = np.stack(mirrored).mean(axis=0)[reader.measured]
    return {
        "people": len(changes),
        "smile": {name: _effect(change) for name, change in zip(SMILE, np.array(changes).T, strict=True)},
        "mirror": {
            "mean": round(float(differences.mean()), 4),
            "largest": round(float(differences.max()), 4),
            "of": np.array(ACTIONS)[reader.measured][differences.argmax()].item(),
        },
        "gaze": _apart(seen := np.array(gazes)[np.isfinite(gazes).all(axis=1)], np.zeros_like(seen)),
    }


def _one(find: Callable[[Any], Any], reader: ActionReader, picture: Any) -> tuple[Floats, Floats] | None:
    """The actions [52] and gaze [2] of the largest face of a picture."""
    faces = find(np.ascontiguousarray(picture))
    if not faces:
        return None
    actions, gaze, _ = reader(faces[0][-1][None], np.array(faces[0][1].points)[None])
    return actions[0], gaze[0]


def apart(one: Floats, other: Floats) -> Floats:
    """The angle [n] in degrees between directions [n, 2] of (yaw, pitch) in degrees."""
    (x, y), (u, v) = np.radians(one).T, np.radians(other).T
    cosine = np.sin(y) * np.sin(v) + np.cos(y) * np.cos(v) * np.cos(x - u)
    angles: Floats = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
    return angles


def _apart(said: Floats, known: Floats) -> dict[str, float]:
    """The figures of gaze: how far answers [n, 2] are from what is known, and how far the camera's direction is."""
    angles, still = apart(said, known), apart(np.zeros_like(known), known)
    values = {
        "median": np.median(angles),
        "90th": np.percentile(angles, 90),
        "camera": np.median(still),
    }
    return {"n": len(said), **{name: round(float(value), 2) for name, value in values.items()}}


def _named(values: Floats) -> dict[str, float | None]:
    return {
        name: None if np.isnan(value) else float(value) for name, value in zip(ACTIONS, values, strict=True)
    }


def _effect(change: Floats) -> dict[str, float]:
    """The mean change over its standard deviation, with a 95 % bootstrap interval over people."""
    draws = np.random.default_rng(0).choice(change, (1000, len(change)))
    low, high = np.percentile(draws.mean(axis=1) / np.maximum(draws.std(axis=1, ddof=1), 1e-9), [2.5, 97.5])
    return {
        "effect": round(float(change.mean() / max(change.std(ddof=1), 1e-9)), 2),
        "low": round(float(low), 2),
        "high": round(float(high), 2),
        "mean_change": round(float(change.mean()), 3),
        "share_rising": round(float((change > 0).mean()), 3),
    }
