"""The editors that `mien evaluate-edits` compares: the shipped editor, parts of it, and generators.

Generators are exported by `mien train` and applied to photos as in their papers: `skip` adds its luma, enlarged, to the
photo; `stargan` generates the face at 64 pixels, and the result is pasted over the luma of the
photo with a soft rim, and the colours are kept. Neither ships.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from mien.editing.corrector import SIDE, OnnxCorrector, fade, reach, window_matrix
from mien.editing.geometry import ACTIVE, FaceFrame, Geometry
from mien.editing.target import Target, change_for
from mien.errors import ConfigError, WeightsError, nearest
from mien.evaluation.editor import metrics
from mien.evaluation.editor.metrics import EditFunction
from mien.faces import align
from mien.io import cards
from mien.io.images import LUMA
from mien.io.onnx import Network

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mien.editing.editor import Editor
    from mien.editing.photo import Photo
    from mien.editing.results import Located

    Array = NDArray[np.float64]


@dataclass(frozen=True)
class Generator:
    """A generator, opened; called as `mien.evaluation.editor.metrics.EditFunction`."""

    network: Any
    kind: str
    geometry: Geometry

    @classmethod
    def load(cls, path: Path) -> Generator:
        """Open `editor.onnx` of a run of kind skip or stargan.

        Raises:
            WeightsError: the file or its card is missing, damaged, or of another kind.
        """
        network, card = Network.open(path)
        kind = card.fields.get("kind")
        if kind not in ("skip", "stargan"):
            raise WeightsError(f"{path}: a {kind} is not a generator: name one of kind skip or stargan")
        return cls(network, str(kind), Geometry.load())

    def __call__(
        self, photo: Photo, face: Located, target: str, strength: float, lips: float | None
    ) -> tuple[NDArray[np.uint8], float]:
        """The edited picture; a generator ignores `lips`, and as it has no map it does not fold."""
        frame = FaceFrame.of(face.points)
        seen = FaceFrame.of(face.network_points).to_canonical(face.network_points)
        shares = (
            None if face.reading is None else np.array([face.reading.probabilities[name] for name in ACTIVE])
        )
        wanted = Target.parse(target)
        change = change_for(wanted, self.geometry.strengths(seen, shares), strength)
        if not change.any():
            return photo.rgb, 1.0
        if self.kind == "stargan":  # its code is the target expression, not the change
            change = np.array([wanted.strengths.get(name, 0.0) for name in ACTIVE]) * strength
        matrix = window_matrix(frame)
        before = align.crop(photo.rgb, matrix, SIDE, grey=True)
        pictures = before[None, None].astype(np.float32) / 255
        answer = self.network.run(None, {"pictures": pictures, "change": change[None].astype(np.float32)})[0][
            0, 0
        ]
        rgb = photo.rgb.astype(np.float32)
        height, width = rgb.shape[:2]

        def enlarged(window: NDArray[np.float32]) -> NDArray[np.float32]:
            large = cv2.warpAffine(
                window,
                align.to_pixels(matrix, SIDE),
                (width, height),
                flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                borderMode=cv2.BORDER_CONSTANT,
            )
            return np.asarray(large, np.float32)

        if self.kind == "skip":
            added = enlarged(255 * np.float32(reach(change)) * answer * fade())
        else:
            luma = rgb @ LUMA
            added = enlarged(fade()) * (enlarged(255 * answer) - luma)
        return np.clip(np.rint(rgb + added[..., None]), 0, 255).astype(np.uint8), 1.0


@dataclass(frozen=True)
class EditorVariant:
    """One editor under test: its drawing function (which takes whether to `force` poor faces), the editor that plans
    its requests, and the hash of its own weights, if it has any."""

    draw: Callable[[bool], EditFunction]
    editor: Editor
    weights: str = ""

    @property
    def depends(self) -> dict[str, str]:
        """What its figures depend on besides the editor's own weights."""
        return {"way": self.weights} if self.weights else {}


def variants(editor: Editor, names: list[str]) -> dict[str, EditorVariant]:
    """The editors under test, by name.

    Args:
        editor: the shipped editor.
        names: "full" is the shipped editor, "analytic" the same without a learned correction, "geometry" only its flow.
            A file `editor.onnx` that `mien train` exported is a corrector of the full editor, or a generator.

    Raises:
        ConfigError: a name is neither.
        WeightsError: a file cannot be opened.
    """
    # Faces are located with the recogniser's reading, so it need not read each edit again.
    full = replace(editor, measure=False)
    known = {"full": full, "analytic": full.with_corrector(None), "geometry": full.without_pictures()}
    found: dict[str, EditorVariant] = {}
    for name in names:
        if name in known:
            found[name] = EditorVariant(partial(metrics.by_editor, known[name]), known[name])
        elif name.endswith(".onnx"):
            path = Path(name)
            card = cards.read(path.with_suffix(".json"))
            if card.fields.get("kind") == "corrector":
                able = full.with_corrector(OnnxCorrector.load(path))
                found[card.name] = EditorVariant(
                    partial(metrics.by_editor, able), able, card.fields["sha256"]
                )
            else:
                generator = Generator.load(path)
                found[card.name] = EditorVariant(
                    partial(_either_way, generator), known["analytic"], card.fields["sha256"]
                )
        else:
            raise ConfigError(
                f"'{name}' is not an editor: {nearest(name, [*known])}; or name a file editor.onnx"
            )
    return found


def _either_way(drawn: EditFunction, force: bool) -> EditFunction:
    """The same function with and without `force`, since a generator refuses nothing."""
    return drawn
