"""Plan an edit before any pixel changes: the target points of one face, and the largest share without folds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mien.editing import mouth_interior
from mien.editing.geometry import FaceFrame, Geometry, lip_gap
from mien.editing.head_turn import HeadPose, HeadTurn
from mien.editing.warp import FOLD_LIMIT, Warp, warp_between
from mien.landmarks import INNER_LIP_PAIRS, LEFT_BROW, LEFT_EYE, OUTER_LIPS, RIGHT_BROW, RIGHT_EYE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
REFILL = 1.8
"""If the lip gap grows by more than this factor, the mouth interior of the photo is replaced."""

_PARTINGS = (0.8, 0.6)
"""Shares of the change of the lip gap that are tried alone before the whole edit is weakened."""
_PARTS = 0.03
"""Least change of the lip gap, in eye distances, that can be the cause of a fold."""

_AROUND_EYES = np.r_[RIGHT_BROW, LEFT_BROW, RIGHT_EYE, LEFT_EYE]
_EYES = 0.03
"""Displacement of a brow or a lid, in eye distances, from which an edit is one of the eyes too. At strength 1 it is at
most 0.017 for happiness, 0.007 for contempt, and 0.089 (sadness) to 0.13 (fear) for the others."""


@dataclass(frozen=True)
class Plan:
    """The planned edit of one face. `share` in 0..1 is how much of the request can be done without folding; `source`
    and `target` [P, 2] canonical points; `pose` of the head; `change` [K] of strengths and `gap` after `share`.
    `refill`: the mouth interior of the photo does not fit and is replaced. `gain` [GRID, GRID]: log gain applied to
    the drawn face at the end (`mien.editing.corrector`). `gaze` (across, up): how far the eyes turn, in units of 15
    degrees. `full` [P, 2]: canonical points at intensity 1, by which the example of a mouth is chosen, so that it is
    the same at every intensity; None takes `target`.
    """

    frame: FaceFrame
    source: Array
    target: Array
    change: Array
    gap: float
    warp: Warp
    share: float
    pose: HeadPose
    refill: bool = False
    gain: Array | None = None
    gaze: tuple[float, float] = (0.0, 0.0)
    full: Array | None = None


def plan(
    geometry: Geometry,
    points: Array,
    change: Array,
    gap: float,
    refill: bool = False,
    further: Array | float = 0.0,
    pose: HeadPose | None = None,
) -> Plan:
    """Plan the change of strengths [K] and of the lip gap, weakened until the map does not fold. `further` [P, 2] is a
    displacement that is added, such as that of facial actions; that of the strengths is turned as the head is:
    by its `pose`, or None to fit one.

    Lips that part or close too far are weakened alone, if that is enough: brows and eyes keep their strength. `share`
    is 0 when even a hundredth of the change folds.
    """
    frame = FaceFrame.of(points)
    source = frame.to_canonical(points)
    now, turn = lip_gap(source), HeadTurn.load()
    stands = turn.pose(source) if pose is None else pose
    geometry = turn.seen(geometry, stands)

    def attempt(share: float, parting: float = 1.0) -> Plan:
        wanted = now + share * parting * (gap - now)
        target = geometry.move(source, share * change, wanted, share * further) if share > 0 else source
        warp = warp_between(_clear_of_teeth(source, now, wanted, refill), target)
        return Plan(frame, source, target, share * change, wanted, warp, share, stands, refill)

    trial = attempt(1.0)
    if trial.warp.folding >= FOLD_LIMIT:
        return trial
    for parting in _PARTINGS if abs(gap - now) > _PARTS else ():
        lips = attempt(1.0, parting)
        if lips.warp.folding >= FOLD_LIMIT:
            return lips
    # The smallest Jacobian falls from 1 at share 0 almost linearly; a few secant steps find where it meets the limit.
    low, high, best = (0.0, 1.0), (1.0, trial.warp.folding), None
    for _ in range(4):
        slope = (low[1] - FOLD_LIMIT - 0.02) / (low[1] - high[1])
        trial = attempt(low[0] + float(np.clip(slope, 0.1, 0.9)) * (high[0] - low[0]))
        if trial.warp.folding >= FOLD_LIMIT:
            low, best = (trial.share, trial.warp.folding), trial
            if trial.warp.folding < FOLD_LIMIT + 0.05:
                break
        else:
            high = trial.share, trial.warp.folding
    return best if best is not None else attempt(0.0)


def moves_eyes(plan: Plan) -> bool:
    """Whether a brow or a lid moves by more than `_EYES`, or the eyes turn."""
    moved = np.linalg.norm((plan.target - plan.source)[_AROUND_EYES], axis=1)
    return any(plan.gaze) or bool(moved.max() > _EYES)


def _clear_of_teeth(source: Array, now: float, gap: float, refill: bool) -> Array:
    """Source points of lips that close, or part so far that their interior is replaced: a little outside the inner
    contour, so that a rim of teeth that the landmarks missed is not drawn."""
    if now < mouth_interior.SHOWS:
        return source
    # Lips that part much further are filled from an example, so the photo's own teeth must be hidden too.
    parting = float(refill or gap > REFILL * now)
    closing = max(parting, float(np.clip((now - gap) / now, 0, 1)))
    moved = source.copy()
    margin = 0.03 * closing * min(1.0, now / 0.05)
    for column, (upper, lower) in enumerate(INNER_LIP_PAIRS):
        # Stay within the lip, or a thin lip would be stretched over the whole opening.
        above, below = OUTER_LIPS.start + 1 + column, OUTER_LIPS.start + 19 - column
        moved[upper, 1] -= min(margin, 0.35 * max(source[upper, 1] - source[above, 1], 0.0))
        moved[lower, 1] += min(margin, 0.35 * max(source[below, 1] - source[lower, 1], 0.0))
    return moved
