"""Make weights for prediction from a trained run: `own` for your own run, `build` for those of the package.

`own` exports the network, calibrates it on validation, and writes the card. `build` follows a configuration: it
refits the affect head, quantises to int8, and measures figures on other sets. Everything is chosen on training and
validation data; the test split is only read at the end, for the card. A card is written only if `mien predict` accepts
it.

*Apparent valence and arousal.* Sets with real valence/arousal labels are small. The head is therefore refitted on the
frozen embedding against two sources at once, equally weighted: vote-derived affect of the run's own training images
(the mean circumplex prototype under the votes), and the labels of the sets named in `affect`. For each such set the
card prints CCC from cross-validation over its folds: the head was fitted to four fifths of the set and is evaluated on
the rest.
"""

from __future__ import annotations

import datetime
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from pydantic import Field, ValidationError, model_validator
from torch.nn import functional

from mien.config import Frozen, explain, parse_yaml
from mien.data import protocols
from mien.data.config import SourceConfig
from mien.data.cropping import Samples, finds_faces, load_crops, source_records, to_samples
from mien.data.duplicates import without_copies
from mien.errors import ConfigError, WeightsError
from mien.evaluation import intervals, metrics
from mien.evaluation.evaluate import plain
from mien.evaluation.subgroups import SMALLEST_GROUP, grouped
from mien.faces.recognise import HEADS, OnnxRecogniser, softmax
from mien.io import atomic, cards
from mien.labels import EXPRESSIONS, UNLABELLED, listed
from mien.methods.base import AffectHead, Recognition, ccc
from mien.release import export
from mien.release.quantise import CALIBRATION, quantise
from mien.training import checkpoint
from mien.training.config import RunConfig
from mien.types import LineProgress

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mien.data.records import Record, Split

UNCERTAIN = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75)
"""The thresholds that `Certainty.of` chooses from: labels with a lower probability are uncertain."""

DOUBTED = 0.25
"""Largest share of the validation pictures that may be uncertain. Our choice: the shipped head then marks labels below
0.75, which are a fifth of FERPlus's faces and two thirds of the errors; 0.5 would mark a sixth of the errors."""

DECAYS = (0.01, 0.1, 1.0, 10.0)
"""Weight decays of the affect head that are compared on validation."""

NEUTRAL, HAPPY = EXPRESSIONS.index("neutral"), EXPRESSIONS.index("happiness")

FILLED = ("name", "input", "sha256", "recipe", "metrics")
"""The fields of a card that a release fills; the rest of `cards.REQUIRED` must be written by hand."""

OWN_FILE = "recogniser.onnx"
"""The network's file in the folder that `own` writes."""

INT8_LOSS = 0.003
"""Largest accepted loss of validation accuracy by int8."""


@dataclass(frozen=True)
class Certainty:
    """How logits become probabilities and doubts; both values are chosen on validation.

    Attributes:
        temperature: the logits are divided by it.
        uncertain_below: labels with a lower probability are uncertain, in [0.5, 0.75].
    """

    temperature: float
    uncertain_below: float

    @classmethod
    def of(cls, logits: NDArray[np.float32], temperature: float) -> Certainty:
        """The highest threshold of `UNCERTAIN` that marks at most `DOUBTED` of the validation logits [n, labels], or
        the lowest where all mark more."""
        sure = softmax(logits, temperature).max(axis=1)
        fitting = [threshold for threshold in UNCERTAIN if (sure < threshold).mean() <= DOUBTED]
        return cls(temperature, max(fitting, default=UNCERTAIN[0]))


class ElsewhereConfig(SourceConfig):
    """A set to report on that was not used for training or selection."""

    by: tuple[str, ...] = Field(
        (),
        description="attributes, such as a manifest's further columns, for figures by group",
    )
    pooled: bool = Field(
        True, description="also the figures of the whole set; false if its parts are not one population"
    )

    @model_validator(mode="after")
    def _some(self) -> ElsewhereConfig:
        if not self.pooled and not self.by:
            raise ValueError("pooled: false leaves nothing to report on without `by`")
        return self


class ReleaseConfig(Frozen):
    """The run to release, and the text of its card."""

    name: str
    run: Path = Field(description="a finished run folder")
    affect: tuple[SourceConfig, ...] = ()
    elsewhere: tuple[ElsewhereConfig, ...] = Field(
        (), description="other sets, not trained on: the card reports on all their labelled faces"
    )
    folds: int = Field(5, ge=2, description="cross-validation folds of each affect source's protocol")
    card: dict[str, Any] = Field(
        description="task, data, terms, intended_use, limits, must_not, initialisation"
    )


def load(path: Path) -> ReleaseConfig:
    """Read a release configuration.

    Raises:
        ConfigError: missing, not YAML, or a wrong key.
    """
    try:
        return ReleaseConfig(**parse_yaml(path.read_text(encoding="utf-8"), f"{path}:"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such configuration: see configs/recogniser.yaml") from None
    except (UnicodeDecodeError, TypeError) as problem:
        raise ConfigError(f"{path}: not a YAML mapping: {str(problem).splitlines()[0]}") from None
    except ValidationError as problem:
        raise explain(problem, ReleaseConfig, str(path)) from None


def fit_affect(
    sets: list[tuple[NDArray[np.float32], NDArray[np.float32]]], decay: float, steps: int = 300
) -> AffectHead:
    """Fit a linear + tanh head to several (embedding [n, d], affect [n, 2]) sets, with equal weight for each set.

    The loss of a set is its mean squared error plus (1 - CCC) / 2; full batches, Adam, `decay` on the weights.
    """
    torch.manual_seed(0)
    head = AffectHead(sets[0][0].shape[1])
    torch.nn.init.zeros_(head.linear.weight)
    torch.nn.init.zeros_(head.linear.bias)
    optimiser = torch.optim.AdamW(
        [
            {"params": [head.linear.weight], "weight_decay": decay},
            {"params": [head.linear.bias], "weight_decay": 0.0},
        ],
        lr=3e-3,
    )
    pairs = []
    for embedding, target in sets:
        known = np.isfinite(target).all(axis=1)
        pairs.append((torch.from_numpy(embedding[known]), torch.from_numpy(target[known])))
    for _ in range(steps):
        loss = torch.zeros(())
        for features, wanted in pairs:
            guess = head(features)
            loss = loss + functional.mse_loss(guess, wanted) + 0.5 * (1 - ccc(guess, wanted).mean())
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return head.eval()


def rate(head: AffectHead, embedding: NDArray[np.float32]) -> NDArray[np.float32]:
    """The head's valence and arousal [n, 2]."""
    with torch.inference_mode():
        guess: NDArray[np.float32] = head(torch.from_numpy(embedding)).numpy()
    return guess


def build(config: ReleaseConfig, out: Path, progress: LineProgress) -> Path:
    """Write `<out>/<name>.onnx` and its card, and return the network's path.

    Raises:
        ConfigError: the configuration does not state all that a card must have.
        WeightsError: the export disagrees with the checkpoint, or int8 costs too much accuracy.
    """
    lacking = [key for key in cards.REQUIRED if key not in FILLED and key not in config.card]
    if lacking:
        raise ConfigError(f"release: 'card' does not state {', '.join(lacking)}: every card needs them")
    stored, method, run, labels = _opened(config.run)
    # Prediction has no stored landmarks, so these measurements use none either.
    data = run.data.model_copy(update={"points": None})
    known = source_records(data, labels)
    records = without_copies(known)[0] if data.drop_duplicates else known
    splits: dict[Split, Samples] = {}
    for split in ("train", "valid", "test"):
        progress(f"aligning {split} by the shipped landmark network")
        splits[split] = _samples(_of(records, split, data), run, labels, data)
    with atomic.adding(out, last=".onnx") as unfinished:
        made = _make(config, method, run, stored, labels, known, splits, unfinished, progress)
    return out / made.name


def _make(
    config: ReleaseConfig,
    method: Recognition,
    run: RunConfig,
    stored: checkpoint.Checkpoint,
    labels: tuple[str, ...],
    records: list[Record],
    splits: dict[Split, Samples],
    out: Path,
    progress: LineProgress,
) -> Path:
    """Export, calibrate and measure into a folder that is deleted if something fails."""
    plain = out / f"{config.name}.fp32.onnx"
    target = out / f"{config.name}.onnx"
    check = np.array(splits["valid"].images[:256])
    export.to_onnx(method, run.data.size, run.data.colour, plain, check)
    progress("embedding")
    outputs = {split: export.run_onnx(plain, one.images) for split, one in splits.items()}
    affect_report, head = _affect(config, plain, run, splits, outputs, progress)
    if head is not None:
        method.affect = head
    ranged = np.random.default_rng(0).permutation(len(splits["train"]))[:CALIBRATION]
    agreed = export.to_onnx(method, run.data.size, run.data.colour, plain, check)
    progress(f"fp32: largest relative difference from torch {agreed.relative:.2e}")
    quantise(plain, target, np.array(splits["train"].images[np.sort(ranged)]))
    valid_plain = accuracy_of(export.run_onnx(plain, splits["valid"].images)["logits"], splits["valid"])
    valid = export.run_onnx(target, splits["valid"].images)
    valid_int8 = accuracy_of(valid["logits"], splits["valid"])
    progress(f"validation accuracy: fp32 {valid_plain:.4f}, int8 {valid_int8:.4f}")
    if valid_plain - valid_int8 > INT8_LOSS:
        raise WeightsError(
            f"{target}: int8 costs {valid_plain - valid_int8:.2%} of validation accuracy, more than {INT8_LOSS:.1%}"
        )
    calibration = Certainty.of(
        valid["logits"], metrics.fit_temperature(valid["logits"], splits["valid"].expression)
    )
    test = export.run_onnx(target, splits["test"].images)
    test_plain = export.run_onnx(plain, splits["test"].images)
    figures = measured(test, splits["test"], calibration, labels)
    figures["accuracy_fp32"] = accuracy_of(test_plain["logits"], splits["test"])
    figures["int8_agreement_with_fp32"] = export.compare(test_plain["logits"], test["logits"]).agreement
    figures |= {
        "validation_accuracy": {"fp32": valid_plain, "int8": valid_int8},
        "affect": affect_report,
        "elsewhere": {
            source.root.name: elsewhere(target, source, run, calibration, labels)
            for source in config.elsewhere
        },
    }
    heads = HEADS if head is not None else _heads(stored.card, run, records, labels)
    stated = {"name": config.name, **config.card}
    _write_card(
        target,
        stated,
        stored,
        method,
        run,
        labels,
        heads,
        calibration,
        records,
        splits["test"],
        figures,
        config.affect,
    )
    return target


def own(
    folder: Path, out: Path, progress: LineProgress, data: Path | None = None, overwrite: bool = False
) -> Path:
    """Make a folder of weights from a run: `<out>/recogniser.onnx` with its card, for `mien predict --weights <out>`.

    Args:
        folder: the run folder.
        out: written atomically.
        progress: called with a line of text at each step.
        data: the run's dataset, if it was moved.
        overwrite: replace weights that an earlier call made at `out`.

    Raises:
        ConfigError: `out` holds something already.
        WeightsError: the run cannot be read or exported, or learns from colour.
        DatasetNotFound, DatasetDamaged: the run's validation pictures, on which the weights are calibrated, are
            missing.
    """
    stored, method, run, labels = _opened(folder)
    ours = {OWN_FILE, Path(OWN_FILE).with_suffix(".json").name}
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out}: is a file: name another --out")
    there = {path.name for path in out.iterdir()} if out.is_dir() else set()
    if there and not (overwrite and there <= ours):
        hint = "pass --overwrite to replace them, or name" if there <= ours else "name"
        what = "weights" if there <= ours else "something else"
        raise ConfigError(f"{out}: holds {what} already: {hint} another --out")
    source = run.data.model_copy(update={"points": None, **({"root": data} if data else {})})
    run = run.model_copy(update={"data": source})
    records = source_records(source, labels)
    with atomic.folder(out) as part:
        target = part / OWN_FILE
        progress("aligning the validation pictures by the shipped landmark network")
        valid = _samples(_of(records, "valid", source), run, labels, source)
        agreed = export.to_onnx(method, source.size, False, target, np.array(valid.images[:256]))
        progress(f"exported: largest relative difference from the checkpoint {agreed.relative:.1e}")
        outputs = export.run_onnx(target, valid.images)
        named = valid.expression != UNLABELLED
        logits, truth = outputs["logits"][named], valid.expression[named]
        wrong = int((logits.argmax(axis=1) != truth).sum())
        # Without errors the best temperature would be the smallest allowed, and every prediction certain.
        temperature = metrics.fit_temperature(logits, truth) if wrong else 1.0
        why = "" if wrong else ", kept: none of them is wrong, so confidence cannot be calibrated"
        progress(f"temperature {temperature:.2f} from {len(truth)} validation pictures{why}")
        calibration = Certainty.of(logits, temperature)
        judged, split = valid, "valid"
        if any(record.split == "test" for record in records):
            progress("aligning the test pictures")
            judged, split = _samples(_of(records, "test", source), run, labels, source), "test"
            outputs = export.run_onnx(target, judged.images)
        figures = {**measured(outputs, judged, calibration, labels), "split": split}
        if split == "valid":
            figures["note"] = (
                "the set has no test split: these figures are of the pictures by which the weights were selected"
            )
        counts = ", ".join(
            f"{sum(record.split == name for record in records)} {name}" for name in ("train", "valid", "test")
        )
        others = "".join(f"; also {also.reader} {also.root.name}" for also in source.also)
        stated = {
            "name": folder.resolve().name,
            "task": f"one of {len(labels)} expression labels of an aligned face crop: {listed(labels)}",
            "data": f"{source.reader} {source.root.name}, pictures: {counts}{others}",
            "terms": "not stated: those of the training data apply; write them here",
            "intended_use": "not stated: write here what the weights are for",
            "limits": "measured only on these data; a label describes a face, not what the person feels",
            "must_not": "decisions about a person; inferring emotions of people at work or in education",
        }
        heads = _heads(stored.card, run, records, labels)
        _write_card(target, stated, stored, method, run, labels, heads, calibration, records, judged, figures)
        shutil.rmtree(out, ignore_errors=True)
    return out


def _opened(folder: Path) -> tuple[checkpoint.Checkpoint, Recognition, RunConfig, tuple[str, ...]]:
    """Open a run's best weights: the file, the method, its configuration and its labels."""
    stored = checkpoint.load(folder / "weights.safetensors")
    method = stored.restore()
    if not isinstance(method, Recognition):
        raise WeightsError(f"{folder}: '{stored.card['method']['name']}' does not recognise expressions")
    if not stored.heads["expression"]:
        raise WeightsError(f"{folder}: was trained without expression labels, so it cannot recognise them")
    run = RunConfig(**stored.card["config"])
    if run.data.colour:
        raise WeightsError(
            f"{folder}: was trained on colour, but prediction uses grey: train with data.colour=false"
        )
    return stored, method, run, tuple(stored.card["classes"])


def _of(records: list[Record], split: Split, source: SourceConfig) -> list[Record]:
    found = [record for record in records if record.split == split]
    if not found:
        raise ConfigError(
            f"{source.root} has no {split} pictures: a release needs them; choose another protocol"
        )
    return found


def _heads(
    card: dict[str, Any], run: RunConfig, records: list[Record], labels: tuple[str, ...]
) -> tuple[str, ...]:
    """The trained heads by a checkpoint's card; if it does not state them, those that its data could train."""
    if heads := card.get("heads"):
        return tuple(head for head in HEADS if heads.get(head, True))
    every = [*records, *(record for also in run.data.also for record in source_records(also, labels))]
    derived = run.data.vote_affect and labels == EXPRESSIONS
    rated = any(
        record.split == "train" and (record.valence is not None or (derived and record.votes))
        for record in every
    )
    return HEADS if rated and run.method.get("affect_weight", 1.0) else HEADS[:1]


def _write_card(
    target: Path,
    stated: dict[str, Any],
    stored: checkpoint.Checkpoint,
    method: Recognition,
    run: RunConfig,
    labels: tuple[str, ...],
    heads: Sequence[str],
    calibration: Certainty,
    records: list[Record],
    judged: Samples,
    figures: dict[str, Any],
    affect: Sequence[SourceConfig] = (),
) -> None:
    """Write the card beside the network, and check that prediction accepts both.

    Raises:
        WeightsError: prediction does not accept them.
    """
    data = run.data
    protocol = protocols.load(data.protocol) if data.protocol else None
    card = {
        **stated,
        "classes": list(labels),
        "heads": {head: head in heads for head in HEADS},
        "input": {"size": data.size, "colour": "grey", "dtype": "uint8"},
        **asdict(calibration),
        "sha256": checkpoint.digest(target),
        "bytes": target.stat().st_size,
        "parameters": sum(parameter.numel() for parameter in method.parameters()),
        "recipe": {
            "method": stored.card["method"]["name"],
            "config": stored.card["config"],
            "epoch": stored.card["epoch"],
            "seconds": stored.card["seconds"],
            "commit": stored.card["commit"],
            "released_at": checkpoint.commit(),
            "affect": [source.model_dump(mode="json") for source in affect],
        },
        "date": datetime.datetime.now(tz=datetime.timezone.utc).date().isoformat(),
        "metrics": {
            "data": protocol.name if protocol else data.reader,
            "version": protocol.version if protocol else None,
            "digest": protocol.digest(records) if protocol else None,
            "split": "test",
            "seed": stored.card["seed"],
            "selection": f"best validation {run.select}; temperature and threshold on validation; nothing on test",
            "faces_aligned": float(judged.found.mean()),
            **figures,
        },
    }
    cards.write(target, plain(card))
    OnnxRecogniser.load(target, threads=1)


def _samples(records: list[Record], run: RunConfig, labels: tuple[str, ...], source: SourceConfig) -> Samples:
    find = finds_faces(source, labels)
    crops = load_crops(records, run.data.size, run.data.colour, run.data.cache, find=find)
    return to_samples(records, crops, run.data.vote_affect, labels=labels)


def accuracy_of(logits: NDArray[np.float32], samples: Samples) -> float:
    named = samples.expression != UNLABELLED
    return float((logits.argmax(axis=1) == samples.expression)[named].mean())


def measured(
    test: dict[str, NDArray[np.float32]],
    samples: Samples,
    calibration: Certainty,
    labels: tuple[str, ...],
    people: Sequence[str | None] | None = None,
) -> dict[str, Any]:
    """Accuracy, macro accuracy, F1 and calibration of the test split, each with its 95 % interval.

    If `people` gives the person of each picture, intervals are over people. Recalls have score intervals.
    """
    named = samples.expression != UNLABELLED
    if not named.any():
        return {"images": 0}
    truth, logits = samples.expression[named], test["logits"][named]
    if people is not None:
        people = [person for person, known in zip(people, named, strict=True) if known]
    probabilities = softmax(logits, calibration.temperature)
    answer = probabilities.argmax(axis=1)
    sure = probabilities.max(axis=1)
    right = answer == truth
    subjects = people if people is not None and any(people) else None
    found: dict[str, Any] = {
        name: asdict(value)
        for name, value in intervals.classification_intervals(
            truth, answer, len(labels), intervals.Resampling(subjects=subjects)
        ).items()
    }
    found["calibration_error"] = asdict(
        intervals.calibration_interval(sure, right, intervals.Resampling(subjects=subjects))
    )
    found["expected_calibration_error"] = metrics.calibration_error(sure, right)
    keep = sure >= calibration.uncertain_below
    found["certain"] = {
        "share": float(keep.mean()),
        "accuracy": float(right[keep].mean()) if keep.any() else None,
    }
    found["images"] = len(truth)
    found["recall"] = {
        name: {
            "recall": asdict(intervals.wilson(int(right[mine].sum()), int(mine.sum()))),
            "images": int(mine.sum()),
        }
        for place, name in enumerate(labels)
        if (mine := truth == place).any()
    }
    return found


def elsewhere(
    network: Path,
    source: ElsewhereConfig,
    run: RunConfig,
    calibration: Certainty,
    labels: tuple[str, ...],
    shift: NDArray[np.float32] | float = 0.0,
) -> dict[str, Any]:
    """Figures of a set not used for training or selection, and of its groups; `shift` is added to the logits.

    Raises:
        ConfigError: the set does not have an attribute of `by`.
    """
    records = [one for one in source_records(source, labels) if one.expression != UNLABELLED]
    samples = _samples(records, run, labels, source)
    logits = export.run_onnx(network, samples.images)["logits"] + np.float32(shift)
    found = (
        _of_rows(np.arange(len(records)), records, samples, logits, calibration, labels)
        if source.pooled
        else {}
    )
    for key in source.by:
        values = np.array([one.attributes.get(key) for one in records], dtype=object)
        if all(value is None for value in values):
            known = sorted({name for one in records for name in one.attributes})
            raise ConfigError(f"{source.root}: by: no attribute '{key}': it has {', '.join(known) or 'none'}")
        found[f"by {key}"] = {
            name: _of_rows(np.flatnonzero(mask), records, samples, logits, calibration, labels)
            if mask.sum() >= SMALLEST_GROUP
            else {"images": int(mask.sum()), "note": f"fewer than {SMALLEST_GROUP}: not scored"}
            for name, mask in grouped(values).items()
        }
    return found


def _of_rows(
    rows: NDArray[np.intp],
    records: Sequence[Record],
    samples: Samples,
    logits: NDArray[np.float32],
    calibration: Certainty,
    labels: tuple[str, ...],
) -> dict[str, Any]:
    """Figures of some of a set's pictures; also of pairs if people show two expressions."""
    part = replace(
        samples,
        images=samples.images[:0],
        found=samples.found[rows],
        expression=samples.expression[rows],
        votes=samples.votes[rows],
        affect=samples.affect[rows],
        subject=samples.subject[rows],
        names=tuple(samples.names[row] for row in rows),
    )
    people = [records[row].subject for row in rows]
    figures = measured({"logits": logits[rows]}, part, calibration, labels, people)
    figures["images"] = len(rows)
    if labels == EXPRESSIONS and None not in people and len(set(people)) < len(people):
        shares = softmax(logits[rows], calibration.temperature)
        pairs = happier(shares[:, HAPPY], part.expression, people)
        if pairs.known:
            figures["pairs"] = asdict(pairs)
    return {"faces_aligned": float(part.found.mean()), **figures}


def happier(
    happiness: NDArray[np.floating], expression: NDArray[np.int64], people: Sequence[str | None]
) -> intervals.Interval:
    """The share of pairs in which a person's smiling picture gets a higher probability of happiness than their neutral
    one.

    Args:
        happiness: [n] probability of happiness of each picture.
        expression: [n] labels; pictures of other labels than neutral and happiness do not count.
        people: [n] the person in each picture. For a person with several pairs of a neutral and a smiling picture the
            share is used, and the mean over people is returned. The interval is the score interval if every person has
            one pair, else a bootstrap over people.
    """
    rows: dict[str | None, tuple[list[float], list[float]]] = {}
    for value, label, person in zip(happiness, expression, people, strict=True):
        if label in (NEUTRAL, HAPPY):
            rows.setdefault(person, ([], []))[int(label == HAPPY)].append(float(value))
    pairs = [[smile > calm for calm in calms for smile in smiles] for calms, smiles in rows.values()]
    shares = np.array([np.mean(each) for each in pairs if each])
    if all(len(each) <= 1 for each in pairs):
        return intervals.wilson(int(shares.sum()), len(shares))
    return intervals.interval(float(shares.mean()), intervals.PLAIN.means(shares))


def _affect(
    config: ReleaseConfig,
    network: Path,
    run: RunConfig,
    splits: dict[Split, Samples],
    outputs: dict[Split, dict[str, NDArray[np.float32]]],
    progress: LineProgress,
) -> tuple[dict[str, Any], AffectHead | None]:
    """Refit the affect head; its decay is chosen on validation, each labelled set is evaluated by cross-validation."""
    main = (outputs["train"]["embedding"], splits["train"].affect)
    others: list[tuple[SourceConfig, list[list[Record]], Samples, NDArray[np.float32]]] = []
    for source in config.affect:
        folds = [source_records(source.model_copy(update={"fold": fold})) for fold in range(config.folds)]
        samples = _samples(folds[0], run, EXPRESSIONS, source)
        others.append((source, folds, samples, export.run_onnx(network, samples.images)["embedding"]))
    if not others and np.isnan(splits["train"].affect).all():
        return {}, None
    report: dict[str, Any] = {}
    held = (outputs["valid"]["embedding"], splits["valid"].affect)
    for number, (source, folds, samples, embedding) in enumerate(others):
        guess = np.full_like(samples.affect, np.nan)
        place = {record.name: row for row, record in enumerate(folds[0])}
        rest = [main, *((e, s.affect) for k, (_, _, s, e) in enumerate(others) if k != number)]
        decays = []
        for fold in folds:
            rows = {
                split: np.array([place[one.name] for one in fold if one.split == split])
                for split in ("train", "valid", "test")
            }
            part = {split: (embedding[some], samples.affect[some]) for split, some in rows.items()}
            # Chosen separately in each fold: one fold's validation pictures are another's test pictures.
            decays.append(_decay([*rest, part["train"]], [part["valid"], held]))
            seen = np.concatenate([rows["train"], rows["valid"]])
            head = fit_affect([*rest, (embedding[seen], samples.affect[seen])], decays[-1])
            guess[rows["test"]] = rate(head, embedding[rows["test"]])
        report[f"{source.reader}, {config.folds}-fold cross-validation"] = {
            "decays": decays,
            **_rated(guess, samples.affect),
        }
    sets, parts = [main], [held]
    for _, folds, samples, embedding in others:
        split = np.array([record.split for record in folds[0]])
        sets.append((embedding[split == "train"], samples.affect[split == "train"]))
        parts.append((embedding[split == "valid"], samples.affect[split == "valid"]))
    decay = report["decay"] = _decay(sets, parts)
    progress(f"affect head: decay {decay}")
    head = fit_affect([main, *((e, s.affect) for _, _, s, e in others)], decay)
    report["vote-derived affect of the test split"] = _rated(
        rate(head, outputs["test"]["embedding"]), splits["test"].affect
    )
    for name, entry in report.items():
        if isinstance(entry, dict):
            scores = (entry[part]["ccc"]["value"] for part in ("valence", "arousal"))
            progress(f"{name}: CCC of valence and arousal {', '.join(f'{score:.3f}' for score in scores)}")
    return report, head


def _decay(
    sets: list[tuple[NDArray[np.float32], NDArray[np.float32]]],
    held: list[tuple[NDArray[np.float32], NDArray[np.float32]]],
) -> float:
    """The decay with the best mean CCC on the held-out sets (embedding [n, d], affect [n, 2]) that have labels."""

    def reached(decay: float) -> float:
        head = fit_affect(sets, decay)
        scores = []
        for embedding, target in held:
            known = np.isfinite(target).all(axis=1)
            both = zip(rate(head, embedding[known]).T, target[known].T, strict=True)
            scores.append(np.mean([metrics.affect(guess, truth)["ccc"] for guess, truth in both]))
        finite = [score for score in scores if np.isfinite(score)]
        return float(np.mean(finite)) if finite else -1.0

    return max(DECAYS, key=reached)


def _rated(guess: NDArray[np.float32], truth: NDArray[np.float32]) -> dict[str, Any]:
    known = np.isfinite(truth).all(axis=1) & np.isfinite(guess).all(axis=1)
    return {
        "images": int(known.sum()),
        **{
            name: {
                key: asdict(value)
                for key, value in intervals.affect_intervals(guess[known, k], truth[known, k]).items()
            }
            for k, name in enumerate(("valence", "arousal"))
        },
    }
