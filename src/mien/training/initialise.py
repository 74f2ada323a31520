"""What a training run starts from: another run's weights, and batch norms whose statistics are estimated once."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, cast

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from mien.data.transforms import augment
from mien.errors import ConfigError
from mien.labels import EXPRESSIONS, difference
from mien.training import checkpoint

if TYPE_CHECKING:
    from pathlib import Path

    from mien.methods.base import Method, Recognition
    from mien.training.batches import Feed
    from mien.training.config import RunConfig

NORM_STEPS = 50
"""Batches that frozen norms are estimated on."""


def _norms(method: Method) -> list[_BatchNorm]:
    """Batch norms of the pretrained parts. A method's own heads start from random layers, whose statistics soon change:
    their norms are always live."""
    parts = [method.get_submodule(name) for name in method.pretrained]
    return [module for part in parts for module in part.modules() if isinstance(module, _BatchNorm)]


def freeze_norms(method: Method) -> None:
    """Let the backbone's batch norms keep the statistics that they hold; their factors and offsets are still learnt."""
    for norm in _norms(method):
        norm.eval()


def adapt_norms(method: Recognition, feed: Feed, config: RunConfig) -> None:
    """Estimate the statistics of the backbone's norms anew, as plain means over the first steps' augmented pictures."""
    norms = _norms(method)
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # torch's word for a plain mean
    method.train()
    with torch.no_grad():
        generator = torch.Generator().manual_seed(config.seed)
        for batch in islice(feed.epoch(0), NORM_STEPS):
            method.predict(augment(batch.image, config.data, generator))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def restore_norms(method: Method, feed: Feed, config: RunConfig) -> None:
    """Make norms of a published backbone's fixed factors and offsets, from the first steps' augmented pictures."""
    backbone = getattr(method, "backbone", None)
    if getattr(backbone, "affine", False):
        generator = torch.Generator().manual_seed(config.seed)
        steps = islice(feed.epoch(0), NORM_STEPS)
        cast("Any", backbone).restore_norms(augment(batch.image, config.data, generator) for batch in steps)


def fill(method: Method, path: Path, part: str, labels: tuple[str, ...] = EXPRESSIONS) -> None:
    """Start from a checkpoint's weights instead of fresh ones: from all of them, or from its backbone's alone.

    Raises:
        ConfigError: the weights do not fit, or all of them are asked for and they name other labels than `labels`.
    """
    found = checkpoint.load(path)
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
