"""Compare methods over several runs on the same images, with intervals over images and seeds.

Runs are grouped by method: the seeds of one setting are one row. A difference between two methods is uncertain for two
reasons, the sample of test images and the sample of training seeds, so its interval includes both: every bootstrap draw
uses the same images for all methods, and shifts the mean by as much as other seeds might. Methods with the same seeds
are compared seed by seed. `mien.evaluation.replicates` has the arithmetic.

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
from mien.evaluation import intervals, metrics, replicates
from mien.evaluation.evaluate import DIMENSIONS, predicted_classes, rated_of, subjects_of
from mien.evaluation.intervals import DRAWS, Interval, Resampling, interval
from mien.evaluation.replicates import Replicates
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


RARE = "rare"
"""The label of the rare classes together: the mean of their recalls."""

RARE_SHARE = 0.05
"""A class is rare if its share of the images is smaller."""


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

    `corrected` are the differences with intervals that hold for all pairs of the comparison together, `visible` the
    smallest true differences that would be detected with probability 0.8 (see `replicates.joint`), and `p` two-sided
    p values over images and seeds, corrected for the number of pairs (`replicates.holm`).
    """

    name: str
    reference: str
    differences: dict[str, Interval]
    tests: tuple[metrics.McNemar, ...]
    corrected: dict[str, Interval] = field(default_factory=dict)
    visible: dict[str, float] = field(default_factory=dict)
    p: dict[str, float] = field(default_factory=dict)

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
class ClassRow:
    """The recall of one method on one class, or on the rare classes together (`label` is `RARE`).

    `difference` is to the reference, None for the reference itself; `corrected` has the interval that holds for all
    methods and single classes together (for the rare ones: for all methods), and `p` is corrected for as many
    (`replicates.holm`).
    """

    name: str
    label: str
    images: int
    recall: Score
    difference: Interval | None
    corrected: Interval | None
    p: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """Several methods on the same images. `rows` keep the order in which the runs were given.

    `groups` has the figures per group of the attribute `by`, and `gaps` the differences if there are two groups; both
    are empty without `by`. `classes` has the recalls by class, class by class; it is empty without expression labels.
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
    classes: tuple[ClassRow, ...] = ()

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
        Row(
            name,
            tuple(m.provenance.seed for m in members),
            members[0].provenance,
            _figures(sampled[name], seed),
        )
        for name, members in groups.items()
    )
    pairs = _pairs(
        sampled, base, seed, {name: _tests(groups[name], groups[base], undetected) for name in groups}
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
        _classes_of(sampled, base, aligned[0].truth, aligned[0].classes, seed),
    )


def _pairs(
    sampled: dict[str, dict[str, Replicates]],
    base: str,
    seed: int,
    tests: dict[str, tuple[metrics.McNemar, ...]],
) -> tuple[Pair, ...]:
    """Every method against the reference, each figure corrected for the number of methods."""
    others = [name for name in sampled if name != base]
    found: dict[str, list[dict[str, Any]]] = {name: [{}, {}, {}, {}] for name in others}
    for key in sampled[base]:
        drawn = {
            name: replicates.difference(sampled[name][key], sampled[base][key], seed)
            for name in others
            if key in sampled[name] and not key.startswith(_RECALL)
        }
        corrected, visible = replicates.joint(drawn)
        p = replicates.holm({name: replicates.p_value(*one) for name, one in drawn.items()})
        for name, one in drawn.items():
            for table, value in zip(
                found[name], (interval(*one), corrected[name], visible[name], p[name]), strict=True
            ):
                table[key] = value
    return tuple(Pair(name, base, found[name][0], tests[name], *found[name][1:]) for name in others)


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

    def with_intervals(found: dict[str, tuple[float, Floats]]) -> dict[str, Interval]:
        return {key: interval(*values) for key, values in found.items() if not key.startswith(_RECALL)}

    def against(one: dict[str, Replicates], other: dict[str, Replicates]) -> dict[str, Interval]:
        return with_intervals(
            {key: replicates.difference(one[key], other[key], seed) for key in one if key in other}
        )

    parts = tuple(
        Group(
            name,
            group,
            int(mask.sum()),
            _figures(sampled[name, group], seed),
            against(sampled[name, group], sampled[base, group]) if name != base else {},
        )
        for group, mask in large.items()
        for name in methods
    )
    known = [group for group in large if group != UNKNOWN]
    if len(known) != 2:
        return parts, ()
    first, second = known
    gaps = {
        name: {
            key: runs.minus(sampled[name, second][key])
            for key, runs in sampled[name, first].items()
            if key in sampled[name, second]
        }
        for name in methods
    }
    return parts, tuple(
        Gap(
            name,
            (first, second),
            with_intervals(
                {key: (float(runs.values.mean()), runs.draws(seed)) for key, runs in found.items()}
            ),
            against(found, gaps[base]) if name != base else {},
        )
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
) -> dict[str, Replicates]:
    """The figures of a method's runs with resampled images; those of classes are named by `_class_figures`.

    The images of different `part`s are drawn from different streams.
    """
    images = seed + 7919 * part
    found: dict[str, list[tuple[float, Floats]]] = {}
    for run in members:
        labelled = run.rows(np.flatnonzero(run.truth != UNLABELLED))
        if len(labelled):
            predicted, k = predicted_classes(labelled, undetected), len(labelled.classes)
            resampling = Resampling(draws, images, subjects_of(labelled))
            matrix = metrics.confusion(labelled.truth, predicted, k)
            drawn = intervals.confusion_draws(labelled.truth, predicted, k, resampling)
            exact, sample = metrics.classification(matrix), metrics.classification(drawn)
            for key in FIGURES:
                found.setdefault(key, []).append((float(exact[key]), sample[key]))
            for key, value in _class_figures(matrix, drawn, labelled.classes).items():
                found.setdefault(key, []).append(value)
        with_affect = rated_of(run, undetected)
        for index, dimension in enumerate(DIMENSIONS if len(with_affect) else ()):
            p, y = with_affect.affect[:, index], with_affect.affect_truth[:, index]
            ccc = intervals.affect_draws(p, y, Resampling(draws, images, subjects_of(with_affect)))["ccc"]
            found.setdefault(f"ccc_{dimension}", []).append((metrics.affect(p, y)["ccc"], ccc))
    seeds = tuple(run.provenance.seed for run in members)
    stream = tuple(members[0].provenance.weights_hash.encode())
    return {
        key: Replicates(
            seeds, np.array([value for value, _ in each]), np.array([one for _, one in each]), stream
        )
        for key, each in found.items()
        if len(each) == len(members)
    }


_RECALL = "recall of "
"""Beginning of the key of a class's recall among the figures of `_sampled`."""


def _class_figures(matrix: Any, drawn: Floats, classes: Sequence[str]) -> dict[str, tuple[float, Floats]]:
    """The recall of each class with enough images, and the mean recall of the rare ones, with their draws [draws]."""
    exact, sample = metrics.per_class(matrix), metrics.per_class(drawn)
    support = exact["support"]
    recalls = np.where(sample["support"] > 0, sample["recall"], np.nan)
    found = {
        _RECALL + name: (float(exact["recall"][place]), recalls[:, place])
        for place, name in enumerate(classes)
        if support[place] >= SMALLEST_GROUP
    }
    rare = _rare(support)
    if rare.sum() > 1:
        found[_RECALL + RARE] = (float(exact["recall"][rare].mean()), recalls[:, rare].mean(axis=1))
    return found


def _rare(support: Floats) -> NDArray[np.bool_]:
    """Which classes are rare [k], by their numbers of images [k]."""
    return np.asarray((support >= SMALLEST_GROUP) & (support < RARE_SHARE * support.sum()))


def _classes_of(
    sampled: dict[str, dict[str, Replicates]],
    base: str,
    truth: NDArray[np.int64],
    names: Sequence[str],
    seed: int,
) -> tuple[ClassRow, ...]:
    """The classes apart; single classes are corrected for methods x classes, the rare ones together for methods."""
    keys = [key for key in sampled[base] if key.startswith(_RECALL)]
    images = np.bincount(truth[truth != UNLABELLED], minlength=len(names)).astype(np.float64)
    counts = {_RECALL + name: int(images[place]) for place, name in enumerate(names)}
    counts[_RECALL + RARE] = int(images[_rare(images)].sum())
    families: dict[bool, dict[str, tuple[float, Floats]]] = {False: {}, True: {}}
    for key in keys:
        for name, figures in sampled.items():
            if name != base:
                found = replicates.difference(figures[key], sampled[base][key], seed)
                families[key == _RECALL + RARE][f"{name}\n{key}"] = found
    drawn = families[False] | families[True]
    corrected: dict[str, Interval] = {}
    p: dict[str, float] = {}
    for family in families.values():
        corrected |= replicates.joint(family)[0]
        p |= replicates.holm({one: replicates.p_value(*found) for one, found in family.items()})
    rows = []
    for key in keys:
        for name in sampled:
            one = f"{name}\n{key}"
            rows.append(
                ClassRow(
                    name,
                    key.removeprefix(_RECALL),
                    counts[key],
                    _score(sampled[name][key], seed),
                    interval(*drawn[one]) if one in drawn else None,
                    corrected.get(one),
                    p.get(one, math.nan),
                )
            )
    return tuple(rows)


def _score(runs: Replicates, seed: int) -> Score:
    return Score(
        interval(float(runs.values.mean()), runs.draws(seed)),
        float(runs.values.std(ddof=1)) if len(runs.values) > 1 else math.nan,
        tuple(runs.values.tolist()),
    )


def _figures(sampled: dict[str, Replicates], seed: int) -> dict[str, Score]:
    return {key: _score(runs, seed) for key, runs in sampled.items() if not key.startswith(_RECALL)}


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
    notes = [
        f"Intervals are 95 % bootstraps over {unit} and over the seeds of each method; methods with the same seeds are "
        "compared seed by seed."
    ]
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
            "p of the main table is McNemar's mid-p, the largest over the pairs of seeds, without correction for "
            "several methods."
        )
        notes.append(
            f"Corrected intervals hold for all {several(len(rows) - 1, 'comparison')} together (max-t over shared "
            "draws). `seen from` is the smallest true difference that a repeat would detect with probability 0.8 (its "
            "corrected interval excludes 0). p (Holm) is that of the difference over images and seeds, corrected for "
            "the number of comparisons; those of classes are corrected for methods and classes."
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
