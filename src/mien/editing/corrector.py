"""The learned correction of an edit: a small network looks at the face before and after the analytic edit and adds a
little flow and a little light and dark, without torch.

Flow and shading are smooth, so the network works on 64 pixels whatever the size of the photo: it sees a window of the
canonical frame (`views`), and what it answers is taken into the plan (`corrected`), so that the photo itself is still
sampled once, the lips stay a cut, and the fold guard judges the corrected map. `mien.training.editor.networks` holds
the network, `mien.training.editor.train` its training.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import cv2
import numpy as np

from mien.editing.geometry import HIGH, LOW, FaceFrame
from mien.editing.plan import Plan
from mien.editing.render import render, skin_statistics
from mien.editing.warp import FOLD_LIMIT, GRID, Warp, folding, grid_points, look_up
from mien.faces import align
from mien.io import cards
from mien.io.images import LUMA
from mien.io.onnx import Network

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from mien.editing.shading import Shading

    Array = NDArray[np.float64]
    Pixels = NDArray[Any]

SIDE: Final = 64
"""Pixels of the window that the network sees."""
SPAN: Final = float(1 / (align.TEMPLATE[1, 0] - align.TEMPLATE[0, 0]))
"""Side of the window in eye distances: what `mien.faces.align` shows of a face, so the guide sees what it knows."""
CORNER: Final = -SPAN * (align.TEMPLATE[0] + align.TEMPLATE[1]) / 2
"""Its upper left corner in canonical coordinates."""
RIM: Final = 0.12
"""Share of the window's side over which a correction fades to nothing."""
SHIPPED: Final = cards.FOLDER / "editor" / "corrector.onnx"
_UNIT: Final = 32.0
"""Pixels an eye distance of the small picture that edits are drawn on for the network."""
_USUAL: Final = 130.0
"""Luma of the cheeks of most faces that the network learnt from (median 137)."""
_DEEPER: Final = 2.0
"""A correction's log light is at most this many times stronger on darker skin. A fold is seen by how many steps of grey
it differs from the skin beside it, and of the same log those are fewer on dark skin: of 71 FERPlus training faces with
cheeks under 95, 73 in 100 edits were read as asked with it, 67 without (2.2 at most; 72 with 1.6 at most)."""
_APART: Final = 0.25
"""Changes of strengths that differ by so much in all have nothing to say to one another."""
_FULL: Final = 1.0
"""Total change of strengths from which a correction has its whole size; at no change there is none."""


def fade() -> NDArray[np.float32]:
    """What corrections are multiplied by, [SIDE, SIDE]: 1 inside the window, falling to 0 at its rim."""
    return align.feather(SIDE, RIM)


def reach(change: Array) -> float:
    """How far a correction of strengths changed by `change` [K] may go: 0 without a change, 1 from a full one."""
    return float(min(np.abs(change).sum() / _FULL, 1.0))


def window_matrix(frame: FaceFrame, corner: Array = CORNER, span: float = SPAN) -> Array:
    """The matrix [2, 3] of `mien.faces.align` that cuts a square of the canonical frame, by default the window, out of
    the picture."""
    inverse = np.linalg.inv(frame.turn)
    return np.asarray(np.concatenate([inverse, (-inverse @ frame.origin - corner)[:, None]], axis=1) / span)


def small_frame() -> FaceFrame:
    """The frame in which the whole canonical frame is a small upright picture."""
    return FaceFrame(_UNIT * np.eye(2), -LOW * _UNIT - 0.5)


def views(
    colour: Pixels, plan: Plan, shading: Shading | None, teeth: float, seed: int = 0
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The face before and after the edit that `plan` describes, as the network sees it: luma [SIDE, SIDE] each.

    The edit is drawn on a small copy of the face by the same code that draws it on the photo [h, w, 3].
    """
    side = round(_UNIT * float(HIGH[0] - LOW[0]))
    matrix = window_matrix(plan.frame, LOW, side / _UNIT)
    whole = colour if colour.dtype == np.uint8 else (colour // 257).astype(np.uint8)
    before = align.crop(whole, matrix, side)
    after, _ = render(before, replace(plan, frame=small_frame()), shading, teeth, seed)
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
    """The plan with a correction: what it shows at a place is taken from `flow` [2, s, s] pixels of the window further,
    and made exp(`gain` [SIDE, SIDE]) times lighter.

    Flow that would fold is halved, at last left out.
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
    """The warp that shows at a place what `warp` shows `moved` [GRID, GRID, 2] away from it."""
    places = grid_points().reshape(GRID, GRID, 2) + moved

    def at(grid: Array, points: Array) -> Array:
        where = (points - LOW) / (HIGH - LOW) * (GRID - 1)
        found = look_up(grid.astype(np.float32), where.astype(np.float32), cv2.INTER_LINEAR)
        return np.asarray(found, np.float64)

    upper, lower = (moved + at(flow, places) for flow in (warp.upper, warp.lower))
    target = warp.target
    for _ in range(3):  # where each point has come to: the place that is led to its old one
        target = warp.target - at(moved, target[None])[0]
    return Warp(warp.source, target, upper, lower, folding(target, upper, lower))


@dataclass(frozen=True)
class OnnxCorrector:
    """The network, opened; `amount` scales what it answers."""

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
        """What the network says of a plan, for a full change: flow [2, s, s], and log gain [SIDE, SIDE] as it suits the
        skin."""
        before, after = views(colour, plan, shading, teeth, seed)
        pictures = np.stack([before, after])[None].astype(np.float32) / 255
        flow, gain = self.network.run(
            ["flow", "gain"], {"pictures": pictures, "change": plan.change[None].astype(np.float32)}
        )
        cheeks = skin_statistics(colour, plan.frame, plan.frame.to_picture(plan.source)).skin
        deeper = np.clip(_USUAL / max(float(cheeks @ LUMA), 1.0), 1.0, _DEEPER)
        return flow[0], gain[0, 0] * np.float32(deeper)

    def taken(self, plan: Plan, answer: tuple[NDArray[np.float32], NDArray[np.float32]]) -> Plan:
        """`plan` corrected by an answer, as far as its change goes."""
        size = np.float32(self.amount * reach(plan.change))
        return corrected(plan, size * answer[0], size * answer[1])
