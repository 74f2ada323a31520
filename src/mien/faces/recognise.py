"""Recognise expressions in aligned face crops: probabilities, apparent valence and arousal, an embedding.

A recogniser takes crops and returns one `Reading` for each. `OnnxRecogniser` runs the shipped network on ONNX Runtime;
any object that follows the `Recogniser` protocol can replace it.

The network's contract: input `crops`, uint8 [n, s, s], luma of faces aligned by `mien.faces.align` to a square of s
pixels (s on the card; scaling of pixel values is part of the graph); outputs `logits` [n, k] over the card's `classes`
(the eight `EXPRESSIONS`, or own labels), `affect` [n, 2] as (valence, arousal), and `embedding` [n, d]. The outputs of
a head that the card's `heads` does not name were not trained and are ignored.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mien.errors import ConfigError, WeightsError
from mien.faces.operating_point import TRAINED, Adaptation, Prior, Shares, offsets, shares_on_card
from mien.io import cards
from mien.io.onnx import Network, ThreadedBatches
from mien.labels import EXPRESSIONS, label_set
from mien.types import Reading

SHIPPED = cards.FOLDER / "recogniser.onnx"

HEADS = ("expression", "affect")
"""The heads of a recogniser; a card without `heads` means both were trained."""

BATCH = 8
"""Largest number of crops in one run of the network, chosen by measurement: on one core the shipped network takes 1.7
ms per crop at 1, 1.5 at 8 and 1.4 to 1.5 above, and on a busy machine it is slower from 32 on, where its feature maps
no longer fit into the cache (`benchmarks/throughput.py`)."""


class Recogniser(Protocol):
    """Anything that reads aligned face crops."""

    @property
    def name(self) -> str:
        """Name of the weights, stored with every result."""

    @property
    def size(self) -> int:
        """Side of the square crop, pixels."""

    # A recogniser of own labels also has `labels`, their names in order; without it they are `EXPRESSIONS`.

    def __call__(self, crops: NDArray[np.uint8], embeddings: bool = False) -> list[Reading]:
        """One reading for each of `crops`, uint8 luma [n, size, size]; n may be 0."""


class OnnxRecogniser:
    """Runs the shipped network, or another that was exported by `mien`, on ONNX Runtime.

    Make one with `OnnxRecogniser.load()`. Calling it is thread-safe.
    """

    def __init__(
        self,
        session: Any,
        card: cards.Card,
        threads: int | None = 1,
        prior: Prior | None = None,
        adapt: Adaptation | Path | str | None = None,
    ) -> None:
        """Read with `session`, which has one thread, from up to `threads` threads at once (None: all).

        See `load` for `prior` and `adapt`.
        """
        self.card = card
        self._session = session
        self._team = ThreadedBatches(threads, most=BATCH)
        given = {entry.name: entry.shape for entry in session.get_inputs()}
        wanted = {entry.name for entry in session.get_outputs()}
        if "crops" not in given or not {"logits", "affect"} <= wanted:
            raise WeightsError(
                f"{card.path}: the network takes {sorted(given)} and gives {sorted(wanted)}, where a recogniser takes "
                "'crops' and gives 'logits', 'affect' and 'embedding': pass weights exported by mien"
            )
        stated = check(card)
        self._size, self.labels, self._temperature, self._uncertain_below, self._affect = stated[:5]
        width = next(entry.shape[-1] for entry in session.get_outputs() if entry.name == "logits")
        if isinstance(width, int) and width != len(self.labels):
            raise WeightsError(
                f"{card.path}: the card states {len(self.labels)} classes, the network {width}: {_AGAIN}"
            )
        if given["crops"][-1] not in (self._size, None) and not isinstance(given["crops"][-1], str):
            raise WeightsError(
                f"{card.path}: the card says {self._size} px, the network {given['crops'][-1]}: {_AGAIN}"
            )
        self._has_embedding = "embedding" in wanted
        self._adaptation = self._adapted(adapt)
        if prior is None:
            prior = TRAINED if self._adaptation else stated.prior
        embodied, learnt = stated.embodied, stated.learnt
        self._trained = offsets(TRAINED, self.labels, embodied, learnt)
        if self._adaptation is not None:
            self.labels, embodied, learnt = self._adaptation.labels, self._adaptation.shares, None
        self._offsets = offsets(prior, self.labels, embodied, learnt)

    def _adapted(self, adapt: Adaptation | Path | str | None) -> Adaptation | None:
        if adapt is None:
            return None
        adaptation = adapt if isinstance(adapt, Adaptation) else Adaptation.load(adapt)
        shapes = {entry.name: entry.shape[-1] for entry in self._session.get_outputs()}
        width = shapes.get("embedding", 0)
        adaptation.check_fits(
            None if isinstance(adapt, Adaptation) else adapt,
            self.card.fields["sha256"],
            self.labels,
            width if isinstance(width, int) else None,
        )
        return adaptation

    @classmethod
    def load(
        cls,
        path: Path | str | None = None,
        threads: int | None = None,
        prior: Prior | None = None,
        adapt: Adaptation | Path | str | None = None,
    ) -> OnnxRecogniser:
        """Open the shipped weights, or those at `path`.

        Args:
            path: an .onnx file with its card beside it, or the folder that `mien release` wrote.
            threads: number of threads; None uses all processors of the affinity mask.
            prior: the label shares that probabilities reflect: "trained" (those of the training set), "uniform", or the
                expected share of each label (labels that are not named share the rest). None is what the card
                recommends.
            adapt: a file of `mien adapt` for these weights. `prior` then replaces the shares that it was fitted with;
                None and "trained" keep them.

        Raises:
            WeightsError: the weights or their card are missing, damaged, not a pair, or not a recogniser's.
            ConfigError: the prior is wrong or not possible with these weights, or `adapt` was made for others.
        """
        return cls(*Network.open(path or SHIPPED), threads, prior, adapt)

    @property
    def name(self) -> str:
        """Name of the weights, as on the card."""
        return self.card.name

    @property
    def size(self) -> int:
        """Side of the square crop, pixels."""
        return self._size

    def __call__(self, crops: NDArray[np.uint8], embeddings: bool = False) -> list[Reading]:
        """One reading for each of `crops`, uint8 luma [n, size, size]; n may be 0.

        Raises:
            ValueError: the array has another shape or type.
        """
        if crops.ndim != 3 or crops.shape[1:] != (self._size, self._size) or crops.dtype != np.uint8:
            raise ValueError(
                f"crops are uint8 [n, {self._size}, {self._size}], not {crops.dtype} {list(crops.shape)}: "
                "cut them with mien.faces.align.crop"
            )
        parts = self._team.map(lambda part: self._read(crops[part], embeddings), len(crops))
        return [reading for readings in parts for reading in readings]

    def _read(self, crops: NDArray[np.uint8], embeddings: bool) -> list[Reading]:
        inside = self._adaptation is not None and self._adaptation.needs_embedding
        wanted = ["logits", "affect"] + (
            ["embedding"] if self._has_embedding and (embeddings or inside) else []
        )
        logits, affect, *rest = self._session.run(wanted, {"crops": np.ascontiguousarray(crops)})
        probabilities = self._probabilities(logits, rest[0] if rest else None)
        vectors: Sequence[Any] = rest[0].tolist() if rest and embeddings else ((),) * len(crops)
        return [
            Reading(
                probabilities=dict(zip(self.labels, shares, strict=True)),
                valence=min(1.0, max(-1.0, valence)) if self._affect else None,
                arousal=min(1.0, max(-1.0, arousal)) if self._affect else None,
                intensity=None,
                uncertain=bool(doubts := self._doubts(shares)),
                embedding=tuple(vector),
                doubts=doubts,
            )
            for shares, (valence, arousal), vector in zip(
                probabilities.tolist(), affect.tolist(), vectors, strict=True
            )
        ]

    def _doubts(self, shares: Sequence[float]) -> tuple[str, ...]:
        """The two most probable labels, as a doubt, if no probability reaches the threshold; else empty."""
        return (between(shares, self.labels),) if max(shares) < self._uncertain_below else ()

    def _probabilities(self, logits: NDArray[Any], embedding: NDArray[Any] | None) -> NDArray[np.float64]:
        """Calibrated probabilities [n, k] at the operating point."""
        if self._adaptation is None and self._offsets is None:
            return softmax(logits, self._temperature)
        scores = logits.astype(np.float64) / self._temperature
        if self._adaptation is not None:  # it was fitted on probabilities with the training set's shares
            if self._trained is not None:
                scores = scores + self._trained
            logs = scores - np.logaddexp.reduce(scores, axis=1, keepdims=True)
            scores = self._adaptation.scores(logs, embedding)
        if self._offsets is not None:
            scores = scores + self._offsets
        return softmax(scores)


def between(shares: Sequence[float], labels: Sequence[str]) -> str:
    """ "between A and B", the two most probable labels, the more probable first."""
    first, second = sorted(range(len(labels)), key=lambda place: -shares[place])[:2]
    return f"between {labels[first]} and {labels[second]}"


def softmax(logits: ArrayLike, temperature: float = 1.0) -> NDArray[np.float64]:
    """Probabilities [n, k] from logits [n, k]: the softmax of logits / temperature, in double precision.

    Temperature scaling (Guo et al. 2017): one number, fitted on validation data, that changes confidence but never
    which class comes first.
    """
    scaled = np.asarray(logits, np.float64) / temperature
    exponentials = np.exp(scaled - np.maximum.reduce(scaled, axis=1, keepdims=True))
    shares: NDArray[np.float64] = exponentials / np.add.reduce(exponentials, axis=1, keepdims=True)
    return shares


_AGAIN = "export the weights again"


class Stated(NamedTuple):
    """The entries of a recogniser's card that are needed to interpret the network's outputs.

    Attributes:
        size: side of the square crop, pixels.
        labels: the names of the logits.
        temperature: above 0; the logits are divided by it.
        uncertain_below: readings with a lower probability are uncertain.
        affect: whether valence and arousal were trained.
        embodied: the label shares that the logits reflect; None if the card does not state them.
        learnt: the label shares of the training set; None likewise.
        prior: the default prior, see `OnnxRecogniser.load`.
    """

    size: int
    labels: tuple[str, ...]
    temperature: float
    uncertain_below: float
    affect: bool
    embodied: Shares | None
    learnt: Shares | None
    prior: Prior


def check(card: cards.Card) -> Stated:
    """Read and check a recogniser's card; `mien release` applies the same check before it writes one.

    Raises:
        WeightsError: a field is missing or wrong.
    """
    classes, heads = card.fields.get("classes", EXPRESSIONS), card.fields.get("heads", HEADS)
    if isinstance(heads, dict):  # whether each was trained; a head that is not named was
        heads = [name for name in HEADS if heads.get(name, True) is not False]
    if not isinstance(classes, list | tuple) or not all(isinstance(name, str) for name in classes):
        raise WeightsError(f"{card.path}: 'classes' is no list of label names: {_AGAIN}")
    if not isinstance(heads, list | tuple) or HEADS[0] not in heads or not set(heads) <= set(HEADS):
        raise WeightsError(
            f"{card.path}: 'heads' is {heads!r}, of {', '.join(HEADS)} with the first: {_AGAIN}"
        )
    try:
        labels = label_set(classes, "classes")
    except ConfigError as problem:
        raise WeightsError(f"{card.path}: {problem}") from None
    temperature, uncertain = card.number("temperature", 1.0), card.number("uncertain_below", 0.0)
    if not 0 < temperature < math.inf:
        raise WeightsError(f"{card.path}: the temperature is {temperature}, must be above 0: {_AGAIN}")
    try:
        stated = card.fields.get("prior") or {}
        embodied = shares_on_card(stated.get("logits"), labels, "prior.logits")
        learnt = shares_on_card(stated.get("learnt"), labels, "prior.learnt")
        prior = stated.get("default", TRAINED)
        offsets(prior, labels, embodied, learnt)
    except (ConfigError, AttributeError) as problem:
        raise WeightsError(f"{card.path}: 'prior' is wrong ({problem}): {_AGAIN}") from None
    return Stated(_size(card), labels, temperature, uncertain, HEADS[1] in heads, embodied, learnt, prior)


def labels_of(weights: Path | str | None, adapt: Path | str | None = None) -> tuple[str, ...]:
    """The labels of weights as their card states them; the network is not opened. None means the shipped ones.

    If `adapt` is given, its labels instead.

    Raises:
        WeightsError: there is no such card, or it is not a recogniser's.
        ConfigError: `adapt` is not a file of `mien adapt`.
    """
    if adapt is not None:
        return Adaptation.load(adapt).labels
    return (
        EXPRESSIONS
        if weights is None
        else check(cards.read(cards.weights_file(weights).with_suffix(".json"))).labels
    )


def _size(card: cards.Card) -> int:
    described = card.fields["input"]
    if (
        not isinstance(described, dict)
        or not isinstance(described.get("size"), int)
        or described["size"] < 16
    ):
        raise WeightsError(f"{card.path}: 'input' does not state the crop's size: {_AGAIN}")
    if described.get("colour", "grey") != "grey":
        raise WeightsError(f"{card.path}: the network takes {described['colour']} crops, not grey: {_AGAIN}")
    return int(described["size"])
