"""How the points of a face move with each facial action: displacements for `mien edit --au`.

The displacements are those of the ICT-FaceKit head (MIT) with its blendshapes by ARKit's names, in the canonical frame
of `mien.editing.geometry`. `gain` puts them on the scale that `mien` measures: an edit by 0.4 raises the measured
action by about 0.4. `mien.training.editor.fit_actions` makes the arrays.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mien.actions import ACTIONS
from mien.io import cards
from mien.io.arrays import shaped, stored
from mien.landmarks import POINTS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mien.editing.head_turn import HeadPose

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
    def from_arrays(cls, arrays: dict[str, Any]) -> ActionBasis:
        """Check shapes and freeze.

        Raises:
            WeightsError: an array is missing or has another shape.
        """
        shapes = {"displacement": (len(ACTIONS), len(POINTS), 3), "gain": (len(ACTIONS),)}
        return cls(**shaped(arrays, shapes, "the actions' displacements", "mien.training.editor.fit_actions"))

    @classmethod
    def load(cls) -> ActionBasis:
        """The shipped basis.

        Raises:
            WeightsError: the file is missing or not of this form.
        """
        return _shipped()

    @property
    def editable(self) -> tuple[str, ...]:
        """The actions that can be edited: those that move the points."""
        return tuple(name for name, moved in zip(ACTIONS, self.displacement, strict=True) if moved.any())

    def moved(self, changes: Array) -> Array:
        """The displacement [P, 3] for changes [52] of the measured actions, each at most `LARGEST` times the whole."""
        return np.asarray(np.tensordot(np.clip(changes * self.gain, -LARGEST, LARGEST), self.displacement, 1))

    def seen(self, changes: Array, pose: HeadPose) -> Array:
        """The same as seen in the canonical frame of a head that may be turned: [P, 2]."""
        return np.asarray(self.moved(changes) @ pose.camera.T)


@lru_cache(maxsize=1)
def _shipped() -> ActionBasis:
    return ActionBasis.from_arrays(stored(cards.FOLDER / "editor" / "action_basis.npz"))
