"""Draws every facial action on a rendered face, for the table of `docs/actions.md`.

    python scripts/action_faces.py ict_facekit.npz     # writes docs/images/actions/*.jpg

One person, one light, no turn of the head: an action (both of its sides) at 1, and a face at rest. `tongueOut` has no
picture: the head has no tongue. Tests: tests/test_docs_actions.py.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.actions import ACTIONS, SIDES
from mien.data.readers import rendered
from mien.data.synthetic.head import Renderer, arkit, paint
from mien.io import images

OUT = Path(__file__).parent.parent / "docs" / "images" / "actions"
SIDE = 288
PERSON, SEED, LIGHT = 3, 0, 5
SHADE = 236.0
"""The grey behind the head, 0..255."""
QUALITY = 82
NEEDS = {"mouthClose": {"jawOpen": 1.0}}
"""What else has to move for an action to be seen."""


class Posed(Renderer):
    """Draws the coefficients that it is given, before a plain background, without noise."""

    coefficients: NDArray[Any]

    def move(self, random: np.random.Generator) -> NDArray[Any]:
        return self.coefficients

    def _compose(self, canvas: NDArray[Any], random: np.random.Generator) -> NDArray[Any]:
        cover = canvas[..., 3:]
        image = canvas[..., :3] + SHADE * (1 - cover)
        image = cv2.resize(image, (self.size, self.size), interpolation=cv2.INTER_AREA)
        return np.clip(image, 0, 255).astype(np.uint8)


def names() -> list[str]:
    """The actions that have a picture, without sides, and "rest"."""
    return ["rest", *(name for name in SIDES if name != "tongueOut")]


def main(head: Path) -> None:
    """Write the pictures."""
    loaded = rendered.renderer(head, SIDE, movements=True)[0].head
    drawer = Posed(loaded, size=SIDE, fill=(0.74, 0.74), turn=(0.0, 0.0, 0.0), movements=True)
    shape = drawer.shape(SEED, PERSON)
    colours = paint(loaded, shape, np.random.default_rng([SEED, PERSON, 1]))
    # The blendshapes of each action: those that change it.
    effect = np.nan_to_num(arkit(loaded.names, np.eye(len(loaded.names), dtype=np.float32))) > 0
    OUT.mkdir(parents=True, exist_ok=True)
    for name in names():
        moved = dict.fromkeys(SIDES.get(name, ()), 1.0) | NEEDS.get(name, {})
        drawer.coefficients = np.zeros(len(loaded.names), np.float32)
        for action, amount in moved.items():
            drawer.coefficients[effect[:, ACTIONS.index(action)]] = amount
        picture = drawer.draw(shape, colours, PERSON, np.random.default_rng(LIGHT)).image
        images.write(OUT / f"{name}.jpg", picture, quality=QUALITY)
    print(f"{len(names())} pictures in {OUT}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
