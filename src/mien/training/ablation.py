"""Configurations of a method's ablation ladder, and accuracy under occlusion.

One rung of a ladder is the configuration itself; the others list only what they switch off, add or replace, so the
same ladder applies to a configuration for any dataset. `mien ablate METHOD` runs and tabulates it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from mien.errors import ConfigError, nearest
from mien.methods import ABLATIONS
from mien.training.config import RunConfig

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

    from mien.methods.base import Ablation, Recognition


def ladder(method: str, only: Sequence[str] = ()) -> tuple[Ablation, ...]:
    """The rungs of a method, lowest first; only those named in `only` unless it is empty.

    Raises:
        ConfigError: the method has no ladder, or no rung of that name.
    """
    if method not in ABLATIONS:
        raise ConfigError(f"no ladder for '{method}': {nearest(method, list(ABLATIONS))}")
    rungs = {rung.name: rung for rung in ABLATIONS[method]}
    for name in only:
        if name not in rungs:
            raise ConfigError(f"'{method}' has no rung '{name}': {nearest(name, list(rungs))}")
    return tuple(rung for rung in rungs.values() if not only or rung.name in only)


def runs(base: RunConfig, rungs: Sequence[Ablation], seeds: Sequence[int]) -> list[RunConfig]:
    """One configuration per rung and seed, in the order of the rungs, named `<base>-<rung>`."""
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
    """For each face: whether it is classified correctly unoccluded (1 or 0), and the share of `repeats` draws of the
    grey square in which it is."""
    method.eval()

    def right(seen: Tensor) -> Tensor:
        return (method.predict(seen).logits.argmax(dim=1) == expression).double()

    covered = [right(occlude(images, share, seed + draw)) for draw in range(repeats)]
    return right(images), torch.stack(covered).mean(dim=0)
