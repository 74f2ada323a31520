"""The methods, by name. Adding one is a file, a line here, configs, a test and a page."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from mien.config import explain
from mien.errors import ConfigError, nearest
from mien.methods.base import Method
from mien.methods.baseline import Baseline
from mien.methods.cal import CAL
from mien.methods.cclls import CCLLS
from mien.methods.jadfer import JADFER
from mien.methods.ke2nt import KE2NT
from mien.methods.meca import MECA

METHODS: dict[str, type[Method]] = {
    "baseline": Baseline,
    "ke2nt": KE2NT,
    "jadfer": JADFER,
    "cclls": CCLLS,
    "meca": MECA,
    "cal": CAL,
}


def build(options: dict[str, Any], size: int) -> Method:
    """Build a method from its configuration section for square inputs of `size` pixels.

    Raises:
        ConfigError: `name` is missing or unknown, or an option is wrong.
    """
    options = dict(options)
    name = options.pop("name", None)
    if name not in METHODS:
        raise ConfigError(f"method.name: '{name}': {nearest(str(name), list(METHODS))}")
    kind = METHODS[name]
    try:
        config = kind.Config(**options)
    except ValidationError as problem:
        raise explain(problem, kind.Config, f"method '{name}'") from None
    return kind(config, size)
