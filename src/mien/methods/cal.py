"""CAL: contrastive adversarial learning for person-independent facial emotion recognition (Kim and Song 2021).

AAAI 2021, 35(7):5948-5956; the authors later call it CAF.

*Given* (the authors' poster and public code): regression against labels alone also learns who the person is. So strong
and weak emotion are made the two sides of a game on features, which needs no identity label. Otsu's threshold on
valence and on arousal gives a radius that parts a batch into strong and weak faces. A critic draws strong faces
together and holds weak ones at a margin from them, under a constraint on its second moment as in Fisher GAN. The
margin is the mutual information of two Gaussians with the pair's correlation eta plus a confidence interval,
alpha = -1/2 log(1 - eta^2) + log(N / c) / (2 K). The encoder then answers the critic, and the encoder and a small
regressor learn valence and arousal by RMSE. At inference the critic is not used.

*Chosen*, where the poster is silent or the code does something else by accident:

- Otsu's histogram has 32 bins between the smallest and the largest magnitude of the batch. The code's own radii (r^2
  above .65, below .3) are the fallback when a side is empty.
- eta of a pair is Pearson's correlation of its two critic outputs, held fixed; c = 10 and K = 4 give the poster's
  curve. The code's estimate of mutual information is not one (it can be negative), so it is not offered.
- The critic's loss is minimised, so the quadratic penalty on the constraint is added. The code subtracts it, as Fisher
  GAN's maximised loss does: `legacy`. At rho = 1e-6 either is all but invisible.
- The critic's output is bounded by tanh: the encoder's turn (the code's: raise the mean output of weak faces) has no
  end otherwise. `match` instead draws the mean output of the weak to that of the strong.
- Turns go critic, encoder, affect, as the poster numbers them (the code starts with affect): the weights that are kept
  have just regressed. Each turn has its own forward pass and optimiser, and all that it holds fixed is detached; the
  code's critic step also writes into the encoder's gradient.
- Adam divides a gradient by its own size, so an encoder turn with an optimiser of its own moves the encoder as far as
  regression does, whatever its weight of .1. The code steps the encoder with one optimiser for both, where .1 counts.
  `adversary_turn: shared` is that, as one step on the sum of both losses; it also spares a forward and backward pass.
- `correlation` adds 1 - PCC and 1 - CCC. A comment in the code says that the paper had no such terms: 0 by default.
- The regressor ends in tanh. Expressions are read by a linear probe on the detached feature, so that they change
  nothing of the method; `joint` lets them shape it, and `off` answers that all are equally probable.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

import torch
from pydantic import Field
from torch import nn
from torch.nn import functional

from mien.methods import backbone
from mien.methods.base import Batch, MethodConfig, Prediction, Recognition, Terms, ccc, expression_loss

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor


class CALConfig(MethodConfig):
    """The poster's method; every part can be switched off."""

    critic: bool = Field(True, description="the game on features; False regresses only")
    grouping: Literal["otsu", "radius"] = Field("otsu", description="radius takes the code's fixed radii")
    margin: Literal["adaptive", "fixed"] = "adaptive"
    fixed_margin: float = Field(1.0, ge=0, description="the margin where it is fixed, a squared distance")
    margin_c: float = Field(
        10.0, gt=0, description="c: the confidence interval is 0 for batches of c or fewer"
    )
    margin_k: float = Field(4.0, gt=0, description="K: divides the confidence interval")
    rho: float = Field(1e-6, ge=0, description="weight and step of the second-moment constraint; 0 is none")
    legacy: bool = Field(False, description="subtract the quadratic penalty, as the code does")
    bounded: bool = Field(True, description="tanh on the critic's output")
    adversary: Literal["raise", "match", "off"] = Field(
        "raise", description="what the encoder does about the critic"
    )
    adversary_weight: float = Field(0.1, ge=0)
    adversary_turn: Literal["own", "shared"] = Field(
        "own",
        description="shared adds the encoder's answer to the affect turn: one optimiser, one forward pass",
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
    """Rows of the strong and of the weak faces of a batch, and the radius between them (0 under the fallback)."""

    strong: Int[Tensor, " s"]
    weak: Int[Tensor, " w"]
    radius: Float[Tensor, ""]


STRONG, WEAK = 0.65, 0.3
"""The code's fallback, on r^2: stronger is strong, weaker is weak, what lies between is neither."""


@torch.no_grad()
def otsu(values: Float[Tensor, " n"], bins: int = 32) -> Float[Tensor, ""]:
    """The threshold that parts values into two classes of largest between-class variance (Otsu 1979).

    Values are counted in equal bins from the smallest to the largest; the answer is the edge between two bins, and the
    middle of the edges that are equally good, such as those across an empty valley. Equal values: that value, above
    which nothing lies.
    """
    values = values.double()
    low, high = values.min(), values.max()
    if not high > low:
        return high.float()
    width = (high - low) / bins
    place = ((values - low) / width).long().clamp(max=bins - 1)
    counts = torch.bincount(place, minlength=bins).double()
    centres = low + width * (torch.arange(bins, device=values.device) + 0.5)
    below = counts.cumsum(0)[:-1]
    mass = (counts * centres).cumsum(0)
    above = len(values) - below
    gap = mass[:-1] / below - (mass[-1] - mass[:-1]) / above
    between = below * above * gap**2
    best = torch.nonzero(between >= between.max() * (1 - 1e-12)).flatten()
    return (low + width * (best.double() + 1).mean()).float()


@torch.no_grad()
def group(affect: Float[Tensor, "n 2"], by: str = "otsu") -> Groups:
    """Part the rated faces of a batch into strong and weak emotion; rows without a rating are in neither.

    By "otsu" strong is sqrt(v^2 + a^2) above sqrt(t_v^2 + t_a^2), with Otsu's t on |v| and on |a|. Where that leaves a
    side empty, and by "radius", the fixed radii are used. Either side may still come back empty.
    """
    known = torch.isfinite(affect).all(dim=1)
    rows = known.nonzero().flatten()
    rated = affect[known].float()
    radius = rated.norm(dim=1)
    if by == "otsu" and len(rated):
        limit = torch.hypot(otsu(rated[:, 0].abs()), otsu(rated[:, 1].abs()))
        strong = radius > limit
        if strong.any() and not strong.all():
            return Groups(rows[strong], rows[~strong], limit)
    square = radius**2
    return Groups(rows[square > STRONG], rows[square < WEAK], radius.new_zeros(()))


# Critic


def pearson(first: Float[Tensor, "n d"], second: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
    """Correlation of each row of one with the same row of the other; 0 where a row is constant."""
    first = first - first.mean(dim=1, keepdim=True)
    second = second - second.mean(dim=1, keepdim=True)
    return functional.cosine_similarity(first, second, dim=1, eps=1e-8)


LARGEST = 0.985
"""|eta| is clamped here, so that the margin of a batch of 128 ends at about 2.1, where the poster's curve ends."""


def information(eta: Float[Tensor, " n"], largest: float = LARGEST) -> Float[Tensor, " n"]:
    """Mutual information in nats of two Gaussians with correlation eta: -1/2 log(1 - eta^2)."""
    return -0.5 * torch.log1p(-(eta.clamp(-largest, largest) ** 2))


def confidence(samples: int, c: float = 10.0, k: float = 4.0) -> float:
    """The part of the margin that no correlation can take away: log(N / c) / (2 K), and 0 where N is below c."""
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
    strong: Float[Tensor, "m d"], weak: Float[Tensor, "m d"], margin: Float[Tensor, " m"]
) -> Contrast:
    """Strong faces near each other, weak ones a margin away; the partner of row i is row -i-1 of its group.

    d_pos = |s_i - s_j|^2, d_neg = [margin_i - |s_i - w_j|^2]+, omega = 1 - (E[d_pos^2] + E[d_neg^2]) / 2.
    """
    near = (strong - strong.flip(0)).square().sum(dim=1)
    far = functional.relu(margin - (strong - weak.flip(0)).square().sum(dim=1))
    omega = 1 - 0.5 * (near.square().mean() + far.square().mean())
    return Contrast(near.mean(), far.mean(), omega)


class Critic(nn.Module):
    """Features to 16 numbers: linear layers to 64 and 32, ReLU, 16."""

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
        """The same with this critic held fixed: gradients reach the features, not its parameters."""
        fixed = {name: parameter.detach() for name, parameter in self.named_parameters()}
        outputs: Tensor = torch.func.functional_call(self, fixed, (features,))
        return outputs


# Affect


class Regressor(nn.Module):
    """Features to (valence, arousal) in [-1, 1]: linear layers to 64, 8 and 2."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(width, 64), nn.ReLU(),
            nn.Dropout(dropout), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 2),
        )  # fmt: skip

    def forward(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n 2"]:
        return torch.tanh(self.layers(features))


def root_error(predicted: Float[Tensor, "n 2"], target: Float[Tensor, "n 2"]) -> Float[Tensor, ""]:
    """RMSE of valence plus RMSE of arousal over the batch; its gradient is finite where the error is 0."""
    return (functional.mse_loss(predicted, target, reduction="none").mean(dim=0) + 1e-12).sqrt().sum()


def decorrelation(predicted: Float[Tensor, "n 2"], target: Float[Tensor, "n 2"]) -> Float[Tensor, ""]:
    """(1 - mean PCC) + (1 - mean CCC) over valence and arousal; 1 each where a column is constant."""
    pcc = pearson(predicted.T, target.T)
    return (1 - pcc.mean()) + (1 - ccc(predicted, target).mean())


# The method


class CAL(Recognition):
    """A backbone that regresses affect, and a critic that it plays against on strong and weak emotion."""

    Config: ClassVar[type[MethodConfig]] = CALConfig
    turns: ClassVar[tuple[str, ...]] = ("critic", "encoder", "affect")
    multiplier: Tensor

    def __init__(self, config: CALConfig, size: int) -> None:
        super().__init__(config, size)
        self.config = config
        self.backbone = backbone.build(config.backbone, config.weights, size)
        self.regressor = Regressor(self.backbone.width, config.dropout)
        self.expression = nn.Linear(self.backbone.width, config.classes)
        self.register_buffer("multiplier", torch.zeros(()))
        if config.critic:
            self.critic = Critic(self.backbone.width, config.dropout, config.bounded)
        self.answers = config.critic and config.adversary != "off"
        played = {
            "critic": config.critic,
            "encoder": self.answers and config.adversary_turn == "own",
            "affect": True,
        }
        # A player that is switched off must not be stepped: its optimiser would decay weights without a loss.
        self.turns = tuple(turn for turn in CAL.turns if played[turn])  # type: ignore[misc]
        if config.expression == "off":
            nn.init.zeros_(self.expression.weight)
            nn.init.zeros_(self.expression.bias)
            self.expression.requires_grad_(False)

    def forward(self, batch: Batch, turn: str) -> Terms:
        if turn == "critic":
            with torch.no_grad():
                features = self.backbone(batch.image)[0]
            return self.critic_terms(features, group(batch.affect, self.config.grouping))
        features = self.backbone(batch.image)[0]
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
        """Contrast of equally many strong and weak faces; in training the constraint's multiplier then moves."""
        config = self.config
        outputs = self.critic(features.detach()).float()
        count = min(len(groups.strong), len(groups.weak))
        if count == 0:
            return {"together": outputs.sum() * 0, "apart": outputs.sum() * 0}
        strong, weak = outputs[groups.strong[:count]], outputs[groups.weak[:count]]
        parts = contrast(strong, weak, self.margin(strong, weak, len(features)))
        terms = {"together": parts.together, "apart": parts.apart}
        if config.rho:
            penalty = 0.5 * config.rho * parts.omega**2
            terms["constraint"] = self.multiplier.clone() * parts.omega + (
                -penalty if config.legacy else penalty
            )
            if self.training:
                self.multiplier += config.rho * parts.omega.detach()
        return terms

    @torch.no_grad()
    def margin(
        self, strong: Float[Tensor, "m d"], weak: Float[Tensor, "m d"], samples: int
    ) -> Float[Tensor, " m"]:
        """alpha of each cross pair (row i of the strong, row -i-1 of the weak)."""
        if self.config.margin == "fixed":
            return strong.new_full((len(strong),), self.config.fixed_margin)
        eta = pearson(strong, weak.flip(0))
        return adaptive_margin(eta, samples, self.config.margin_c, self.config.margin_k)

    def encoder_terms(self, features: Float[Tensor, "n d"], groups: Groups) -> Terms:
        """What the encoder does about the critic, which is held fixed."""
        weight = self.config.adversary_weight
        if len(groups.strong) == 0 or len(groups.weak) == 0:
            return {"adversary": features.sum() * 0}
        outputs = self.critic.judge(features).float()
        weak = outputs[groups.weak]
        if self.config.adversary == "match":
            strong = outputs[groups.strong].mean(dim=0).detach()
            return {"adversary": weight * (weak.mean(dim=0) - strong).square().sum()}
        return {"adversary": -weight * weak.mean()}

    def affect_terms(self, features: Float[Tensor, "n d"], batch: Batch) -> Terms:
        """Regression on the rated rows, and the expression head."""
        config = self.config
        known = torch.isfinite(batch.affect).all(dim=1)
        predicted, target = self.regressor(features).float(), batch.affect.float()
        terms: Terms = {"affect": (predicted * 0).sum()}
        if known.any():
            terms["affect"] = config.affect_weight * root_error(predicted[known], target[known])
        if config.correlation and int(known.sum()) > 1:
            terms["correlation"] = (
                config.affect_weight * config.correlation * decorrelation(predicted[known], target[known])
            )
        if config.expression != "off":
            seen = features if config.expression == "joint" else features.detach()
            terms["expression"] = expression_loss(self.expression(seen), batch)
        return terms

    @torch.no_grad()
    def predict(self, images: Float[Tensor, "n 3 h w"]) -> Prediction:
        features = self.backbone(images)[0]
        return Prediction(self.expression(features), self.regressor(features), features)
