"""What one process does with its pictures: analyse them and, if asked, write each with what was found drawn on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from mien.errors import MienError
from mien.sources import Marks, Source
from mien.types import Analysis

Work = Callable[[Sequence[Source]], Iterator[Analysis]]
"""Analyses pictures in order."""


def work(options: dict[str, Any], marks: Marks | None = None, threads: int = 1) -> Work:
    """What a worker does: `mien.load(**options)`, and an annotated picture beside each answer if `marks` says where.

    Raises:
        MienError: an option is wrong or weights are not sound.
    """
    import cv2

    from mien.pipeline import load

    cv2.setNumThreads(threads)
    pipeline = load(**options, threads=threads)

    def answer(sources: Sequence[Source]) -> Iterator[Analysis]:
        if marks is None:
            yield from pipeline.stream(sources)
        else:
            for source in sources:
                for analysis in pipeline.stream([source]):
                    yield _annotated(analysis, source, marks)

    return answer


def _annotated(analysis: Analysis, source: Source, marks: Marks) -> Analysis:
    """Write the annotated picture; a failure becomes the analysis's error, what was read of the faces stays."""
    from mien import images
    from mien.figures.annotated import draw

    if not analysis.faces:
        return analysis
    try:
        if not isinstance(source, str):
            source.seek(0)
        target = marks.path(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        images.write(target, draw(images.read(source), analysis))
    except (MienError, OSError) as problem:
        return replace(analysis, error=f"{analysis.source}: not annotated: {problem}")
    return analysis
