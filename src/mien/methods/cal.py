"""CAL: contrastive adversarial learning for person-independent facial emotion recognition (Kim and Song 2021).

AAAI 2021, 35(7):5948-5956; the authors later call it CAF.

*Given* (the authors' poster and public code): regression against labels alone also learns the person's identity. So
strong and weak emotion become the two sides of adversarial training on features, which needs no identity label. Otsu's
threshold on valence and on arousal gives a radius that splits a batch into strong and weak faces. A critic pulls strong
faces together and keeps weak ones at a margin from them, under a constraint on its second moment as in Fisher GAN. The
margin is the mutual information of two Gaussians with the pair's correlation eta plus a confidence interval, alpha =
-1/2 log(1 - eta^2) + log(N / c) / (2 K). The encoder is then trained against the critic, and the encoder and a small
regressor learn valence and arousal by RMSE. At inference the critic is not used.

*Chosen*, where the poster does not say or the code deviates by mistake:

- Otsu's histogram has 32 bins between the smallest and the largest magnitude of the batch. The code's own radii (r^2
  above .65, below .3) are the fallback if a side is empty.
- Regressor and critic read standardised features (batch norm without factors). Pooled features are dominated by their
  mean, so each of eight ReLUs is on for all faces or off for all, and 8 of 64 random starts never learn. With the norm
  all learn in the end, 3 of 64 late; with SiLU instead of ReLU and orthogonal initial weights as well, all learn at
  once. An apparent collapse of adversarial training was this effect: regression without a critic did the same.
- eta of a pair is Pearson's correlation of its two critic outputs, held fixed; c = 10 and K = 4 give the poster's
  curve. The code's estimate of mutual information is not one (it can be negative), so it is not offered.
- Strong faces are pulled together until they are within their own pair's margin, as in the poster's hinge; the code has
  no margin there (`legacy`).
- The critic's loss is minimised, so the quadratic penalty on the constraint is added. The code subtracts it, as Fisher
  GAN's maximised loss does: `legacy`. At rho = 1e-6 both have almost no effect.
- The encoder's turn pulls the mean output of the weak faces to that of the strong ones (`match`). The code raises the
  mean output of the weak (`raise`) independent of the strong: it brings them nearer only about every other time. The
  critic's output is bounded by tanh; otherwise `raise` is unbounded.
- The turns are critic, encoder, affect, as numbered in the poster (the code starts with affect), so the last update
  before weights are kept is regression. Each turn has its own forward pass and optimiser, and everything it holds fixed
  is detached; the code's critic step also writes into the encoder's gradient.
- Adam normalises gradients, so an encoder turn with its own optimiser moves the encoder as far as regression does, in
  spite of its weight of .1. The code uses one optimiser for both, where .1 has an effect. `adversary_turn: shared` does
  the same, as one step on the sum of both losses; it also saves a forward and backward pass.
- `correlation` adds 1 - PCC and 1 - CCC. According to a comment in the code the paper had no such terms: 0 by default.
- The regressor ends in tanh. Expressions are read by a linear probe on the detached feature, so that they do not affect
  the method; `joint` also trains the feature with them, and `off` predicts equal probabilities.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

import torch
from pydantic import Field
from torch import nn
from torch.nn import functional

from mien.methods.base import (
    Ablation,
    Batch,
    MethodConfig,
    Prediction,
    Recognition,
    Terms,
    ccc,
    expression_loss,
    rated,
)

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from torch import Tensor


class CALConfig(MethodConfig):
    """The poster's method; every part can be switched off."""

    critic: bool = Field(True, description="adversarial training on features; False only regresses")
    grouping: Literal["otsu", "radius"] = Field("otsu", description="radius takes the code's fixed radii")
    margin: Literal["adaptive", "fixed"] = "adaptive"
    fixed_margin: float = Field(1.0, ge=0, description="the fixed margin, a squared distance")
    margin_c: float = Field(
        10.0, gt=0, description="c: the confidence interval is 0 for batches of c or fewer"
    )
    margin_k: float = Field(4.0, gt=0, description="K: divides the confidence interval")
    rho: float = Field(
        1e-6, ge=0, description="weight and step of the second-moment constraint; 0 turns it off"
    )
    legacy: bool = Field(
        False,
        description="subtract the quadratic penalty and pull strong faces together without a margin, as the code does",
    )
    bounded: bool = Field(True, description="tanh on the critic's output")
    adversary: Literal["raise", "match", "off"] = Field(
        "match", description="the encoder's loss against the critic"
    )
    adversary_weight: float = Field(0.1, ge=0)
    adversary_turn: Literal["own", "shared"] = Field(
        "own",
        description="shared adds the encoder's adversarial loss to the affect turn: one optimiser, one forward pass",
    )
    correlation: float = Field(
        0.0, ge=0, description="weight of 1 - PCC and of 1 - CCC; 0.5 in the later code"
    )
    expression: Literal["probe", "joint", "off"] = Field(
        "probe", description="how the expression head learns"
    )
    dropout: float = Field(0.2, ge=0, lt=1)


# Grouping


class Groups(NamedTuple):
    """Masks of the strong and the weak faces of a batch, and the radius between them (0 with the fallback)."""

    strong: Bool[Tensor, " n"]
    weak: Bool[Tensor, " n"]
    radius: Float[Tensor, ""]


STRONG, WEAK = 0.65, 0.3
"""The code's fallback limits on r^2: faces above the first are strong, below the second weak, the others neither."""


@torch.no_grad()
def otsu(
    values: Float[Tensor, " n"], bins: int = 32, known: Bool[Tensor, " n"] | None = None
) -> Float[Tensor, ""]:
    """The threshold that splits values into two classes with the largest between-class variance (Otsu 1979).

    Values are counted in equal bins from the smallest to the largest; the result is the best edge between two bins, or
    the middle of several equally good ones, such as those across an empty range. If all values are equal, it is that
    value. Values that are not `known` do not count.
    """
    known = torch.ones_like(values, dtype=torch.bool) if known is None else known
    values = values.double()
    low = values.masked_fill(~known, torch.inf).amin()
    high = values.masked_fill(~known, -torch.inf).amax()
    width = ((high - low) / bins).clamp(min=1e-12)
    place = ((values - low) / width).nan_to_num().clamp(0, bins - 1).long()
    counts = values.new_zeros(bins).scatter_add(0, place, known.double())
    number = torch.arange(bins, device=values.device)
    below = counts.cumsum(0)[:-1]
    mass = (counts * (low + width * (number + 0.5))).cumsum(0)
    above = counts.sum() - below
    gap = mass[:-1] / below - (mass[-1] - mass[:-1]) / above
    between = below * above * gap**2
    best = (between >= between.max() * (1 - 1e-12)).double()
    edge = (best * number[1:]).sum() / best.sum()
    return torch.where(high > low, low + width * edge, high).float()


@torch.no_grad()
def group(affect: Float[Tensor, "n 2"], by: str = "otsu") -> Groups:
    """Split the rated faces of a batch into strong and weak emotion; rows without a rating are in neither.

    By "otsu" strong is sqrt(v^2 + a^2) above sqrt(t_v^2 + t_a^2), with Otsu's t on |v| and on |a|. If that leaves a
    side empty, and by "radius", the fixed radii are used. Either side may still be empty.
    """
    known = torch.isfinite(affect).all(dim=1)
    sizes = torch.where(known[:, None], affect, 0).float().abs()
    radius = sizes.norm(dim=1)
    limit = torch.hypot(otsu(sizes[:, 0], known=known), otsu(sizes[:, 1], known=known))
    strong = known & (radius > limit)
    parted = strong.any() & (known & ~strong).any() & (by == "otsu")
    return Groups(
        torch.where(parted, strong, known & (radius**2 > STRONG)),
        torch.where(parted, known & ~strong, known & (radius**2 < WEAK)),
        torch.where(parted, limit, 0),
    )


class StrengthPairs(NamedTuple):
    """Row indices, as many as the smaller group has faces: strong face i, strong face -i-1 and weak face -i-1.

    Padded to the length of the batch, so that the device need not report the number of pairs: `used` is 1 for pairs,
    then 0.
    """

    strong: Int[Tensor, " n"]
    same: Int[Tensor, " n"]
    other: Int[Tensor, " n"]
    used: Float[Tensor, " n"]


@torch.no_grad()
def pairs(groups: Groups) -> StrengthPairs:
    """Pair equal numbers of strong and weak faces, in the order of the batch."""
    strong, weak = (torch.argsort((~each).byte(), stable=True) for each in (groups.strong, groups.weak))
    count = torch.minimum(groups.strong.sum(), groups.weak.sum())
    place = torch.arange(len(strong), device=strong.device)
    mirrored = (count - 1 - place).clamp(min=0)
    return StrengthPairs(strong, strong[mirrored], weak[mirrored], (place < count).float())


# StrengthCritic


def pearson(first: Float[Tensor, "n d"], second: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
    """Correlation of corresponding rows; 0 where a row is constant."""
    first = first - first.mean(dim=1, keepdim=True)
    second = second - second.mean(dim=1, keepdim=True)
    return functional.cosine_similarity(first, second, dim=1, eps=1e-8)


LARGEST = 0.985
"""Upper limit of |eta|, so that the margin of a batch of 128 is at most about 2.1, where the poster's curve ends."""


def information(eta: Float[Tensor, " n"], largest: float = LARGEST) -> Float[Tensor, " n"]:
    """Mutual information in nats of two Gaussians with correlation eta: -1/2 log(1 - eta^2)."""
    return -0.5 * torch.log1p(-(eta.clamp(-largest, largest) ** 2))


def confidence(samples: int, c: float = 10.0, k: float = 4.0) -> float:
    """The part of the margin that is independent of correlation: log(N / c) / (2 K), and 0 if N is below c."""
    return max(0.0, math.log(samples / c) / (2 * k))


def adaptive_margin(
    eta: Float[Tensor, " n"], samples: int, c: float = 10.0, k: float = 4.0, largest: float = LARGEST
) -> Float[Tensor, " n"]:
    """alpha of pairs with correlation eta, in a batch of `samples`: information plus confidence.

    >>> adaptive_margin(torch.tensor([0.0, 0.5, 0.9]), 128).round(decimals=2).tolist()
    [0.3199999928474426, 0.46000000834465027, 1.149999976158142]
    """
    return information(eta, largest) + confidence(samples, c, k)


class Contrast(NamedTuple):
    """The critic's loss in parts: `together` E[d_pos], `apart` E[d_neg], and `omega`, the constraint's residual."""

    together: Float[Tensor, ""]
    apart: Float[Tensor, ""]
    omega: Float[Tensor, ""]


def contrast(
    near: Float[Tensor, " m"],
    far: Float[Tensor, " m"],
    margins: tuple[Float[Tensor, " m"], Float[Tensor, " m"]],
    used: Float[Tensor, " m"],
) -> Contrast:
    """Squared distances `near` within a group and `far` across, each against its pair's margin, averaged where `used`.

    d_pos = [near - margin]+, d_neg = [margin - far]+, omega = 1 - (E[d_pos^2] + E[d_neg^2]) / 2.
    """

    def mean(values: Tensor) -> Tensor:
        return (values * used).sum() / used.sum().clamp(min=1)

    together, apart = functional.relu(near - margins[0]), functional.relu(margins[1] - far)
    omega = 1 - 0.5 * (mean(together.square()) + mean(apart.square()))
    return Contrast(mean(together), mean(apart), omega)


class StrengthCritic(nn.Module):
    """Maps features to 16 numbers: linear layers to 64 and 32, ReLU, 16."""

    def __init__(self, width: int, dropout: float, bounded: bool) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(width, 64), nn.Dropout(dropout), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 16)
        )
        self.bounded = bounded

    def forward(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n 16"]:
        outputs: Tensor = self.layers(features)
        return torch.tanh(outputs) if self.bounded else outputs

    def judge(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n 16"]:
        """The same with the critic held fixed: gradients flow to the features, not to its parameters."""
        fixed = {name: parameter.detach() for name, parameter in self.named_parameters()}
        outputs: Tensor = torch.func.functional_call(self, fixed, (features,))
        return outputs


# Affect


class Regressor(nn.Module):
    """Maps standardised features to (valence, arousal) in [-1, 1]: linear layers to 64, 8 and 2."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(width, 64), nn.SiLU(),
            nn.Dropout(dropout), nn.Linear(64, 8), nn.SiLU(), nn.Linear(8, 2),
        )  # fmt: skip
        for place, gain in ((1, 0.5), (4, 0.5), (6, 1.0)):
            linear = self.layers[place]
            assert isinstance(linear, nn.Linear)
            nn.init.orthogonal_(linear.weight, gain)
            nn.init.zeros_(linear.bias)

    def forward(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n 2"]:
        return torch.tanh(self.layers(features))


def root_error(
    predicted: Float[Tensor, "n 2"], target: Float[Tensor, "n 2"], known: Float[Tensor, " n"]
) -> Float[Tensor, ""]:
    """RMSE of valence plus RMSE of arousal over the known rows; its gradient is finite where the error is 0."""
    squares = (predicted - target).square() * known[:, None]
    return (squares.sum(dim=0) / known.sum().clamp(min=1) + 1e-12).sqrt().sum()


def decorrelation(
    predicted: Float[Tensor, "n 2"], target: Float[Tensor, "n 2"], known: Float[Tensor, " n"]
) -> Float[Tensor, ""]:
    """(1 - mean PCC) + (1 - mean CCC) over valence and arousal, of the rows that are known; 1 each where a column is
    constant."""
    share = (known / known.sum().clamp(min=1))[:, None]
    off = [(each - (share * each).sum(dim=0)) * known[:, None] for each in (predicted, target)]
    pcc = functional.cosine_similarity(off[0], off[1], dim=0, eps=1e-8)
    return (1 - pcc.mean()) + (1 - ccc(predicted, target, known).mean())


# The method


class CAL(Recognition):
    """A backbone that regresses affect, trained against a critic of strong and weak emotion."""

    Config: ClassVar[type[MethodConfig]] = CALConfig
    turns: ClassVar[tuple[str, ...]] = ("critic", "encoder", "affect")
    multiplier: Tensor

    def __init__(self, config: CALConfig, size: int) -> None:
        super().__init__(config, size)
        self.config = config
        self.backbone = config.encoder(size)
        self.norm = nn.BatchNorm1d(self.backbone.width, affine=False)
        self.regressor = Regressor(self.backbone.width, config.dropout)
        self.expression = nn.Linear(self.backbone.width, config.classes)
        self.register_buffer("multiplier", torch.zeros(()))
        if config.critic:
            self.critic = StrengthCritic(self.backbone.width, config.dropout, config.bounded)
        self.answers = config.critic and config.adversary != "off"
        played = {
            "critic": config.critic,
            "encoder": self.answers and config.adversary_turn == "own",
            "affect": True,
        }
        # A turn that is switched off must not be stepped: its optimiser would decay weights without a loss.
        self.turns = tuple(turn for turn in CAL.turns if played[turn])  # type: ignore[misc]
        if config.expression == "off":
            nn.init.zeros_(self.expression.weight)
            nn.init.zeros_(self.expression.bias)
            self.expression.requires_grad_(False)

    def features(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n d"]:
        """The backbone's pooled vector, standardised."""
        standard: Tensor = self.norm(self.backbone(images)[0])
        return standard

    def forward(self, batch: Batch, turn: str) -> Terms:
        if turn == "critic":
            with torch.no_grad():
                features = self.features(batch.image)
            return self.critic_terms(features, group(batch.affect, self.config.grouping))
        features = self.features(batch.image)
        if turn == "encoder":
            return self.encoder_terms(features, group(batch.affect, self.config.grouping))
        terms = self.affect_terms(features, batch)
        if self.answers and self.config.adversary_turn == "shared":
            terms |= self.encoder_terms(features, group(batch.affect, self.config.grouping))
        return terms

    def parameters_for(self, turn: str) -> Iterable[nn.Parameter]:
        """The critic's; the encoder's; or the encoder's and both heads'."""
        if turn == "critic":
            return self.critic.parameters()
        if turn == "encoder":
            return self.backbone.parameters()
        owned: list[Any] = [self.backbone, self.regressor, self.expression]
        return [parameter for module in owned for parameter in module.parameters()]

    def critic_terms(self, features: Float[Tensor, "n d"], groups: Groups) -> Terms:
        """Contrast of equal numbers of strong and weak faces; in training, also updates the constraint's multiplier."""
        config = self.config
        outputs = self.critic(features.detach()).float()
        rows = pairs(groups)
        strong, same, other = outputs[rows.strong], outputs[rows.same], outputs[rows.other]
        within = strong.new_zeros(len(strong)) if config.legacy else self.margin(strong, same)
        parts = contrast(
            (strong - same).square().sum(dim=1),
            (strong - other).square().sum(dim=1),
            (within, self.margin(strong, other)),
            rows.used,
        )
        terms = {"together": parts.together, "apart": parts.apart}
        if config.rho:
            omega = parts.omega * rows.used.amax()  # 0 where a group is empty
            penalty = 0.5 * config.rho * omega**2
            terms["constraint"] = self.multiplier.clone() * omega + (-penalty if config.legacy else penalty)
            if self.training:
                self.multiplier += config.rho * omega.detach()
        return terms

    @torch.no_grad()
    def margin(self, first: Float[Tensor, "n d"], second: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """The margin alpha of pairs of rows in a batch of n."""
        if self.config.margin == "fixed":
            return first.new_full((len(first),), self.config.fixed_margin)
        return adaptive_margin(pearson(first, second), len(first), self.config.margin_c, self.config.margin_k)

    def encoder_terms(self, features: Float[Tensor, "n d"], groups: Groups) -> Terms:
        """The encoder's loss against the critic, which is held fixed; 0 if a group is empty."""
        outputs = self.critic.judge(features).float()
        strong, weak = (
            (outputs * each[:, None]).sum(dim=0) / each.sum().clamp(min=1)
            for each in (groups.strong, groups.weak)
        )
        both = self.config.adversary_weight * (groups.strong.any() & groups.weak.any())
        if self.config.adversary == "match":
            return {"adversary": both * (weak - strong.detach()).square().sum()}
        return {"adversary": -both * weak.mean()}

    def affect_terms(self, features: Float[Tensor, "n d"], batch: Batch) -> Terms:
        """Regression on the rated rows, and the expression head."""
        config = self.config
        predicted = self.regressor(features).float()
        known, target = rated(batch)
        weight = config.affect_weight * (known.sum() > 0)
        terms: Terms = {"affect": weight * root_error(predicted, target, known)}
        if config.correlation:
            weight = config.affect_weight * config.correlation * (known.sum() > 1)
            terms["correlation"] = weight * decorrelation(predicted, target, known)
        if config.expression != "off":
            seen = features if config.expression == "joint" else features.detach()
            terms["expression"] = expression_loss(self.expression(seen), batch)
        return terms

    @torch.no_grad()
    def predict(self, images: Float[Tensor, "n 3 h w"]) -> Prediction:
        features = self.features(images)
        return Prediction(self.expression(features), self.regressor(features), features)


ABLATION = (
    Ablation("regression", "the valence/arousal loss only", {"critic": False}),
    Ablation("fixed", "and the critic with a fixed margin", {"margin": "fixed"}),
    Ablation("match", "with the adaptive margin, the encoder matching means: the default"),
    Ablation(
        "raise",
        "with the adaptive margin, the encoder raising the weak, as the public code",
        {"adversary": "raise"},
    ),
    Ablation("correlation", "the default and the correlation terms of the later code", {"correlation": 0.5}),
    Ablation("nogame", "correlation terms without the critic", {"critic": False, "correlation": 0.5}),
)
"""The ladder of `mien ablate`, with its controls."""
