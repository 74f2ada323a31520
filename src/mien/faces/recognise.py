"""What an aligned face crop shows: expression probabilities, apparent valence and arousal, intensity, an embedding.

A recogniser takes crops and returns one `Reading` each. `OnnxRecogniser` runs the network that ships with the package,
on ONNX Runtime alone; anything else with the same two members can stand in its place.

The network's contract: input `crops`, uint8 [n, s, s], luma of faces aligned by `mien.faces.align` to a square of s
pixels
(s on the card; scaling of pixel values is part of the graph); outputs `logits` [n, k] over the card's `classes` (the
eight `EXPRESSIONS`, or own labels), `affect` [n, 2] as (valence, arousal), and `embedding` [n, d]. What stands in the
outputs of a head that the card's `heads` does not name was never trained, and is not passed on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mien.errors import ConfigError, WeightsError
from mien.io import cards
from mien.io.onnx import Network, ThreadedBatches
from mien.labels import EXPRESSIONS, NEUTRAL, label_set
from mien.types import Reading

SHIPPED = cards.FOLDER / "recogniser.onnx"

HEADS = ("expression", "affect")
"""What a recogniser can have learnt; a card without `heads` means both."""

BATCH = 8
"""Crops in one run of the network at most, chosen by measurement: on one core the shipped network takes 1.7 ms a crop
at 1, 1.5 at 8 and 1.4 to 1.5 above, and on a busy machine it is slower again from 32 on, where its maps no longer fit
the cache (`benchmarks/throughput.py`)."""


class Recogniser(Protocol):
    """Anything that reads aligned face crops."""

    @property
    def name(self) -> str:
        """Name of the weights, stored with every result."""

    @property
    def size(self) -> int:
        """Side of the square crop, pixels."""

    # A recogniser of own labels also has `labels`, their names in order; without it they are the eight.

    def __call__(self, crops: NDArray[np.uint8], embeddings: bool = False) -> list[Reading]:
        """One reading for each of `crops`, uint8 luma [n, size, size]; n may be 0."""


class OnnxRecogniser:
    """The shipped network, or another that was exported by `mien`, on ONNX Runtime.

    Make one with `OnnxRecogniser.load()`. Calling it is thread-safe.
    """

    def __init__(self, session: Any, card: cards.Card, threads: int | None = 1) -> None:
        """Read with `session`, which has one thread, from up to `threads` threads at once (None: all)."""
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
        self._size, self.labels, self._temperature, self._uncertain_below, self._affect = stated
        width = next(entry.shape[-1] for entry in session.get_outputs() if entry.name == "logits")
        if isinstance(width, int) and width != len(self.labels):
            raise WeightsError(
                f"{card.path}: the card states {len(self.labels)} classes, the network {width}: {_AGAIN}"
            )
        self._neutral = (
            self.labels.index(EXPRESSIONS[NEUTRAL]) if EXPRESSIONS[NEUTRAL] in self.labels else None
        )
        if given["crops"][-1] not in (self._size, None) and not isinstance(given["crops"][-1], str):
            raise WeightsError(
                f"{card.path}: the card says {self._size} px, the network {given['crops'][-1]}: {_AGAIN}"
            )
        self._has_embedding = "embedding" in wanted

    @classmethod
    def load(cls, path: Path | str | None = None, threads: int | None = None) -> OnnxRecogniser:
        """Open the shipped weights, or those at `path`, for `threads` threads (None: all of the affinity mask).

        `path` is an .onnx file with its card beside it, or the folder that `mien release` wrote.

        Raises:
            WeightsError: the weights or their card are missing, damaged, exchanged, or no recogniser's.
        """
        return cls(*Network.open(path or SHIPPED), threads)

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
        wanted = ["logits", "affect"] + (["embedding"] if embeddings and self._has_embedding else [])
        logits, affect, *rest = self._session.run(wanted, {"crops": np.ascontiguousarray(crops)})
        probabilities = softmax(logits, self._temperature)
        vectors: Sequence[Any] = rest[0].tolist() if rest else ((),) * len(crops)
        return [
            Reading(
                probabilities=dict(zip(self.labels, shares, strict=True)),
                valence=min(1.0, max(-1.0, valence)) if self._affect else None,
                arousal=min(1.0, max(-1.0, arousal)) if self._affect else None,
                intensity=None if self._neutral is None else 1.0 - shares[self._neutral],
                uncertain=max(shares) < self._uncertain_below,
                embedding=tuple(vector),
            )
            for shares, (valence, arousal), vector in zip(
                probabilities.tolist(), affect.tolist(), vectors, strict=True
            )
        ]


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
    """What a recogniser's card must state for the network to be read.

    Attributes:
        size: side of the square crop, pixels.
        labels: what the logits stand for.
        temperature: above 0; the logits are divided by it.
        uncertain_below: a probability.
        affect: whether valence and arousal were trained.
    """

    size: int
    labels: tuple[str, ...]
    temperature: float
    uncertain_below: float
    affect: bool


def check(card: cards.Card) -> Stated:
    """Read what a recogniser's card must state; `mien release` asks the same before it writes one.

    Raises:
        WeightsError: a field is missing or wrong.
    """
    classes, heads = card.fields.get("classes", EXPRESSIONS), card.fields.get("heads", HEADS)
    if isinstance(heads, dict):  # whether each was trained; one that is not named was
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
    return Stated(_size(card), labels, temperature, uncertain, HEADS[1] in heads)


def labels_of(weights: Path | str | None) -> tuple[str, ...]:
    """The labels of weights as their card states them; the network is not opened. None means the shipped ones.

    Raises:
        WeightsError: there is no such card, or it is no recogniser's.
    """
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
