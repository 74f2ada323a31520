"""The models of the server: loaded once in each worker process, bounded by its limits."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from mien.errors import MienError
from mien.io import cards
from mien.server.limits import BoundedDetector, Limits

if TYPE_CHECKING:
    from mien.editing.editor import Editor
    from mien.editing.signing import Signer
    from mien.faces.pipeline import Pipeline


@dataclass(frozen=True)
class Models:
    """The models of a worker. `editor` and `signer` are None if this installation cannot edit; `lacking` is the
    reason."""

    pipeline: Pipeline
    editor: Editor | None
    signer: Signer | None
    lacking: str = ""

    @property
    def cards(self) -> list[dict[str, Any]]:
        """The cards of everything that is installed, and of the recogniser in use if it is another one."""
        fields = [card.fields for card in cards.shipped()]
        used: cards.Card | None = getattr(self.pipeline.recogniser, "card", None)
        if used is not None and used.fields not in fields:
            fields.append(used.fields)
        return fields


def load(options: dict[str, Any]) -> Models:
    """Load the shipped models; `options` are those of `mien.load`.

    Every network gets one thread, as requests run in parallel processes.

    Raises:
        WeightsError: the weights of the analysis are missing or damaged. Those of the editor are not needed.
        ConfigError: an option is wrong.
    """
    from mien.faces import pipeline

    loaded = pipeline.load(threads=1, **options)
    try:
        editor, signer = _editor(loaded)
    except MienError as problem:
        return Models(loaded, None, None, str(problem))
    return Models(loaded, editor, signer)


def _editor(loaded: Pipeline) -> tuple[Editor, Signer]:
    from mien.editing.editor import Editor
    from mien.editing.signing import Signer

    return Editor.load(loaded), Signer.of_install()


def bounded(models: Models, limits: Limits) -> Models:
    """Copies of the models that refuse pictures beyond the limits."""
    editor = models.editor
    if editor is not None:
        editor = replace(editor, pipeline=_bounded(editor.pipeline, limits))
    return Models(_bounded(models.pipeline, limits), editor, models.signer, models.lacking)


def _bounded(pipeline: Pipeline, limits: Limits) -> Pipeline:
    copied = copy.copy(pipeline)
    copied.detector = BoundedDetector(pipeline.detector, limits.faces)
    copied.max_pixels = limits.pixels
    return copied
