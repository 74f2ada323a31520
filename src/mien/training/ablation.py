"""Ablation ladders as data: for each method, named rungs that say what to change in its configuration.

One rung of a ladder is the configuration itself; the others list only what they switch off, add or exchange, so one
configuration carries the ladder on any dataset. `mien ablate METHOD` runs and tabulates it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from mien.errors import ConfigError, nearest
from mien.methods.base import Rung
from mien.training.config import RunConfig

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

    from mien.methods.base import Recognition


_NO_CONTRAST = {"samples": False, "maps": False}
_NO_CONTEXT = {"context": False, "interaction": False, "dropping": "off"}

LADDERS: dict[str, tuple[Rung, ...]] = {
    "ke2nt": (
        Rung(
            "linear",
            "a free linear classifier",
            {"matching": "linear", "transform_weight": 0.0, "contrast_weight": 0.0},
        ),
        Rung("text", "classification by text", {"transform_weight": 0.0, "contrast_weight": 0.0}),
        Rung("transformation", "text and the emotional-to-neutral transformation", {"contrast_weight": 0.0}),
        Rung("contrast", "text and self-contrast", {"transform_weight": 0.0}),
        Rung("full", "all three"),
        Rung("random", "all three on random directions in place of text", {"text": "random-0"}),
    ),
    "jadfer": (
        Rung("backbone", "the pooled vector alone", {"paths": 0, "variety": "off", **_NO_CONTEXT}),
        Rung("paths", "spatial paths", {"variety": "off", **_NO_CONTEXT}),
        Rung("variety", "paths and Variety", _NO_CONTEXT),
        Rung("context", "and the contextual branch", {"interaction": False, "dropping": "off"}),
        Rung("jad", "and joint attention dropping", {"interaction": False}),
        Rung("full", "and interaction"),
        Rung("undropped", "all but joint attention dropping", {"dropping": "off"}),
    ),
    "cclls": (
        Rung("backbone", "the pooled vector alone", {"fusion": False, **_NO_CONTRAST}),
        Rung("msr", "multi-scale representation", _NO_CONTRAST),
        Rung("clbs", "and contrast across the batch", {"maps": False}),
        Rung("clfm", "or contrast of feature maps", {"samples": False}),
        Rung("full", "and both"),
    ),
    "cal": (
        Rung("regression", "the valence/arousal loss only", {"critic": False}),
        Rung("fixed", "and the critic with a fixed margin", {"margin": "fixed"}),
        Rung("adaptive", "with the adaptive margin: the paper"),
        Rung("correlation", "and the correlation terms of the later code", {"correlation": 0.5}),
        Rung("nogame", "correlation terms without the critic", {"critic": False, "correlation": 0.5}),
        Rung("match", "the paper, but the encoder matches means", {"adversary": "match"}),
    ),
    "meca": (
        Rung("bare", "the polar code alone", {"contrast": False, "attention": False, "compact": False}),
        Rung("contrast", "and intensity-aware contrast", {"attention": False, "compact": False}),
        Rung("attention", "or attention-based discrimination", {"contrast": False, "compact": False}),
        Rung("full", "both, and compactness"),
    ),
}
"""The ladders of the papers with their controls, lowest rung first."""


def ladder(method: str, only: Sequence[str] = ()) -> tuple[Rung, ...]:
    """The rungs of a method, or those named in `only`, lowest first.

    Raises:
        ConfigError: the method has no ladder, or no rung of a name.
    """
    if method not in LADDERS:
        raise ConfigError(f"no ladder for '{method}': {nearest(method, list(LADDERS))}")
    rungs = {rung.name: rung for rung in LADDERS[method]}
    for name in only:
        if name not in rungs:
            raise ConfigError(f"'{method}' has no rung '{name}': {nearest(name, list(rungs))}")
    return tuple(rung for rung in rungs.values() if not only or rung.name in only)


def runs(base: RunConfig, rungs: Sequence[Rung], seeds: Sequence[int]) -> list[RunConfig]:
    """One configuration a rung and seed: rung by rung, named `<base>-<rung>`."""
    tree = base.model_dump()
    return [
        RunConfig(
            **{
                **tree,
                "name": f"{base.name}-{rung.name}",
                "method": {**tree["method"], **rung.change},
                "seed": seed,
            }
        )
        for rung in rungs
        for seed in seeds
    ]


def occlude(images: Float[Tensor, "n 3 h w"], share: float = 0.25, seed: int = 0) -> Float[Tensor, "n 3 h w"]:
    """Cover a square of `share` of each image's area with grey (0, the mean colour), at places drawn by `seed`."""
    draw = torch.Generator().manual_seed(seed)
    covered = images.clone()
    height, width = images.shape[2:]
    tall, wide = (round(side * math.sqrt(share)) for side in (height, width))
    tops = torch.randint(height - tall + 1, (len(images),), generator=draw).tolist()
    lefts = torch.randint(width - wide + 1, (len(images),), generator=draw).tolist()
    for image, top, left in zip(covered, tops, lefts, strict=True):
        image[:, top : top + tall, left : left + wide] = 0
    return covered


@torch.no_grad()
def occlusion_hits(
    method: Recognition,
    images: Float[Tensor, "n 3 h w"],
    expression: Int[Tensor, " n"],
    share: float = 0.25,
    repeats: int = 4,
    seed: int = 0,
) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """For each face, 1 where it is read rightly as it is, and in which share of `repeats` draws of the grey square."""
    method.eval()

    def right(seen: Tensor) -> Tensor:
        return (method.predict(seen).logits.argmax(dim=1) == expression).double()

    covered = [right(occlude(images, share, seed + draw)) for draw in range(repeats)]
    return right(images), torch.stack(covered).mean(dim=0)
