"""Jobs: batches of pictures and videos that are analysed while the client follows their progress.

A job is a folder with its upload and its results, removed when everything was fetched, `Limits.kept` seconds after the
job's end, when it is cancelled, and when the server stops. A server that was killed leaves its folder to the next one.
The upload is removed as soon as it is analysed. Only who has a job's id, 192 random bits, can reach it.

The pictures of a batch are analysed one by one in the processes of `mien.server.pool`, of which jobs leave one to other
requests if there are several. A video has a process of its own for as long as it takes.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import secrets
import shutil
import tempfile
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine
from importlib.util import find_spec
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Final, Literal

from fastapi.sse import ServerSentEvent
from starlette.concurrency import run_in_threadpool

from mien.errors import ExtraMissing
from mien.io.locks import FileLock, FileLocked
from mien.server import schema
from mien.server.job_uploads import too_large
from mien.server.limits import Limits, Refusal
from mien.types import Analysis

if TYPE_CHECKING:
    from mien.server.job_uploads import StoredFile, StoredUpload
    from mien.server.pool import Pool

PREFIX: Final = "mien-jobs-"
"""Of the folder with the jobs of one server, in the folder for temporary files (`TMPDIR`)."""

LINES: Final = 32
"""Of the pictures of a batch: how many are read from disk at a time, for their events."""

State = Literal["arriving", "waiting", "running", "done", "failed", "cancelled"]


class IdFilter(logging.Filter):
    """Leaves the ids of jobs out of uvicorn's log of requests, since they are secrets."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Replace the ids in a record's arguments; every record is kept."""
        if isinstance(record.args, tuple):
            record.args = tuple(
                re.sub(r"/v1/jobs/[^/?]+", "/v1/jobs/...", value) if isinstance(value, str) else value
                for value in record.args
            )
        return True


_ID_FILTER: Final = IdFilter()


class ServerJob:
    """One batch or video.

    Attributes:
        id: unguessable. kind: of job. folder: of its files. progress: the last numbers reported. files: results that
            can be fetched, once it is done. summary: of a job that is done. problem: why it failed, or a note on a
            video that is damaged after some frames. size: of its files, bytes. upload: its upload while it is there.
    """

    def __init__(self, kind: Literal["batch", "video"], folder: Path) -> None:
        self.id = secrets.token_urlsafe(24)
        self.kind = kind
        self.folder = folder / self.id
        self.state: State = "arriving"
        self.progress: dict[str, Any] = {"done": 0, "total": None, "faces": 0}
        self.files: list[str] = []
        self.summary: dict[str, Any] = {}
        self.problem: Refusal | None = None
        self.size = 0
        self.upload = self.folder / "upload"
        self.task: asyncio.Task[None] | None = None
        self._ends = [0]  # offsets in `pictures.jsonl` after each picture
        self._changed = asyncio.Event()

    @property
    def ended(self) -> bool:
        """Whether it is done, failed or cancelled."""
        return self.state in ("done", "failed", "cancelled")

    def notify(self) -> None:
        """Wake those who follow its events."""
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def add_line(self, line: bytes) -> None:
        """Append the analysis of a batch's next picture."""
        with (self.folder / schema.PICTURES).open("ab") as file:
            file.write(line + b"\n")
        self._ends.append(self._ends[-1] + len(line) + 1)

    def _lines(self, first: int) -> list[str]:
        """The analyses of up to `LINES` pictures from number `first`."""
        last = min(first + LINES, len(self._ends) - 1)
        if last <= first:
            return []
        with (self.folder / schema.PICTURES).open("rb") as file:
            file.seek(self._ends[first])
            text = file.read(self._ends[last] - self._ends[first])
        return text.decode("utf-8").split("\n")[:-1]

    async def events(self, after: int = 0) -> AsyncIterator[ServerSentEvent]:
        """Its events until its end: `picture` for each from number `after`, `progress`, and the last one."""
        shown: dict[str, Any] | None = None
        while True:
            changed, ended, progress = self._changed, self.ended, self.progress
            try:
                lines = await run_in_threadpool(self._lines, after)
            except FileNotFoundError:  # removed meanwhile
                lines, ended = [], True
            for line in lines:
                data = f'{{"number": {after}, "analysis": {line}}}'
                after += 1
                yield ServerSentEvent(event="picture", id=str(after), raw_data=data)
            if lines:
                continue
            if progress != shown:
                shown = progress
                yield ServerSentEvent(event="progress", data=progress)
            if ended:
                yield ServerSentEvent(event=self.state, data=self._last())
                return
            await changed.wait()

    def _last(self) -> dict[str, Any]:
        if self.state == "done":
            return {"files": self.files, **self.summary, "note": self.problem and self.problem.message}
        return {} if self.problem is None else self.problem.body

    def describe(self) -> schema.JobStatus:
        """Its state."""
        return schema.JobStatus(
            id=self.id,
            kind=self.kind,
            state=self.state,
            progress=schema.JobProgress.model_validate(self.progress),
            files=self.files,
            problem=None if self.problem is None else schema.Problem(**self.problem.body),
        )


class Jobs:
    """The jobs of one server."""

    def __init__(
        self, limits: Limits, pool: Pool, labels: tuple[str, ...], count_faces: Callable[[str, int], None]
    ) -> None:
        """`labels` are those of the recogniser; `count_faces` gets the kind of a job and a number of faces."""
        self.limits = limits
        self.labels = labels
        self._pool, self._count_faces = pool, count_faces
        self._jobs: dict[str, ServerJob] = {}
        self._root: Path | None = None
        self._lock: FileLock | None = None
        self._places = asyncio.Semaphore(max(1, limits.running - 1))
        self._videos = asyncio.Semaphore(max(1, limits.running // 2))

    def begin(self, kind: Literal["batch", "video"]) -> ServerJob:
        """Begin a job with its upload.

        Raises:
            Refusal: 501 if this server takes no jobs, 429 if there are as many as allowed, or they fill the disk.
        """
        self._pool.check_models()
        if not self.limits.jobs:
            raise Refusal(
                501, "no_jobs", "this server takes no jobs: start it with --jobs and one of --workers"
            )
        if len(self._jobs) >= self.limits.jobs:
            raise Refusal(
                429,
                "too_many_jobs",
                f"{len(self._jobs)} jobs are kept, the most at once: fetch or delete one, or try again later",
                10,
            )
        self._check_disk()
        job = ServerJob(kind, self._opened())
        job.folder.mkdir(mode=0o700)
        self._jobs[job.id] = job
        return job

    def find(self, name: str) -> ServerJob:
        """The job with this id.

        Raises:
            Refusal: 404 if there is none.
        """
        job = self._jobs.get(name)
        if job is None:
            raise Refusal(
                404,
                "no_job",
                f"there is no such job: it was fetched or cancelled, or ended over {self.limits.kept:g} seconds ago: "
                "send it again",
            )
        return job

    def count(self, job: ServerJob, size: int) -> None:
        """Add to the size of a job's files.

        Raises:
            Refusal: 429 if those of all jobs exceed the limit.
        """
        job.size += size
        self._check_disk()

    def _check_disk(self) -> None:
        taken = sum(job.size for job in self._jobs.values())
        if taken > self.limits.disk:
            raise Refusal(
                429,
                "disk_full",
                f"the files of all jobs are larger than {self.limits.disk / 2**20:.1f} MB: fetch or delete a job, or "
                "start the server with a higher --max-disk",
                60,
            )

    def start(self, job: ServerJob, work: Coroutine[Any, Any, None]) -> None:
        """Run the work of a job, once its upload is complete."""
        job.state = "waiting"
        job.task = asyncio.create_task(work)
        job.task.add_done_callback(lambda task: self._finish(job, task))

    def _finish(self, job: ServerJob, task: asyncio.Task[None]) -> None:
        failure = None if task.cancelled() else task.exception()
        dropped = job.id not in self._jobs
        if dropped:
            shutil.rmtree(job.folder, ignore_errors=True)  # again, as its process may still have written
        else:
            job.upload.unlink(missing_ok=True)
            job.size = _size_of(job.folder)
        if dropped or task.cancelled():
            job.state = "cancelled"
        elif failure is None:
            job.state = "done"
        else:
            job.state = "failed"
            job.problem = self._refusal(failure, task)
        job.notify()
        if not dropped:
            asyncio.get_running_loop().call_later(self.limits.kept, self.drop, job)

    def _refusal(self, failure: BaseException, task: asyncio.Task[None]) -> Refusal:
        if isinstance(failure, Refusal):
            return failure
        if isinstance(failure, asyncio.TimeoutError):
            return Refusal(
                504,
                "too_slow",
                f"the job took longer than {self.limits.job_seconds:g} seconds: send it in parts, or start the server "
                "with a higher --max-job-seconds",
            )
        if isinstance(failure, OSError):
            return Refusal(
                429, "disk_full", f"its results cannot be stored ({failure.strerror}): try again later"
            )
        context = {"message": "a job failed", "exception": failure, "task": task}
        asyncio.get_running_loop().call_exception_handler(context)
        name = type(failure).__name__
        return Refusal(500, "defect", f"a defect of mien ({name}): please report it with the server's log")

    def drop(self, job: ServerJob) -> None:
        """Cancel a job if it runs, and remove it with its files."""
        self._jobs.pop(job.id, None)
        if job.task is not None:
            job.task.cancel()
        shutil.rmtree(job.folder, ignore_errors=True)

    def fetched(self, job: ServerJob, name: str) -> None:
        """Remove a file that was fetched, and the job with its last one."""
        if name in job.files:
            job.files.remove(name)
            path = job.folder / name
            job.size -= path.stat().st_size
            path.unlink()
        if not job.files:
            self.drop(job)

    def close(self) -> None:
        """Cancel all jobs and remove all files."""
        for job in list(self._jobs.values()):
            self.drop(job)
        if self._root is not None:
            shutil.rmtree(self._root, ignore_errors=True)
            self._root = None
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _opened(self) -> Path:
        """The folder of this server's jobs, made with the first; those that killed servers left are then removed."""
        if self._root is None:
            folder = Path(tempfile.gettempdir())
            logging.getLogger("uvicorn.access").addFilter(_ID_FILTER)
            _sweep(folder)
            root = folder / (PREFIX + secrets.token_hex(8))
            self._lock = FileLock(_lock_of(root), "jobs")
            root.mkdir(mode=0o700)
            self._root = root
        return self._root

    # Batches ----------------------------------------------------------------------------------------------------------

    async def run_batch(self, job: ServerJob, upload: StoredUpload, asked: schema.BatchRequest) -> None:
        """Analyse the pictures of a batch in order, and write its files."""
        job.state = "running"
        await asyncio.wait_for(self._batch(job, upload, asked), self.limits.job_seconds)

    async def _batch(self, job: ServerJob, upload: StoredUpload, asked: schema.BatchRequest) -> None:
        pictures = upload.files
        neutral = await self._neutral(upload)
        job.progress = {"done": 0, "total": len(pictures), "faces": 0, "failed": 0}
        job.notify()
        names = unique_names([file.name or f"picture {place}" for place, file in enumerate(pictures, 1)])
        coming = iter(zip(pictures, names, strict=True))
        pending: deque[asyncio.Task[tuple[bytes, int, bool]]] = deque()
        try:
            while True:
                while len(pending) <= self.limits.running and (pair := next(coming, None)) is not None:
                    pending.append(asyncio.create_task(self._picture(upload, *pair, neutral)))
                if not pending:
                    break
                line, faces, failed = await pending.popleft()
                self.count(job, len(line) + 1)
                await run_in_threadpool(job.add_line, line)
                job.progress = {
                    "done": job.progress["done"] + 1,
                    "total": len(pictures),
                    "faces": job.progress["faces"] + faces,
                    "failed": job.progress["failed"] + failed,
                }
                self._count_faces("batch", faces)
                job.notify()
        finally:
            for task in pending:
                task.cancel()
        job.upload.unlink()
        await self._write_tables(job, asked, neutral is not None)
        job.size = _size_of(job.folder)
        self._check_disk()
        job.files = list(asked.files)
        job.summary = {name: job.progress[name] for name in ("total", "faces", "failed")}

    async def _neutral(self, upload: StoredUpload) -> dict[str, Any] | None:
        """The neutral face in the upload's field `baseline`, or None."""
        if upload.baseline is None:
            return None
        data, name = upload.baseline
        async with self._places:
            _, body = await self._pool.run({"neutral_of": name}, data, self.limits.job_seconds)
        neutral: dict[str, Any] = json.loads(body)
        return neutral

    async def _picture(
        self, upload: StoredUpload, file: StoredFile, name: str, neutral: dict[str, Any] | None
    ) -> tuple[bytes, int, bool]:
        """The analysis of one picture as a line of JSON, its number of faces, and whether it has an error instead."""
        asked = {"name": name, **({} if neutral is None else {"neutral": neutral})}
        try:
            if file.size > self.limits.bytes:
                raise too_large(self.limits)
            async with self._places:
                data = await run_in_threadpool(upload.read, file)
                header, body = await self._pool.run(asked, data, self.limits.job_seconds)
        except Refusal as refusal:
            analysis = Analysis(name, 0, 0, error=f"{name}: {refusal.message}")
            return analysis.to_json().encode(), 0, True
        return body, header["faces"], False

    async def _write_tables(self, job: ServerJob, asked: schema.BatchRequest, changes: bool) -> None:
        tables = [name for name in asked.files if name != schema.PICTURES]
        if tables:
            request = {
                "folder": str(job.folder),
                "files": tables,
                "columns": asked.columns,
                "changes": changes,
            }
            await self._pool.run_alone({"tables": request}, lambda done: None)

    # Videos -----------------------------------------------------------------------------------------------------------

    async def run_video(self, job: ServerJob, upload: StoredUpload, asked: schema.VideoRequest) -> None:
        """Analyse a video, once there is a process for it, and write its files."""
        async with self._videos:
            job.state = "running"
            job.notify()
            await asyncio.wait_for(self._video(job, upload, asked), self.limits.job_seconds)

    async def _video(self, job: ServerJob, upload: StoredUpload, asked: schema.VideoRequest) -> None:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        over: list[Refusal] = []

        def take(progress: dict[str, Any]) -> None:
            job.progress = progress
            job.size = _size_of(job.folder)
            job.notify()
            try:
                self._check_disk()
            except Refusal as refusal:
                over.append(refusal)
                if task is not None:
                    task.cancel()

        def report(progress: dict[str, Any]) -> None:
            loop.call_soon_threadsafe(take, progress)

        request = {
            "path": str(upload.path),
            "folder": str(job.folder),
            "name": upload.files[0].name or "video",
            "neutral": await self._neutral(upload),
            **asked.model_dump(),
        }
        try:
            header, _ = await self._pool.run_alone({"video": request}, report)
        except asyncio.CancelledError:
            if over:
                raise over[0] from None
            raise
        job.progress, job.summary = header["progress"], header["summary"]
        self._count_faces("video", job.progress["faces"])
        job.size = _size_of(job.folder)
        self._check_disk()
        job.files = list(asked.files)
        if header["note"]:
            job.problem = Refusal(422, "damaged_video", header["note"])


def video_lacking() -> str:
    """Why this installation cannot read videos; "" if it can."""
    for module in ("av", "edgefirst.tracker", "jinja2"):
        try:
            found = find_spec(module)
        except ModuleNotFoundError:  # the package above it
            found = None
        if found is None:
            return str(ExtraMissing("video", module))
    return ""


def unique_names(names: list[str]) -> list[str]:
    """The names, where one that stands before gets a number: a.jpg, a (2).jpg."""
    used = set(names)
    taken: set[str] = set()
    unique = []
    for name in names:
        path, number, chosen = PurePath(name), 1, name
        while chosen in taken or (number > 1 and chosen in used):
            number += 1
            chosen = f"{path.stem} ({number}){path.suffix}"
        taken.add(chosen)
        unique.append(chosen)
    return unique


def _size_of(folder: Path) -> int:
    return sum(entry.stat().st_size for entry in os.scandir(folder)) if folder.is_dir() else 0


def _lock_of(root: Path) -> Path:
    return root.with_name(root.name + ".lock")


def _sweep(folder: Path) -> None:
    """Remove the folders of jobs that servers of this user left when they were killed."""
    owner = os.getuid() if hasattr(os, "getuid") else None
    for left in folder.glob(PREFIX + "*"):
        if not re.fullmatch(rf"{PREFIX}\w+", left.name) or left.is_symlink() or not left.is_dir():
            continue
        if owner is not None and left.stat().st_uid != owner:
            continue
        try:
            lock = FileLock(_lock_of(left), "jobs")
        except (FileLocked, OSError):  # its server is running
            continue
        shutil.rmtree(left, ignore_errors=True)
        lock.release()
