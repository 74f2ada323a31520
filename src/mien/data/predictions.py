"""A model's predictions for every image of a set, with the labels: the file between running a network and evaluating
it.

`mien evaluate` writes one `predictions.parquet` beside each report. Every figure of the report, and every comparison
between models, can be computed again from it without the network or the pictures. One row is one image:

| column | meaning | |---|---| | `name` | the dataset's own name of the picture | | `truth` | expression word, or null
where unlabelled | | `p_<label>` | probability of each class, summing to 1 over a row | | `valence`, `arousal` |
apparent affect in [-1, 1]; NaN where the model has none | | `valence_true`, `arousal_true` | the label, NaN where there
is none | | `votes_<label>` | annotators' vote shares, NaN where there are none (absent for sets without votes) | |
`subject` | the person's name or number, if the set states it | | `found` | whether a face was found; otherwise the
whole picture was evaluated | | `by_<key>` | an attribute for subgroups: a word, or a number | | `embedding` | the
feature vector (only if requested) |

The schema's metadata holds the `RunInfo` as JSON under `mien.provenance`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mien.errors import MienError
from mien.faces.recognise import softmax
from mien.io import atomic
from mien.labels import EXPRESSIONS, UNLABELLED, listed
from mien.wording import several

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

FILE = "predictions.parquet"
"""The name of the file in a report's folder."""

_KEY = b"mien.provenance"


class PredictionsError(MienError, ValueError):
    """Inconsistent predictions, or a file without predictions."""


@dataclass(frozen=True, slots=True)
class RunInfo:
    """Where a set of predictions comes from. Empty or None means unknown, and is printed so.

    Attributes:
        model: the name to display, such as the run's name.
        method: key in `mien.methods.METHODS`, or the file's name.
        weights_hash: SHA-256 of the weight file.
        group: runs with the same group differ only in their seed; a hash of the configuration without the seed.
        seed: the training seed.
        dataset, split: the reader's name and the split evaluated.
        protocol, protocol_version: the rule that selects the images and classes.
        digest: hash of the file list; equal if two results are of the same images.
        commit, date, machine: those of the evaluation.
        parameters, bytes: number of weights and size of the file.
        images_per_second: of the network only, on `machine` with `threads` threads, in its fastest batch of `batch`.
        size: side of the input, pixels.
        pretraining, selection: the initial weights, and how the kept epoch was selected.
        alignment: the landmarks by which the faces were aligned.
        views: number of crops per face over which outputs are averaged: 2 with its mirror image.
        prior, adapt: the requested operating point, and the correction's file; empty for the weights' default.
        learnt: number of images that the weights were trained on, for which the figures say nothing about new images.
    """

    model: str
    method: str = ""
    weights_hash: str = ""
    group: str = ""
    seed: int | None = None
    dataset: str = ""
    split: str = ""
    protocol: str = ""
    protocol_version: str = ""
    digest: str = ""
    commit: str = ""
    date: str = ""
    machine: str = ""
    threads: int | None = None
    batch: int | None = None
    parameters: int | None = None
    bytes: int | None = None
    images_per_second: float | None = None
    size: int | None = None
    pretraining: str = ""
    selection: str = ""
    alignment: str = ""
    views: int = 1
    prior: str = ""
    adapt: str = ""
    learnt: int = 0

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> RunInfo:
        """Rebuild from `dataclasses.asdict`'s form; unknown keys of a later version are ignored."""
        known = {entry.name for entry in fields(cls)}
        return cls(**{key: value for key, value in values.items() if key in known})


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """Everything that an evaluation needs, checked on construction; n images, k classes.

    Attributes:
        names: [n] the dataset's names.
        truth: [n] index into `classes`, or `UNLABELLED`.
        probabilities: [n, k], rows summing to 1.
        classes: [k] expression words.
        affect, affect_truth: [n, 2] (valence, arousal), NaN where there is none.
        votes: [n, k] vote shares, NaN where there are none.
        embedding: [n, d]; d is 0 for none.
        subjects: [n] the person's name or number, None if unknown.
        found: [n] whether a face was found.
        attributes: by key, [n] words or numbers for subgroups.
        provenance: where the predictions come from.

    Raises:
        PredictionsError: lengths differ, a class is out of range, or a row is not a probability vector.
    """

    names: tuple[str, ...]
    truth: NDArray[np.int64]
    probabilities: Floats
    classes: tuple[str, ...] = EXPRESSIONS
    affect: Floats = field(default_factory=lambda: np.empty((0, 2)))
    affect_truth: Floats = field(default_factory=lambda: np.empty((0, 2)))
    votes: Floats = field(default_factory=lambda: np.empty((0, 0)))
    embedding: NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 0), dtype=np.float32))
    subjects: tuple[str | None, ...] = ()
    found: NDArray[np.bool_] = field(default_factory=lambda: np.empty(0, dtype=bool))
    attributes: dict[str, NDArray[Any]] = field(default_factory=dict)
    provenance: RunInfo = field(default_factory=lambda: RunInfo("unnamed"))

    def __post_init__(self) -> None:
        n, k = len(self.names), len(self.classes)
        settle = object.__setattr__
        settle(self, "truth", np.asarray(self.truth, dtype=np.int64))
        settle(self, "probabilities", np.asarray(self.probabilities, dtype=np.float64))
        for name, width in (("affect", 2), ("affect_truth", 2), ("votes", k)):
            given = np.asarray(getattr(self, name), dtype=np.float64)
            settle(self, name, given if given.size else np.full((n, width), np.nan))
        if not self.embedding.size:
            settle(self, "embedding", np.empty((n, 0), dtype=np.float32))
        settle(self, "subjects", tuple(self.subjects) or (None,) * n)
        settle(
            self, "found", np.asarray(self.found, dtype=bool) if len(self.found) else np.ones(n, dtype=bool)
        )
        shapes: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
            "truth": (self.truth.shape, (n,)),
            "probabilities": (self.probabilities.shape, (n, k)),
            "affect": (self.affect.shape, (n, 2)),
            "affect_truth": (self.affect_truth.shape, (n, 2)),
            "votes": (self.votes.shape, (n, k)),
            "embedding": (self.embedding.shape[:1], (n,)),
            "subjects": ((len(self.subjects),), (n,)),
            "found": (self.found.shape, (n,)),
            **{f"attributes['{key}']": (values.shape, (n,)) for key, values in self.attributes.items()},
        }
        for name, (given_shape, wanted) in shapes.items():
            if given_shape != wanted:
                raise PredictionsError(
                    f"{name} has shape {given_shape}, {n} names and {k} classes need {wanted}"
                )
        if n and (self.truth.min() < UNLABELLED or self.truth.max() >= k):
            raise PredictionsError(f"a true class is outside 0..{k - 1}: map the labels by mien.labels first")
        sums = self.probabilities.sum(axis=1)
        wrong = ~np.isfinite(sums) | (np.abs(sums - 1) > 1e-3) | (self.probabilities < -1e-6).any(axis=1)
        if wrong.any():
            first = int(np.flatnonzero(wrong)[0])
            raise PredictionsError(
                f"{int(wrong.sum())} rows are not probabilities, first '{self.names[first]}' "
                f"(sum {sums[first]:.3g}): pass logits to Predictions.of_logits"
            )

    @classmethod
    def of_logits(cls, names: Sequence[str], truth: ArrayLike, logits: ArrayLike, **rest: Any) -> Predictions:
        """Predictions from a network's logits [n, k]; `rest` are the other attributes."""
        return cls(tuple(names), np.asarray(truth, dtype=np.int64), softmax(logits), **rest)

    def __len__(self) -> int:
        return len(self.names)

    def rows(self, kept: NDArray[Any]) -> Predictions:
        """The images selected by a mask or index array."""
        index = np.flatnonzero(kept) if kept.dtype == bool else kept
        return replace(
            self,
            names=tuple(self.names[i] for i in index),
            truth=self.truth[index],
            probabilities=self.probabilities[index],
            affect=self.affect[index],
            affect_truth=self.affect_truth[index],
            votes=self.votes[index],
            embedding=self.embedding[index],
            subjects=tuple(self.subjects[i] for i in index),
            found=self.found[index],
            attributes={key: values[index] for key, values in self.attributes.items()},
        )

    def over(self, classes: Sequence[str]) -> Predictions:
        """The same over fewer classes, for example for an eight-class network under a seven-class protocol.

        The other classes' probabilities are left out and the rest renormalised, as `Reading.basic` does.

        Raises:
            PredictionsError: a class is missing, or an image's true class would be left out.
        """
        missing = [name for name in classes if name not in self.classes]
        if missing:
            raise PredictionsError(
                f"the model has no class '{missing[0]}': its classes are {listed(self.classes)}"
            )
        if tuple(classes) == self.classes:
            return self
        columns = [self.classes.index(name) for name in classes]
        place = np.full(len(self.classes) + 1, UNLABELLED)
        place[columns] = np.arange(len(columns))
        truth = place[self.truth]
        lost = (truth == UNLABELLED) & (self.truth != UNLABELLED)
        if lost.any():
            word = self.classes[self.truth[lost][0]]
            raise PredictionsError(
                f"the protocol leaves out '{word}', the label of {several(int(lost.sum()), 'image')}"
            )
        shares, votes = self.probabilities[:, columns], self.votes[:, columns]
        total = shares.sum(axis=1, keepdims=True)
        even = np.full_like(shares, 1 / len(columns))
        with np.errstate(invalid="ignore", divide="ignore"):
            shares = np.where(total > 0, shares / total, even)
            votes = votes / votes.sum(axis=1, keepdims=True)
        return replace(self, classes=tuple(classes), truth=truth, probabilities=shares, votes=votes)

    def save(self, path: Path | str, embeddings: bool = False) -> Path:
        """Write the Parquet file described above; the feature vectors only if `embeddings` is set."""
        import pyarrow as pa
        from pyarrow import parquet

        words = [None if index == UNLABELLED else self.classes[index] for index in self.truth]
        columns: dict[str, Any] = {"name": list(self.names), "truth": pa.array(words, pa.string())}
        columns |= {f"p_{name}": self.probabilities[:, i] for i, name in enumerate(self.classes)}
        columns |= {name: self.affect[:, i] for i, name in enumerate(("valence", "arousal"))}
        columns |= {f"{name}_true": self.affect_truth[:, i] for i, name in enumerate(("valence", "arousal"))}
        if np.isfinite(self.votes).any():
            columns |= {f"votes_{name}": self.votes[:, i] for i, name in enumerate(self.classes)}
        columns |= {"subject": pa.array(self.subjects, pa.string()), "found": self.found}
        columns |= {f"by_{key}": pa.array(values.tolist()) for key, values in self.attributes.items()}
        if embeddings and self.embedding.shape[1]:
            flat = pa.array(np.ascontiguousarray(self.embedding, dtype=np.float32).ravel())
            columns["embedding"] = pa.FixedSizeListArray.from_arrays(flat, self.embedding.shape[1])
        note = json.dumps(asdict(self.provenance), ensure_ascii=False)
        table = pa.table(columns).replace_schema_metadata({_KEY: note.encode()})
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic.writing(path) as temporary:
            parquet.write_table(table, temporary, compression="zstd")
        return path

    @classmethod
    def load(cls, path: Path | str) -> Predictions:
        """Read what `save` wrote.

        Raises:
            PredictionsError: the file is missing, damaged, or holds something else.
        """
        import pyarrow as pa
        from pyarrow import parquet

        path = Path(path)
        try:
            return cls._of_table(parquet.read_table(path), path)
        except FileNotFoundError:
            raise PredictionsError(
                f"{path}: no such predictions: write them with  mien evaluate --out"
            ) from None
        except (pa.ArrowException, OSError) as problem:
            raise PredictionsError(
                f"{path}: not a Parquet file ({problem}): evaluate the model again"
            ) from None
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as problem:
            raise PredictionsError(
                f"{path}: a column or its provenance is damaged ({problem}): evaluate the model again"
            ) from None

    @classmethod
    def _of_table(cls, table: Any, path: Path) -> Predictions:
        note = (table.schema.metadata or {}).get(_KEY)
        if note is None or not {"name", "truth", "found"} <= set(table.column_names):
            raise PredictionsError(
                f"{path}: not written by mien evaluate: its columns or their provenance are missing"
            )
        column = {name: table[name] for name in table.column_names}
        classes = tuple(name[2:] for name in column if name.startswith("p_"))

        def numbers(*names: str) -> Floats:
            return np.stack([column[name].to_numpy() for name in names], axis=1).astype(np.float64)

        voted = f"votes_{classes[0]}" in column
        vectors = column.get("embedding")
        return cls(
            names=tuple(column["name"].to_pylist()),
            truth=np.array(
                [UNLABELLED if w is None else classes.index(w) for w in column["truth"].to_pylist()]
            ),
            probabilities=numbers(*(f"p_{name}" for name in classes)),
            classes=classes,
            affect=numbers("valence", "arousal"),
            affect_truth=numbers("valence_true", "arousal_true"),
            votes=numbers(*(f"votes_{name}" for name in classes)) if voted else np.empty((0, 0)),
            embedding=np.array(vectors.to_pylist() if vectors else [], dtype=np.float32),
            subjects=tuple(column["subject"].to_pylist()),
            found=column["found"].to_numpy(),
            attributes={
                name[3:]: np.array(values.to_pylist())
                for name, values in column.items()
                if name.startswith("by_")
            },
            provenance=RunInfo.from_dict(json.loads(note)),
        )


def hash_of_all(hashes: Iterable[str]) -> str:
    """SHA-256 of several hashes together, independent of their order."""
    return hashlib.sha256("".join(sorted(hashes)).encode()).hexdigest()


def pooled(parts: Sequence[Predictions]) -> Predictions:
    """Pool several sets of predictions: folds of a cross-validation, each predicted by the model that had not seen it,
    or several splits predicted by one model.

    Figures of a pooled set are computed over all images at once, as the definitions for valence and arousal require;
    they differ from the mean of the folds' figures. Digest and weights hash are hashes of the folds' own. Embeddings
    are left out, because the folds' networks do not share a feature space.

    Raises:
        PredictionsError: no parts, an image in two folds, or folds of different protocols, classes or settings.
    """
    if not parts:
        raise PredictionsError("no predictions to pool: name the file of each fold")
    first = parts[0]
    for part in parts[1:]:
        for key in ("protocol", "protocol_version"):
            if getattr(part.provenance, key) != getattr(first.provenance, key):
                raise PredictionsError(
                    f"folds differ in {key.replace('_', ' ')}: pool the folds of one protocol"
                )
        if part.classes != first.classes or part.attributes.keys() != first.attributes.keys():
            raise PredictionsError(
                "folds differ in classes or attributes: evaluate all with the same options"
            )
    names = tuple(name for part in parts for name in part.names)
    if len(set(names)) < len(names):
        raise PredictionsError("an image is in two folds: pool each fold once")

    def hashed(key: str) -> str:
        return hash_of_all(getattr(part.provenance, key) for part in parts)

    def stacked(key: str) -> NDArray[Any]:
        return np.concatenate([getattr(part, key) for part in parts])

    return Predictions(
        names,
        stacked("truth"),
        stacked("probabilities"),
        first.classes,
        stacked("affect"),
        stacked("affect_truth"),
        stacked("votes"),
        subjects=tuple(who for part in parts for who in part.subjects),
        found=stacked("found"),
        attributes={
            key: np.concatenate([part.attributes[key] for part in parts]) for key in first.attributes
        },
        provenance=replace(
            first.provenance,
            digest=hashed("digest"),
            weights_hash=hashed("weights_hash"),
            split="+".join(dict.fromkeys(part.provenance.split for part in parts)),
            learnt=sum(part.provenance.learnt for part in parts),
        ),
    )
