"""Fit the intensity of an expression: one number in 0..1 from a face's actions.

    intensity = 1 - exp(-sum of weight x how far the action lies above its value at rest, or 0)

with weights of at least 0 for each action but those of the eyes' direction. So it never falls when an action rises, and
approaches 1 without reaching it. It is near 0 for a face at rest, and 1 - exp(-3) = .95 is the full strength of a
rendered expression. *Chosen*, by us: the form, because it is monotone and cannot saturate; and the targets:

- renderings of the eight expressions: their exact strength;
- photographs with votes: half the share of votes that are not for neutral, where that share is at most `TORN`.
  Everybody may agree on a faint smile, so votes say whether there is an expression rather than how strong it is: they
  fix the lower end of the scale.

The value at rest is an action's median over the faces with a target of 0.

The weights are fitted by non-negative least squares on the scale of the sum, on people that the network did not learn
from, with its own answers, so that they weigh what it measures well; both sources count alike.

Tests: tests/training/actions/test_intensity.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mien.actions import ACTIONS, GAZE, MIRROR
from mien.data.readers import ferplus, rendered
from mien.data.records import Record
from mien.errors import ConfigError
from mien.faces.landmarker import Landmarker
from mien.io import images
from mien.labels import EXPRESSIONS, NEUTRAL, UNLABELLED
from mien.training.actions.draws import middle
from mien.training.actions.faces import locate

Floats = NDArray[Any]  # float32 or float64

FULL: Final = 3.0
"""The weighted sum at the full strength of a rendered expression."""

TORN: Final = 0.6
"""Share of votes for an expression up to which votes are learnt from; above it they do not tell its strength."""

CLEAR: Final = 0.8
"""Share of votes for happiness from which a smile counts as clear."""

_RIDGE: Final = 1.0
"""Weight of a small weight in the least squares, in rows."""

_FREE: Final = np.array([not name.startswith(GAZE) and name != "tongueOut" for name in ACTIONS])


class StrengthFit(NamedTuple):
    """`weights` [52], at least 0, and `rest` [52], the actions of a face at rest."""

    weights: Floats
    rest: Floats


def fit(actions: Floats, targets: Floats, shares: Floats | None = None) -> StrengthFit:
    """The fit to actions [n, 52] with target intensities [n] in 0..1, 0 at rest; `shares` [n] weigh the faces. Each
    face counts mirrored too, so both sides get the same weight."""
    from scipy.optimize import nnls

    shares = np.tile(np.ones(len(actions)) if shares is None else shares, 2)
    actions, targets = np.concatenate([actions, actions[:, MIRROR]]), np.tile(targets, 2)
    still = targets <= 0
    rest = np.median(actions[still], axis=0) if still.any() else np.zeros(len(ACTIONS))
    above = np.maximum(actions - rest, 0)
    wanted = -np.log1p(-np.clip(targets, 0, 1) * -np.expm1(-FULL))
    ridge = np.sqrt(_RIDGE) * np.eye(_FREE.sum())
    weights = np.zeros(len(ACTIONS))
    root = np.sqrt(shares)
    weights[_FREE] = nnls(
        np.concatenate([above[:, _FREE] * root[:, None], ridge]),
        np.concatenate([wanted * root, np.zeros(len(ridge))]),
    )[0]
    return StrengthFit(weights, rest)


def intensity(actions: Floats, fitted: StrengthFit) -> Floats:
    """The intensity [n] of actions [n, 52]."""
    return np.asarray(-np.expm1(-np.maximum(actions - fitted.rest, 0) @ fitted.weights))


def graded(renders: Path, votes: Path | None) -> dict[str, NDArray[Any]]:
    """The faces for fitting and measuring, from a folder of `mien data render` and from FERPlus.

    Returns:
        `crops` uint8 [n, 100, 100] and `points` [n, P, 2] as in `mien.training.actions.faces`; `target` [n];
        `expression` [n]; `kind` [n]: "valid" and "unseen" for rendered people, "votes" and "votes test" for FERPlus.

    Raises:
        ConfigError: the folder holds single movements.
        DatasetNotFound: a folder does not hold its set.
    """
    landmarker, rows = Landmarker.load(threads=1), []
    for record, target, kind in (*_rendered(renders), *(() if votes is None else _voted(votes))):
        found = locate(landmarker, images.read(record.path))
        if found is not None:
            _, crop, unit = found
            rows.append((crop, unit, target, record.expression, kind))
    crops, points, targets, expressions, kinds = zip(*rows, strict=True)
    return {
        "crops": np.stack(crops),
        "points": np.stack(points).astype(np.float32),
        "target": np.array(targets, np.float32),
        "expression": np.array(expressions),
        "kind": np.array(kinds),
    }


def _rendered(root: Path) -> Iterator[tuple[Record, float, str]]:
    for record in rendered.READER(root):
        if record.expression == UNLABELLED:
            raise ConfigError(
                f"{root} holds single movements: render the eight expressions, without --actions"
            )
        if record.attributes["person"] == "unseen":
            kind = "unseen" if record.split == "test" else "valid"
            yield record, float(record.attributes["intensity"]), kind


def _voted(root: Path) -> Iterator[tuple[Record, float, str]]:
    for record in ferplus.READER(root):
        kind = {"valid": "votes", "test": "votes test"}.get(record.split)
        if kind is not None and record.votes:
            shares = np.array(record.votes, float)[: len(EXPRESSIONS)]
            if shares.sum() > 0:
                yield record, 0.5 * (1 - float(shares[NEUTRAL] / shares.sum())), kind


def fitted(
    network: Callable[[Any], Any], faces: dict[str, NDArray[Any]]
) -> tuple[StrengthFit, dict[str, Any]]:
    """The fit to a network's own answers on the faces of `graded`, and the card's figures of it."""
    crops, parts = middle(faces["crops"]), []
    for first in range(0, len(crops), 64):
        rows = slice(first, first + 64)
        parts.append(network({"crops": crops[rows], "points": faces["points"][rows]})[0])
    actions, kind = np.concatenate(parts), faces["kind"]
    learnt = (kind == "valid") | ((kind == "votes") & (faces["target"] <= 0.5 * TORN))
    drawn = kind[learnt] == "valid"
    shares = np.where(drawn, (~drawn).sum() / max(1, drawn.sum()) if not drawn.all() else 1, 1.0)
    found = fit(actions[learnt], faces["target"][learnt], shares)
    return found, figures(intensity(actions, found), faces)


def figures(said: Floats, faces: dict[str, NDArray[Any]]) -> dict[str, Any]:
    """How intensities [n] agree with the exact strength of unseen people, by expression, and with votes of a test set.

    `spearman` by expression and `neutral`, the median at rest; `votes`: Spearman's correlation with the share of votes
    that are not for neutral; `clear smiles`: quantiles for faces with at least `CLEAR` of such votes, all called happy,
    and the share of them above .98.
    """
    from scipy.stats import spearmanr

    kind, expression, target = faces["kind"], faces["expression"], faces["target"]
    unseen = kind == "unseen"
    result: dict[str, Any] = {}
    result["spearman"] = {
        name: round(float(spearmanr(said[rows], target[rows]).statistic), 3)
        for number, name in enumerate(EXPRESSIONS)
        if number != NEUTRAL and (rows := unseen & (expression == number)).sum() > 2
    }
    rest = unseen & (expression == NEUTRAL)
    result["neutral"] = round(float(np.median(said[rest])), 3) if rest.any() else None
    voted = kind == "votes test"
    if voted.any():
        smiles = voted & (expression == EXPRESSIONS.index("happiness")) & (target >= 0.5 * CLEAR)
        result["votes"] = round(float(spearmanr(said[voted], target[voted]).statistic), 3)
        result["clear smiles"] = {
            "n": int(smiles.sum()),
            **{f"{q}%": round(float(np.percentile(said[smiles], q)), 3) for q in (5, 50, 95)},
            "above .98": round(float((said[smiles] > 0.98).mean()), 4),
        }
    return result
