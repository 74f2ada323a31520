"""Compare methods over several runs on the same images, with intervals over images and seeds.

Runs are grouped by method: the seeds of one setting are one row. A difference between two methods is uncertain for two
reasons, the sample of test images and the sample of training seeds, so its interval includes both: every bootstrap draw
uses the same images for all methods, and shifts each method's mean by as much as other seeds might.

Runs are compared only if they were evaluated on the same file list under the same protocol. Published numbers are not
compared: they have other pretraining, other crops and often the best epoch on the test set. They are in a separate
column.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mien.data.predictions import FILE, Predictions, RunInfo, hash_of_all
from mien.errors import MienError, nearest, similar
from mien.evaluation import intervals, metrics
from mien.evaluation.evaluate import DIMENSIONS, predicted_classes, rated_of, subjects_of
from mien.evaluation.intervals import DRAWS, Interval, Resampling, interval
from mien.evaluation.subgroups import SMALLEST_GROUP, UNITS, UNKNOWN, grouped
from mien.labels import UNLABELLED, difference
from mien.training import run_folder
from mien.training.run_log import without_seed
from mien.wording import several

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

FIGURES: tuple[str, ...] = ("accuracy", "macro_accuracy", "macro_f1")
"""The expression figures of a comparison; `ccc_valence` and `ccc_arousal` are added if labels for them exist."""


class ComparisonError(MienError, ValueError):
    """Runs that cannot be compared; the message names the difference."""


@dataclass(frozen=True, slots=True)
class Score:
    """One figure of one method: mean over its seeds, the interval over seeds and images, and each seed's value.

    `seed_sd` is the sample standard deviation over seeds, `nan` for a single one.
    """

    mean: Interval
    seed_sd: float
    each: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """One method: all seeds of one setting."""

    name: str
    seeds: tuple[int | None, ...]
    provenance: RunInfo
    figures: dict[str, Score]


@dataclass(frozen=True, slots=True)
class Pair:
    """A method against the reference: differences (method - reference) and McNemar's test for each pair of seeds.

    `corrected` are the differences with intervals that hold for all pairs of the comparison together, and `visible` the
    smallest true differences that would be detected with probability 0.8: see `_joint`.
    """

    name: str
    reference: str
    differences: dict[str, Interval]
    tests: tuple[metrics.McNemar, ...]
    corrected: dict[str, Interval] = field(default_factory=dict)
    visible: dict[str, float] = field(default_factory=dict)

    @property
    def largest_p(self) -> float:
        """The largest mid-p among the pairs of seeds; `nan` without expression labels."""
        return max((test.p_mid for test in self.tests), default=math.nan)


@dataclass(frozen=True, slots=True)
class Group:
    """One method on one group of the images; `differences` are to the reference in the same group."""

    name: str
    group: str
    images: int
    figures: dict[str, Score]
    differences: dict[str, Interval]


@dataclass(frozen=True, slots=True)
class Gap:
    """One method's figures on the first of two groups minus those on the second; `changes` are the differences from the
    reference's gap, empty for the reference itself."""

    name: str
    groups: tuple[str, str]
    figures: dict[str, Interval]
    changes: dict[str, Interval]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Several methods on the same images. `rows` keep the order in which the runs were given.

    `groups` has the figures per group of the attribute `by`, and `gaps` the differences if there are two groups; both
    are empty without `by`.
    """

    rows: tuple[Row, ...]
    pairs: tuple[Pair, ...]
    provenance: RunInfo
    images: int
    people: int | None
    draws: int
    notes: tuple[str, ...] = field(default=())
    by: str = ""
    groups: tuple[Group, ...] = ()
    gaps: tuple[Gap, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """A plain nested dict of JSON types; undefined figures are None."""
        from mien.evaluation.evaluate import plain

        tree: dict[str, Any] = plain(asdict(self))
        for pair, values in zip(self.pairs, tree["pairs"], strict=True):
            values["largest_p"] = plain(pair.largest_p)
        return tree

    def to_json(self, indent: int | None = None) -> str:
        """JSON text."""
        return json.dumps(self.to_dict(), ensure_ascii=False, indent=indent)


def load(path: Path | str) -> Predictions:
    """Load the predictions of a run from its evaluated run folder, a report's folder, or the file itself.

    Raises:
        ComparisonError: the folder holds no predictions.
    """
    path = Path(path)
    places = [path] if path.is_file() else [path / FILE, path / run_folder.EVALUATION / FILE]
    for place in places:
        if place.is_file():
            return Predictions.load(place)
    raise ComparisonError(
        f"{path} holds no {FILE}: evaluate it first:  mien evaluate {path} DATA --protocol NAME"
    )


def average(runs: Sequence[Predictions]) -> Predictions:
    """The predictions of the ensemble of several runs, as one more run.

    Probabilities, valence and arousal are means over the runs. The size is that of all networks together, the rate that
    of running one after the other.

    Raises:
        ComparisonError: fewer than two runs, or runs on different images or protocols.
    """
    if len(runs) < 2:
        raise ComparisonError("one run cannot be averaged: name two or more")
    aligned = _aligned(runs)
    sources = [run.provenance for run in aligned]
    sizes = [source.bytes for source in sources if source.bytes is not None]
    counts = [source.parameters for source in sources if source.parameters is not None]
    rates = [source.images_per_second for source in sources if source.images_per_second]
    everyone = len(sources)
    return replace(
        aligned[0],
        probabilities=np.mean([run.probabilities for run in aligned], axis=0),
        affect=np.mean([run.affect for run in aligned], axis=0),
        embedding=np.empty((0, 0), dtype=np.float32),
        provenance=replace(
            sources[0],
            model=f"mean of {everyone} runs",
            method="",
            group="",
            seed=None,
            weights_hash=hash_of_all(source.weights_hash for source in sources),
            parameters=sum(counts) if len(counts) == everyone else None,
            bytes=sum(sizes) if len(sizes) == everyone else None,
            images_per_second=1 / sum(1 / rate for rate in rates) if len(rates) == everyone else None,
        ),
    )


def compare(
    runs: Sequence[Predictions],
    reference: str | None = None,
    undetected: str = "keep",
    draws: int = DRAWS,
    seed: int = 0,
    by: str = "",
) -> Comparison:
    """Compare runs on the same images.

    Args:
        runs: the predictions, in the order of the table.
        reference: the method that the others are compared with; None takes the first run's.
        undetected: "keep" or "error", see `mien.evaluation.evaluate.UNDETECTED`.
        draws: resamples behind each interval.
        seed: the seed of the resamples.
        by: an attribute that the runs were evaluated with, to compare also within its groups.

    Raises:
        ComparisonError: fewer than two runs, different images, truths or protocols, an unknown reference, or an
            attribute that a run was not evaluated with.
    """
    if len(runs) < 2:
        raise ComparisonError("one run cannot be compared: name two or more")
    if undetected not in ("keep", "error"):
        raise ComparisonError(
            f"undetected is '{undetected}': a comparison needs all images: use keep or error"
        )
    aligned, lost = _aligned(runs), False
    names = _names([run.provenance for run in aligned])
    if undetected == "error":  # valence and arousal are compared where all runs found a face
        everywhere = np.logical_and.reduce([run.found for run in aligned])
        lost = any(not np.array_equal(run.found, everywhere) for run in aligned)
        aligned = [replace(run, affect=np.where(everywhere[:, None], run.affect, np.nan)) for run in aligned]
    groups = {
        name: [run for run, other in zip(aligned, names, strict=True) if other == name] for name in names
    }
    if reference is not None and reference not in groups:
        raise ComparisonError(f"no method '{reference}' to compare with: {nearest(reference, [*groups])}")
    base = reference or names[0]
    for name, members in groups.items():
        hashes = [member.provenance.weights_hash for member in members if member.provenance.weights_hash]
        if len(set(hashes)) < len(hashes):
            raise ComparisonError(f"'{name}': the same weights are given twice: name each run once")
    sampled = {name: _sampled(members, undetected, draws, seed) for name, members in groups.items()}
    rows = tuple(
        Row(name, tuple(m.provenance.seed for m in members), members[0].provenance, _figures(*sampled[name]))
        for name, members in groups.items()
    )
    drawn = {
        name: {
            key: (
                float(np.mean(sampled[name][0][key]) - np.mean(sampled[base][0][key])),
                sampled[name][1][key] - sampled[base][1][key],
            )
            for key in sampled[name][0]
            if key in sampled[base][0]
        }
        for name in groups
        if name != base
    }
    corrected, visible = _joint(drawn)
    pairs = tuple(
        Pair(
            name,
            base,
            {key: interval(*found) for key, found in drawn[name].items()},
            _tests(groups[name], groups[base], undetected),
            corrected[name],
            visible[name],
        )
        for name in drawn
    )
    subjects = {subject for subject in aligned[0].subjects if subject is not None}
    parts, gaps = _parted(groups, base, by, undetected, draws, seed) if by else ((), ())
    return Comparison(
        rows,
        pairs,
        aligned[0].provenance,
        len(aligned[0]),
        len(subjects) or None,
        draws,
        _notes(rows, len(subjects), undetected, lost),
        by,
        parts,
        gaps,
    )


POWER = 0.8416 / 1.96
"""The addition, in half-widths of an interval, for 80 % power: the normal quantile of .8 over that of .975."""


def _joint(
    drawn: dict[str, dict[str, tuple[float, Floats]]],
) -> tuple[dict[str, dict[str, Interval]], dict[str, dict[str, float]]]:
    """For each pair and figure, the interval that holds for all pairs together, and the smallest visible difference.

    Single-step max-t (Romano and Wolf 2005) over draws that all pairs share: every half-width is multiplied by the same
    factor, the 95 % quantile over draws of the pairs' largest deviation in half-widths. Unlike Bonferroni's division of
    .05, it accounts for the correlation of the pairs, which share the reference and the images. The unit is the
    half-width, not the standard deviation, because the draws of few seeds have the tails of Student's t.

    Args:
        drawn: by pair and figure, the difference and its draws [draws].
    """
    corrected: dict[str, dict[str, Interval]] = {name: {} for name in drawn}
    visible: dict[str, dict[str, float]] = {name: {} for name in drawn}
    for key in dict.fromkeys(key for found in drawn.values() for key in found):
        halves = {}
        for name, found in drawn.items():
            if key in found:
                single = interval(*found[key])
                halves[name] = (single.high - single.low) / 2
        largest = [
            np.abs(drawn[name][key][1] - drawn[name][key][0]) / half
            for name, half in halves.items()
            if half > 0  # 0 for identical runs, NaN for an undefined figure
        ]
        stretch = 1.0
        if len(largest) > 1:
            stretch = max(1.0, float(np.nanquantile(np.fmax.reduce(largest), 0.95)))
        for name, half in halves.items():
            value = drawn[name][key][0]
            corrected[name][key] = Interval(value, value - stretch * half, value + stretch * half)
            visible[name][key] = (stretch + POWER) * half
    return corrected, visible


def _parted(
    methods: dict[str, list[Predictions]], base: str, by: str, undetected: str, draws: int, seed: int
) -> tuple[tuple[Group, ...], tuple[Gap, ...]]:
    """The figures of the methods within each group of the attribute `by`, and the gaps between two groups.

    Groups share no images, so these are resampled independently; a method's seeds are drawn identically for all groups.

    Raises:
        ComparisonError: a run does not have the attribute, or all groups are too small.
    """
    for run in (run for members in methods.values() for run in members):
        if by not in run.attributes:
            close = similar(by, run.attributes)
            hint = f"did you mean '{close}'?" if close else f"evaluate it again with --by {by}"
            raise ComparisonError(f"{run.provenance.model} was evaluated without '{by}': {hint}")
    masks = grouped(methods[base][0].attributes[by], UNITS.get(by, ""))
    large = {name: mask for name, mask in masks.items() if mask.sum() >= SMALLEST_GROUP}
    if not large:
        raise ComparisonError(f"no group by {by} has {SMALLEST_GROUP} images: compare without --by")
    sampled = {
        (name, group): _sampled([run.rows(mask) for run in members], undetected, draws, seed, 1 + place)
        for place, (group, mask) in enumerate(large.items())
        for name, members in methods.items()
    }

    def between(base: tuple[str, str], other: tuple[str, str]) -> dict[str, tuple[float, Floats]]:
        (first, drawn), (second, redrawn) = sampled[base], sampled[other]
        return {
            key: (float(first[key].mean() - second[key].mean()), drawn[key] - redrawn[key])
            for key in first
            if key in second
        }

    def with_intervals(found: dict[str, tuple[float, Floats]]) -> dict[str, Interval]:
        return {key: interval(*values) for key, values in found.items()}

    parts = tuple(
        Group(
            name,
            group,
            int(mask.sum()),
            _figures(*sampled[name, group]),
            with_intervals(between((name, group), (base, group))) if name != base else {},
        )
        for group, mask in large.items()
        for name in methods
    )
    known = [group for group in large if group != UNKNOWN]
    if len(known) != 2:
        return parts, ()
    first, second = known
    gaps = {name: between((name, first), (name, second)) for name in methods}
    changes = {
        name: {
            key: (value - gaps[base][key][0], drawn - gaps[base][key][1])
            for key, (value, drawn) in found.items()
            if key in gaps[base]
        }
        for name, found in gaps.items()
        if name != base
    }
    return parts, tuple(
        Gap(name, (first, second), with_intervals(found), with_intervals(changes.get(name, {})))
        for name, found in gaps.items()
    )


def _aligned(runs: Sequence[Predictions]) -> list[Predictions]:
    """The runs over the same images in the order of the first.

    Raises:
        ComparisonError: they were evaluated on different images, labels or protocols.
    """
    first = runs[0]
    place = {name: index for index, name in enumerate(first.names)}
    if len(place) < len(first):
        raise ComparisonError(
            f"{first.provenance.model}: image names repeat, so runs cannot be matched by name"
        )
    aligned = []
    for run in runs:
        both = f"{first.provenance.model} and {run.provenance.model}"
        for key in ("protocol", "protocol_version", "split", "digest"):
            mine, theirs = getattr(first.provenance, key), getattr(run.provenance, key)
            if mine != theirs:
                raise ComparisonError(
                    f"{both} differ in {key.replace('_', ' ')} ('{mine or 'none'}', '{theirs or 'none'}'): "
                    "evaluate both on the same"
                )
        if run.classes != first.classes:
            raise ComparisonError(
                f"{both} {difference(first.classes, run.classes)}: only models of the same labels can be compared"
            )
        if set(run.names) != set(place) or len(run) != len(first):
            raise ComparisonError(f"{both} were evaluated on different images: evaluate both on the same")
        order = np.argsort([place[name] for name in run.names])
        same = run.rows(order)
        if not np.array_equal(same.truth, first.truth):
            raise ComparisonError(f"{both} disagree about the true labels: evaluate both again")
        aligned.append(same)
    return aligned


def _names(sources: Sequence[RunInfo]) -> list[str]:
    """One name for each run; seeds of one setting share it, different settings never do."""
    plain = [without_seed(what.model) if what.seed is not None else what.model for what in sources]
    keys = [what.group or name for what, name in zip(sources, plain, strict=True)]
    names: dict[str, str] = {}
    for key, name in zip(keys, plain, strict=True):
        if key not in names:
            taken = sum(1 for used in names.values() if re.sub(r" \(\d+\)$", "", used) == name)
            names[key] = f"{name} ({taken + 1})" if taken else name
    return [names[key] for key in keys]


def _sampled(
    members: Sequence[Predictions], undetected: str, draws: int, seed: int, part: int = 0
) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """By figure: (value of each seed [seeds], mean over the seeds on resampled images with the variation of seeds
    [draws]).

    The images of different `part`s are drawn from different streams, the variation of seeds from the same one.
    """
    images = seed + 7919 * part
    values: dict[str, list[float]] = {}
    samples: dict[str, list[Floats]] = {}
    for run in members:
        labelled = run.rows(np.flatnonzero(run.truth != UNLABELLED))
        if len(labelled):
            predicted, k = predicted_classes(labelled, undetected), len(labelled.classes)
            exact = metrics.classification(metrics.confusion(labelled.truth, predicted, k))
            drawn = intervals.classification_draws(
                labelled.truth, predicted, k, Resampling(draws, images, subjects_of(labelled))
            )
            for key in FIGURES:
                values.setdefault(key, []).append(float(exact[key]))
                samples.setdefault(key, []).append(drawn[key])
        with_affect = rated_of(run, undetected)
        for index, dimension in enumerate(DIMENSIONS if len(with_affect) else ()):
            p, y = with_affect.affect[:, index], with_affect.affect_truth[:, index]
            values.setdefault(f"ccc_{dimension}", []).append(metrics.affect(p, y)["ccc"])
            drawn = intervals.affect_draws(p, y, Resampling(draws, images, subjects_of(with_affect)))
            samples.setdefault(f"ccc_{dimension}", []).append(drawn["ccc"])
    whole = {key: np.array(each) for key, each in values.items() if len(each) == len(members)}
    sway = _seed_sway(len(members), draws, [seed, 1, *members[0].provenance.weights_hash.encode()])
    mixed = {key: np.mean(samples[key], axis=0) + sway @ (each - each.mean()) for key, each in whole.items()}
    return whole, mixed


def _seed_sway(seeds: int, draws: int, stream: Sequence[int]) -> Floats:
    """Weights [draws, seeds] that turn the seeds' deviations from their mean into deviations of the mean of new seeds.

    Few seeds drawn with replacement vary much less than new seeds would: three have two thirds of the variance, and the
    uncertainty of the variance itself is ignored. The sum over seeds has Student's t distribution with seeds - 1
    degrees of freedom, scaled to the standard error of the mean. The same weights serve all figures and groups of a
    method, and each method has its own; a single seed has none, since its spread is unknown.
    """
    random = np.random.default_rng(stream)
    if seeds < 2:
        return np.zeros((draws, seeds))
    normal = random.standard_normal((draws, seeds))
    scale = np.sqrt(random.chisquare(seeds - 1, draws) / (seeds - 1))
    return np.asarray(normal / (scale[:, None] * math.sqrt(seeds * (seeds - 1))))


def _figures(values: dict[str, Floats], samples: dict[str, Floats]) -> dict[str, Score]:
    return {
        key: Score(
            interval(float(each.mean()), samples[key]),
            float(each.std(ddof=1)) if len(each) > 1 else math.nan,
            tuple(each.tolist()),
        )
        for key, each in values.items()
    }


def _tests(
    members: Sequence[Predictions], base: Sequence[Predictions], undetected: str
) -> tuple[metrics.McNemar, ...]:
    """McNemar's test for runs of the same seed, or in the given order where the seeds differ."""
    if not (members[0].truth != UNLABELLED).any():
        return ()
    mine = {run.provenance.seed: run for run in members}
    theirs = {run.provenance.seed: run for run in base}
    shared = [seed for seed in mine if seed in theirs and seed is not None]
    matched = [(mine[seed], theirs[seed]) for seed in shared] or list(zip(members, base, strict=False))
    tests = []
    for first, second in matched:
        known = first.truth != UNLABELLED
        right = [predicted_classes(run, undetected)[known] == run.truth[known] for run in (first, second)]
        tests.append(metrics.mcnemar(*right))
    return tuple(tests)


def _notes(rows: Sequence[Row], people: int, undetected: str, lost: bool) -> tuple[str, ...]:
    unit = f"{people} people" if people else "images"
    notes = [f"Intervals are 95 % bootstraps over {unit} and over the seeds of each method."]
    taught = [row.name for row in rows if row.provenance.learnt]
    if taught:
        notes.insert(
            0,
            f"LEARNT FROM some of these images: {', '.join(taught)}. Their figures say nothing about new faces.",
        )
    alone = [row.name for row in rows if len(row.seeds) == 1]
    if alone:
        notes.append(
            f"One seed only: {', '.join(alone)}. Their intervals do not include the variation over seeds."
        )
    few = [row.name for row in rows if 1 < len(row.seeds) < 5]
    if few:
        notes.append(
            f"Fewer than five seeds: {', '.join(few)}. The variation over seeds is itself uncertain."
        )
    if len(rows) > 1:
        notes.append(
            "p is McNemar's mid-p, the largest over the pairs of seeds, without correction for several methods."
        )
        notes.append(
            f"Corrected intervals hold for all {several(len(rows) - 1, 'comparison')} together (max-t over shared "
            "draws). `seen from` is the smallest true difference that a repeat would detect with probability 0.8 (its "
            "corrected interval excludes 0)."
        )
    if undetected == "error":
        notes.append(
            "Pictures without a found face count as errors; valence and arousal are evaluated on the others."
        )
    if lost:
        notes.append(
            "The runs found different faces: valence and arousal are evaluated on those that all found."
        )
    machines = {row.provenance.machine for row in rows}
    if len(machines) > 1 or len({(row.provenance.threads, row.provenance.batch) for row in rows}) > 1:
        notes.append(
            "Speeds were measured on different machines, threads or batch sizes: do not compare them."
        )
    return tuple(notes)
