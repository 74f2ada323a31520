"""Run weights on a dataset to get `Predictions`, with the same crops, protocol and file list for every kind of weights.

Weights are a checkpoint (`.safetensors`), a network exported to ONNX (`.onnx` with its card), a run folder, or the word
`shipped`. All of them get the crops of `mien.data.cropping`, so that results differ only by the models.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import platform
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mien.data.config import SourceConfig
from mien.data.predictions import Predictions, RunInfo
from mien.errors import ConfigError, DatasetNotFound, ExtraMissing, MienError, WeightsError, similar
from mien.labels import EXPRESSIONS, UNLABELLED
from mien.types import CountProgress

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mien.data.records import Record, Split
    from mien.faces.operating_point import Prior

BATCH = 64
"""Default number of crops in one run of a network."""

MEASURED: tuple[str, ...] = ("brightness", "yaw", "size")
"""Attributes for subgroups besides the set's own: mean luma of the crop (0-255), absolute head yaw (degrees), and
the face box's longer side (pixels of the picture)."""

# Keys for paths and processes, which do not change what is learnt.
_NO_PART = {"seed", "runs", "threads", "name"}
_NO_PART_OF_DATA = {"root", "cache"}
# Keys that older runs do not have, with the value that corresponds to their behaviour.
_YOUNGER = {"labels": None, "validation": "epochs", "compile": False}
_YOUNGER_OF_DATA: dict[str, Any] = {"faces": None, "label_noise": 0.0, "where": []}

Read = Callable[[SourceConfig, tuple[str, ...]], "list[Record]"]
"""Reads a source under its protocol, with the given labels."""

Answers = tuple["NDArray[np.float64]", "NDArray[np.float64]", "NDArray[np.float32]"]
"""Log-probabilities or logits [n, k], affect [n, 2] (NaN where it was not trained), embedding [n, d] of some crops."""


@dataclass(frozen=True, slots=True)
class Model:
    """Opened weights: `read` takes uint8 crops [n, s, s] or [n, s, s, 3]; `source` is the set it was trained on.

    `learnt` are the sets of which it was trained on the training split, `whole` those of which it was trained on every
    picture. `labels` tells whether it was trained on expression labels; without affect labels `read` returns NaN for
    affect. `classes` are the names of its logits, in order. `uncertain_below` is the probability below which a label is
    marked uncertain, 0 for weights without a card.
    """

    read: Callable[[NDArray[np.uint8]], Answers]
    size: int
    colour: bool
    provenance: RunInfo
    source: SourceConfig | None = None
    module: Any = None
    classes: tuple[str, ...] = EXPRESSIONS
    learnt: tuple[SourceConfig, ...] = ()
    labels: bool = True
    whole: tuple[SourceConfig, ...] = ()
    uncertain_below: float = 0.0


def open_weights(
    weights: str | Path,
    threads: int | None = None,
    prior: Prior | None = None,
    adapt: Path | None = None,
    device: str = "cpu",
) -> Model:
    """Open a checkpoint, an ONNX file, a run folder or "shipped".

    `prior` and `adapt` are those of `OnnxRecogniser.load`, for released weights; `device` is the device of a
    checkpoint.

    Raises:
        ConfigError: a prior or a correction does not fit, or is used with a checkpoint.
        WeightsError: the weights are missing or damaged.
        ExtraMissing: a checkpoint needs torch, which is not installed.
    """
    if str(weights) == "shipped":
        from mien.faces.recognise import SHIPPED

        return _onnx(SHIPPED, threads, prior, adapt, name="shipped")
    path = Path(weights)
    if path.suffix != ".onnx" and (prior is not None or adapt is not None):
        raise ConfigError(
            f"{path}: a prior and a correction need calibrated weights: make them with  mien release {path} --out model"
        )
    if path.is_dir():
        inside = path / "weights.safetensors"
        if not inside.is_file():
            raise WeightsError(
                f"{path} holds no weights.safetensors: pass a run folder that has finished an epoch"
            )
        return _checkpoint(inside, path.name, threads, device)
    if not path.is_file():
        known = "pass a checkpoint, an .onnx file, a run folder, or 'shipped'"
        hint = "did you mean 'shipped'?" if similar(str(path), ["shipped"]) else known
        raise WeightsError(f"{path}: no such weights: {hint}")
    return (
        _onnx(path, threads, prior, adapt)
        if path.suffix == ".onnx"
        else _checkpoint(path, path.stem, threads, device)
    )


def _onnx(path: Path, threads: int | None, prior: Prior | None, adapt: Path | None, name: str = "") -> Model:
    from mien.faces.recognise import OnnxRecogniser
    from mien.io.onnx import available

    recogniser = OnnxRecogniser.load(path, threads, prior, adapt)
    card = recogniser.card

    def read(crops: NDArray[np.uint8]) -> Answers:
        readings = recogniser(crops, embeddings=True)
        shares = np.array(
            [[reading.probabilities[word] for word in recogniser.labels] for reading in readings]
        )
        affect = np.array([(reading.valence, reading.arousal) for reading in readings], dtype=np.float64)
        vectors = np.array([reading.embedding for reading in readings], dtype=np.float32)
        return np.log(np.clip(shares, 1e-12, 1)), affect, vectors

    stated = card.fields.get("recipe")
    recipe = stated if isinstance(stated, dict) else {}
    fitted = _head_sources(recipe)
    count, start = card.fields.get("parameters"), card.fields.get("initialisation", "")
    return Model(
        read,
        recogniser.size,
        False,
        RunInfo(
            name or recogniser.name,
            method=str(card.fields.get("method", recogniser.name)),
            weights_hash=str(card.fields["sha256"]),
            group=recogniser.name,
            parameters=count if isinstance(count, int) else None,
            bytes=path.stat().st_size,
            size=recogniser.size,
            threads=threads or available(),
            pretraining=start if isinstance(start, str) else json.dumps(start),
            prior="" if prior is None else prior if isinstance(prior, str) else json.dumps(dict(prior)),
            adapt="" if adapt is None else str(adapt),
        ),
        classes=recogniser.labels,
        learnt=(*_learnt(recipe.get("config", {})), *_sources(recipe.get("affect", ())), *_sources(fitted)),
        uncertain_below=card.number("uncertain_below", 0.0),
        whole=_sources([one for one in fitted if not one.get("protocol")]),
    )


def _head_sources(recipe: dict[str, Any]) -> list[dict[str, Any]]:
    """The sets to which an expression head was fitted after the run, as `mien release` writes them on a card; a set
    without a protocol was used completely."""
    head = recipe.get("head")
    return [one for one in head.get("sources", ()) if isinstance(one, dict)] if isinstance(head, dict) else []


def _learnt(config: dict[str, Any]) -> tuple[SourceConfig, ...]:
    """The training sets of a run's configuration."""
    data = config.get("data") if isinstance(config, dict) else None
    return _sources([data, *data.get("also", ())]) if isinstance(data, dict) else ()


def _sources(listed: Sequence[Any]) -> tuple[SourceConfig, ...]:
    """Sets from a card or a configuration; keys of other versions are ignored."""
    known = set(SourceConfig.model_fields)
    return tuple(
        SourceConfig(**{key: value for key, value in one.items() if key in known})
        for one in listed
        if isinstance(one, dict)
    )


def learnt_from(
    model: Model, source: SourceConfig, records: Sequence[Record], read: Read | None = None
) -> int:
    """The number of records that are in the model's training data, by the names that the set gives.

    A set is identified by its reader; class folders and manifests, which may be any set, also by their folder.
    """
    from mien.data import cropping

    read = read or cropping.source_records
    seen: set[tuple[str, int | None]] = set()
    for one in model.learnt:
        plain = one.reader in ("folder", "manifest")
        if one.reader != source.reader or (plain and one.root.resolve() != source.root.resolve()):
            continue
        try:
            listed = read(one.model_copy(update={"root": source.root}), model.classes)
        except MienError:  # this copy has another protocol or layout: use the split
            listed = [record for record in records if record.split == "train"]
        every = one in model.whole
        seen.update((record.name, record.frame) for record in listed if every or record.split == "train")
    return sum((record.name, record.frame) in seen for record in records)


def _checkpoint(path: Path, name: str, threads: int | None, device: str) -> Model:
    try:
        import torch

        from mien.data.transforms import normalise, to_float
        from mien.methods.base import Recognition
        from mien.training import checkpoint
    except ModuleNotFoundError as missing:
        raise ExtraMissing("train", missing.name or "torch") from None
    if threads:
        torch.set_num_threads(threads)
    opened = checkpoint.load(path)
    method, card = opened.restore(), opened.card
    if not isinstance(method, Recognition):
        raise WeightsError(f"{path}: '{card['method']['name']}' does not label faces: evaluate a recogniser")
    config = card.get("config", {})
    method = method.to(device).to(memory_format=torch.channels_last)

    def read(crops: NDArray[np.uint8]) -> Answers:
        with torch.inference_mode():
            images = normalise(to_float(torch.from_numpy(np.array(crops)).to(device)))
            found = method.predict(images.contiguous(memory_format=torch.channels_last))
        affect = found.affect.cpu().double().numpy()
        return (
            found.logits.cpu().double().numpy(),
            affect if opened.heads["affect"] else np.full_like(affect, np.nan),
            found.embedding.cpu().float().flatten(1).numpy(),
        )

    learnt = _learnt(config)
    return Model(
        read,
        int(card["size"]),
        bool(card.get("colour", False)),
        RunInfo(
            name,
            method=str(card["method"]["name"]),
            weights_hash=checkpoint.digest(path),
            group=group_of(config),
            seed=card.get("seed"),
            parameters=sum(value.numel() for value in method.parameters()),
            bytes=path.stat().st_size,
            size=int(card["size"]),
            threads=torch.get_num_threads(),
            pretraining=_started_from(card),
            selection=_selection(card) if config else "",
        ),
        source=learnt[0] if learnt else None,
        module=method,
        classes=tuple(card.get("classes", EXPRESSIONS)),
        learnt=learnt,
        labels=opened.heads["expression"],
    )


def _selection(card: dict[str, Any]) -> str:
    """How the weights of a run were selected, in words."""
    if not card.get("valid"):
        return "none: the last step"
    if card["config"].get("validation") == "end":
        return "none: the last epoch"
    return f"best {card['config']['select']} on validation, epoch {card['epoch'] + 1}"


def _started_from(card: dict[str, Any]) -> str:
    """The initial weights of a run, in words."""
    config = card.get("config", {})
    if config.get("start"):
        start = Path(config["start"])
        run = start.parent.name if start.stem in ("weights", "last") else start.stem
        if config["start"] == "shipped":
            run = "the recogniser inside the package"
        return f"the backbone of {run}" if config.get("start_part") == "backbone" else run
    return Path(card["method"].get("weights") or "none").name


def group_of(config: dict[str, Any]) -> str:
    """A run's name and a hash of its configuration without the seed: equal for the seeds of one setting.

    Runs that each start from another run of the same seed also share a setting.
    """
    if not config:
        return ""
    kept = {key: value for key, value in config.items() if key not in _NO_PART}
    for key, usual in _YOUNGER.items():
        if kept.get(key) == usual:
            kept.pop(key, None)
    if kept.get("start"):
        kept["start"] = re.sub(rf"-s{config.get('seed')}(?=/|$)", "", Path(str(kept["start"])).as_posix())
    kept["data"] = {
        key: [_as_before(one) for one in value] if key == "also" else value
        for key, value in _as_before(config.get("data", {})).items()
        if key not in _NO_PART_OF_DATA
    }
    text = json.dumps(kept, sort_keys=True, default=str)
    return f"{config.get('name', '')}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _as_before(source: dict[str, Any]) -> dict[str, Any]:
    """A source's configuration without newer keys that have the value which corresponds to older runs."""
    return {
        key: value
        for key, value in source.items()
        if key not in _YOUNGER_OF_DATA or value != _YOUNGER_OF_DATA[key]
    }


def source_of(
    root: Path | str,
    protocol: str | None = None,
    reader: str | None = None,
    fold: int = 0,
    points: Path | None = None,
    like: SourceConfig | None = None,
    labels: tuple[str, ...] = EXPRESSIONS,
) -> SourceConfig:
    """Determine the reader of a folder: by the protocol's dataset, the named reader, or the folder's layout.

    `like` is the set that the model was trained on: its stored landmarks are used if the reader is the same and none
    are given, so that evaluation uses the same crops as training. `labels` are the model's.

    Raises:
        ConfigError: no such protocol, or it belongs to another reader than the one named.
        DatasetNotFound: no reader recognises the folder.
    """
    from mien.data import cropping, protocols
    from mien.data.readers import READERS

    if protocol is not None:
        reader = reader or protocols.load(protocol).dataset
        cropping.protocol_of(protocol, reader, Path(root))
    if reader is None:
        folder = Path(root)
        # Many sets look like class folders and manifests, so these are tried last.
        order = sorted(READERS, key=lambda name: name in ("folder", "manifest"))
        matches = [
            name for name in order if folder.is_dir() and READERS[name].holds(folder, labels) is not None
        ]
        if not matches:
            if not folder.exists():
                raise DatasetNotFound(f"{root} does not exist: pass the dataset's folder")
            raise DatasetNotFound(
                f"{root} is not a known dataset: pass --reader, one of {', '.join(READERS)}"
            )
        reader = matches[0]
    if (
        points is None
        and like is not None
        and like.reader == reader
        and like.points
        and like.points.is_file()
    ):
        points = like.points
    faces = like.faces if like is not None and like.reader == reader else None
    return SourceConfig(
        reader=reader, root=Path(root), protocol=protocol, fold=fold, points=points, faces=faces
    )


def records_of(
    source: SourceConfig,
    split: Split,
    limit: int | None = None,
    labels: tuple[str, ...] = EXPRESSIONS,
    read: Read | None = None,
) -> list[Record]:
    """The records of one split under the source's protocol; at most `limit`, evenly picked. `read` as for `predict`.

    Raises:
        ConfigError: the split is empty.
    """
    from mien.data import cropping

    whole = (read or cropping.source_records)(source, labels)
    records = [record for record in whole if record.split == split]
    if not records:
        there = sorted({record.split for record in whole})
        raise ConfigError(
            f"{source.root} has no {split} pictures under this protocol: it has {', '.join(there)}"
        )
    return records if limit is None else records[:: max(1, len(records) // limit)][:limit]


def predict(
    model: Model,
    source: SourceConfig,
    split: Split = "test",
    *,
    cache: Path = Path("cache"),
    by: Sequence[str] = (),
    batch: int = BATCH,
    limit: int | None = None,
    mirror: bool = False,
    progress: CountProgress | None = None,
    read: Read | None = None,
) -> Predictions:
    """Run a model over one split of a dataset.

    Args:
        model: opened by `open_weights`.
        source: opened by `source_of`.
        split: "train", "valid" or "test".
        cache: folder of the aligned crops.
        by: attributes to keep for subgroups: the set's own, or one of `MEASURED`.
        batch: crops in one run of the network.
        limit: use only this many images, evenly picked; the digest then differs, so that results are not compared.
        mirror: average the model's outputs for each crop and its mirror image.
        progress: called with (done, total) while crops are cut.
        read: reads a source; None takes `mien.data.cropping.source_records`.

    Raises:
        ConfigError: the split is empty.
        DatasetNotFound, DatasetDamaged: raised by the reader.
    """
    from mien.data import cropping, protocols
    from mien.data.readers import READERS

    records = records_of(source, split, limit, model.classes, read)
    find = cropping.finds_faces(source, model.classes)
    crops = cropping.load_crops(records, model.size, model.colour, cache, source.points, progress, find)
    samples = cropping.to_samples(records, crops, derive_affect=False, labels=model.classes)
    answers, rate = read_all(model, crops.images, batch)
    if mirror:
        turned, _ = read_all(model, crops.images[:, :, ::-1], batch)
        answers = (
            (answers[0] + turned[0]) / 2,
            (answers[1] + turned[1]) / 2,
            ((answers[2] + turned[2]) / 2).astype(np.float32),
        )
    rule = protocols.load(source.protocol) if source.protocol else None
    # A protocol keeps all own labels if the set can have any; otherwise its own classes are evaluated.
    own = model.classes != EXPRESSIONS and READERS[source.reader].label_names is not None
    provenance = dataclasses.replace(
        model.provenance,
        dataset=source.reader,
        split=split,
        protocol=rule.name if rule else "",
        protocol_version=str(rule.version) if rule else "",
        digest=rule.digest(records) if rule else _digest(records),
        commit=_commit(),
        date=datetime.now(timezone.utc).date().isoformat(),
        machine=machine(),
        batch=batch,
        images_per_second=rate,
        views=2 if mirror else 1,
        alignment="stored landmarks" if source.points else "shipped landmark network",
        learnt=learnt_from(model, source, records, read),
    )
    # An untrained head is not evaluated: labels are dropped, and its probabilities are uniform.
    found = Predictions.of_logits(
        samples.names,
        samples.expression if model.labels else np.full_like(samples.expression, UNLABELLED),
        answers[0] if model.labels else np.zeros_like(answers[0]),
        classes=model.classes,
        affect=answers[1],
        affect_truth=samples.affect,
        votes=samples.votes,
        embedding=answers[2],
        subjects=tuple(record.subject for record in records),
        found=crops.found,
        attributes={key: _attribute(key, records, crops) for key in by},
        provenance=provenance,
    )
    if rule is None or rule.task != "expression" or (rule.classes == EXPRESSIONS and own):
        return found
    return found.over(rule.classes)


def read_all(model: Model, images: NDArray[np.uint8], batch: int = BATCH) -> tuple[Answers, float | None]:
    """All outputs in order, and images per second in the fastest full batch, since other work on the machine can only
    slow it.

    With one thread, processor time is used, which is not affected by other work.
    """
    clock = time.process_time if model.provenance.threads == 1 else time.perf_counter
    parts: list[Answers] = []
    rate: float | None = None
    for start in range(0, len(images), batch):
        crops = np.ascontiguousarray(images[start : start + batch])
        begun = clock()
        parts.append(model.read(crops))
        took = clock() - begun
        if len(crops) == batch and took > 0:
            rate = max(rate or 0.0, batch / took)
    logits, affect, embedding = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    return (logits, affect, embedding), rate


def _attribute(key: str, records: Sequence[Record], crops: Any) -> NDArray[Any]:
    """One attribute of every record, as words or numbers.

    Raises:
        ConfigError: neither the set nor `MEASURED` has it.
    """
    if key == "brightness":
        return np.array([float(np.asarray(crop).mean()) for crop in crops.images])
    if key == "yaw":
        yaw = np.asarray(np.abs(crops.pose[:, 0]), dtype=np.float64)
        if not np.isfinite(yaw).any():
            if any("yaw" in record.attributes for record in records):  # rendered heads have exact values
                return np.array([abs(float(record.attributes.get("yaw", np.nan))) for record in records])
            raise ConfigError(
                "--by yaw: yaw is not known with stored landmarks: evaluate with the landmark network"
            )
        return yaw
    if key == "size":
        return np.array([_side(record) for record in records])
    known = sorted(
        {
            name
            for record in records
            for name, value in record.attributes.items()
            if isinstance(value, str | int | float)  # a list, such as RAF-DB's points, cannot define groups
        }
    )
    if key not in known:
        raise ConfigError(
            f"--by {key}: the set has no such attribute: use one of {', '.join([*known, *MEASURED])}"
        )
    values = [record.attributes.get(key) for record in records]
    if all(isinstance(value, int | float | None) and not isinstance(value, bool) for value in values):
        return np.array([np.nan if value is None else float(value) for value in values])
    return np.array([None if value is None else str(value) for value in values], dtype=object)


def _side(record: Record) -> float:
    """The longer side of the face box, or of the picture if the set gives no box; pixels."""
    if record.box is not None:
        left, top, right, bottom = record.box
        return max(right - left, bottom - top)
    from PIL import Image

    with Image.open(record.path) as picture:
        return float(max(picture.size))


def _digest(records: Sequence[Record]) -> str:
    """The hash of a file list without a protocol."""
    lines = sorted(
        f"{record.split}\t{record.name}\t{record.frame}\t{record.expression}" for record in records
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _commit() -> str:
    try:
        from mien.training import checkpoint
    except ModuleNotFoundError:  # the core install has no safetensors, and is not a checkout
        return ""
    return checkpoint.commit()


def machine() -> str:
    """The kind of machine, such as "x86_64, 2 cores": no host name."""
    from mien.io.onnx import available

    return f"{platform.machine()}, {available()} cores"
