"""Reads files of `torch.save` as tensors and plain values, and as nothing else.

Such a file is a pickle, and a pickle can be a program. Only the names that stand for tensors and plain values are
unpickled; whatever else a file asks for is refused, so opening a stranger's file runs nothing.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from pickle import UnpicklingError  # what torch raises for a file that asks for anything else
from typing import Any, Final

from mien.errors import WeightsError

DAMAGE: Final = (
    UnpicklingError,
    RuntimeError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    OSError,
)
"""What torch raises for files that are cut off, of another kind, or ask for more than tensors."""


def read(path: Path | str) -> dict[str, Any]:
    """Read a dict of tensors and plain values, onto the CPU.

    Raises:
        WeightsError: the file is absent, damaged, or holds anything else.
    """
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch remarks on other pickle protocols before it refuses them
            found = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise WeightsError(f"{path}: no such file: check the path") from None
    except DAMAGE as problem:
        raise WeightsError(
            f"{path}: not a tensor file ({type(problem).__name__}): download or train it again"
        ) from None
    if not isinstance(found, dict):
        raise WeightsError(f"{path}: holds a {type(found).__name__}, not named tensors: save a state_dict")
    return found
