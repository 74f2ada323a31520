"""What one process does with its pictures: analyse them and, if asked, write each with what was found drawn on it;
and what an analysis is made with, so that a table can say it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

from mien.errors import MienError
from mien.outputs import Outputs, Settings
from mien.sources import Source
from mien.types import Analysis

_WRITTEN = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")  # what mien.images.write can write

Work = Callable[[Iterable[Source]], Iterator[Analysis]]
"""Analyses pictures in order."""


def work(options: dict[str, Any], marks: Outputs | None = None, threads: int = 1) -> Work:
    """What a worker does: `mien.load(**options)`, and an annotated picture beside each answer if `marks` says where.

    Raises:
        MienError: an option is wrong or weights are not sound.
    """
    import cv2

    from mien.pipeline import load

    cv2.setNumThreads(threads)
    pipeline = load(**options, threads=threads)

    def answer(sources: Iterable[Source]) -> Iterator[Analysis]:
        if marks is None:
            yield from pipeline.stream(sources)
        else:
            for source in sources:
                for analysis in pipeline.stream([source]):
                    yield _annotated(analysis, source, marks)

    return answer


def made_with(options: Settings) -> Settings:
    """What decides what `mien.load(**options)` finds: version, weights by their hash, the detector and its options.

    Raises:
        WeightsError: a card is missing or damaged.
        ConfigError: the detector's model file cannot be read.
    """
    from mien import __version__, cards, detect, sources
    from mien.errors import ConfigError

    weights = cards.weights_file(options.get("weights") or cards.FOLDER / "recogniser.onnx")
    recogniser = cards.read(weights.with_suffix(".json"))
    landmarks = cards.read(cards.FOLDER / "landmarks.json")
    model = options.get("detector_model")
    content = sources.identity(model) if model is not None else None
    if model is not None and content is None:
        raise ConfigError(f"{model}: the detector's model cannot be read: check --model")
    return {
        "version": __version__,
        "model": recogniser.name,
        "weights": recogniser.fields["sha256"],
        "landmarks": landmarks.fields["sha256"],
        "detector": detect.named(options.get("detector", "auto")),
        "detector_model": content.partition("-")[0] if content is not None else None,
        "min_face": options.get("min_face"),
        "min_confidence": options.get("min_confidence"),
        "tiled": options.get("tiled", False),
    }


def mark_name(name: str) -> str:
    """The name of a picture's annotated copy: its own where `mien` writes that format, else with .jpg behind it."""
    return name if name.lower().endswith(_WRITTEN) else name + ".jpg"


def _annotated(analysis: Analysis, source: Source, marks: Outputs) -> Analysis:
    """Write the annotated picture; a failure becomes the analysis's error, what was read of the faces stays."""
    from mien import images
    from mien.figures.annotated import draw

    if not analysis.faces:
        return analysis
    try:
        if not isinstance(source, str):
            source.seek(0)
        data = images.encode(marks.path(source), draw(images.read(source), analysis))
        marks.write(source, data, lambda target: images.replace(target, data))
    except (MienError, OSError) as problem:
        return replace(analysis, error=f"{analysis.source}: not annotated: {problem}")
    return analysis
