"""Initialise a training run from other weights, and estimate, freeze or restore the statistics of its batch norms."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, cast

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from mien.data.transforms import augment
from mien.errors import ConfigError
from mien.labels import EXPRESSIONS, difference
from mien.training import checkpoint, released

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from torch import Tensor

    from mien.methods.base import Backbone, Method, Recognition
    from mien.training.batches import BatchLoader
    from mien.training.config import RunConfig

NORM_STEPS = 50
"""Number of batches on which the statistics of frozen norms are estimated."""


def _norms(method: Method) -> list[_BatchNorm]:
    """The batch norms of the pretrained parts. The method's own heads start from random layers with statistics that
    soon change, so their norms are never frozen."""
    parts = [method.get_submodule(name) for name in method.pretrained]
    return [module for part in parts for module in part.modules() if isinstance(module, _BatchNorm)]


def freeze_norms(method: Method) -> None:
    """Freeze the running statistics of the backbone's batch norms; their factors and offsets are still trained."""
    for norm in _norms(method):
        norm.eval()


def adapt_norms(method: Recognition, feed: BatchLoader, config: RunConfig) -> None:
    """Re-estimate the statistics of the backbone's batch norms as plain means over the first `NORM_STEPS` augmented
    batches."""
    norms = _norms(method)
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # in torch, a cumulative mean
    method.train()
    with torch.no_grad():
        generator = torch.Generator().manual_seed(config.seed)
        for batch in islice(feed.epoch(0), NORM_STEPS):
            method.predict(augment(batch.image, config.data, generator))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def restore_norms(method: Method, feed: BatchLoader, config: RunConfig) -> None:
    """Turn a backbone's fixed factors and offsets (`affine`) back into batch norms, with the statistics of the first
    `NORM_STEPS` augmented batches."""
    backbone = getattr(method, "backbone", None)
    if getattr(backbone, "affine", False):
        generator = torch.Generator().manual_seed(config.seed)
        steps = islice(feed.epoch(0), NORM_STEPS)
        unfold(cast("Any", backbone), (augment(batch.image, config.data, generator) for batch in steps))


@torch.no_grad()
def unfold(backbone: Backbone, batches: Iterable[Tensor]) -> None:
    """Set the batch norms' statistics to those of these pictures [n, 3, h, w], and their factors and offsets to cancel
    them.

    In evaluation mode the network's outputs do not change; in training mode the norms normalise their inputs again.
    """
    norms = [module for module in backbone.modules() if isinstance(module, _BatchNorm)]
    sums = {norm: torch.zeros(2, norm.num_features, dtype=torch.float64) for norm in norms}
    counts = dict.fromkeys(norms, 0)

    def watch(norm: Any, inputs: tuple[Tensor, ...]) -> None:
        values = inputs[0].transpose(0, 1).flatten(1).double()
        sums[norm] += torch.stack((values.sum(dim=1), (values**2).sum(dim=1))).cpu()
        counts[norm] += values.shape[1]

    hooks = [norm.register_forward_pre_hook(watch) for norm in norms]
    was = backbone.training
    backbone.eval()
    for images in batches:
        backbone(images)
    for hook in hooks:
        hook.remove()
    for norm in norms:
        mean, square = (each.to(norm.bias) for each in (sums[norm] / counts[norm]))
        variance = (square - mean**2).clamp(min=0)
        norm.bias.add_(norm.weight * mean)
        norm.weight.mul_(torch.sqrt(variance + norm.eps))
        norm.running_mean, norm.running_var = mean, variance
    backbone.train(was)
    backbone.affine = False


def fill(method: Method, path: Path, part: str, labels: tuple[str, ...] = EXPRESSIONS) -> None:
    """Load a checkpoint's weights into `method`: all of them (`part` "whole") or only those of its backbone
    ("backbone").

    Raises:
        ConfigError: the weights do not fit, or `part` is "whole" and they were trained on labels other than `labels`.
    """
    found = opened(path, method)
    tensors, theirs = found.tensors, tuple(found.card.get("classes", EXPRESSIONS))
    if part == "whole" and theirs != labels:
        raise ConfigError(
            f"start: {path} was trained on other labels: it {difference(labels, theirs)}: set start_part: backbone"
        )
    if part == "backbone":
        ours = {
            name: value for name, value in method.state_dict().items() if not name.startswith("backbone.")
        }
        tensors = ours | {name: value for name, value in tensors.items() if name.startswith("backbone.")}
    try:
        method.load_state_dict(tensors, strict=True)
    except RuntimeError as problem:
        first = str(problem).splitlines()[-1].strip()
        other = "another backbone's or size's" if part == "backbone" else "another method's or size's"
        raise ConfigError(f"start: {path} is {other}: {first}") from None
    if released.is_release(path):
        cast("Any", method).backbone.affine = True


def opened(path: Path, method: Method) -> checkpoint.Checkpoint:
    """The checkpoint or the released network that a run starts from, with tensors under the names of `method`."""
    return released.load(path, method) if released.is_release(path) else checkpoint.load(path)
