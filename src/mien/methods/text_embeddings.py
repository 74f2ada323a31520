"""Frozen text embeddings of prompts, computed once; training and inference read them as a small stored table.

A `TextSet` is one vector for each of `EXPRESSIONS`, with a card that states its origin. `load` finds one by name:

- `minilm-photo`, `minilm-descriptive`: stored in the package, made by all-MiniLM-L6-v2 from the prompts below;
- `affect`: circumplex position and facial action units of each expression in a random rotation, no language model;
- `random-SEED`: random orthonormal directions, the control that separates knowledge from geometry;
- a path ending in `.safetensors`: any set stored by `TextSet.store`, for instance one made with real CLIP weights::

      from mien.methods import text_encoders
      text_encoders.embed(text_encoders.OpenClip("ViT-B-16", "openai"), "photo").store("clip-photo.safetensors")
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mien.errors import WeightsError
from mien.labels import CIRCUMPLEX, EXPRESSIONS

if TYPE_CHECKING:
    from jaxtyping import Float
    from numpy.typing import NDArray

STORED = Path(__file__).parent / "texts"
"""The folder of the sets that ship with the package."""

ACTION_UNITS: dict[str, tuple[int, ...]] = {
    "neutral": (),
    "happiness": (6, 12),
    "surprise": (1, 2, 5, 26),
    "sadness": (1, 4, 15),
    "anger": (4, 5, 7, 23),
    "disgust": (9, 15, 16),
    "fear": (1, 2, 4, 5, 7, 20, 26),
    "contempt": (12, 14),
}
"""Facial action units of each prototype, in the manner of EMFACS (Ekman and Friesen 1983); contempt is one-sided."""


@dataclass(frozen=True, slots=True)
class TextSet:
    """Text embeddings [8, d], float32, rows in the order of `EXPRESSIONS`, and the card that states their origin."""

    embeddings: Float[NDArray[np.float32], "8 d"]
    card: dict[str, Any]

    def __post_init__(self) -> None:
        table = self.embeddings
        if table.ndim != 2 or len(table) != len(EXPRESSIONS):
            raise WeightsError(
                f"text embeddings are [{len(EXPRESSIONS)}, d], one row each for {', '.join(EXPRESSIONS)}; "
                f"got {list(table.shape)}"
            )
        lengths = np.linalg.norm(table, axis=1)
        if not np.isfinite(table).all() or (lengths < 1e-6).any():
            raise WeightsError("text embeddings hold a zero, infinite or NaN row: embed the prompts again")

    @property
    def hash(self) -> str:
        """SHA-256 of the table's bytes."""
        return hashlib.sha256(np.ascontiguousarray(self.embeddings).tobytes()).hexdigest()

    def store(self, path: Path | str) -> Path:
        """Write one .safetensors file with the card in its header."""
        from safetensors.numpy import save_file

        card = {**self.card, "expressions": EXPRESSIONS, "sha256": self.hash}
        save_file({"text": np.ascontiguousarray(self.embeddings)}, path, {"card": json.dumps(card)})
        return Path(path)


def load(name: str) -> TextSet:
    """Find a text set by its name or file; see the module's docstring for the names.

    Rows of a file are put in `mien`'s order by the expressions that its card lists.

    Raises:
        WeightsError: no such set, or a file that is damaged, altered or without one of the expressions.
    """
    if name == "affect":
        return affect_knowledge()
    kind, _, seed = name.rpartition("-")
    if kind == "random" and seed.isdecimal():
        return random_directions(int(seed))
    path = Path(name) if name.endswith(".safetensors") else STORED / f"{name}.safetensors"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in STORED.glob("*.safetensors")))
        raise WeightsError(f"no text set '{name}': use {known}, affect, random-SEED or a .safetensors file")
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            card = json.loads((file.metadata() or {}).get("card", "{}"))
            table = np.asarray(file.get_tensor("text"), dtype=np.float32)
    except (SafetensorError, json.JSONDecodeError) as problem:
        raise WeightsError(
            f"{path}: not a text set: {problem}; make one with mien.methods.text_encoders.embed"
        ) from None
    missing = [word for word in EXPRESSIONS if word not in card.get("expressions", ())]
    if missing:
        raise WeightsError(f"{path}: its card lists no row for {', '.join(missing)}")
    if hashlib.sha256(np.ascontiguousarray(table).tobytes()).hexdigest() != card.get("sha256"):
        raise WeightsError(f"{path}: the numbers do not match the card's sha256: the file was altered")
    rows = [card["expressions"].index(word) for word in EXPRESSIONS]
    return TextSet(table[rows], card)


def random_directions(seed: int, dimension: int = 384) -> TextSet:
    """Random orthonormal rows by `seed`: a fixed cosine classifier without any knowledge."""
    drawn = np.random.default_rng(seed).standard_normal((dimension, len(EXPRESSIONS)))
    rows = np.linalg.qr(drawn)[0].T.astype(np.float32)
    return TextSet(rows, {"encoder": "random orthonormal", "licence": "none needed", "seed": seed})


def affect_knowledge(
    dimension: int = 384,
    seed: int = 0,
    bias: float = 1.0,
    affect_weight: float = 1.0,
    unit_weight: float = 0.5,
    identity_weight: float = 0.5,
) -> TextSet:
    """Affect knowledge instead of language: R [bias; valence, arousal; action units; one-hot], R orthonormal by seed.

    The common bias makes the rows similar, like real text embeddings; neutral is at the affect part's origin.
    Inner products, and so all of the method's cosines, do not depend on R.
    """
    units = sorted({unit for used in ACTION_UNITS.values() for unit in used})
    knowledge = np.stack(
        [
            np.concatenate(
                [
                    [bias],
                    affect_weight * np.asarray(CIRCUMPLEX[word]),
                    unit_weight * np.asarray([unit in ACTION_UNITS[word] for unit in units], dtype=float),
                    identity_weight * np.asarray([word == other for other in EXPRESSIONS], dtype=float),
                ]
            )
            for word in EXPRESSIONS
        ]
    )
    drawn = np.random.default_rng(seed).standard_normal((dimension, knowledge.shape[1]))
    table = (knowledge @ np.linalg.qr(drawn)[0].T).astype(np.float32)
    return TextSet(table, {"encoder": "circumplex and action units", "licence": "none needed", "seed": seed})
