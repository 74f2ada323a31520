"""The methods, by name. Adding one is a file, a line here, configs, a test and a page.

Tests: `base` and `baseline` in tests/contract/test_methods.py; `alexnet` in tests/methods/test_cal.py; `dlib_resnet`
and `mobilefacenet` in tests/test_backbone.py; `text_embeddings` and `text_encoders` in tests/test_text.py.
"""

from __future__ import annotations

from typing import Any

from mien.config import checked
from mien.errors import ConfigError, nearest
from mien.methods import cal, cclls, jadfer, ke2nt, meca
from mien.methods.base import Ablation, Method
from mien.methods.baseline import Baseline

METHODS: dict[str, type[Method]] = {
    "baseline": Baseline,
    "ke2nt": ke2nt.KE2NT,
    "jadfer": jadfer.JADFER,
    "cclls": cclls.CCLLS,
    "meca": meca.MECA,
    "cal": cal.CAL,
}

ABLATIONS: dict[str, tuple[Ablation, ...]] = {
    name: paper.ABLATION
    for name, paper in (("ke2nt", ke2nt), ("jadfer", jadfer), ("cclls", cclls), ("cal", cal), ("meca", meca))
}
"""The ablation ladders of the methods, with their controls, lowest rung first."""


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
    config = checked(kind.Config, options, f"method '{name}'")
    return kind(config, size)
