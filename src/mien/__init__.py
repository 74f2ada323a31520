"""`mien`: recognise, measure, edit and compare facial expressions.

    >>> import mien
    >>> pipeline = mien.load()                       # doctest: +SKIP
    >>> pipeline("photo.jpg").faces[0].expression    # doctest: +SKIP
    'happiness'

Importing this module costs nothing: each public name is loaded when it is first used.
"""

from __future__ import annotations

import os
import sys
import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mien.client import Client
    from mien.editing.editor import Editor
    from mien.errors import MienError
    from mien.faces.pipeline import Pipeline, load
    from mien.labels import EXPRESSIONS
    from mien.types import Analysis, Box, Face

__version__ = "0.1.0"

__all__ = [
    "EXPRESSIONS",
    "Analysis",
    "Box",
    "Client",
    "Editor",
    "Face",
    "MienError",
    "Pipeline",
    "__version__",
    "load",
]

if os.environ.get("ORT_DISABLE_TELEMETRY", "0") in ("", "0"):
    # ONNX Runtime sends telemetry and keeps an identifier of this machine in the home folder. It reads this variable
    # once, on its first import; its own `disable_telemetry_events` comes too late. It is set here because this module
    # is imported before any other part of mien, in every process.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    if "onnxruntime" in sys.modules:
        warnings.warn(
            "onnxruntime was imported before mien, so its telemetry is on and stays on in this process: import mien "
            "first, or set ORT_DISABLE_TELEMETRY=1",
            stacklevel=2,
        )

_HOMES = {
    "EXPRESSIONS": "mien.labels",
    "Analysis": "mien.types",
    "Box": "mien.types",
    "Client": "mien.client",
    "Editor": "mien.editing.editor",
    "Face": "mien.types",
    "MienError": "mien.errors",
    "Pipeline": "mien.faces.pipeline",
    "load": "mien.faces.pipeline",
}


if not TYPE_CHECKING:  # a type checker would take every name for one of these

    def __getattr__(name: str) -> Any:
        if name in _HOMES:
            return getattr(import_module(_HOMES[name]), name)
        raise AttributeError(f"module 'mien' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
