"""Read files of `torch.save` safely: tensors and plain values only.

Such a file is a pickle, and a pickle can run code. Only tensors and plain values are unpickled; anything else is
refused, so opening an untrusted file runs nothing.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from pickle import UnpicklingError  # torch raises it for a file that needs anything else
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
"""The errors that torch raises for files that are truncated, of another kind, or contain more than tensors."""


def read(path: Path | str) -> dict[str, Any]:
    """Read a dict of tensors and plain values to the CPU.

    Raises:
        WeightsError: the file is missing, damaged, or holds anything else.
    """
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of other pickle protocols before it refuses them
            content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise WeightsError(f"{path}: no such file: check the path") from None
    except DAMAGE as problem:
        raise WeightsError(
            f"{path}: not a tensor file ({type(problem).__name__}): download or train it again"
        ) from None
    if not isinstance(content, dict):
        raise WeightsError(f"{path}: holds a {type(content).__name__}, not named tensors: save a state_dict")
    return content
