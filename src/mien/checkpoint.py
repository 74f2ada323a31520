"""A checkpoint is one `.safetensors` file: tensors, and a JSON card in its header that says what they mean.

Tensors only, so that opening a stranger's file runs nothing. What a run needs to go on (optimiser, step, average) is a
separate file that `mien.train` writes beside it.
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

if TYPE_CHECKING:
    import torch

    from mien.methods.base import Method

FORMAT = "mien-checkpoint-1"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Opened weights: the card and the tensors, on the CPU."""

    card: dict[str, Any]
    tensors: dict[str, torch.Tensor]

    def restore(self) -> Method:
        """Build the method that the card names and fill it strictly; it comes back in evaluation mode.

        Raises:
            WeightsError: the tensors do not fit the method.
        """
        from mien import methods

        method = methods.build({**self.card["method"], "weights": None}, self.card["size"])
        try:
            method.load_state_dict(self.tensors, strict=True)
        except RuntimeError as problem:
            raise WeightsError(
                f"the tensors do not fit '{self.card['method']['name']}': {str(problem)[:200]}"
            ) from None
        return method.eval()


def save(path: Path, method: Method, card: dict[str, Any]) -> None:
    """Write weights and card to `path`, whole or not at all."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in method.state_dict().items()}
    part = path.with_suffix(".part")
    save_file(tensors, part, metadata={"format": FORMAT, "card": json.dumps(card)})
    part.replace(path)


def load(path: Path | str) -> Checkpoint:
    """Open a checkpoint.

    Raises:
        WeightsError: the file is missing, damaged, or was not written by `mien`.
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
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError, ValueError, KeyError) as problem:
        raise WeightsError(f"{path}: damaged checkpoint ({problem}): copy or train it again") from None
    return Checkpoint(card, tensors)


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
