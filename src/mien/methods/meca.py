"""MECA: a compact embedding with the emotion as its direction and the intensity as its length.

After Kim and Song, "MECA: Manipulation With Emotional Intensity-Aware Contrastive Learning and Attention-Based
Discriminative Learning" (IEEE TAFFC 2024, DOI 10.1109/TAFFC.2024.3493416), of which only the abstract is public: this
is a reconstruction, and no number here can be compared with theirs.

*Given* (abstract): attention-based discriminative learning and emotional intensity-aware contrastive learning make the
latent space compact, by self-attention and mutual information; this helps manipulation and recognition.

*Chosen:* a polar code z = rho * u. The unit vector u encodes the emotion, by its cosine to one learned axis per
expression; rho in [0, 1.2] is the intensity, and neutral is the origin: its logit falls as rho grows. Votes are soft
targets. The labelled intensity is the distance from neutral in valence and arousal, else the most frequent one's share.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, NamedTuple

import torch
from pydantic import Field
from torch import nn
from torch.nn import functional

from mien.labels import CIRCUMPLEX, EXPRESSIONS, NEUTRAL
from mien.methods.base import (
    Ablation,
    AffectHead,
    Batch,
    MethodConfig,
    Prediction,
    Recognition,
    Terms,
    affect_loss,
    expression_loss,
    expression_target,
    map_shapes,
    rated,
)

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from torch import Tensor


class MECAConfig(MethodConfig):
    """The options of MECA; all values are ours, as the paper's are not public."""

    code: int = Field(32, ge=2, description="length of the code z")
    width: int = Field(128, ge=8, description="length of a token; a multiple of `heads`")
    heads: int = Field(4, ge=1)
    sharpness: float = Field(10.0, gt=0, description="logit of an expression at rho = 1 on its axis")
    contrast: bool = Field(True, description="emotional intensity-aware contrastive learning")
    contrast_weight: float = Field(0.3, ge=0)
    temperature: float = Field(0.15, gt=0)
    bandwidth: float = Field(0.3, gt=0, description="intensities this far apart hardly attract each other")
    margin: float = Field(0.3, ge=0, description="extra push between strong faces of different expressions")
    attention: bool = Field(True, description="attention-based discriminative learning")
    separate_weight: float = Field(0.1, ge=0, description="expressions attend to different places")
    information_weight: float = Field(0.1, ge=0, description="mutual information between places and code")
    blank_weight: float = Field(0.1, ge=0, description="without its places an expression is less probable")
    compact: bool = Field(True, description="strong faces lie on their axis")
    compact_weight: float = Field(0.05, ge=0)
    intensity_weight: float = Field(0.5, ge=0, description="rho against labelled intensity")
    rank_weight: float = Field(0.2, ge=0, description="within an expression rho is ordered as intensity")


class Code(NamedTuple):
    """The network's outputs for n faces: `logits` [n, k], unit `direction` [n, d], `length` [n], the pooled `feature`
    [n, w], `tokens` [n, t, w], attention `maps` [n, k - 1, t] (rows sum to 1) and the vectors they pool, `places`
    [n, k - 1, w]."""

    logits: Tensor
    direction: Tensor
    length: Tensor
    feature: Tensor
    tokens: Tensor
    maps: Tensor
    places: Tensor

    @property
    def z(self) -> Tensor:
        """The polar code [n, d]."""
        return self.length[:, None] * self.direction


class MECA(Recognition):
    """Tokens of the deepest map, self-attention, one query per expression, and a polar code."""

    Config: ClassVar[type[MethodConfig]] = MECAConfig
    eight_only: ClassVar[str] = "it measures the distance of the other seven expressions from neutral"

    def __init__(self, config: MECAConfig, size: int) -> None:
        super().__init__(config, size)
        self.config = config
        self.backbone = config.encoder(size)
        channels, side = map_shapes(self.backbone, size)[-1]
        width, others = config.width, config.classes - 1
        self.token = nn.Linear(channels, width)
        self.axes = nn.Parameter(torch.randn(others, config.code))
        self.neutral = nn.Parameter(torch.tensor(0.4))
        self.direction = nn.Linear(width, config.code)
        self.length = nn.Linear(width, 1)
        self.affect = AffectHead(width)
        if config.attention:
            self.position = nn.Parameter(0.02 * torch.randn(side * side, width))
            self.norm = nn.LayerNorm(width)
            self.attend = nn.MultiheadAttention(width, config.heads, batch_first=True)
            self.queries = nn.Parameter(torch.randn(others, width) / width**0.5)
            self.key = nn.Linear(width, width, bias=False)
            self.value = nn.Linear(width, width, bias=False)
            self.critic = nn.Linear(width, config.code, bias=False)
            # Starts at 0: training begins as the plain network, and attention is added as far as it helps.
            self.gate = nn.Parameter(torch.zeros(()))

    def encode(self, images: Float[Tensor, "n 3 h w"]) -> Code:
        """The codes of faces, with the values they are computed from."""
        top = self.backbone(images)[1][-1]
        tokens = self.token(top.flatten(2).transpose(1, 2))
        feature = tokens.mean(dim=1)
        maps = places = tokens[:, :0, :0]
        if self.config.attention:
            placed = self.norm(tokens + self.position)
            seen = placed + self.attend(placed, placed, placed, need_weights=False)[0]
            scores = torch.einsum("kw,ntw->nkt", self.queries, self.key(seen)) / tokens.shape[2] ** 0.5
            maps = scores.float().softmax(dim=2)
            places = maps.to(seen.dtype) @ self.value(seen)
            feature = feature + self.gate * places.mean(dim=1)
        return self._coded(feature, tokens, maps, places)

    def _coded(self, feature: Tensor, tokens: Tensor, maps: Tensor, places: Tensor) -> Code:
        direction = functional.normalize(self.direction(feature).float(), dim=1)
        length = 1.2 * torch.sigmoid(self.length(feature).float()[:, 0])
        return Code(self._logits(direction, length), direction, length, feature, tokens, maps, places)

    def _logits(self, direction: Float[Tensor, "n d"], length: Float[Tensor, " n"]) -> Float[Tensor, "n k"]:
        cosine = direction @ functional.normalize(self.axes.float(), dim=1).T
        others = self.config.sharpness * length[:, None] * cosine
        neutral = self.config.sharpness * self.neutral * (1 - length[:, None])
        return torch.cat([others[:, :NEUTRAL], neutral, others[:, NEUTRAL:]], dim=1)

    def forward(self, batch: Batch, turn: str) -> Terms:
        config = self.config
        code = self.encode(batch.image)
        shares, labelled = expression_target(batch, config.classes)
        intensity, graded = intensities(batch, shares)
        terms = {"expression": expression_loss(code.logits, batch)}
        if config.affect_weight:
            terms["affect"] = config.affect_weight * affect_loss(self.affect(code.feature), batch)
        terms["intensity"] = config.intensity_weight * masked_mean((code.length - intensity) ** 2, graded)
        terms["rank"] = config.rank_weight * rank(code.length, intensity, shares, graded)
        if config.contrast:
            terms["contrast"] = config.contrast_weight * contrast(
                code.z, shares, intensity, labelled > 0, config
            )
        truth = shares.argmax(dim=1)
        emotional = (labelled > 0) & (truth != NEUTRAL)
        # Axes and queries have no row for neutral; faces that get another's are left out by `emotional`.
        place = (truth - (truth > NEUTRAL).long()).clamp(max=config.classes - 2)
        if config.attention:
            terms |= self._attention(code, batch, truth, place, emotional)
        if config.compact:
            towards = (code.direction * functional.normalize(self.axes.float(), dim=1)[place]).sum(dim=1)
            missed = masked_mean(intensity * (1 - towards), emotional.float())
            terms["compact"] = config.compact_weight * missed
        return terms

    def _attention(self, code: Code, batch: Batch, truth: Tensor, query: Tensor, emotional: Tensor) -> Terms:
        """Three losses: expressions attend to different places, places predict the code of another view, and they are
        needed."""
        config = self.config
        row = torch.arange(len(truth), device=truth.device)
        with torch.no_grad():  # the other view: mirrored, its code a fixed target
            other = self.encode(batch.image.flip(-1)).direction
        chosen = functional.normalize(self.critic(code.places[row, query]).float(), dim=1)
        tokens = code.tokens.shape[1]
        top = code.maps[row, query].topk(max(1, tokens // 5), dim=1).indices
        kept = torch.ones_like(code.maps[:, 0]).scatter(1, top, 0.0)
        blanked = (code.tokens * kept[..., None]).sum(dim=1) / kept.sum(dim=1, keepdim=True)
        without = self._coded(blanked, code.tokens, code.maps, code.places).logits.softmax(dim=1)[row, truth]
        present = code.logits.softmax(dim=1)[row, truth]
        drop = functional.relu(0.1 - present + without)
        return {
            "separate": config.separate_weight * overlap(code.maps),
            "information": config.information_weight * info_nce(chosen, other, emotional, config.temperature),
            "blank": config.blank_weight * masked_mean(drop, emotional.float()),
        }

    @torch.no_grad()
    def predict(self, images: Float[Tensor, "n 3 h w"]) -> Prediction:
        code = self.encode(images)
        return Prediction(code.logits, self.affect(code.feature), code.z)


_PLACES = torch.tensor([CIRCUMPLEX[name] for name in EXPRESSIONS])


def intensities(
    batch: Batch, shares: Float[Tensor, "n k"]
) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """(intensity in 0..1, 1 where it is known). A rating, the length of (valence, arousal), has precedence, unless it
    was derived from the votes; next is the share of the most frequent expression except neutral, so that a face with
    split votes is not intense. A label alone only separates neutral from the rest: 0 or 1, with mask 0."""
    known, rating = rated(batch)
    voted = torch.isfinite(batch.votes).all(dim=1)
    derived = voted & ((rating - shares @ _PLACES[: shares.shape[1]].to(shares)).abs().amax(dim=1) < 1e-4)
    others = torch.cat([shares[:, :NEUTRAL], shares[:, NEUTRAL + 1 :]], dim=1)
    measured = (known > 0) & ~derived
    value = torch.where(measured, rating.norm(dim=1).clamp(max=1), others.amax(dim=1))
    return value, (measured | voted).to(value.dtype)


def masked_mean(values: Float[Tensor, " n"], mask: Float[Tensor, " n"]) -> Float[Tensor, ""]:
    """Mean over the rows where `mask` is 1; 0, with a gradient path, if there are none."""
    return (values * mask).sum() / mask.sum().clamp(min=1)


def rank(
    length: Float[Tensor, " n"],
    intensity: Float[Tensor, " n"],
    shares: Float[Tensor, "n k"],
    graded: Float[Tensor, " n"],
) -> Float[Tensor, ""]:
    """Hinge on pairs of one expression with intensities more than .15 apart: the stronger face is longer by .1."""
    truth = shares.argmax(dim=1)
    pairs = (truth[:, None] == truth[None]) & (intensity[:, None] > intensity[None] + 0.15)
    pairs = pairs & (graded[:, None] * graded[None] > 0)
    hinge = functional.relu(0.1 - length[:, None] + length[None])
    return (hinge * pairs).sum() / pairs.sum().clamp(min=1)


def contrast(
    z: Float[Tensor, "n d"],
    shares: Float[Tensor, "n k"],
    intensity: Float[Tensor, " n"],
    labelled: Bool[Tensor, " n"],
    config: MECAConfig,
) -> Float[Tensor, ""]:
    """Emotional intensity-aware contrastive loss.

    Faces attract each other as far as their votes agree (Bhattacharyya) and their intensities are close. Faces of
    different expressions get a margin in proportion to the lower of their intensities, so strong ones are pushed apart
    most and weak ones, which look similar, hardly. The code enters as [z, 0.5], normalised, so that near neutral
    directions do not differ.
    """
    similar = _anchored(z) @ _anchored(z).T
    agreement = shares.clamp(min=0).sqrt() @ shares.clamp(min=0).sqrt().T
    near = torch.exp(-((intensity[:, None] - intensity[None]) ** 2) / (2 * config.bandwidth**2))
    usable = (labelled[:, None] & labelled[None]).to(z.dtype)
    usable = usable * (1 - torch.eye(len(z), dtype=z.dtype, device=z.device))
    attraction = agreement * near * usable
    truth = shares.argmax(dim=1)
    differ = (truth[:, None] != truth[None]).to(z.dtype)
    handicap = config.margin * differ * torch.minimum(intensity[:, None], intensity[None])
    scores = (similar + handicap) / config.temperature
    scores = scores.masked_fill(usable == 0, -1e4)
    each = -(attraction * scores.log_softmax(dim=1)).sum(dim=1) / attraction.sum(dim=1).clamp(min=1e-6)
    anchors = (attraction.sum(dim=1) > 1e-3).to(z.dtype)
    return masked_mean(each, anchors)


def _anchored(z: Float[Tensor, "n d"]) -> Float[Tensor, "n e"]:
    return functional.normalize(torch.cat([z, torch.full_like(z[:, :1], 0.5)], dim=1), dim=1)


def overlap(maps: Float[Tensor, "n q t"]) -> Float[Tensor, ""]:
    """Mean squared cosine between the attention maps of different expressions: 1 if all are equal, 0 if no two
    overlap."""
    unit = functional.normalize(maps, dim=2)
    cosine = unit @ unit.transpose(1, 2)
    count = maps.shape[1]
    off = 1 - torch.eye(count, dtype=maps.dtype, device=maps.device)
    return (cosine**2 * off).sum() / (len(maps) * count * (count - 1))


def info_nce(
    first: Float[Tensor, "n d"], second: Float[Tensor, "n d"], used: Bool[Tensor, " n"], temperature: float
) -> Float[Tensor, ""]:
    """Minus the InfoNCE lower bound on mutual information (van den Oord et al. 2018), up to the constant log n: the
    cross-entropy of finding each row's own partner among all. 0 for fewer than two rows."""
    scores = (first @ second.T / temperature).masked_fill(~used[None], -1e4)
    each = functional.cross_entropy(scores, torch.arange(len(scores), device=scores.device), reduction="none")
    return masked_mean(each, used.to(each.dtype) * (used.sum() > 1))


ABLATION = (
    Ablation("bare", "only the polar code", {"contrast": False, "attention": False, "compact": False}),
    Ablation("contrast", "and intensity-aware contrast", {"attention": False, "compact": False}),
    Ablation("attention", "or attention-based discrimination", {"contrast": False, "compact": False}),
    Ablation("full", "both, and compactness"),
)
"""The ladder of `mien ablate`."""
