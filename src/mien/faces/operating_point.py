"""The user's operating point: which class shares to expect, and a correction fitted on a few labelled pictures.

A recogniser's probabilities reflect the class shares of its training set. If other shares are expected, Bayes' rule
gives the new probabilities: p'(c | x) is proportional to p(c | x) * expected(c) / learnt(c) (Saerens, Latinne and
Decaestecker 2002). An `Adaptation`, fitted by `mien adapt`, is a linear correction of the log probabilities, or a
linear head on the embedding for own labels.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mien.errors import ConfigError, MienError, similar
from mien.labels import difference, finder, label_set, listed

Prior = str | Mapping[str, float]
""""trained", "uniform", or the share of each label to expect."""

Shares = NDArray[np.float64]
"""[k] shares of the labels, summing to 1."""

TRAINED: Final = "trained"
UNIFORM: Final = "uniform"

FORMAT: Final = 1
"""The version of the file that `Adaptation.save` writes."""


def read_prior(text: str) -> Prior:
    """Read a prior as written on a command line: `trained`, `uniform`, or `happiness=.3,neutral=.3,...`.

    Raises:
        ConfigError: it is none of these.
    """
    if text in (TRAINED, UNIFORM):
        return text
    shares: dict[str, float] = {}
    for part in text.split(","):
        name, equals, number = part.rpartition("=")
        try:
            share = float(number)
        except ValueError:
            equals = ""
        if not equals or not name.strip():
            if close := similar(text, (TRAINED, UNIFORM)):
                raise ConfigError(f"prior '{text}': did you mean '{close}'?")
            raise ConfigError(
                f"prior '{text}': write trained, uniform, or a share for each label, such as happiness=.3,neutral=.5"
            )
        if name.strip() in shares:
            raise ConfigError(f"prior '{text}': '{name.strip()}' has two shares: keep one")
        shares[name.strip()] = share
    return shares


def expected_shares(prior: Mapping[str, float], labels: Sequence[str]) -> Shares:
    """The share of each label [k], summing to 1; labels that are not named share the rest equally.

    A share of 0 means that the label does not occur: it is never predicted.

    Raises:
        ConfigError: a name that is not a label, a share outside 0..1, or shares that cannot sum to 1.
    """
    find = finder(labels)
    shares = np.full(len(labels), np.nan)
    for name, share in prior.items():
        try:
            place = find(name)
        except MienError as problem:
            raise ConfigError(f"prior: {problem}") from None
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
            raise ConfigError(f"prior: the share of {name} is {share!r}: pass a number from 0 to 1")
        if not math.isnan(shares[place]):
            raise ConfigError(f"prior: '{labels[place]}' has two shares: keep one")
        shares[place] = share
    named = float(np.nansum(shares))
    rest = np.isnan(shares)
    if named > 1 + 1e-6 and rest.any():
        raise ConfigError(f"prior: the shares sum to {named:g}: pass shares that sum to 1 at most")
    if rest.any():
        shares[rest] = max(0.0, 1 - named) / rest.sum()
    elif abs(named - 1) > 0.02:
        raise ConfigError(f"prior: the shares of all labels sum to {named:g}, not to 1")
    if not shares.sum() > 0:
        raise ConfigError("prior: every share is 0: give at least one label a share")
    return np.asarray(shares / shares.sum())


def offsets(
    prior: Prior, labels: Sequence[str], embodied: Shares | None, learnt: Shares | None
) -> Shares | None:
    """The offsets [k] to add to log probabilities so that they reflect `prior`; None for no change. -inf excludes a
    label.

    Args:
        prior: see `Prior`.
        labels: the k labels.
        embodied: the shares that the probabilities reflect now; None if unknown.
        learnt: the shares of the training set, which `trained` means; None: the same as `embodied`.

    Raises:
        ConfigError: the prior is wrong, or `embodied` is needed and unknown.
    """
    if isinstance(prior, str) and prior not in (TRAINED, UNIFORM):
        raise ConfigError(f"prior is '{prior}': pass {TRAINED}, {UNIFORM}, or a share for each label")
    if prior == TRAINED and (learnt is None or embodied is None):
        return None
    if embodied is None:
        raise ConfigError(
            "prior: the weights' card does not state the shares of the labels that were learnt from: release the "
            f"weights again, or leave the prior at {TRAINED}"
        )
    if isinstance(prior, str):
        wanted = learnt if prior == TRAINED else np.full(len(labels), 1 / len(labels))
    else:
        wanted = expected_shares(prior, labels)
    assert wanted is not None
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(wanted) - np.log(embodied))


@dataclass(frozen=True)
class Adaptation:
    """A correction for one recogniser, fitted on labelled pictures by `mien adapt`.

    The corrected scores of a face are `scale * l + bias + head @ (e - centre)`, where l [k] are the recogniser's log
    probabilities with the prior "trained" and e [d] is its embedding at unit length. With own labels l is not used.

    Attributes:
        labels: the k labels of the output.
        weights: SHA-256 of the recogniser that it was fitted for.
        shares: [k] shares of the labels among the pictures, which the corrected probabilities reflect.
        bias: [k].
        scale: [k]; None where the recogniser's own labels are not used.
        head: [k, d], and `centre` [d]; None without.
        facts: how it was made and what it improves, for information.
    """

    labels: tuple[str, ...]
    weights: str
    shares: Shares
    bias: NDArray[np.float64]
    scale: NDArray[np.float64] | None = None
    head: NDArray[np.float64] | None = None
    centre: NDArray[np.float64] | None = None
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def needs_embedding(self) -> bool:
        """Whether `scores` reads embeddings."""
        return self.head is not None

    def scores(self, logs: NDArray[Any], embeddings: NDArray[Any] | None) -> NDArray[np.float64]:
        """Corrected scores [n, k] from log probabilities [n, k0] and embeddings [n, d] (None without a head)."""
        scores = np.broadcast_to(self.bias, (len(logs), len(self.labels))).astype(np.float64)
        if self.scale is not None:
            scores = scores + self.scale * logs
        if self.head is not None and self.centre is not None and embeddings is not None:
            # Face by face: in a matrix product the rounding of a row depends on the other rows.
            rows = unit(embeddings) - self.centre
            scores = scores + np.array([(row * self.head).sum(axis=1) for row in rows]).reshape(scores.shape)
        return scores

    def save(self, path: Path | str) -> None:
        """Write it as JSON, atomically."""
        from mien.io import atomic

        fields: dict[str, Any] = {"format": FORMAT, "labels": list(self.labels), "weights": self.weights}
        for name in ("shares", "bias", "scale", "head", "centre"):
            values = getattr(self, name)
            fields[name] = None if values is None else np.round(values, 6).tolist()
        text = json.dumps({**fields, "facts": self.facts}, ensure_ascii=False) + "\n"
        atomic.write({Path(path): text.encode("utf-8")})

    @classmethod
    def load(cls, path: Path | str) -> Adaptation:
        """Read what `save` wrote.

        Raises:
            ConfigError: there is no such file, or it is not an adaptation.
        """
        path = Path(path)
        try:
            fields = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(fields, dict) or fields.get("format") != FORMAT:
                raise ValueError(f"its format is not {FORMAT}")
            labels = label_set(fields["labels"], "labels")
            arrays: dict[str, Any] = {
                name: None if fields[name] is None else np.array(fields[name], dtype=np.float64)
                for name in ("shares", "bias", "scale", "head", "centre")
            }
            made = cls(labels, str(fields["weights"]), **arrays, facts=dict(fields["facts"]))
            made._check()
        except FileNotFoundError:
            raise ConfigError(
                f"{path}: no such file: make it with  mien adapt PICTURES --out {path}"
            ) from None
        except (OSError, ValueError, KeyError, TypeError, RecursionError, ConfigError) as problem:
            raise ConfigError(
                f"{path}: not a file of mien adapt ({problem}): make it again with  mien adapt PICTURES --out {path}"
            ) from None
        return made

    def _check(self) -> None:
        count = len(self.labels)
        shapes = {"shares": self.shares, "bias": self.bias, "scale": self.scale}
        for name, values in shapes.items():
            if name != "scale" and values is None:
                raise ValueError(f"{name} is missing")
            if values is not None and (values.shape != (count,) or not np.isfinite(values).all()):
                raise ValueError(f"{name} does not hold {count} numbers")
        if not ((self.shares > 0).all() and abs(self.shares.sum() - 1) < 1e-3):
            raise ValueError("shares do not sum to 1")
        if self.scale is None and self.head is None:
            raise ValueError("neither scale nor head is there")
        if self.head is not None and (
            self.head.ndim != 2
            or len(self.head) != count
            or self.centre is None
            or self.centre.shape != self.head.shape[1:]
            or not (np.isfinite(self.head).all() and np.isfinite(self.centre).all())
        ):
            raise ValueError("the head does not fit the labels or its centre")

    def check_fits(
        self, path: Path | str | None, weights: str, labels: Sequence[str], width: int | None
    ) -> None:
        """Check that the adaptation was made for this recogniser.

        Args:
            path: its file, for the message.
            weights: the recogniser's SHA-256; `labels` its labels, `width` the width of its embedding (None: unknown).

        Raises:
            ConfigError: it was made for other weights.
        """
        again = "make it again for these weights with  mien adapt --weights"
        if weights != self.weights:
            raise ConfigError(f"{path or 'adapt'}: made for other weights ({self.weights[:12]}): {again}")
        if self.scale is not None and tuple(labels) != self.labels:
            raise ConfigError(f"{path or 'adapt'}: it {difference(self.labels, labels)}: {again}")
        if self.head is not None and width is not None and self.head.shape[1] != width:
            raise ConfigError(
                f"{path or 'adapt'}: the embedding has {width} numbers, not {self.head.shape[1]}: {again}"
            )


def unit(embeddings: NDArray[Any]) -> NDArray[np.float64]:
    """Embeddings [n, d] at unit length; a zero vector stays zero."""
    vectors = np.asarray(embeddings, dtype=np.float64)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1.0)


def shares_on_card(given: object, labels: Sequence[str], where: str) -> Shares | None:
    """Shares stated on a card as a mapping from each label to its share, or None.

    Raises:
        ConfigError: it is not such a mapping; the message begins with `where`.
    """
    if given is None:
        return None
    if not isinstance(given, dict) or set(given) != set(labels):
        raise ConfigError(f"{where}: does not name a share for each of {listed(labels)}")
    shares = np.array([given[name] for name in labels], dtype=np.float64)
    if not (np.isfinite(shares).all() and (shares > 0).all()):
        raise ConfigError(f"{where}: a share is not above 0")
    return np.asarray(shares / shares.sum())
