"""The interface of methods: a network that returns named loss terms, and predictions.

A method has one or more named turns per step, each with its own loss and parameters. Supervised learning has one; an
adversarial method has more, and `mien.training.loop` steps them in order, independent of what they do.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import torch
from pydantic import BaseModel, ConfigDict
from torch import nn
from torch.nn import functional

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

Terms = dict[str, torch.Tensor]
"""Weighted scalar losses by name. The loop sums and logs them; a term without a gradient is only logged."""


class MethodConfig(BaseModel):
    """The options of a method; each method has a subclass with the paper's values as defaults."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    backbone: str = "mobilefacenet"
    weights: str | None = None
    """File of pretrained backbone weights, or None for a random start."""
    classes: int = 8
    affect_weight: float = 1.0
    """Weight of the valence/arousal term on labelled samples; 0 leaves the affect head out of training."""

    def encoder(self, size: int) -> Backbone:
        """The encoder that `backbone` and `weights` name, for square inputs of `size` pixels.

        Raises:
            ConfigError: no such network.
            WeightsError: the weights do not belong to it.
        """
        from mien.methods import backbone  # imported here so that methods do not depend on the encoders

        return backbone.build(self.backbone, self.weights, size)


class Prediction(NamedTuple):
    """A recogniser's output for a batch. `logits` over its labels; `affect` is (valence, arousal) in [-1, 1]."""

    logits: Float[Tensor, "n k"]
    affect: Float[Tensor, "n 2"]
    embedding: Float[Tensor, "n d"]


class Method(nn.Module, ABC):
    """A trainable network with its own objective."""

    Config: ClassVar[type[MethodConfig]] = MethodConfig
    turns: ClassVar[tuple[str, ...]] = ("model",)
    eight_only: ClassVar[str] = ""
    """Why the method cannot be trained on own labels; "" if it can."""
    pretrained: ClassVar[tuple[str, ...]] = ("backbone",)
    """Names of sub-modules that are trained with the backbone's learning rate."""

    @abstractmethod
    def __init__(self, config: Any, size: int) -> None:
        """Build from this class's `Config` for square inputs of `size` pixels."""
        super().__init__()

    @abstractmethod
    def forward(self, batch: Any, turn: str) -> Terms:
        """The terms of this turn's loss; values that the turn holds fixed are detached here.

        `batch` is a named tuple of tensors: for a recogniser a `Batch`, for other methods their own.
        """

    def parameters_for(self, turn: str) -> Iterable[nn.Parameter]:
        """The parameters that this turn updates; by default all."""
        return self.parameters()

    def advance(self, step: int) -> None:
        """Called before each step with the number of steps so far; does nothing by default."""


class Recognition(Method):
    """A method that labels faces."""

    @abstractmethod
    def predict(self, images: Float[Tensor, "n 3 h w"]) -> Prediction:
        """Logits, affect and embedding; without gradients, and in evaluation mode without dependence between images."""


def expression_loss(logits: Float[Tensor, "n k"], batch: Batch, adjust: float = 0.0) -> Float[Tensor, ""]:
    """Cross-entropy against an image's vote shares if it has any, else against its label; unlabelled rows do not count.

    Args:
        logits: logits [n, k] of the classes.
        batch: its `extra` may have `weight` [n] of each row, and `log_prior` [n, k] of the row's data set.
        adjust: how much of the set's log prior is added to the logits in training, 0..1 (logit adjustment, Menon et
            al. 2021, arXiv 2007.07314). With 1 the logits learn what a face shows, not how frequent it is in its set.

    Returns an exact zero (with a gradient path) when no row is labelled.
    """
    shares, labelled = expression_target(batch, logits.shape[1])
    if "weight" in batch.extra:
        labelled = labelled * batch.extra["weight"]
    if adjust and "log_prior" in batch.extra:
        logits = logits + adjust * batch.extra["log_prior"]
    each = -(shares * functional.log_softmax(logits.float(), dim=1)).sum(dim=1)
    return (each * labelled).sum() / labelled.sum().clamp(min=1e-6)


def expression_target(batch: Batch, classes: int) -> tuple[Tensor, Tensor]:
    """(shares [n, classes], labelled [n] of 0 or 1) from votes where finite, else from the label."""
    voted = torch.isfinite(batch.votes).all(dim=1)
    known = batch.expression >= 0
    hard = functional.one_hot(batch.expression.clamp(min=0), classes).to(batch.votes.dtype)
    shares = torch.where(voted[:, None], torch.nan_to_num(batch.votes), hard)
    return shares, (voted | known).to(batch.votes.dtype)


def affect_loss(affect: Float[Tensor, "n 2"], batch: Batch) -> Float[Tensor, ""]:
    """Mean of (1 - CCC) and the mean squared error over valence and arousal, on the rows that have both.

    Our choice: the CCC term pulls towards the reported metric, the squared error keeps it defined for small or
    constant batches. Zero when fewer than two rows are labelled.
    """
    known, target = rated(batch)
    error = ((affect.float() - target).square().mean(dim=1) * known).sum() / known.sum().clamp(min=1)
    loss = 0.5 * (1 - ccc(affect.float(), target, known).mean()) + error
    return torch.where(known.sum() < 2, (affect * 0).sum(), loss)


def rated(batch: Batch) -> tuple[Float[Tensor, " n"], Float[Tensor, "n 2"]]:
    """(1 for each row with both valence and arousal, else 0; the ratings, 0 in the other rows): weights for sums,
    because indexing with a mask would make a GPU wait for the CPU."""
    known = torch.isfinite(batch.affect).all(dim=1)
    return known.float(), torch.where(known[:, None], batch.affect, 0).float()


class Batch(NamedTuple):
    """A recogniser's training batch; works with `torch.utils.data.default_collate` and device moves.

    `extra` has targets that only one method uses (landmarks, presence, a teacher's logits), each with its first
    dimension n.
    """

    image: Float[Tensor, "n 3 h w"]
    expression: Int[Tensor, " n"]
    affect: Float[Tensor, "n 2"]
    votes: Float[Tensor, "n k"]
    subject: Int[Tensor, " n"]
    extra: dict[str, Tensor]


class Backbone(nn.Module):
    """An encoder.

    Attributes:
        width: length of the pooled vector.
        stages: channels of each stage map, shallow to deep.
        affine: whether its norms hold fixed factors and offsets, which training turns back into norms.
    """

    width: int
    stages: list[int]
    affine: bool = False

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> tuple[Float[Tensor, "n width"], list[Tensor]]:
        """The pooled vector, and the stage maps from shallow to deep."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Ablation:
    """One configuration of a method's ablation ladder: its name, a description, and the options that it sets."""

    name: str
    says: str
    change: dict[str, Any] = field(default_factory=dict)


def ccc(
    predicted: Float[Tensor, "n d"], target: Float[Tensor, "n d"], weight: Float[Tensor, " n"] | None = None
) -> Float[Tensor, " d"]:
    """Concordance correlation coefficient of each column, from population moments, differentiable.

    2 cov / (var + var + (mean - mean)^2), with 1e-6 in the denominator so that constant columns give 0. Rows are
    weighted by `weight`, 1 by default.
    """
    share = predicted.new_ones(len(predicted)) if weight is None else weight
    share = (share / share.sum().clamp(min=1e-6))[:, None]
    mean_p, mean_t = (share * predicted).sum(dim=0), (share * target).sum(dim=0)
    off_p, off_t = predicted - mean_p, target - mean_t
    spread = (share * (off_p.square() + off_t.square())).sum(dim=0) + (mean_p - mean_t) ** 2
    return 2 * (share * off_p * off_t).sum(dim=0) / (spread + 1e-6)


class AffectHead(nn.Module):
    """Linear map to (valence, arousal), bounded to [-1, 1] by tanh."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, 2)

    def forward(self, embedding: Float[Tensor, "n d"]) -> Float[Tensor, "n 2"]:
        return torch.tanh(self.linear(embedding))


@torch.no_grad()
def map_shapes(backbone: Backbone, size: int) -> list[tuple[int, int]]:
    """(channels, side) of each stage map for square inputs of `size` pixels, found by running the network once."""
    was_training = backbone.training
    _, maps = backbone.eval()(torch.zeros(1, 3, size, size))
    backbone.train(was_training)
    return [(one.shape[1], one.shape[3]) for one in maps]
