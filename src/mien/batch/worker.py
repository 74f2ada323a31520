"""The worker process of a batch: turn one part into one Parquet file.

When a worker dies, the engine starts another one with the same part. Most deaths are not caused by a picture (a machine
goes away, another program took the memory), so the part is repeated, but one picture at a time, each recorded in the
`Ledger` beforehand. A picture on which two more processes die is skipped and becomes a row with an error; so one bad
picture stops neither its part nor the batch.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter, deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from typing import Any, Final

from mien.batch import plan, storage
from mien.batch.storage import BatchError, Remote, Store, is_url
from mien.errors import MienError
from mien.io.columns import Row, key
from mien.io.inputs import identity
from mien.types import Analysis
from mien.urls import without_secrets

FETCHED: Final = 16
"""Remote pictures fetched ahead, so that the processor does not wait for the network."""

DEATHS: Final = 2
"""Processes that must die on one picture before it is skipped."""

TOLD: Final = 3
"""Errors of a part that are reported; all of them are in its rows."""


@dataclass(frozen=True)
class Job:
    """The settings of every worker, plain values. `options` are those of `mien.load`, `folder` is what paths are
    relative to, `made_with` is stored in each part.
    """

    out: str
    folder: str
    options: dict[str, Any]
    columns: str
    on_no_face: str
    made_with: dict[str, Any] | None = None
    landmarks: bool = True


class Ledger:
    """Records, outside of the workers, how often a part was begun and which picture its last worker was analysing."""

    def __init__(self) -> None:
        self._begun: Counter[int] = Counter()
        self._at: dict[int, str] = {}
        self._deaths: Counter[tuple[int, str]] = Counter()

    def begin(self, part: int) -> tuple[bool, set[str]]:
        """Record that a worker begins a part; return whether another one began it before, and the pictures to skip."""
        self._begun[part] += 1
        died_on = self._at.pop(part, None)
        if died_on is not None:
            self._deaths[part, died_on] += 1
        left_out = {name for (of, name), count in self._deaths.items() if of == part and count >= DEATHS}
        return self._begun[part] > 1, left_out

    def at(self, part: int, picture: str) -> None:
        """Record that a worker is about to analyse this picture alone."""
        self._at[part] = picture

    def end(self, part: int) -> None:
        """Record that a part's file is written."""
        self._at.pop(part, None)


class Worker:
    """Loads a pipeline of one thread once, and turns parts into files.

    Args:
        job: the settings.
        ledger: a `Ledger` of the whole batch, or a proxy of one with the same three functions.
    """

    def __init__(self, job: Job, ledger: Any) -> None:
        self._job, self._ledger = job, ledger
        self._store = Store(job.out)
        self._failure: str | None = None
        try:
            self._pipeline = _pipeline(job)
        except MienError as problem:
            self._failure = str(problem)

    def __call__(self, number: int, pictures: list[str], only: list[str] | None = None) -> dict[str, Any]:
        """Analyse a part, or `only` some of its pictures again.

        Returns:
            `number`; how many `pictures`, `faces` and `failed` pictures there are; the first `errors`; the `seconds` it
            took and those of them on the `processor`; and `failure`, why the batch cannot continue, or None.
        """
        begun, worked = time.monotonic(), time.process_time()
        try:
            if self._failure is not None:
                raise BatchError(self._failure)
            part = plan.Part(number, tuple(pictures))
            kept, contents = _kept(self._store.read(part.name)) if only is not None else ({}, {})
            todo = pictures if only is None else [picture for picture in pictures if picture in only]
            analyses = self._analyses(number, todo, contents)
            failed = [name for name, one in zip(todo, analyses, strict=True) if one.error is not None]
            plan.note_failed(self._store, part, failed)
            done = dict(zip(todo, analyses, strict=True))
            self._store.write(part.name, _file(pictures, done, kept, contents, self._job))
        except MienError as problem:
            return {"number": number, "failure": str(problem)}
        self._ledger.end(number)
        errors = [analysis.error for analysis in analyses if analysis.error is not None]
        return {
            "number": number,
            "pictures": len(todo),
            "faces": sum(len(analysis.faces) for analysis in analyses),
            "failed": len(errors),
            "errors": errors[:TOLD],
            "seconds": time.monotonic() - begun,
            "processor": time.process_time() - worked,
            "failure": None,
        }

    def _analyses(self, number: int, pictures: list[str], contents: dict[str, str]) -> list[Analysis]:
        again, left_out = self._ledger.begin(number)
        if not again:
            with closing(_opened(pictures, contents)) as sources:
                return list(self._pipeline.stream(sources))
        answers: list[Analysis] = []
        for picture in pictures:
            if picture in left_out:
                name = without_secrets(picture)
                answers.append(Analysis(name, 0, 0, error=_died(name)))
                continue
            self._ledger.at(number, picture)
            with closing(_opened([picture], contents)) as sources:
                answers += self._pipeline.stream(sources)
        return answers


def _pipeline(job: Job) -> Any:
    import cv2

    from mien.faces.pipeline import load

    if os.path.isdir(job.folder):  # noqa: PTH112 - on another machine it may not even be a path
        os.chdir(job.folder)
    store = Store(job.out)
    if plan.JOB.rpartition("/")[2] not in store.names(plan.FOLDER):
        raise BatchError(
            f"{job.out}: this folder does not exist on every machine of the cluster: name a shared one, or a URL"
        )
    cv2.setNumThreads(1)
    return load(**job.options, on_no_face="error" if job.on_no_face == "error" else "row", threads=1)


def _opened(pictures: list[str], contents: dict[str, str]) -> Generator[str | Remote]:
    """Pictures as a pipeline takes them; remote ones are prefetched. The identity of each local file is added to
    `contents`.
    """
    for picture in pictures:
        contents.pop(key(picture), None)
    if not any(map(is_url, pictures)):
        for picture in pictures:
            if content := identity(picture):
                contents[key(picture)] = content
            yield picture
        return
    with ThreadPoolExecutor(FETCHED) as pool:
        waiting: deque[str | Remote] = deque()
        try:
            for picture in pictures:
                waiting.append(_remote(picture, pool) if is_url(picture) else picture)
                if len(waiting) > FETCHED:
                    yield waiting.popleft()
            while waiting:
                yield waiting.popleft()
        finally:
            pool.shutdown(cancel_futures=True)


def _remote(url: str, pool: ThreadPoolExecutor) -> Remote:
    return Remote(without_secrets(url), pool.submit(storage.read, url).result)


def _died(picture: str) -> str:
    return f"{picture}: processes died on this picture, out of memory or killed: scale it down"


def _kept(data: bytes) -> tuple[dict[str, list[Row]], dict[str, str]]:
    """The rows of each picture of an existing part, and the identity of each picture's content."""
    from pyarrow import parquet

    table = parquet.read_table(BytesIO(data))
    kept: dict[str, list[Row]] = {}
    for row in table.to_pylist():
        kept.setdefault(row["input"], []).append(row)
    return kept, json.loads((table.schema.metadata or {}).get(b"mien.pictures", b"{}"))


def _file(
    pictures: Sequence[str],
    done: dict[str, Analysis],
    kept: dict[str, list[Row]],
    contents: dict[str, str],
    job: Job,
) -> bytes:
    from mien.faces.recognise import labels_of
    from mien.io.tables import columns_of, rows, write_parquet

    labels = labels_of(job.options.get("weights"), job.options.get("adapt"))
    no_face: Any = "skip" if job.on_no_face == "skip" else "row"
    changes = job.options.get("baseline") is not None

    def lines() -> Iterator[Row]:
        for picture in pictures:
            if picture in done:
                yield from rows(
                    done[picture], job.columns, job.landmarks, no_face, labels=labels, changes=changes
                )
            else:
                yield from kept.get(key(without_secrets(picture)), ())

    table = BytesIO()
    made = {"made_with": job.made_with, "pictures": contents}
    columns = columns_of(job.columns, job.landmarks, labels=labels, changes=changes)
    write_parquet(table, columns, lines(), made if job.made_with is not None else None)
    return table.getvalue()


class RayWorker:
    """Adapts `Worker` to Ray Data: blocks of one row in and out, and the ledger in its own process."""

    def __init__(self, job: Job, ledger: Any) -> None:
        import logging

        logging.getLogger("ray.data").setLevel(logging.ERROR)
        self._worker = Worker(job, _Proxy(ledger))

    def __call__(self, block: dict[str, Any]) -> dict[str, Any]:
        """Run the part of each row."""
        done = [
            self._worker(int(number), json.loads(pictures), json.loads(only))
            for number, pictures, only in zip(block["number"], block["pictures"], block["only"], strict=True)
        ]
        return {"done": [json.dumps(result) for result in done]}


class _Proxy:
    """Calls a Ray actor and waits for its answer."""

    def __init__(self, actor: Any) -> None:
        import ray

        self._ask = lambda call, *given: ray.get(call.remote(*given))
        self.begin = partial(self._ask, actor.begin)
        self.at = partial(self._ask, actor.at)
        self.end = partial(self._ask, actor.end)
