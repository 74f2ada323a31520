"""Fit a new expression head to the embedding of existing weights, on several sets without their class priors.

A network's embedding contains more information than its own head uses. This recipe keeps the network unchanged, fits a
linear head to the embeddings of several sets, and writes the network with the new head. The loss is the
cross-entropy of soft targets with logits adjusted by each set's own log prior (Menon et al. 2021), so that the
logits follow uniform shares; the card states these and the shares of the first set, and which prior is the default.
*Chosen:* full batches by L-BFGS, as the problem is convex; a face and its mirror image both count.
"""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch.nn import functional

from mien.config import Frozen, checked
from mien.data.config import SourceConfig
from mien.data.cropping import Samples, finds_faces, load_crops, source_records, to_samples
from mien.data.duplicates import without_copies
from mien.errors import WeightsError
from mien.evaluation.evaluate import plain
from mien.faces.recognise import OnnxRecogniser, softmax
from mien.io import atomic, cards
from mien.labels import EXPRESSIONS, UNLABELLED
from mien.release import export
from mien.release.build import Certainty, ElsewhereConfig, accuracy_of, elsewhere, measured
from mien.release.quantise import CALIBRATION, dequantised, quantise
from mien.training import checkpoint
from mien.training.config import RunConfig
from mien.types import LineProgress

SMALLEST_SHARE = 2e-3
"""Lower limit of a label's prior in a set: the logarithm of a smaller share, from few faces, would be unreliable."""

SMALLEST_SPREAD = 0.05
"""Lower limit of the standard deviation by which a dimension of the embedding is scaled, relative to the median of
all."""

Floats = NDArray[np.float32]


class HeadSource(SourceConfig):
    """A set to fit the head to; its training split is used, or all of it without a protocol."""

    share: float = Field(1.0, gt=0, description="weight of the loss, relative to other sets")


class HeadConfig(Frozen):
    """The network that gets a new head, the sets it is fitted to, and the text of the card."""

    name: str
    network: Path = Field(description="an .onnx file with its card, as `mien release` wrote them")
    quantise: bool = Field(
        False,
        description="first quantise the network again, with ranges from the main set's training faces",
    )
    main: SourceConfig = Field(description="the set for selection (validation) and evaluation (test)")
    sources: tuple[HeadSource, ...] = Field(min_length=1, description="the sets to fit the head to")
    penalty: float = Field(
        1e-3, ge=0, description="penalty on the squared weights, for standardised embeddings"
    )
    prior: float = Field(
        1.0, ge=0, le=2, description="the default prior: shares of the first set's votes to this power"
    )
    elsewhere: tuple[ElsewhereConfig, ...] = Field(
        (), description="sets that are reported on but not fitted to"
    )
    card: dict[str, Any] = Field({}, description="changes of the network's card")


@dataclass(frozen=True)
class Embedded:
    """Faces of one set.

    Attributes:
        name: the name of the set.
        embeddings: [n, d]; `mirrored` [n, d] of the mirror images.
        logits: [n, k] of the network's own head.
        targets: [n, k] soft targets; `truth` [n] index of the label, or `UNLABELLED`.
        share: see `HeadSource`.
    """

    name: str
    embeddings: Floats
    mirrored: Floats
    logits: Floats
    targets: Floats
    truth: NDArray[np.int64]
    share: float

    @property
    def prior(self) -> NDArray[np.float64]:
        """[k] shares of the labels, none below `SMALLEST_SHARE`, summing to 1."""
        shares = np.maximum(self.targets.mean(axis=0, dtype=np.float64), SMALLEST_SHARE)
        return np.asarray(shares / shares.sum())


def load(tree: dict[str, Any], what: str) -> HeadConfig:
    """Check a configuration that was read from YAML.

    Raises:
        ConfigError: a key or value is wrong.
    """
    return checked(HeadConfig, tree, what)


def fit(sets: list[Embedded], penalty: float) -> tuple[Floats, Floats]:
    """Weights [k, d] and offsets [k] of a linear head with logits that follow uniform shares.

    Args:
        sets: each is weighted by its share, independent of its number of faces.
        penalty: see `HeadConfig`.
    """
    everything = np.concatenate([one.embeddings for one in sets[:1]])
    centre, spread = everything.mean(axis=0), everything.std(axis=0)
    # A dimension that hardly varies here would get a large weight, and could dominate on different pictures.
    spread = np.maximum(spread, SMALLEST_SPREAD * np.median(spread))
    total = sum(one.share for one in sets)
    inputs, targets, weights, offsets = [], [], [], []
    for one in sets:
        for vectors in (one.embeddings, one.mirrored):
            inputs.append((vectors - centre) / spread)
            targets.append(one.targets)
            weights.append(np.full(len(vectors), one.share / total / 2 / len(vectors)))
            offsets.append(np.broadcast_to(np.log(one.prior), one.targets.shape))
    given, wanted, weight, adjust = (
        torch.from_numpy(np.concatenate(parts).astype(np.float32))
        for parts in (inputs, targets, weights, offsets)
    )
    head = torch.nn.Linear(given.shape[1], wanted.shape[1])
    torch.nn.init.zeros_(head.weight)
    torch.nn.init.zeros_(head.bias)
    optimiser = torch.optim.LBFGS(head.parameters(), max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        logs = functional.log_softmax(head(given) + adjust, dim=1)
        value = -(weight * (wanted * logs).sum(dim=1)).sum() + penalty * (head.weight**2).sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        scaled = head.weight.numpy() / spread
        return scaled.astype(np.float32), (head.bias.numpy() - scaled @ centre).astype(np.float32)


def left_out(
    sets: list[Embedded], penalty: float, shift: NDArray[np.float64], before: bool, progress: LineProgress
) -> dict[str, Any]:
    """Accuracy and macro recall on each set except the first, of a head that was fitted without it, and of the old
    head.

    "before" is the network's own head, left out unless `before` because it learnt from the sets; "uniform" is the new
    one, and "default" the new one with `shift` [k] added to its logits.
    """
    found: dict[str, Any] = {}
    for one in sets[1:]:
        progress(f"fitting without {one.name}")
        weights, offsets = fit([other for other in sets if other is not one], penalty)
        logits = one.embeddings @ weights.T + offsets
        heads = {"default": logits + shift, "uniform": logits}
        if before:
            heads["before"] = one.logits
        found[one.name] = {name: _judged(scores, one.truth) for name, scores in heads.items()}
    return found


def _judged(scores: NDArray[Any], truth: NDArray[np.int64]) -> dict[str, float]:
    known = truth != UNLABELLED
    right = (scores.argmax(axis=1) == truth)[known]
    recalls = [right[truth[known] == label].mean() for label in np.unique(truth[known])]
    return {
        "accuracy": float(right.mean()),
        "macro_accuracy": float(np.mean(recalls)),
        "images": int(known.sum()),
    }


def replaced(network: bytes, weights: Floats, offsets: Floats) -> bytes:
    """The network with another expression head.

    Raises:
        WeightsError: its logits do not come from one linear layer of these shapes on the embedding.
    """
    import onnx
    from onnx import numpy_helper

    model = onnx.load_from_string(network)
    node = next((node for node in model.graph.node if "logits" in node.output), None)
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    names = list(node.input) if node is not None and node.op_type == "Gemm" else []
    if len(names) != 3 or names[0] != "embedding" or not set(names[1:]) <= set(stored):
        raise WeightsError(
            "the network's logits are not one linear layer on its embedding: no head can be replaced"
        )
    for name, values in zip(names[1:], (weights, offsets), strict=True):
        if tuple(stored[name].dims) != values.shape:
            raise WeightsError(
                f"the network's head is {tuple(stored[name].dims)}, the new one {values.shape}"
            )
        stored[name].CopyFrom(numpy_helper.from_array(values, name))
    data: bytes = model.SerializeToString()
    return data


def build(config: HeadConfig, out: Path, progress: LineProgress) -> Path:
    """Write `<out>/<name>.onnx` and its card, and return the network's path.

    Raises:
        WeightsError: the network or its card is not a recogniser's, or has no linear head.
        ConfigError, DatasetNotFound, DatasetDamaged: raised by the sets' readers.
    """
    content, card = cards.verified(cards.weights_file(config.network))
    recipe = card.fields["recipe"]
    run = RunConfig(**recipe["config"])
    with atomic.adding(out, last=".onnx") as unfinished:
        target = unfinished / f"{config.name}.onnx"
        target.write_bytes(_quantised(content, config, run, progress) if config.quantise else content)
        sets = []
        for source in config.sources:
            progress(f"reading {source.root.name}")
            sets.append(_embedded(target, source, run))
        progress("fitting the head")
        weights, offsets = fit(sets, config.penalty)
        target.write_bytes(replaced(target.read_bytes(), weights, offsets))
        _write_card(config, card, run, sets, target, progress)
    return out / target.name


def _quantised(content: bytes, config: HeadConfig, run: RunConfig, progress: LineProgress) -> bytes:
    """The network with the same weights in the int8 form of today."""
    records = [record for record in source_records(config.main) if record.split == "train"]
    images = _samples(records, config.main, run).images
    crops = np.array(images[np.sort(np.random.default_rng(0).permutation(len(images))[:CALIBRATION])])
    with tempfile.TemporaryDirectory() as folder:
        plain, target = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
        plain.write_bytes(dequantised(content))
        quantise(plain, target, crops)
        agreed = export.compare(*(export.run_onnx(path, crops)["logits"] for path in (plain, target)))
        progress(f"int8: {agreed.agreement:.1%} of the first classes as in float, on {len(crops)} crops")
        return target.read_bytes()


def _embedded(network: Path, source: HeadSource, run: RunConfig) -> Embedded:
    records = without_copies(source_records(source))[0]
    if source.protocol is not None:
        records = [record for record in records if record.split == "train"]
    samples = _samples(records, source, run)
    targets = np.where(
        np.isnan(samples.votes), np.eye(len(EXPRESSIONS), dtype=np.float32)[samples.expression], samples.votes
    )
    known = (samples.expression != UNLABELLED) | ~np.isnan(samples.votes).any(axis=1)
    images = samples.images[known] if not known.all() else samples.images
    upright = export.run_onnx(network, images)
    mirrored = export.run_onnx(network, np.ascontiguousarray(images[:, :, ::-1]))["embedding"]
    return Embedded(
        source.root.name,
        upright["embedding"],
        mirrored,
        upright["logits"],
        targets[known].astype(np.float32),
        samples.expression[known],
        source.share,
    )


def _samples(records: list[Any], source: SourceConfig, run: RunConfig) -> Samples:
    crops = load_crops(records, run.data.size, False, run.data.cache, find=finds_faces(source, EXPRESSIONS))
    return to_samples(records, crops, False)


def _write_card(
    config: HeadConfig,
    before: cards.Card,
    run: RunConfig,
    sets: list[Embedded],
    target: Path,
    progress: LineProgress,
) -> None:
    """Calibrate at the default prior, measure, and write the card beside the network."""
    records, learnt = source_records(config.main), sets[0].prior
    tempered = learnt**config.prior / (learnt**config.prior).sum()
    splits, logits = {}, {}
    for split in ("valid", "test"):
        progress(f"judging {split}")
        splits[split] = _samples([one for one in records if one.split == split], config.main, run)
        logits[split] = export.run_onnx(target, splits[split].images)["logits"]
    # Fitted at the default prior; prediction also divides the logits before it adds the prior.
    temperature = _temperature(logits["valid"], splits["valid"].expression, tempered)
    shift = (temperature * np.log(tempered)).astype(np.float32)
    valid = logits["valid"] + shift
    calibration = Certainty.of(valid, temperature)
    figures = measured({"logits": logits["test"] + shift}, splits["test"], calibration, EXPRESSIONS)
    figures["validation_accuracy"] = {"int8": accuracy_of(valid, splits["valid"])}
    figures["affect"] = before.fields["metrics"].get("affect", {})
    figures["elsewhere"] = {
        source.root.name: elsewhere(target, source, run, calibration, EXPRESSIONS, shift)
        for source in config.elsewhere
    }
    figures["leave_one_set_out"] = left_out(
        sets, config.penalty, temperature * np.log(tempered), "head" not in before.fields["recipe"], progress
    )
    name = config.main.protocol or config.main.reader
    fields = {
        **before.fields,
        **config.card,
        "name": config.name,
        **asdict(calibration),
        "prior": {
            "logits": dict.fromkeys(EXPRESSIONS, 1 / len(EXPRESSIONS)),
            "learnt": dict(zip(EXPRESSIONS, learnt.tolist(), strict=True)),
            "default": dict(zip(EXPRESSIONS, np.round(tempered, 6).tolist(), strict=True)),
        },
        "sha256": checkpoint.digest(target),
        "bytes": target.stat().st_size,
        "recipe": {
            **before.fields["recipe"],
            "head": {
                **config.model_dump(mode="json", include={"sources", "penalty", "prior", "main", "quantise"}),
                "on": before.fields["sha256"],
                "released_at": checkpoint.commit(),
            },
        },
        "metrics": {
            **{key: before.fields["metrics"].get(key) for key in ("version", "digest", "seed")},
            "faces_aligned": float(splits["test"].found.mean()),
            "data": name,
            "split": "test",
            "selection": "shares of the sets, penalty, prior, temperature and threshold on validation; nothing on test",
            **figures,
        },
    }
    cards.write(target, plain(fields))
    OnnxRecogniser.load(target, threads=1)


def _temperature(logits: Floats, truth: NDArray[np.int64], prior: NDArray[np.float64]) -> float:
    """The temperature at which the mean confidence of softmax(logits / temperature + log prior) is the accuracy.

    Our choice: the head is fitted to votes, which are softer than the labels of the evaluation, and the temperature of
    lowest log loss leaves it underconfident (calibration error 4.5 % on validation, against 2 %).
    """
    known = truth != UNLABELLED
    grid = np.geomspace(0.3, 3.0, 231)
    gaps = []
    for temperature in grid:
        shares = softmax(logits[known].astype(np.float64) / temperature + np.log(prior))
        gaps.append(abs(shares.max(axis=1).mean() - (shares.argmax(axis=1) == truth[known]).mean()))
    return float(grid[int(np.argmin(gaps))])
