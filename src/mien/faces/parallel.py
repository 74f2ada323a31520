"""Analyse pictures, in this process or in several, and write annotated copies on request; describe the options and
weights of an analysis for its table."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from multiprocessing import connection, resource_tracker
from threading import Thread
from typing import TYPE_CHECKING, Any, Final

from mien.errors import MienError
from mien.io.inputs import Source
from mien.io.outputs import Outputs, Settings
from mien.types import Analysis

if TYPE_CHECKING:
    from mien.faces.annotate import Show

_WRITTEN = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")  # the formats of mien.io.images.write

Work = Callable[[Iterable[Source]], Iterator[Analysis]]
"""Analyses pictures in order."""


def work(
    options: dict[str, Any], marks: Outputs | None = None, threads: int = 1, show: Show = "labels"
) -> Work:
    """The work of one process: analyse with `mien.load(**options)`, and write an annotated copy of each picture to
    `marks` if given, with what `show` says drawn on it (see `mien.faces.annotate.Show`).

    Raises:
        MienError: an option is wrong or weights are damaged.
    """
    import cv2

    from mien.faces.pipeline import load

    cv2.setNumThreads(threads)
    pipeline = load(**options, threads=threads)

    def answer(sources: Iterable[Source]) -> Iterator[Analysis]:
        if marks is None:
            yield from pipeline.stream(sources)
        else:
            for source in sources:
                for analysis in pipeline.stream([source]):
                    yield _annotated(analysis, source, marks, show)

    return answer


def made_with(options: Settings) -> Settings:
    """Everything that determines the results of `mien.load(**options)`: version, hashes of weights, the detector and
    its options, and the baseline if there is one.

    Raises:
        WeightsError: a card is missing or damaged.
        ConfigError: the detector's model file cannot be read.
    """
    from mien import __version__
    from mien.errors import ConfigError
    from mien.faces import detect, recognise
    from mien.io import cards, inputs

    weights = cards.weights_file(options.get("weights") or cards.FOLDER / "recogniser.onnx")
    recogniser = cards.read(weights.with_suffix(".json"))
    landmarks, actions = (cards.read(cards.FOLDER / f"{name}.json") for name in ("landmarks", "actions"))
    model = options.get("detector_model")
    content = inputs.identity(model) if model is not None else None
    adapt = options.get("adapt")
    if adapt is not None:
        recognise.labels_of(None, adapt)  # raises if there is no such file
    if model is not None and content is None:
        raise ConfigError(f"{model}: the detector's model cannot be read: check --model")
    made = {
        "version": __version__,
        "model": recogniser.name,
        "weights": recogniser.fields["sha256"],
        "landmarks": landmarks.fields["sha256"],
        "actions": actions.fields["sha256"] if options.get("actions", True) else None,
        "units": actions.fields["units"]["version"],
        "detector": detect.named(options.get("detector", "auto")),
        "detector_model": content.partition("-")[0] if content is not None else None,
        "min_face": options.get("min_face"),
        "min_confidence": options.get("min_confidence"),
        "tiled": options.get("tiled", False),
        "prior": options.get("prior") or (recognise.check(recogniser).prior if adapt is None else "trained"),
        "adapt": None if adapt is None else (inputs.identity(adapt) or "").partition("-")[0],
    }
    if options.get("baseline") is not None:
        from mien.faces.baseline import NeutralPictures

        made["baseline"] = NeutralPictures.read(options["baseline"]).settings()
    return made


def mark_name(name: str) -> str:
    """The name of a picture's annotated copy: its own name if `mien` can write that format, else with .jpg appended."""
    return name if name.lower().endswith(_WRITTEN) else name + ".jpg"


def _annotated(analysis: Analysis, source: Source, marks: Outputs, show: Show) -> Analysis:
    """Write the annotated picture; a failure is stored as the analysis's error, and its faces are kept."""
    from mien.faces.annotate import draw
    from mien.io import images

    if not analysis.faces:
        return analysis
    try:
        if not isinstance(source, str):
            source.seek(0)
        data = images.encode(marks.path(source), draw(images.read(source), analysis, show))
        marks.write(source, data, lambda target: images.replace(target, data))
    except (MienError, OSError) as problem:
        return replace(analysis, error=f"{analysis.source}: not annotated: {problem}")
    return analysis


CHUNK: Final = 8
"""Pictures sent to a worker at once: few enough that a lost chunk is cheap, enough that sending costs little."""

_work: Work | MienError | None = None  # set once in each worker process, by `_begin`


def analyse(
    paths: Iterable[str], make: Callable[..., Work], options: dict[str, Any], workers: int
) -> Iterator[Analysis]:
    """Analyse pictures with `workers` processes and yield one analysis per path, in order.

    Args:
        paths: read only a bounded number ahead.
        make: a function at the top of a module; each worker calls `make(**options)` once and keeps the result.
        options: plain values, sent to each worker.
        workers: number of processes, 1 or more.

    Raises:
        MienError: `make` fails, so no worker can start.
    """
    remaining = iter(paths)
    pool = _open(make, options, workers)
    waiting: deque[tuple[list[str], Future[list[Analysis]]]] = deque()
    try:
        while True:
            while len(waiting) < 3 * workers and (chunk := list(islice(remaining, CHUNK))):
                waiting.append((chunk, _submit(pool, chunk)))
            if not waiting:
                return
            chunk, future = waiting.popleft()
            try:
                answers = future.result()
            except BrokenProcessPool:
                # One dead process breaks the whole pool. This chunk is analysed one by one; the others are submitted
                # again.
                _close(pool)
                answers = _one_by_one(chunk, make, options)
                pool = _open(make, options, workers)
                waiting = deque(
                    (other, answer if _answered(answer) else _submit(pool, other))
                    for other, answer in waiting
                )
            yield from answers
    finally:
        _close(pool)


def _one_by_one(chunk: list[str], make: Callable[..., Work], options: dict[str, Any]) -> list[Analysis]:
    """Analyse pictures one at a time, so that a worker's death is caused by the picture it had."""
    answers: list[Analysis] = []
    pool = _open(make, options, 1)
    try:
        for path in chunk:
            try:
                answers += _submit(pool, [path]).result()
            except BrokenProcessPool:
                _close(pool)
                pool = _open(make, options, 1)
                error = f"{path}: the process died on this picture, out of memory or killed: scale it down"
                answers.append(Analysis(path, 0, 0, error=error))
    finally:
        _close(pool)
    return answers


def _open(make: Callable[..., Work], options: dict[str, Any], workers: int) -> ProcessPoolExecutor:
    # Fresh interpreters ("spawn"): a fork would copy the state of ONNX Runtime's and OpenCV's threads without them.
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, mp_context=context, initializer=_begin, initargs=(make, options))


def _close(pool: ProcessPoolExecutor) -> None:
    pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Block Ctrl-C in this thread and in processes started within the block.

    A terminal sends it to all of them, and a new process would print a traceback before it can ignore the signal. In
    this thread it is delivered afterwards; in the new processes it stays blocked, as only the parent handles it.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # started with the first process, it would let Ctrl-C through to that one
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _submit(pool: ProcessPoolExecutor, chunk: list[str]) -> Future[list[Analysis]]:
    try:
        with interrupts_held():  # it may start processes
            return pool.submit(_run, chunk)
    except BrokenProcessPool as problem:  # it broke between two chunks
        lost: Future[list[Analysis]] = Future()
        lost.set_exception(problem)
        return lost


def _answered(future: Future[list[Analysis]]) -> bool:
    return future.done() and not future.cancelled() and future.exception() is None


def _begin(make: Callable[..., Work], options: dict[str, Any]) -> None:
    """Initialise a worker process."""
    global _work
    # Ctrl-C reaches the whole process group; only the parent handles it, and lets the workers finish their chunk.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=end_with_parent, daemon=True).start()
    try:
        _work = make(**options)
    except MienError as problem:
        _work = MienError(str(problem))


def end_with_parent() -> None:
    """End this process when its parent ends; to be run in a thread of a worker."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def _run(chunk: list[str]) -> list[Analysis]:
    if isinstance(_work, MienError):
        raise _work
    if _work is None:
        raise RuntimeError("this process is no worker of mien")
    return list(_work(chunk))
