"""Landmark blendshapes: how the points of a face move with its expression.

Points are mapped to the *canonical frame* by a similarity fitted to the eye corners and the base of the nose, which
hardly move with expression: the origin lies between the eyes, x runs to the right of the picture, y down, and the eye
centres are one unit apart. There, a face is modelled as

    points = mean + covariates + gap * opening + sum_k strength_k * (basis_k + gap * basis_open_k) + person

with `gap` the mean distance of the inner lips. Each expression therefore has a closed-lip and an open-lip form (a
pout and a cry for sadness, pressed and shouting lips for anger), and the lip state itself stays a separate control.
`mien.training.editor.fit_blendshapes` estimates the arrays by ridge regression.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from mien.io import cards
from mien.io.arrays import shaped, stored
from mien.labels import EXPRESSIONS
from mien.landmarks import (
    INNER_LIP_PAIRS,
    INNER_LIPS,
    JAW,
    LEFT_EYE_CORNERS,
    NOSE_BOTTOM,
    NOSE_TIP,
    POINTS,
    RIGHT_EYE_CORNERS,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

TEMPLATE = np.array([[-0.5, 0.0], [0.5, 0.0], [0.0, 0.66]])
"""Canonical places of the right eye's centre, the left eye's centre and the base of the nose."""
TEMPLATE_WEIGHTS = np.array([1.0, 1.0, 0.5])
LOW, HIGH = np.array([-2.0, -1.3]), np.array([2.0, 2.7])
"""Corners of the canonical frame; outside it an edit changes nothing."""
ACTIVE = EXPRESSIONS[1:]
"""The expressions that have a basis: all but neutral, which is the absence of the others."""


@dataclass(frozen=True)
class FaceFrame:
    """A similarity: picture = `turn` @ canonical + `origin`; `turn` is a rotation times the eye distance in pixels."""

    turn: Array
    origin: Array

    @classmethod
    def of(cls, points: Array) -> FaceFrame:
        """The frame of one face's points [P, 2], by weighted least squares.

        Raises:
            ValueError: the eyes coincide, so there is no scale.
        """
        seen = _rigid(points) @ np.array([1, 1j])
        wanted = TEMPLATE @ np.array([1, 1j])
        weight = TEMPLATE_WEIGHTS / TEMPLATE_WEIGHTS.sum()
        seen_mean, wanted_mean = (weight * seen).sum(), (weight * wanted).sum()
        a = (weight * (seen - seen_mean) * np.conj(wanted - wanted_mean)).sum()
        a /= (weight * np.abs(wanted - wanted_mean) ** 2).sum()
        if not abs(a) > 1e-6:
            raise ValueError("the eyes coincide")
        origin = seen_mean - a * wanted_mean
        turn = np.array([[a.real, -a.imag], [a.imag, a.real]])
        return cls(turn, np.array([origin.real, origin.imag]))

    @property
    def unit(self) -> float:
        """Pixels per canonical unit: about the distance between the eye centres."""
        return float(np.hypot(*self.turn[:, 0]))

    def to_canonical(self, points: Array) -> Array:
        """Pixels [..., 2] to canonical coordinates."""
        return np.asarray((points - self.origin) @ np.linalg.inv(self.turn).T)

    def to_picture(self, points: Array) -> Array:
        """Canonical coordinates [..., 2] to pixels."""
        return np.asarray(points @ self.turn.T + self.origin)


def _rigid(points: Array) -> Array:
    return np.stack(
        [
            points[list(RIGHT_EYE_CORNERS)].mean(axis=0),
            points[list(LEFT_EYE_CORNERS)].mean(axis=0),
            points[NOSE_BOTTOM],
        ]
    )


def lip_gap(points: Array) -> float:
    """Mean distance of the inner lips' pairs, in the unit of `points` [P, 2]."""
    upper, lower = np.array(INNER_LIP_PAIRS).T
    return float(np.linalg.norm(points[upper] - points[lower], axis=1).mean())


def covariates(points: Array) -> Array:
    """Features of a canonical shape [P, 2] that depend on head and camera rather than on expression: yaw, yaw^2, pitch,
    jaw width.

    Yaw and pitch are proxies: the position of the tip of the nose between the eyes, in canonical units.
    """
    yaw, pitch = points[NOSE_TIP]
    return np.array([yaw, yaw * yaw, pitch, points[JAW.stop - 1, 0] - points[JAW.start, 0]])


@dataclass(frozen=True)
class Geometry:
    """The fitted landmark blendshapes. P points, K = len(ACTIVE) expressions, Q covariates.

    Attributes:
        mean: [P, 2] the neutral shape with closed lips at mean covariates.
        basis: [K, P, 2] displacement of each expression at strength 1 with closed lips.
        basis_open: [K, P, 2] what one unit of lip gap adds to `basis`.
        opening: [P, 2] displacement for one unit of lip gap.
        pose: [Q, P, 2] displacement for one unit of each covariate.
        pose_mean: [Q] the covariates' means.
        typical_gap: [K] mean lip gap of the expression at strength 1.
        neutral_gap: lip gap of a neutral face with lips at rest.
        reader: [K, P * 2] linear reader of strengths from a shape's residual (see `strengths`).
        noise: [K] standard deviation of that reading on neutral faces.
    """

    mean: Array
    basis: Array
    basis_open: Array
    opening: Array
    pose: Array
    pose_mean: Array
    typical_gap: Array
    neutral_gap: float
    reader: Array
    noise: Array

    @classmethod
    def from_arrays(cls, arrays: dict[str, Any]) -> Geometry:
        """Check shapes and freeze.

        Raises:
            WeightsError: an array is missing or has another shape.
        """
        p, k, q = len(POINTS), len(ACTIVE), 4
        shapes = {
            "mean": (p, 2),
            "basis": (k, p, 2),
            "basis_open": (k, p, 2),
            "opening": (p, 2),
            "pose": (q, p, 2),
            "pose_mean": (q,),
            "typical_gap": (k,),
            "neutral_gap": (),
            "reader": (k, p * 2),
            "noise": (k,),
        }
        maker = "mien.training.editor.fit_blendshapes"
        values: dict[str, Any] = {**shaped(arrays, shapes, "the geometry", maker)}
        return cls(**values | {"neutral_gap": float(values["neutral_gap"])})

    @classmethod
    def load(cls) -> Geometry:
        """The shipped geometry."""
        return _shipped()

    def strengths(self, shape: Array, shares: Array | None = None) -> Array:
        """Strength of each of `ACTIVE` in a canonical shape [P, 2]: 0 to 1.25, about 1 when full.

        The linear reader is optimal given the variance between people, so that a person's wide mouth counts little. It
        is noisy (`noise`), and a false reading would change a neutral face, so readings below 2.5 standard deviations
        are ignored; with a recogniser's probabilities `shares` [K] readings are weighted instead, from 0 at a
        probability of 0.15 to 1 at 0.6.
        """
        gap = lip_gap(shape)
        expected = (
            self.mean + gap * self.opening + np.tensordot(covariates(shape) - self.pose_mean, self.pose, 1)
        )
        readings = (self.reader @ (shape - expected).ravel()).clip(0, 1.25)
        if shares is None:
            return np.asarray(np.where(readings < 2.5 * self.noise, 0.0, readings))
        return np.asarray(readings * np.clip((shares - 0.15) / 0.45, 0, 1))

    def displacement(self, strengths: Array, gap: float) -> Array:
        """Displacement [P, 2] of `strengths` [K] (any sign) at a lip gap, without the opening itself."""
        return np.asarray(np.tensordot(strengths, self.basis + gap * self.basis_open, 1))

    def move(self, shape: Array, change: Array, gap: float, further: Array | float = 0.0) -> Array:
        """The canonical shape [P, 2] after changing the strengths by `change` [K] and the lips to `gap`; `further`
        [P, 2] is added to the displacement.

        If the lips are then further apart, they are scaled towards their own middle line; a gap of 0 makes
        each pair meet.
        """
        now = lip_gap(shape)
        moved = shape + self.displacement(change, gap) + (gap - now) * self.opening + further
        reached = lip_gap(moved)
        upper, lower = np.array(INNER_LIP_PAIRS).T
        if gap < now:
            shift = (now - gap) / now * _seam_shift(shape, moved)
            moved[upper] += shift
            moved[lower] += shift
        middle = (moved[upper] + moved[lower]) / 2
        # Scaling is used to close only: scaling up a closed mouth would amplify the noise of its points.
        scale = np.full((len(upper), 1), min(gap / reached, 1.0) if reached > 1e-9 else 0.0)
        if gap > now:
            # Lips part from the middle; towards the corners they stay together longer.
            place = np.linspace(-1, 1, len(upper) + 2)[1:-1, None]
            scale *= 1 - 0.45 * np.abs(place) ** 3
        moved[upper] = middle + scale * (moved[upper] - middle)
        moved[lower] = middle + scale * (moved[lower] - middle)
        return moved


def _seam_shift(shape: Array, moved: Array) -> Array:
    """Displacement [9, 2] of the pairs of the inner lips of `moved` with which the closed lips meet along a smooth
    line.

    Lips that close from a smile were curved and stretched. Each pair keeps its relative position between the corners
    from `shape`, or the ends of the line would pass the corners; the line is a polynomial of degree four.
    """
    upper, lower = np.array(INNER_LIP_PAIRS).T
    ends = [INNER_LIPS.start, INNER_LIPS.start + 10]
    before, after = ((points[upper] + points[lower]) / 2 for points in (shape, moved))
    wide = shape[ends[1], 0] - shape[ends[0], 0]
    along = ((before[:, 0] - shape[ends[0], 0]) / max(wide, 1e-6)).clip(0, 1)
    x = moved[ends[0], 0] + along * (moved[ends[1], 0] - moved[ends[0], 0])
    t = np.concatenate([along, [0.0, 1.0]]) * 2 - 1
    heights = np.concatenate([after[:, 1], moved[ends, 1]])
    weights = np.array([1.0] * len(along) + [4.0, 4.0])
    curve = np.polynomial.Polynomial.fit(t, heights, 4, domain=[-1, 1], w=weights)
    return np.stack([x - after[:, 0], curve(t[:-2]) - after[:, 1]], axis=1)


@lru_cache(maxsize=1)
def _shipped() -> Geometry:
    return Geometry.from_arrays(stored(cards.FOLDER / "editor" / "geometry.npz"))
