"""JADFER: joint attention dropping for facial expression recognition (Gao et al., IEEE TAFFC 16(2):655-668, 2024).

DOI 10.1109/TAFFC.2024.3454988.

*Given* (abstract; neither text nor code was available, so this is a reconstruction): a spatial branch of N parallel
paths, which a Variety loss pushes to different regions; a contextual branch of self-attention; an interaction by
cross-attention with spatial queries and contextual keys and values. Joint Attention Dropping (JAD)
regulates the attention weight matrix in both by dropping its *similar* activations.

*Chosen:*

- A path is the local attention of TransFER, its nearest published relative: 1x1 convolution to a sixteenth of the
  channels, ReLU, 1x1 convolution to one map, batch norm, sigmoid. N = 4.
- Variety: mean pairwise cosine between path maps minus their means over cells. Without centring, two maps of .5 plus
  small differences are always similar (.84 at the start), and the loss has little effect. The two other forms found in
  the literature are options. Maps could satisfy them by vanishing, so a mean below 0.1 is penalised too.
- "Similar" in JAD has three interpretations, named by what is compared: `heads` (default; several heads attend to one
  key), `queries` (several queries of a head do), `rows` (two queries of a head have similar rows). JAD is
  training-only.
- An activation is joint if it is at least `threshold` times that of uniform attention, by the geometric mean over heads
  or the mean over queries. Without that limit a tenth of the keys is dropped even if attention is uniform or no two
  heads agree. The removed mass is logged as `dropped`.
- The head also reads the backbone's pooled vector: the pretrained pooling is kept, and the ladder's first rung is the
  baseline.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

import torch
from pydantic import Field
from torch import nn
from torch.nn import functional

from mien.errors import ConfigError
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
    map_shapes,
)

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from torch import Tensor

Reading = Literal["off", "heads", "queries", "rows"]


class JADFERConfig(MethodConfig):
    """Sizes for maps of 25 to 100 cells; each branch and each term can be switched off."""

    stage: int = Field(-1, description="index of the backbone map that the branches read, -1 the deepest")
    width: int = Field(256, ge=8, description="width of a token")
    paths: int = Field(4, ge=0, description="N; 0 leaves the spatial branch out")
    variety: Literal["off", "cosine", "distance", "variance"] = "cosine"
    variety_weight: float = Field(0.5, ge=0, description="lambda_v")
    context: bool = Field(True, description="the contextual branch")
    blocks: int = Field(2, ge=1, description="transformer blocks of the contextual branch")
    heads: int = Field(4, ge=1)
    widen: int = Field(2, ge=1, description="hidden width of a block's feed-forward part, in token widths")
    interaction: bool = Field(True, description="cross-attention from paths to context; needs both branches")
    dropping: Reading = Field("heads", description="what JAD compares")
    keep: Literal["strongest", "none"] = Field(
        "strongest", description="whether one of the similar activations is kept"
    )
    share: float = Field(0.1, ge=0, le=1, description="r: largest share of keys that JAD drops per query")
    threshold: float = Field(
        1.5, ge=0, description="factor of uniform attention from which an activation is joint"
    )
    chance: float = Field(0.5, ge=0, le=1, description="p: probability of dropping, for each sample")
    dropout: float = Field(0.2, ge=0, lt=1, description="on the embedding, as in the baseline")


# Joint attention dropping


def similar_heads(
    weights: Float[Tensor, "n h q k"], share: float, keep: str, threshold: float
) -> Bool[Tensor, "n h q k"]:
    """Entries to drop where heads agree: the geometric mean over heads of weights relative to uniform ones.

    Of a chosen (query, key), the head with the largest weight keeps it when `keep` is "strongest".
    """
    joint = _lift(weights).log().mean(dim=1).exp()
    drop = _largest(joint, share, threshold)[:, None].expand_as(weights)
    return drop & ~_strongest(weights, dim=1) if keep == "strongest" else drop


def similar_queries(
    weights: Float[Tensor, "n h q k"], share: float, keep: str, threshold: float
) -> Bool[Tensor, "n h q k"]:
    """Entries to drop where the queries of a head agree: its keys of largest mean weight, relative to uniform ones.

    The query with the largest weight on such a key keeps it when `keep` is "strongest".
    """
    drop = _largest(_lift(weights).mean(dim=2), share, threshold)[:, :, None].expand_as(weights)
    return drop & ~_strongest(weights, dim=2) if keep == "strongest" else drop


def similar_rows(
    weights: Float[Tensor, "n h q k"], share: float, keep: str, threshold: float, alike: float = 0.9
) -> Bool[Tensor, "n h q k"]:
    """Entries to drop where two whole rows are alike (cosine above 0.9): the largest entries they share.

    The earlier row of the pair keeps them if `keep` is "strongest", else both lose them.
    """
    direction = functional.normalize(weights, dim=3)
    pairs = (direction @ direction.transpose(2, 3) > alike).float()
    pairs = (
        pairs.tril(diagonal=-1)
        if keep == "strongest"
        else pairs - torch.diag_embed(pairs.diagonal(dim1=2, dim2=3))
    )
    top = _largest(_lift(weights), share, threshold)
    return top & (pairs @ top.float() > 0)


READINGS = {"heads": similar_heads, "queries": similar_queries, "rows": similar_rows}
"""The three interpretations of "dropping the similar activations"."""


class Dropped(NamedTuple):
    """Attention weights after dropping, and the mean mass that a row lost."""

    weights: Float[Tensor, "n h q k"]
    mass: Float[Tensor, ""]


def drop_jointly(weights: Float[Tensor, "n h q k"], reading: Reading, config: JADFERConfig) -> Dropped:
    """Zero the similar entries of softmax weights in a `chance` of the samples, and rescale each row to sum 1.

    A row with less than 1e-6 left is not changed, so every query keeps some attention. `share` or `chance`
    of 0, or reading "off", is the identity. Only the kept entries get a gradient.
    """
    if reading == "off" or config.share == 0 or config.chance == 0:
        return Dropped(weights, weights.new_zeros(()))
    with torch.no_grad():
        chosen = torch.rand(len(weights), 1, 1, 1, device=weights.device) < config.chance
        kept = ~(READINGS[reading](weights, config.share, config.keep, config.threshold) & chosen)
        blind = (weights * kept).sum(dim=3, keepdim=True) < 1e-6
        kept = kept | blind
        mass = (weights * ~kept).sum(dim=3).mean()
    remaining = weights * kept
    whole = torch.where(
        kept.all(dim=3, keepdim=True), weights, remaining / remaining.sum(dim=3, keepdim=True)
    )
    return Dropped(whole, mass)


def _lift(weights: Tensor) -> Tensor:
    """Weights relative to uniform attention, which gives 1 everywhere."""
    return (weights * weights.shape[-1]).clamp(min=1e-12)


def _largest(scores: Float[Tensor, "*rows k"], share: float, threshold: float) -> Bool[Tensor, "*rows k"]:
    """True at the ceil(share * k) largest scores of each row, if they are at least `threshold`."""
    count = math.ceil(round(share * scores.shape[-1], 9))
    mask = torch.zeros_like(scores, dtype=torch.bool)
    return mask.scatter(-1, scores.topk(count, dim=-1).indices, True) & (scores >= threshold)


def _strongest(weights: Tensor, dim: int) -> Tensor:
    """True at the largest entry along `dim`; exactly one, also if entries tie."""
    mask = torch.zeros_like(weights, dtype=torch.bool)
    return mask.scatter(dim, weights.argmax(dim=dim, keepdim=True), True)


# Variety


def path_cosine(maps: Float[Tensor, "n paths h w"]) -> Float[Tensor, ""]:
    """Mean pairwise cosine between path maps minus their means over cells: 1 if all are equal, at least -1 / (N -
    1)."""
    return _mean_pair_cosine(maps.flatten(2) - maps.mean(dim=(2, 3))[..., None])


def path_distance(maps: Float[Tensor, "n paths h w"], target: float = 1.0) -> Float[Tensor, ""]:
    """Mean over pairs of [target - |M_m - M_n| / (h w)]+ / 2, as in hierarchical pyramid attention."""
    flat = maps.flatten(2)
    gaps = [(flat[:, m] - flat[:, n]).norm(dim=1) for m, n in itertools.combinations(range(flat.shape[1]), 2)]
    return (target - torch.stack(gaps) / flat.shape[2]).clamp(min=0).mean() / 2


def path_variance(tokens: Float[Tensor, "n paths d"]) -> Float[Tensor, ""]:
    """log(1 + N / s2) with s2 the variance across paths of their log-softmaxed outputs, as in DAN (Wen et al. 2021)."""
    spread = torch.log_softmax(tokens, dim=1).var(dim=1).mean()
    return torch.log1p(tokens.shape[1] / spread.clamp(min=1e-6))


def presence(maps: Float[Tensor, "n paths h w"], floor: float = 0.1) -> Float[Tensor, ""]:
    """The amount by which the mean of a path map is below `floor`, averaged: prevents Variety from being satisfied by
    empty maps."""
    return (floor - maps.mean(dim=(2, 3))).clamp(min=0).mean()


def head_similarity(weights: Float[Tensor, "n h q k"]) -> Float[Tensor, ""]:
    """Mean pairwise cosine between the attention maps of the heads, each flattened over queries and keys."""
    return _mean_pair_cosine(weights.flatten(2))


def _mean_pair_cosine(rows: Float[Tensor, "n m d"]) -> Float[Tensor, ""]:
    direction = functional.normalize(rows, dim=2)
    cosine = direction @ direction.transpose(1, 2)
    count = rows.shape[1]
    return (cosine.sum(dim=(1, 2)) - cosine.diagonal(dim1=1, dim2=2).sum(dim=1)).mean() / (
        count * (count - 1)
    )


# Network parts


class SpatialPath(nn.Module):
    """One path: an attention map in (0, 1) over the cells, and the token pooled by it."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        narrow = max(channels // 16, 4)
        self.attend = nn.Sequential(
            nn.Conv2d(channels, narrow, 1),
            nn.ReLU(),
            nn.Conv2d(narrow, 1, 1),
            nn.BatchNorm2d(1),
            nn.Sigmoid(),
        )
        self.token = nn.Linear(channels, width)

    def forward(
        self, features: Float[Tensor, "n c h w"]
    ) -> tuple[Float[Tensor, "n 1 h w"], Float[Tensor, "n d"]]:
        seen = self.attend(features)
        return seen, self.token((seen * features).mean(dim=(2, 3)))


class AttentionBlock(nn.Module):
    """Pre-norm attention of tokens to a source, with joint dropping in training, then a feed-forward part."""

    def __init__(self, config: JADFERConfig) -> None:
        super().__init__()
        self.config = config
        width, hidden = config.width, config.width * config.widen
        self.query_norm, self.source_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.value = nn.Linear(width, width), nn.Linear(width, width)
        self.key = nn.Linear(
            width, width, bias=False
        )  # a bias would shift a whole row, which softmax ignores
        self.out = nn.Linear(width, width)
        self.feed = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width)
        )

    def forward(
        self, tokens: Float[Tensor, "n q d"], source: Float[Tensor, "n k d"]
    ) -> tuple[Float[Tensor, "n q d"], Dropped]:
        asked, offered = self.query_norm(tokens), self.source_norm(source)
        query, key, value = (
            part.unflatten(2, (self.config.heads, -1)).transpose(1, 2)
            for part in (self.query(asked), self.key(offered), self.value(offered))
        )
        weights = torch.softmax(query @ key.transpose(2, 3) / math.sqrt(query.shape[3]), dim=3)
        attention = drop_jointly(weights, self.config.dropping if self.training else "off", self.config)
        tokens = tokens + self.out((attention.weights @ value).transpose(1, 2).flatten(2))
        return tokens + self.feed(tokens), attention


class Sight(NamedTuple):
    """The network's attention: path maps, their tokens, and for every block, deepest last, the attention weights and
    the mass that dropping removed from them."""

    maps: Float[Tensor, "n paths h w"] | None
    tokens: Float[Tensor, "n paths d"] | None
    weights: list[Tensor]
    dropped: list[Tensor]


class JADFER(Recognition):
    """A backbone with a spatial and a contextual branch, and cross-attention from the first to the second."""

    Config: ClassVar[type[MethodConfig]] = JADFERConfig

    def __init__(self, config: JADFERConfig, size: int) -> None:
        super().__init__(config, size)
        if config.interaction and not (config.paths and config.context):
            raise ConfigError("interaction needs paths and context: switch it off, or both branches on")
        if config.width % config.heads:
            raise ConfigError(f"width {config.width} is not a multiple of heads {config.heads}")
        if config.paths == 1 and config.variety != "off":
            raise ConfigError("Variety compares paths: use paths of 2 or more, or variety: off")
        self.config = config
        self.backbone = config.encoder(size)
        channels, width = self.backbone.stages[config.stage], config.width
        embedding = self.backbone.width
        if config.paths:
            self.paths = nn.ModuleList(SpatialPath(channels, width) for _ in range(config.paths))
            self.spatial_norm = nn.LayerNorm(width)
            embedding += width
        if config.context:
            cells = map_shapes(self.backbone, size)[config.stage][1] ** 2
            self.tokenise = nn.Conv2d(channels, width, 1)
            self.position = nn.Parameter(torch.randn(1, cells, width) * 0.02)
            self.context = nn.ModuleList(AttentionBlock(config) for _ in range(config.blocks))
            self.context_norm = nn.LayerNorm(width)
            embedding += width
        if config.interaction:
            self.interaction = AttentionBlock(config)
        self.dropout = nn.Dropout(config.dropout)
        self.expression = nn.Linear(embedding, config.classes)
        self.affect = AffectHead(embedding)

    def forward(self, batch: Batch, turn: str) -> Terms:
        config = self.config
        embedding, sight = self.look(batch.image)
        embedding = self.dropout(embedding)
        terms = {"expression": expression_loss(self.expression(embedding), batch)}
        if sight.maps is not None and sight.tokens is not None and config.variety != "off":
            match config.variety:
                case "cosine":
                    variety = path_cosine(sight.maps) + presence(sight.maps)
                case "distance":
                    variety = path_distance(sight.maps) + presence(sight.maps)
                case "variance":
                    variety = path_variance(sight.tokens)
            terms["variety"] = config.variety_weight * variety
        if sight.dropped and config.dropping != "off":
            terms["dropped"] = torch.stack(sight.dropped).mean()
        if config.affect_weight:
            terms["affect"] = config.affect_weight * affect_loss(self.affect(embedding), batch)
        return terms

    def look(self, images: Float[Tensor, "n 3 h w"]) -> tuple[Float[Tensor, "n d"], Sight]:
        """The embedding, and the attention of each part."""
        pooled, stages = self.backbone(images)
        features, parts = stages[self.config.stage], [pooled]
        maps = spatial = None
        attended: list[Dropped] = []
        if self.config.paths:
            seen = [path(features) for path in self.paths]
            maps = torch.cat([one for one, _ in seen], dim=1)
            spatial = tokens = torch.stack([token for _, token in seen], dim=1)
        if self.config.context:
            context = self.tokenise(features).flatten(2).transpose(1, 2) + self.position
            for block in self.context:
                context, attention = block(context, context)
                attended.append(attention)
            parts.append(self.context_norm(context.mean(dim=1)))
        if self.config.interaction:
            tokens, attention = self.interaction(tokens, context)
            attended.append(attention)
        if self.config.paths:
            parts.append(self.spatial_norm(tokens.mean(dim=1)))
        weights, dropped = [one.weights for one in attended], [one.mass for one in attended]
        return torch.cat(parts, dim=1), Sight(maps, spatial, weights, dropped)

    @torch.no_grad()
    def predict(self, images: Float[Tensor, "n 3 h w"]) -> Prediction:
        embedding, _ = self.look(images)
        return Prediction(self.expression(embedding), self.affect(embedding), embedding)


_NO_CONTEXT = {"context": False, "interaction": False, "dropping": "off"}

ABLATION = (
    Ablation("backbone", "the pooled vector alone", {"paths": 0, "variety": "off", **_NO_CONTEXT}),
    Ablation("paths", "spatial paths", {"variety": "off", **_NO_CONTEXT}),
    Ablation("variety", "paths and Variety", _NO_CONTEXT),
    Ablation("context", "and the contextual branch", {"interaction": False, "dropping": "off"}),
    Ablation("jad", "and joint attention dropping", {"interaction": False}),
    Ablation("full", "and interaction"),
    Ablation("undropped", "all but joint attention dropping", {"dropping": "off"}),
)
"""The ladder of `mien ablate`; `undropped` is compared in the occlusion test."""
