"""Checkpoints: one `.safetensors` file with tensors, and a JSON card in its header that describes them.

The format holds tensors only, so opening an untrusted file runs no code. The state that a run needs to be resumed
(optimiser, step, average) is a separate file that `mien.training.loop` writes beside it.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from mien.errors import WeightsError
from mien.io import atomic

if TYPE_CHECKING:
    import torch
    from torch import nn

    from mien.methods.base import Method

FORMAT = "mien-checkpoint-1"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Opened weights: the card and the tensors, on the CPU."""

    card: dict[str, Any]
    tensors: dict[str, torch.Tensor]

    @property
    def heads(self) -> dict[str, bool]:
        """Whether the expression head and the affect head were trained; an older card without this entry means both
        were."""
        told = self.card.get("heads")
        return {name: bool((told or {}).get(name, True)) for name in ("expression", "affect")}

    def restore(self) -> Method:
        """Build the method that the card names and load all its tensors; returned in evaluation mode.

        Raises:
            WeightsError: the card names no method, or the tensors do not fit it.
            ConfigError: the card's method has options that this version does not know.
        """
        from mien import methods

        options, size = self.card.get("method"), self.card.get("size")
        if not isinstance(options, dict) or type(size) is not int:
            raise WeightsError("the checkpoint's card states no method and size: train it again")
        method = methods.build({**options, "weights": None}, size)
        try:
            method.load_state_dict(self.tensors, strict=True)
        except RuntimeError as problem:
            raise WeightsError(
                f"the tensors do not fit '{options.get('name')}': {str(problem)[:200]}"
            ) from None
        return method.eval()


def save(path: Path, method: nn.Module, card: dict[str, Any]) -> None:
    """Write weights and card to `path`, atomically."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in method.state_dict().items()}
    words = json.dumps(card)
    with atomic.writing(path) as part:
        save_file(tensors, part, {"format": FORMAT, "card": words, "sha256": _hash(words, tensors)})


def load(path: Path | str) -> Checkpoint:
    """Open a checkpoint.

    Raises:
        WeightsError: the file is missing, damaged, changed since it was written, or was not written by `mien`.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: no such checkpoint: pass a run folder's weights.safetensors")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise WeightsError(f"{path}: not a mien checkpoint: its header has no '{FORMAT}' card")
            card = json.loads(metadata["card"])
            if not isinstance(card, dict):
                raise ValueError("its card is no object")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError, ValueError, KeyError, RecursionError) as problem:
        raise WeightsError(f"{path}: damaged checkpoint ({problem}): copy or train it again") from None
    # Older checkpoints have no hash.
    if metadata.get("sha256", "") not in ("", _hash(metadata["card"], tensors)):
        raise WeightsError(
            f"{path}: changed since it was written, its SHA-256 differs: copy or train it again"
        )
    return Checkpoint(card, tensors)


def _hash(card: str, tensors: dict[str, torch.Tensor]) -> str:
    """SHA-256 over the card and every tensor's name, type, shape and bytes."""
    import torch

    found = hashlib.sha256(card.encode("utf-8", "surrogatepass"))
    for name in sorted(tensors):
        tensor = tensors[name]
        found.update(f"\0{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode("utf-8", "surrogatepass"))
        found.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def digest(path: Path) -> str:
    """The file's SHA-256 in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def commit() -> str:
    """The git commit of the working folder, with "+changes" when it is not clean; "unknown" outside a checkout."""
    try:
        head = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()
        changed = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no"],
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return head + ("+changes" if changed else "")
