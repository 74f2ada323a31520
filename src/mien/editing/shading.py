"""Expression shading: folds beside the nose, furrows between the brows, raised cheeks.

A *ratio image*: for each expression a smooth map of log gains over the mean face, fitted by ridge regression in
`mien.training.editor.fit_blendshapes`. It multiplies the warped pixels, so skin texture, moles and stubble are kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import cv2
import numpy as np

from mien.editing.geometry import ACTIVE
from mien.editing.warp import ANCHORS, GRID, grid_points, look_up, rim_fade, thin_plate
from mien.io import cards
from mien.io.arrays import shaped, stored
from mien.landmarks import INNER_LIPS, LEFT_EYE, POINTS, RIGHT_EYE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mien.editing.plan import Plan
    from mien.editing.warp import Region

    Array = NDArray[np.float64]

LIMIT = 0.45
"""Largest log gain: no pixel becomes more than 1.57 times lighter or darker."""


def one_side(places: Array) -> Array:
    """Share of contempt's folds at canonical `places` [..., 2]: all above the nose and on the subject's left, where the
    corner of the lips is raised, and none beside the right corner."""
    left = np.clip(0.5 + places[..., 0] / 0.3, 0, 1)
    above = np.clip((0.6 - places[..., 1]) / 0.4, 0, 1)
    t = np.maximum(left, above)
    return np.asarray(t * t * (3 - 2 * t))


@dataclass(frozen=True)
class Shading:
    """The shading model. `maps` [K, GRID, GRID]: log gain of each of `ACTIVE` at strength 1, over the canonical frame
    of the mean face `mean` [P, 2]; `amount` scales them all."""

    maps: NDArray[np.float32]
    mean: Array
    amount: float = 1.0

    @classmethod
    def load(cls) -> Shading:
        """The shipped maps.

        Raises:
            WeightsError: the file is missing or not of this form.
        """
        return _shipped()

    def gain(
        self, plan: Plan, region: Region, skin: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """The factor [h, w] for every pixel of the region: 1 where nothing changes. `skin`, on the region's coarse
        raster, is the share of the light at each place (`mien.editing.face_mask`)."""
        maps = self.maps.copy()
        maps[ACTIVE.index("contempt")] *= one_side(grid_points()).reshape(GRID, GRID)
        logs = np.tensordot(plan.change, maps, 1) * self.amount
        logs = np.clip(logs, -LIMIT, LIMIT)
        queries = grid_points()
        # Map each place of the target face to the mean face, by a spline through the landmarks.
        places = np.concatenate([plan.target, ANCHORS])
        offsets = thin_plate(places, np.concatenate([self.mean, ANCHORS]) - places, queries, quick=True)
        step = (queries.max(axis=0) - queries.min(axis=0)) / (GRID - 1)
        where = ((queries + offsets - queries.min(axis=0)) / step).reshape(GRID, GRID, 2).astype(np.float32)
        drawn = look_up(logs.astype(np.float32), where, cv2.INTER_LINEAR, cv2.BORDER_CONSTANT)
        drawn *= rim_fade(queries).reshape(GRID, GRID) * self._skin(plan.target)
        share = region.fade if skin is None else region.fade * skin
        return region.enlarge(np.exp(region.coarse(drawn) * share))

    @staticmethod
    def _skin(target: Array) -> NDArray[np.float32]:
        """A mask: 1 on skin, falling to 0 in eyes and between lips, which have no folds."""
        mask = np.ones((GRID, GRID), np.float32)
        low, high = grid_points()[0], grid_points()[-1]
        for part in (RIGHT_EYE, LEFT_EYE, INNER_LIPS):
            corners = (target[part] - low) / (high - low) * (GRID - 1)
            cv2.fillPoly(mask, [np.rint(corners * 16).astype(np.int32)], 0.0, cv2.LINE_AA, 4)
        return np.asarray(cv2.GaussianBlur(cv2.erode(mask, np.ones((3, 3))), (0, 0), 0.8))


@lru_cache(maxsize=1)
def _shipped() -> Shading:
    shapes = {"maps": (len(ACTIVE), GRID, GRID), "mean": (len(POINTS), 2), "amount": ()}
    found = shaped(
        stored(cards.FOLDER / "editor" / "shading.npz"),
        shapes,
        "the shading maps",
        "mien.training.editor.fit_blendshapes",
    )
    return Shading(found["maps"].astype(np.float32), found["mean"], float(found["amount"]))
