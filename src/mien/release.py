"""From a trained run to the weights that ship: affect head, int8, calibration, figures, card.

Everything is chosen on training and validation data; the test split is read at the end, for the card alone.

*Apparent valence and arousal.* Sets with real valence/arousal labels are small. The head is therefore refitted on the
frozen embedding against two sources at once, equally weighted: vote-derived affect of the run's own training images
(the mean circumplex prototype under the votes), and the labels of the sets named in `affect`. For each such set the
card prints CCC from cross-validation over its folds: the head saw four fifths of the set and is judged on the rest.
"""

from __future__ import annotations

import datetime
import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from pydantic import Field, ValidationError, model_validator
from torch.nn import functional

from mien import bootstrap, checkpoint, export, metrics
from mien.config import Frozen, RunConfig, SourceConfig, explain, parse_yaml
from mien.data import protocols
from mien.data.copies import without_copies
from mien.data.loaders import Samples, load_crops, source_records, to_samples
from mien.errors import ConfigError, WeightsError
from mien.labels import EXPRESSIONS, UNLABELLED
from mien.methods.base import Recognition
from mien.methods.layers import AffectHead, ccc
from mien.slices import SMALLEST_GROUP, grouped

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mien.data.records import Record, Split

Say = Callable[[str], None]

UNCERTAIN_BELOW = 0.5
"""A label less probable than not is called uncertain. Our choice: it needs no second threshold once calibrated."""

DECAYS = (0.01, 0.1, 1.0, 10.0)
"""Weight decays of the affect head that are tried on validation."""

NEUTRAL, HAPPY = EXPRESSIONS.index("neutral"), EXPRESSIONS.index("happiness")

INT8_LOSS = 0.003
"""Largest loss of validation accuracy that int8 may cost."""


class ElsewhereConfig(SourceConfig):
    """A set to report on that nothing was learnt or chosen from."""

    by: tuple[str, ...] = Field(
        (),
        description="attributes, such as a manifest's further columns, whose groups get figures of their own",
    )
    pooled: bool = Field(
        True, description="also the figures of the whole set; false where its parts are no one population"
    )

    @model_validator(mode="after")
    def _some(self) -> ElsewhereConfig:
        if not self.pooled and not self.by:
            raise ValueError("pooled: false leaves nothing to report on without `by`")
        return self


class ReleaseConfig(Frozen):
    """What to ship and what its card says beyond figures."""

    name: str
    run: Path = Field(description="a finished run folder")
    affect: tuple[SourceConfig, ...] = ()
    elsewhere: tuple[ElsewhereConfig, ...] = Field(
        (), description="other sets, never learnt from, all of whose labelled faces the card reports on"
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
    """Fit a linear + tanh head to several (embedding [n, d], affect [n, 2]) sets, each set weighing the same.

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


def build(config: ReleaseConfig, out: Path, say: Say) -> Path:
    """Write `<out>/<name>.onnx` and its card, and return the network's path.

    Raises:
        WeightsError: the export disagrees with the checkpoint, or int8 costs too much accuracy.
    """
    stored = checkpoint.load(config.run / "weights.safetensors")
    method = stored.restore()
    if not isinstance(method, Recognition):
        raise WeightsError(f"{config.run}: '{stored.card['method']['name']}' does not recognise expressions")
    if not stored.heads["expression"]:
        raise WeightsError(
            f"{config.run}: was trained without expression labels: there is nothing to recognise with"
        )
    run = RunConfig(**stored.card["config"])
    # Prediction has no stored landmarks, so neither has what is measured here.
    data = run.data.model_copy(update={"points": None})
    listed = source_records(data)
    records = without_copies(listed)[0] if data.drop_duplicates else listed
    splits: dict[Split, Samples] = {}
    for split in ("train", "valid", "test"):
        say(f"aligning {split} by the shipped landmark network")
        splits[split] = _samples([one for one in records if one.split == split], run)
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out, prefix=".release-") as unfinished:
        made = _make(config, method, run, stored.card, listed, splits, Path(unfinished), say)
        for path in sorted(
            made.parent.iterdir(), key=lambda path: path.suffix == ".onnx"
        ):  # the network last
            path.replace(out / path.name)
    return out / made.name


def _make(
    config: ReleaseConfig,
    method: Recognition,
    run: RunConfig,
    stored: dict[str, Any],
    listed: list[Record],
    splits: dict[Split, Samples],
    out: Path,
    say: Say,
) -> Path:
    """Export, calibrate and measure into a folder that is thrown away where something is refused."""
    data = run.data
    plain = out / f"{config.name}.fp32.onnx"
    target = out / f"{config.name}.onnx"
    check = np.array(splits["valid"].images[:256])
    export.to_onnx(method, run.data.size, run.data.colour, plain, check)
    say("embedding")
    outputs = {split: export.run_onnx(plain, one.images) for split, one in splits.items()}
    affect_report, head = _affect(config, plain, run, splits, outputs, say)
    if head is not None:
        method.affect = head
    calibration = np.random.default_rng(0).permutation(len(splits["train"]))[: export.CALIBRATION]
    agreed = export.to_onnx(method, run.data.size, run.data.colour, plain, check)
    say(f"fp32: largest relative difference from torch {agreed.relative:.2e}")
    export.quantise(plain, target, np.array(splits["train"].images[np.sort(calibration)]))
    valid_plain = _accuracy(export.run_onnx(plain, splits["valid"].images)["logits"], splits["valid"])
    valid = export.run_onnx(target, splits["valid"].images)
    valid_int8 = _accuracy(valid["logits"], splits["valid"])
    say(f"validation accuracy: fp32 {valid_plain:.4f}, int8 {valid_int8:.4f}")
    if valid_plain - valid_int8 > INT8_LOSS:
        raise WeightsError(
            f"{target}: int8 costs {valid_plain - valid_int8:.2%} of validation accuracy, more than {INT8_LOSS:.1%}"
        )
    temperature = metrics.fit_temperature(valid["logits"], splits["valid"].expression)
    test = export.run_onnx(target, splits["test"].images)
    test_plain = export.run_onnx(plain, splits["test"].images)
    figures = _figures(test, splits["test"], temperature)
    figures["accuracy_fp32"] = _accuracy(test_plain["logits"], splits["test"])
    figures["int8_agreement_with_fp32"] = export.compare(test_plain["logits"], test["logits"]).agreement
    protocol = protocols.load(data.protocol) if data.protocol else None
    card = {
        "name": config.name,
        **config.card,
        "classes": list(EXPRESSIONS),
        "heads": {
            "expression": True,
            "affect": head is not None or stored.get("heads", {}).get("affect", True),
        },
        "input": {"size": run.data.size, "colour": "rgb" if run.data.colour else "grey", "dtype": "uint8"},
        "temperature": temperature,
        "uncertain_below": UNCERTAIN_BELOW,
        "sha256": checkpoint.digest(target),
        "bytes": target.stat().st_size,
        "parameters": sum(parameter.numel() for parameter in method.parameters()),
        "recipe": {
            "method": stored["method"]["name"],
            "config": stored["config"],
            "epoch": stored["epoch"],
            "seconds": stored["seconds"],
            "commit": stored["commit"],
            "released_at": checkpoint.commit(),
            "affect": [source.model_dump(mode="json") for source in config.affect],
        },
        "date": datetime.datetime.now(tz=datetime.timezone.utc).date().isoformat(),
        "metrics": {
            "data": protocol.name if protocol else data.reader,
            "version": protocol.version if protocol else None,
            "digest": protocol.digest(listed) if protocol else None,
            "split": "test",
            "seed": stored["seed"],
            "selection": f"best validation {run.select}; temperature on validation; nothing on test",
            "faces_aligned": float(splits["test"].found.mean()),
            "validation_accuracy": {"fp32": valid_plain, "int8": valid_int8},
            **figures,
            "affect": affect_report,
            "elsewhere": {
                source.root.name: _elsewhere(target, source, run, temperature) for source in config.elsewhere
            },
        },
    }
    target.with_suffix(".json").write_text(json.dumps(card, indent=1, default=str) + "\n", encoding="utf-8")
    return target


def _samples(records: list[Record], run: RunConfig) -> Samples:
    crops = load_crops(records, run.data.size, run.data.colour, run.data.cache)
    return to_samples(records, crops, run.data.vote_affect)


def _accuracy(logits: NDArray[np.float32], samples: Samples) -> float:
    return float((logits.argmax(axis=1) == samples.expression).mean())


def _figures(
    test: dict[str, NDArray[np.float32]],
    samples: Samples,
    temperature: float,
    people: Sequence[str | None] | None = None,
) -> dict[str, Any]:
    """Accuracy, macro accuracy, F1 and calibration of the test split, each with its 95 % interval.

    Where `people` names who each picture is of, intervals are over people. Recalls have score intervals.
    """
    probabilities = metrics.softmax(test["logits"] / temperature)
    answer = probabilities.argmax(axis=1)
    sure = probabilities.max(axis=1)
    right = answer == samples.expression
    who = people if people is not None and any(people) else None
    found: dict[str, Any] = {
        name: asdict(value)
        for name, value in bootstrap.classification_intervals(
            samples.expression, answer, len(EXPRESSIONS), subjects=who
        ).items()
    }
    found["calibration_error"] = asdict(bootstrap.calibration_interval(sure, right, subjects=who))
    found["expected_calibration_error"] = metrics.calibration_error(sure, right)
    keep = sure >= UNCERTAIN_BELOW
    found["certain"] = {
        "share": float(keep.mean()),
        "accuracy": float(right[keep].mean()) if keep.any() else None,
    }
    found["images"] = len(samples)
    found["recall"] = {
        name: {
            "recall": asdict(bootstrap.wilson(int(right[mine].sum()), int(mine.sum()))),
            "images": int(mine.sum()),
        }
        for place, name in enumerate(EXPRESSIONS)
        if (mine := samples.expression == place).any()
    }
    return found


def _elsewhere(network: Path, source: ElsewhereConfig, run: RunConfig, temperature: float) -> dict[str, Any]:
    """Figures of a set that nothing was learnt or chosen from, and of its groups.

    Raises:
        ConfigError: the set lacks an attribute of `by`.
    """
    records = [one for one in source_records(source) if one.expression != UNLABELLED]
    samples = _samples(records, run)
    logits = export.run_onnx(network, samples.images)["logits"]
    found = _of_rows(np.arange(len(records)), records, samples, logits, temperature) if source.pooled else {}
    for key in source.by:
        values = np.array([one.attributes.get(key) for one in records], dtype=object)
        if all(value is None for value in values):
            known = sorted({name for one in records for name in one.attributes})
            raise ConfigError(f"{source.root}: by: no attribute '{key}': it has {', '.join(known) or 'none'}")
        found[f"by {key}"] = {
            name: _of_rows(np.flatnonzero(mask), records, samples, logits, temperature)
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
    temperature: float,
) -> dict[str, Any]:
    """Figures of some of a set's pictures; pairs where people show two expressions."""
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
    figures = _figures({"logits": logits[rows]}, part, temperature, people)
    figures["images"] = len(rows)
    if None not in people and len(set(people)) < len(people):
        shares = metrics.softmax(logits[rows] / temperature)
        pairs = happier(shares[:, HAPPY], part.expression, people)
        if pairs.known:
            figures["pairs"] = asdict(pairs)
    return {"faces_aligned": float(part.found.mean()), **figures}


def happier(
    happiness: NDArray[np.floating], expression: NDArray[np.int64], people: Sequence[str | None]
) -> bootstrap.Interval:
    """How often a person's smiling picture gets more probability of happiness than their neutral one; mean over people.

    Args:
        happiness: [n] probability of happiness of each picture.
        expression: [n] labels; pictures of other labels than neutral and happiness do not count.
        people: [n] who each picture is of. A person with several pairs of a neutral and a smiling picture counts with
            their share. The interval is the score interval where everybody has one pair, else a bootstrap over people.
    """
    rows: dict[str | None, tuple[list[float], list[float]]] = {}
    for value, label, who in zip(happiness, expression, people, strict=True):
        if label in (NEUTRAL, HAPPY):
            rows.setdefault(who, ([], []))[int(label == HAPPY)].append(float(value))
    pairs = [[smile > calm for calm in calms for smile in smiles] for calms, smiles in rows.values()]
    shares = np.array([np.mean(each) for each in pairs if each])
    if all(len(each) <= 1 for each in pairs):
        return bootstrap.wilson(int(shares.sum()), len(shares))
    drawn = [counts @ shares / counts.sum(axis=1) for counts in bootstrap.resamples(len(shares))]
    return bootstrap.interval(float(shares.mean()), np.concatenate(drawn))


def _affect(
    config: ReleaseConfig,
    network: Path,
    run: RunConfig,
    splits: dict[Split, Samples],
    outputs: dict[Split, dict[str, NDArray[np.float32]]],
    say: Say,
) -> tuple[dict[str, Any], AffectHead | None]:
    """Refit the affect head; its decay is chosen on validation, each labelled set is judged by cross-validation."""
    main = (outputs["train"]["embedding"], splits["train"].affect)
    others: list[tuple[SourceConfig, list[list[Record]], Samples, NDArray[np.float32]]] = []
    for source in config.affect:
        folds = [source_records(source.model_copy(update={"fold": fold})) for fold in range(config.folds)]
        samples = _samples(folds[0], run)
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
            # Chosen anew in each fold: one fold's validation pictures are another's test pictures.
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
    say(f"affect head: decay {decay}")
    head = fit_affect([main, *((e, s.affect) for _, _, s, e in others)], decay)
    report["vote-derived affect of the test split"] = _rated(
        rate(head, outputs["test"]["embedding"]), splits["test"].affect
    )
    for name, entry in report.items():
        if isinstance(entry, dict):
            scores = (entry[part]["ccc"]["value"] for part in ("valence", "arousal"))
            say(f"{name}: CCC of valence and arousal {', '.join(f'{score:.3f}' for score in scores)}")
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
                for key, value in bootstrap.affect_intervals(guess[known, k], truth[known, k]).items()
            }
            for k, name in enumerate(("valence", "arousal"))
        },
    }
