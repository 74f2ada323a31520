"""How the points of a face move with each facial action: displacements for `mien edit --au`.

The displacements are those of the ICT-FaceKit head (MIT) with its blendshapes by ARKit's names, in the canonical frame
of `mien.editing.geometry`. `gain` puts them on the scale that `mien` measures: an edit by 0.4 raises the measured
action by about 0.4. `mien.training.editor.fit_actions` makes the arrays.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from typing import TYPE_CHECKING, Final

import numpy as np

from mien.actions import ACTIONS
from mien.editing.head_turn import HeadTurn
from mien.errors import WeightsError
from mien.io import cards
from mien.landmarks import POINTS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]


LARGEST: Final = 1.25
"""Largest displacement by an action, in full movements of the head: beyond it the skin would fold. Our choice."""


@dataclass(frozen=True)
class ActionBasis:
    """The displacements of the actions.

    Attributes:
        displacement: [52, P, 3] of each action at 1, in eye distances, to the right, down and towards the viewer; 0 for
            those that no point shows.
        gain: [52] the displacement's amount for one unit of the measured action.
    """

    displacement: Array
    gain: Array

    @classmethod
    def load(cls) -> ActionBasis:
        """The shipped basis."""
        return _shipped()

    @property
    def editable(self) -> tuple[str, ...]:
        """The actions that can be edited: those that move the points."""
        return tuple(name for name, moved in zip(ACTIONS, self.displacement, strict=True) if moved.any())

    def moved(self, changes: Array) -> Array:
        """The displacement [P, 3] for changes [52] of the measured actions, each at most `LARGEST` times the whole."""
        return np.asarray(np.tensordot(np.clip(changes * self.gain, -LARGEST, LARGEST), self.displacement, 1))

    def seen(self, changes: Array, shape: Array) -> Array:
        """The same as seen on the canonical shape [P, 2] of a face, on a head that may be turned: [P, 2]."""
        return np.asarray(self.moved(changes) @ HeadTurn.load().camera(shape).T)


@lru_cache(maxsize=1)
def _shipped() -> ActionBasis:
    content, _ = cards.verified(cards.FOLDER / "editor" / "action_basis.npz")
    with np.load(BytesIO(content), allow_pickle=False) as arrays:
        displacement, gain = (arrays[name].astype(np.float64) for name in ("displacement", "gain"))
    if displacement.shape != (len(ACTIONS), len(POINTS), 3) or gain.shape != (len(ACTIONS),):
        raise WeightsError(
            "the editor's actions have the wrong form: fit them again with mien.training.editor.fit_actions"
        )
    return ActionBasis(displacement, gain)
