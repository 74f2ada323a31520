"""Train, evaluate and compare the runs of a sweep in worker processes; finished runs are not repeated."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Final

from mien.data import cropping
from mien.data.config import DataConfig, SourceConfig
from mien.data.predictions import FILE, Predictions, pooled
from mien.errors import MienError
from mien.evaluation import compare, inference
from mien.evaluation.intervals import DRAWS
from mien.evaluation.validation import validate
from mien.io import atomic
from mien.labels import EXPRESSIONS
from mien.training import job_queue, loop, run_folder, sweep
from mien.training.job_queue import Outcome, QueueStatus
from mien.training.recognition import with_labels
from mien.training.sweep import SweepConfig, SweepRun
from mien.types import CountProgress, LineProgress, ShareProgress

TABLE: Final = "runs.csv"
"""The table in the sweep's folder: one row for each run, failed ones with their error."""

_WEIGHTS: Final = (run_folder.STATE, "weights.safetensors", "last.safetensors")


@dataclass(frozen=True)
class Result:
    """The result of a sweep: comparisons by set ("" is the runs' own), and the runs that failed."""

    comparisons: dict[str, compare.Comparison]
    failed: tuple[Outcome, ...]
    runs: int
    notes: tuple[str, ...] = field(default=())


def run(
    config: SweepConfig,
    draws: int = DRAWS,
    progress: Callable[[QueueStatus], None] | None = None,
    note: LineProgress | None = None,
    crops: CountProgress | None = None,
) -> Result:
    """Do the remaining runs of a sweep, and compare its arms.

    Args:
        config: the sweep.
        draws: number of resamples for each interval.
        progress: called with the status of the queue; runs that were done before are among those done.
        note: called with a line about each run that ends.
        crops: called with (done, total) while crops are cut, before any run starts.

    Raises:
        ConfigError: the sweep's folder holds one with other options.
        FileLocked: another process is running this sweep.
        KeyboardInterrupt: it was interrupted; the same call continues, also within unfinished runs.
    """
    note = note or (lambda text: None)
    with run_folder.claimed(config.out, "out"):
        sweep.admit(config)
        jobs = sweep.plan(config)
        left = [job for job in jobs if not is_done(job)]
        before = len(jobs) - len(left)
        if before:
            note(f"{before} of {len(jobs)} runs were done before")
        failed = {outcome.job.label: outcome for outcome in _prepared(left, crops)}
        left = [job for job in left if job.label not in failed]
        devices = job_queue.devices_of(config.devices, config.workers, config.threads)

        def passed_on(status: QueueStatus) -> None:
            if progress is not None:  # runs of an earlier call count too
                progress(replace(status, done=status.done + before, total=status.total + before))

        with closing(job_queue.run(left, train_and_predict, devices, config.threads, passed_on)) as outcomes:
            for outcome in outcomes:
                if outcome.error:
                    failed[outcome.job.label] = outcome
                note(f"{outcome.job.label}: {outcome.error or f'{outcome.value:.0f} s'}")
        for job in jobs:
            if is_done(job):
                _tidy(job)  # in case it was killed right after its predictions were written
        _write_table(config.out / TABLE, jobs, failed)
        return _compared(config, jobs, tuple(failed.values()), draws)


def is_done(job: SweepRun) -> bool:
    """Whether the predictions of a run exist."""
    return (job.folder / FILE).is_file()


def train_and_predict(job: SweepRun, device: str, progress: ShareProgress) -> float:
    """Train a run or continue it, write its predictions and remove files that are not kept; return the seconds it took.

    Raises:
        MienError: training or judging cannot continue.
    """
    begun = time.monotonic()

    def passed_on(kind: str, values: dict[str, Any]) -> None:
        if kind == "step":
            progress(values["share"])

    read, load = _readers()
    loop.run(job.config, validate, resume=True, progress=passed_on, device=device, load=load)
    weights = "last.safetensors" if job.judge.weights == "last" else "weights.safetensors"
    where = loop.fabric_of(job.config.precision, device).device
    model = inference.open_weights(job.folder / weights, device=str(where))
    for name, (source, splits) in _judged(job).items():
        parts = [
            inference.predict(model, source, split, cache=job.config.data.cache, by=job.judge.by, read=read)
            for split in splits
        ]
        _named(pooled(parts), job).save(job.folder / (f"{name}.parquet" if name else FILE))
    _tidy(job)
    return time.monotonic() - begun


@cache
def _readers() -> tuple[inference.Read, Callable[..., Any]]:
    """Readers that cache what they read for the runs of one process: reading a set can take as long as training."""
    records = lru_cache(maxsize=8)(cropping.source_records)
    splits = lru_cache(maxsize=4)(lambda data, parts, labels: cropping.load_split(data, parts, None, labels))

    def load(data: DataConfig, parts: tuple[Any, ...], progress: Any, labels: tuple[str, ...]) -> Any:
        return splits(data, parts, labels)

    return records, load


def _judged(job: SweepRun) -> dict[str, tuple[SourceConfig, Sequence[Any]]]:
    """The sets on which a run is evaluated, with their splits, by name; the run's own, "", comes last, as its file
    shows that the run is complete."""
    data = job.config.data
    own = SourceConfig(**{key: getattr(data, key) for key in SourceConfig.model_fields})
    also = {
        name: (SourceConfig(**one.model_dump(exclude={"splits"})), one.splits)
        for name, one in job.judge.also.items()
    }
    return {**also, "": (own, job.judge.splits)}


def _named(predictions: Predictions, job: SweepRun) -> Predictions:
    """The predictions under the arm's name, in one group with those of other seeds and folds."""
    arm = job.config.model_copy(
        update={"name": job.arm, "data": job.config.data.model_copy(update={"fold": 0})}
    )
    group = inference.group_of(arm.model_dump(mode="json"))
    provenance = replace(predictions.provenance, model=f"{job.arm}-s{job.seed}", group=group)
    return replace(predictions, provenance=provenance)


def _tidy(job: SweepRun) -> None:
    """Remove the weights of an evaluated run, unless they are kept, and its state in any case."""
    for name in _WEIGHTS if job.keep == "predictions" else _WEIGHTS[:1]:
        (job.folder / name).unlink(missing_ok=True)


def _prepared(jobs: Sequence[SweepRun], progress: CountProgress | None) -> list[Outcome]:
    """Cut the crops that runs need, each set once, so that workers only read them; return the jobs with unreadable
    data."""
    problems: dict[Any, str] = {}
    failed = []
    for job in jobs:
        key = _needs(job)
        if key not in problems:
            try:
                _cut(job, progress)
                problems[key] = ""
            except MienError as problem:
                problems[key] = str(problem)
        if problems[key]:
            failed.append(Outcome(job, error=problems[key]))
    return failed


def _needs(job: SweepRun) -> Any:
    """The options that determine the crops of a run."""
    data = job.config.data
    sources = [one.model_dump_json() for one, _ in _judged(job).values()]
    also = [one.model_dump_json() for one in data.also]
    return (*sources, *also, data.size, data.colour, data.cache, data.drop_duplicates, job.config.labels)


def _cut(job: SweepRun, progress: CountProgress | None) -> None:
    config = with_labels(job.config)
    labels = config.labels or EXPRESSIONS
    data = config.data
    cropping.load_split(data, ("train", "valid"), progress, labels)
    for source, splits in _judged(job).values():
        find = cropping.finds_faces(source, labels)
        for split in splits:
            records = inference.records_of(source, split, labels=labels)
            cropping.load_crops(records, data.size, data.colour, data.cache, source.points, progress, find)


def _write_table(path: Path, jobs: Sequence[SweepRun], failed: dict[str, Outcome]) -> None:
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("run", "arm", "seed", "fold", "state", "error"))
    for job in jobs:
        error = failed[job.label].error if job.label in failed else ""
        state = "failed" if error else "done"
        rows.writerow((job.label, job.arm, job.seed, "" if job.fold is None else job.fold, state, error))
    atomic.write({path: text.getvalue().encode()})


def _compared(
    config: SweepConfig, jobs: Sequence[SweepRun], failed: tuple[Outcome, ...], draws: int
) -> Result:
    """The comparison on each set, over the seeds with all folds."""
    trained = sweep.equal_arms(config)
    notes = [
        f"{arm} is the same setting as {first}, and was trained once."
        for arm, first in trained.items()
        if arm != first
    ]
    notes += [f"FAILED, and left out: {one.job.label} ({one.error})" for one in failed]
    by = next(iter(config.judge.by), "")
    comparisons = {}
    for name in ("", *config.judge.also):
        predictions = [
            one
            for arm in config.arms
            for seed in config.seeds
            if (one := _of_arm(jobs, arm, trained[arm], seed, name)) is not None
        ]
        if len(predictions) > 1:
            found = compare.compare(predictions, draws=draws, by=by)
            comparisons[name] = replace(found, notes=(*found.notes, *notes))
    return Result(comparisons, failed, len(jobs), tuple(notes))


def _of_arm(jobs: Sequence[SweepRun], arm: str, trained: str, seed: int, name: str) -> Predictions | None:
    """The pooled predictions of one arm and seed on a set; None where a fold is missing."""
    mine = [job for job in jobs if (job.arm, job.seed) == (trained, seed)]
    if not all(is_done(job) for job in mine):
        return None
    file = f"{name}.parquet" if name else FILE
    found = pooled([Predictions.load(job.folder / file) for job in mine])
    if arm == trained:
        return found
    return replace(found, provenance=replace(found.provenance, model=f"{arm}-s{seed}", group=arm))
