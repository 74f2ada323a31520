"""`mien`: recognise, measure, edit and compare facial expressions.

    >>> import mien
    >>> pipeline = mien.load()                       # doctest: +SKIP
    >>> pipeline("photo.jpg").faces[0].expression    # doctest: +SKIP
    'happiness'

Importing this module costs nothing: each public name is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mien.errors import MienError
    from mien.labels import EXPRESSIONS
    from mien.pipeline import Pipeline, load
    from mien.types import Analysis, Box, Face

__version__ = "0.1.0"

__all__ = ["EXPRESSIONS", "Analysis", "Box", "Editor", "Face", "MienError", "Pipeline", "__version__", "load"]

_HOMES = {
    "EXPRESSIONS": "mien.labels",
    "Analysis": "mien.types",
    "Box": "mien.types",
    "Editor": "mien.edit",
    "Face": "mien.types",
    "MienError": "mien.errors",
    "Pipeline": "mien.pipeline",
    "load": "mien.pipeline",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'mien' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
