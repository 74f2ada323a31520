"""The learned correction of an edit: a small network that adds flow and shading to the analytic edit, without torch.

It sees the face before and after the analytic edit. Flow and shading are smooth, so its input is a window of the
canonical frame of 64 pixels, whatever the size of the photo (`views`). Its output is merged into the plan
(`corrected`), so that the photo is still sampled once, the mouth stays a cut in the flow, and the fold guard checks the
corrected map. The network is defined in `mien.training.editor.networks` and trained by `mien.training.editor.train`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import cv2
import numpy as np

from mien.editing.geometry import ACTIVE, HIGH, LOW, FaceFrame
from mien.editing.plan import Plan
from mien.editing.render import render, skin_statistics
from mien.editing.shading import one_side
from mien.editing.warp import FOLD_LIMIT, GRID, Warp, flow_reach, folding, grid_points, look_up
from mien.faces import align
from mien.io import cards
from mien.io.images import LUMA
from mien.io.onnx import Network

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from mien.editing.head_turn import HeadPose
    from mien.editing.shading import Shading

    Array = NDArray[np.float64]
    Pixels = NDArray[Any]

SIDE: Final = 64
"""Pixels of the window that the network sees."""
SPAN: Final = float(1 / (align.TEMPLATE[1, 0] - align.TEMPLATE[0, 0]))
"""Side of the window in eye distances: that of the crops of `mien.faces.align`, which the guides of the training
expect."""
CORNER: Final = -SPAN * (align.TEMPLATE[0] + align.TEMPLATE[1]) / 2
"""Its upper left corner in canonical coordinates."""
RIM: Final = 0.12
"""Share of the window's side over which a correction fades to nothing."""
SHIPPED: Final = cards.FOLDER / "editor" / "corrector.onnx"
_UNIT: Final = 32.0
"""Pixels per eye distance of the small picture on which edits are drawn for the network."""
_USUAL: Final = 130.0
"""Typical luma of the cheeks in the training faces (median 137)."""
_DEEPER: Final = 2.0
"""Largest factor by which a correction's log gain is raised on dark skin. The contrast of a fold in grey levels decides
whether it is seen, and the same log gain gives a lower contrast on dark skin: of 71 FERPlus training faces with cheeks
under 95, 73 % of the edits were read as requested with it, 67 % without (72 % with 1.6)."""
_APART: Final = 0.25
"""Sum of differences at which the corrections for two changes of strengths are unrelated."""
_FULL: Final = 1.0
"""Total change of strengths from which a correction has its full size; without a change there is none."""
_TURNED: Final = (15.0, 25.0), (1.0, 0.35)
"""Yaw in degrees between which the correction falls to a share of it. The training faces are nearly frontal; on heads
turned by 25 degrees it draws blotches on the near cheek and streaks under the near eye. Our choice, by eye."""


def fade() -> NDArray[np.float32]:
    """Weight of corrections, [SIDE, SIDE]: 1 inside the window, falling to 0 at its rim."""
    return align.feather(SIDE, RIM)


def reach(change: Array) -> float:
    """Size of a correction for a `change` [K] of strengths: 0 without a change, 1 from a full one."""
    return float(min(np.abs(change).sum() / _FULL, 1.0))


def window_matrix(frame: FaceFrame, corner: Array = CORNER, span: float = SPAN) -> Array:
    """The matrix [2, 3] of `mien.faces.align` that crops a square of the canonical frame, by default the window."""
    inverse = np.linalg.inv(frame.turn)
    return np.asarray(np.concatenate([inverse, (-inverse @ frame.origin - corner)[:, None]], axis=1) / span)


def small_frame() -> FaceFrame:
    """The frame that maps the whole canonical frame to a small upright picture."""
    return FaceFrame(_UNIT * np.eye(2), -LOW * _UNIT - 0.5)


def views(
    colour: Pixels, plan: Plan, shading: Shading | None, teeth: float, seed: int = 0
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The face before and after the edit that `plan` describes, as the network sees it: luma [SIDE, SIDE] each.

    The edit is drawn on a small copy of the face by the code that draws it on the photo [h, w, 3], without its mask, as
    the network was trained.
    """
    side = round(_UNIT * float(HIGH[0] - LOW[0]))
    matrix = window_matrix(plan.frame, LOW, side / _UNIT)
    whole = colour if colour.dtype == np.uint8 else (colour // 257).astype(np.uint8)
    before = align.crop(whole, matrix, side)
    after, _ = render(before, replace(plan, frame=small_frame()), shading, teeth, seed, masked=False)
    scale = SIDE / (SPAN * _UNIT)
    low = small_frame().to_picture(CORNER)
    cut = np.array([[scale, 0, -0.5 - scale * low[0]], [0, scale, -0.5 - scale * low[1]]])
    shown = [
        cv2.warpAffine(
            cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), cut, (SIDE, SIDE), borderMode=cv2.BORDER_REPLICATE
        )
        for picture in (before, after)
    ]
    return np.asarray(shown[0], np.uint8), np.asarray(shown[1], np.uint8)


def on_grid(window: NDArray[np.float32]) -> Array:
    """A map on the window [s, s(, C)] (any s) on the canonical grid [GRID, GRID(, C)], 0 outside the window."""
    places = (grid_points().reshape(GRID, GRID, 2) - CORNER) / SPAN * window.shape[0] - 0.5
    return np.asarray(
        look_up(window, places.astype(np.float32), cv2.INTER_LINEAR, cv2.BORDER_CONSTANT), np.float64
    )


def corrected(plan: Plan, flow: NDArray[np.float32], gain: NDArray[np.float32]) -> Plan:
    """The plan with a correction added: `flow` [2, s, s], in pixels of the window, is added to its displacement, and
    pixels are multiplied by exp(`gain` [SIDE, SIDE]).

    Flow that would fold is halved up to twice, then left out.
    """
    enlarged = cv2.resize(np.moveaxis(flow, 0, 2), (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)
    smooth = fade()
    moved = on_grid(enlarged * smooth[..., None] * np.float32(SPAN / SIDE))
    drawn = replace(plan, gain=on_grid(gain * smooth))
    for share in (1.0, 0.5, 0.25):
        warp = _further(plan.warp, share * moved)
        if warp.folding >= FOLD_LIMIT:
            return replace(drawn, warp=warp, target=warp.target)
    return drawn


def _further(warp: Warp, moved: Array) -> Warp:
    """The composition of `warp` with a further displacement `moved` [GRID, GRID, 2]."""
    moved = moved * flow_reach(warp.source, warp.target)[..., None]
    places = grid_points().reshape(GRID, GRID, 2) + moved

    def at(grid: Array, points: Array) -> Array:
        where = (points - LOW) / (HIGH - LOW) * (GRID - 1)
        values = look_up(grid.astype(np.float32), where.astype(np.float32), cv2.INTER_LINEAR)
        return np.asarray(values, np.float64)

    upper, lower = (moved + at(flow, places) for flow in (warp.upper, warp.lower))
    target = warp.target
    for _ in range(3):  # invert the displacement at the landmarks by fixed-point iteration
        target = warp.target - at(moved, target[None])[0]
    return Warp(warp.source, target, upper, lower, folding(target, upper, lower))


def _one_side(side: int) -> Array:
    """`mien.editing.shading.one_side` on the window [side, side]."""
    steps = (np.arange(side) + 0.5) * SPAN / side
    return one_side(CORNER + np.stack(np.meshgrid(steps, steps), axis=-1))


def symmetric(flows: NDArray[np.float32]) -> NDArray[np.float32]:
    """The mean [2, s, s] of a face's flow and, mirrored back, that of its mirror image: `flows` [2, 2, s, s]."""
    back = flows[1, :, :, ::-1] * np.array([-1, 1], np.float32)[:, None, None]
    return np.asarray((flows[0] + back) / 2, np.float32)


def _trusted(pose: HeadPose) -> float:
    """Share of a correction that a face gets: less on a turned head."""
    return float(np.interp(abs(pose.yaw), *_TURNED))


@dataclass(frozen=True)
class OnnxCorrector:
    """The correction network on ONNX Runtime; `amount` scales its output."""

    network: Any
    amount: float = 1.0

    @classmethod
    def load(cls, path: Path = SHIPPED) -> OnnxCorrector:
        """Open a network that `mien train configs/editor-corrector.yaml` exported.

        Raises:
            WeightsError: the file or its card is missing or damaged.
        """
        network, card = Network.open(path)
        return cls(network, card.number("amount", 1.0))

    def __call__(
        self, colour: Pixels, plan: Plan, shading: Shading | None, teeth: float, seed: int = 0
    ) -> Plan:
        """`plan` corrected for the face in the photo [h, w, 3]; a plan that changes no strength is returned as is."""
        if reach(plan.change) == 0:
            return plan
        return self.taken(plan, self.answer(colour, plan, shading, teeth, seed))

    def answer(
        self, colour: Pixels, plan: Plan, shading: Shading | None, teeth: float, seed: int = 0
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The network's output for a plan, for a full change: flow [2, s, s], and log gain [SIDE, SIDE] adapted to the
        skin.

        It is the mean of the outputs for the face and, mirrored back, for its mirror image, as the network prefers a
        side: alone, the two differ by 64 to 98 % of their size.
        """
        before, after = views(colour, plan, shading, teeth, seed)
        straight = np.stack([before, after])
        pictures = np.stack([straight, straight[..., ::-1]]).astype(np.float32) / 255
        change = np.repeat(plan.change[None].astype(np.float32), 2, axis=0)
        flows, gains = self.network.run(["flow", "gain"], {"pictures": pictures, "change": change})
        flow, gain = symmetric(flows), (gains[0, 0] + gains[1, 0, :, ::-1]) / 2
        cheeks = skin_statistics(colour, plan.frame, plan.frame.to_picture(plan.source)).skin
        deeper = np.clip(_USUAL / max(float(cheeks @ LUMA), 1.0), 1.0, _DEEPER)
        share = abs(plan.change[ACTIVE.index("contempt")]) / max(float(np.abs(plan.change).sum()), 1e-9)
        flow, gain = (part * np.float32(1 - share * (1 - _one_side(part.shape[-1]))) for part in (flow, gain))
        return flow, gain * np.float32(deeper)

    def taken(self, plan: Plan, answer: tuple[NDArray[np.float32], NDArray[np.float32]]) -> Plan:
        """`plan` corrected by an output of the network, scaled by the size of its change."""
        size = np.float32(self.amount * reach(plan.change) * _trusted(plan.pose))
        return corrected(plan, size * answer[0], size * answer[1])
