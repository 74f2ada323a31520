"""CCLLS: cross-layer contrastive learning of latent semantics for facial expression recognition (Xie et al. 2024).

IEEE TIP 33:2514-2529, DOI 10.1109/TIP.2024.3378459.

*Given* (abstract, and the authors' public code and figure): shallow layers receive weak gradients, so they are taught
by the deepest layer. Clusters found there are matched in two spaces: images of the batch by their vectors (CLBS) and
channels of one image by the positions of their activations (CLFM); the loss is minus half the cosine between matched
cluster means. All scales are fused by an attention that rearranges each map to one resolution (MSR); its mean over
channels, plus its mean over the batch, is the vector that is classified. Released weights of layers 1-3: (0, 0.1, 0).

*Chosen*, mostly to correct errors of the public code; `legacy` keeps its form of both losses:

- Everything that is compared is first centred by its detached mean over the batch. Vectors after a ReLU all point in
  one direction: uncentred, one constant vector scores -.478 of -.5, and there is nothing left to learn.
- CLBS compares a cluster of faces with the mean shallow vector of *the same faces*. Assigned by cosine, as in the
  public code, shuffled faces score the same.
- CLFM clusters channels by the positions of their activations on all faces of the batch, 4 n numbers, and assigns
  shallow channels to those clusters by cosine. Within one image there are four numbers and four clusters, and some
  cluster always fits: with pretrained weights the public code's form scores -.498 for the right face and -.498 for
  another's, ours -.24 and -.12.
- Channel codes are soft-argmax positions on maps pooled to one size, in [0, 1]. The code's integer indices have no
  gradient, so its CLFM trains nothing. Cosine is taken over a code's coordinates.
- Vectors of every layer, the deep one included, are convolution, mean over the map, linear layer, ReLU, as in the
  figure. The loss of the deep one is not stated: ours classifies the expression from it, on a detached map. Centroids
  are detached, so the deep layer teaches and cannot collapse to reduce the loss.
- At evaluation a running mean replaces the batch's mean, so that a face's logits do not depend on its neighbours.
- k-means runs in training only, starts from mutually distant points and re-seeds empty clusters: it cannot give NaN.
- Kernels follow the map's size: twice the rearrangement ratio, halved on small maps, with the least padding that makes
  the stride an integer. At 224 px this gives exactly the published table.
- `pooled` adds the backbone's own pooled vector to the classified one, for backbones with pretrained pooling.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, NamedTuple

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
    from jaxtyping import Float, Int
    from torch import Tensor


class CCLLSConfig(MethodConfig):
    """The released weights; each component can be switched off."""

    fusion: bool = Field(
        True, description="multi-scale representation (MSR); False classifies the pooled vector"
    )
    pooled: bool = Field(False, description="classify the pooled vector beside the fused one")
    channels: int = Field(128, ge=1, description="channels of the fused map")
    samples: bool = Field(True, description="contrast across the batch (CLBS)")
    maps: bool = Field(True, description="contrast of feature maps (CLFM)")
    layer_weights: tuple[float, float, float] = Field((0.0, 0.1, 0.0), description="lambda of layers 1 to 3")
    map_clusters: int = Field(4, ge=2, description="clusters of channels")
    sharpness: float = Field(0.1, gt=0, description="temperature of a channel's soft-argmax")
    legacy: bool = Field(False, description="both losses as in the public code, without centring")
    dropout: float = Field(0.2, ge=0, lt=1, description="on the embedding, as in the baseline")


# Multi-scale representation


class Fit(NamedTuple):
    """How one stage map is turned into a grid: PixelShuffle ratio, then a convolution's kernel, stride and padding."""

    ratio: int
    kernel: int
    stride: int
    padding: int


def fit(sides: list[int], grid: int) -> list[Fit]:
    """The geometry that turns square maps of `sides`, shallow to deep, into `grid` x `grid` each.

    >>> fit([56, 28, 14, 7], 11)[3]
    Fit(ratio=16, kernel=32, stride=8, padding=0)

    Raises:
        ConfigError: the maps are too small for the grid.
    """
    ratios = [2 * 2 ** round(math.log2(sides[0] / side)) for side in sides]
    halve = any(2 * ratio > 2 / 3 * ratio * side for ratio, side in zip(ratios, sides, strict=True))
    fits = []
    for ratio, side in zip(ratios, sides, strict=True):
        kernel = max(4, ratio) if halve else 2 * ratio
        spare = ratio * side - kernel
        padding = next(padding for padding in range(grid) if (spare + 2 * padding) % (grid - 1) == 0)
        if spare < grid - 1:
            raise ConfigError(
                f"stage maps of {sides} cells are too small for multi-scale fusion: use larger images"
            )
        fits.append(Fit(ratio, kernel, (spare + 2 * padding) // (grid - 1), padding))
    return fits


class MultiScale(nn.Module):
    """Fuse stage maps to one grid; each cell is its mean over channels plus the mean cell of the batch."""

    ambient: Tensor
    seen: Tensor

    def __init__(self, shapes: list[tuple[int, int]], channels: int) -> None:
        super().__init__()
        sides = [side for _, side in shapes]
        self.grid = 11 if 2 * sides[0] >= 112 else 5
        self.reach, self.attend = nn.ModuleList(), nn.ModuleList()
        self.fits = fit(sides, self.grid)
        for (inputs, _), (ratio, kernel, stride, padding) in zip(shapes, self.fits, strict=True):
            planes = math.ceil(inputs / ratio**2)
            exact = planes * ratio**2 == inputs
            self.reach.append(nn.Identity() if exact else nn.Conv2d(inputs, planes * ratio**2, 1, bias=False))
            self.attend.append(nn.Conv2d(planes, channels, kernel, stride, padding, bias=False))
        self.mix = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.register_buffer("ambient", torch.zeros(self.grid, self.grid))
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))

    def forward(self, maps: list[Float[Tensor, "n c h w"]]) -> Float[Tensor, "n cells"]:
        scales = [
            attend(functional.pixel_shuffle(reach(one), ratio))
            for one, reach, attend, (ratio, *_) in zip(maps, self.reach, self.attend, self.fits, strict=True)
        ]
        cells: Tensor = self.norm(self.mix(torch.stack(scales).sum(dim=0))).mean(dim=1)
        return (cells + self._mean_cell(cells)).flatten(1)

    def _mean_cell(self, cells: Float[Tensor, "n g g"]) -> Float[Tensor, "g g"]:
        """The batch's mean in training, which also moves the running mean; the running mean at evaluation."""
        if not self.training:
            return self.ambient
        mean = cells.mean(dim=0)
        with torch.no_grad():
            self.seen += 1
            self.ambient.lerp_(mean.to(self.ambient.dtype), (1 / self.seen).clamp(min=0.05))
        return mean


# Cross-layer contrast


def centred(items: Tensor) -> Tensor:
    """Items [n, ...] minus the batch's mean, which is detached."""
    return items - items.detach().mean(dim=0)


class Clusters(NamedTuple):
    """What k-means finds: each cluster's mean, and the cluster of each point."""

    centroids: Float[Tensor, "b clusters d"]
    member: Int[Tensor, "b n"]


@torch.no_grad()
def kmeans(points: Float[Tensor, "b n d"], clusters: int, steps: int = 10) -> Clusters:
    """Clusters of each of b sets of points by Lloyd's algorithm, always `steps` rounds of it.

    Initialised with the point nearest the mean and then repeatedly the point farthest from those chosen. A cluster that
    loses its members moves to the point farthest from its centroid, so every centroid is always finite.
    """
    points = points.float()

    def take(index: Tensor) -> Tensor:
        return points.gather(1, index[..., None].expand(-1, -1, points.shape[2]))

    first = (points - points.mean(dim=1, keepdim=True)).square().sum(dim=2).argmin(dim=1, keepdim=True)
    centroids = take(first)
    for _ in range(clusters - 1):
        nearest = torch.cdist(points, centroids).amin(dim=2)
        centroids = torch.cat([centroids, take(nearest.argmax(dim=1, keepdim=True))], dim=1)
    for _ in range(steps):
        distance, member = torch.cdist(points, centroids).min(dim=2)
        shares = functional.one_hot(member, clusters).to(points.dtype)
        counts = shares.sum(dim=1)
        means = shares.transpose(1, 2) @ points / counts.clamp(min=1)[..., None]
        empty = counts == 0
        worst = distance.topk(min(clusters, points.shape[1]), dim=1).indices
        place = (empty.cumsum(dim=1) - 1).clamp(min=0, max=worst.shape[1] - 1)
        centroids = torch.where(empty[..., None], take(worst.gather(1, place)), means)
    return Clusters(centroids, torch.cdist(points, centroids).argmin(dim=2))


def nearest(items: Float[Tensor, "b m d"], centroids: Float[Tensor, "b k d"]) -> Int[Tensor, "b m"]:
    """The index of the centroid with the largest cosine to each item."""
    cosine = functional.normalize(items, dim=2) @ functional.normalize(centroids, dim=2).transpose(1, 2)
    return cosine.argmax(dim=2)


def misalignment(items: Float[Tensor, "b m d"], clusters: Clusters) -> Float[Tensor, ""]:
    """Minus half the mean cosine between each centroid and the mean of its member items; in [-.5, .5].

    A centroid without members counts as cosine 0.
    """
    shares = functional.one_hot(clusters.member, clusters.centroids.shape[1]).to(items.dtype)
    means = shares.transpose(1, 2) @ items / shares.sum(dim=1)[..., None].clamp(min=1)
    return -0.5 * functional.cosine_similarity(means, clusters.centroids, dim=2).mean()


def soft_peaks(maps: Float[Tensor, "n c h w"], sharpness: float) -> Float[Tensor, "n c 4"]:
    """(row, column) of the strongest and the second strongest cell of each map, in [0, 1], by soft-argmax.

    Each map is divided by its largest magnitude first, so that `sharpness` has the same effect at every layer; but at
    least by its layer's average of them, or channels with weak activations would get huge gradients.
    """
    height, width = maps.shape[2:]
    flat = maps.flatten(2)
    peak = flat.detach().abs().amax(dim=2, keepdim=True)
    scores = flat / torch.maximum(peak, peak.mean(dim=1, keepdim=True)).clamp(min=1e-6) / sharpness
    strongest = functional.one_hot(scores.argmax(dim=2), height * width).bool()
    row = ((torch.arange(height, device=maps.device) + 0.5) / height).repeat_interleave(width)
    column = ((torch.arange(width, device=maps.device) + 0.5) / width).repeat(height)
    where = torch.stack([row, column], dim=1).to(maps.dtype)
    peaks = [
        torch.softmax(each, dim=2) @ where for each in (scores, scores.masked_fill(strongest, -torch.inf))
    ]
    return torch.cat(peaks, dim=2)


def hard_peaks(maps: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c 4"]:
    """The same by integer index, as the public code does: no gradient."""
    first, second = maps.flatten(2).topk(2, dim=2).indices.unbind(dim=2)
    width = maps.shape[3]
    return torch.stack([first // width, first % width, second // width, second % width], dim=2).to(maps.dtype)


# The method


class CCLLS(Recognition):
    """Fuses the stages of a backbone for the decision; shallow stages learn from the deepest."""

    Config: ClassVar[type[MethodConfig]] = CCLLSConfig

    def __init__(self, config: CCLLSConfig, size: int) -> None:
        super().__init__(config, size)
        self.config = config
        self.backbone = config.encoder(size)
        shapes = map_shapes(self.backbone, size)[-4:]
        width = 0 if config.fusion and not config.pooled else self.backbone.width
        if config.fusion:
            self.fusion = MultiScale(shapes, config.channels)
            width += self.fusion.grid**2
        deep, self.cells = shapes[-1][0], max(4, shapes[-1][1])
        taught = [place for place, weight in enumerate(config.layer_weights) if weight and config.samples]
        if taught:
            self.teacher = _summary(deep, deep)
            self.reading = nn.Linear(deep, config.classes)
        self.students = nn.ModuleDict({str(place): _summary(shapes[place][0], deep) for place in taught})
        self.dropout = nn.Dropout(config.dropout)
        self.expression = nn.Linear(width, config.classes)
        self.affect = AffectHead(width)

    def forward(self, batch: Batch, turn: str) -> Terms:
        pooled, stages = self.backbone(batch.image)
        return self.terms(pooled, stages, batch)

    def terms(self, pooled: Float[Tensor, "n d"], stages: list[Tensor], batch: Batch) -> Terms:
        """The objective from the backbone's outputs."""
        config = self.config
        embedding = self.dropout(self.embed(pooled, stages))
        terms = {"expression": expression_loss(self.expression(embedding), batch)}
        *shallow, deep = stages[-4:]
        if self.students:
            taught = self.teacher(deep.detach())
            terms["teacher"] = expression_loss(self.reading(taught), batch)
            terms |= self.samples({name: shallow[int(name)] for name in self.students}, taught)
        if config.maps:
            terms |= self.maps(shallow, deep)
        if config.affect_weight:
            terms["affect"] = config.affect_weight * affect_loss(self.affect(embedding), batch)
        return terms

    def samples(self, shallow: dict[str, Tensor], taught: Float[Tensor, "n d"]) -> Terms:
        """CLBS: minus half the cosine between clusters of deep vectors and the same faces' shallow vectors."""
        config = self.config
        terms: Terms = {}
        clusters = kmeans((taught if config.legacy else centred(taught))[None], config.classes)
        for name, stage in shallow.items():
            vectors = self.students[name](stage).float()
            items = (vectors if config.legacy else centred(vectors))[None]
            if config.legacy:
                clusters = Clusters(clusters.centroids, nearest(items, clusters.centroids))
            terms[f"samples{name}"] = config.layer_weights[int(name)] * misalignment(items, clusters)
        return terms

    def maps(self, shallow: list[Tensor], deep: Tensor) -> Terms:
        """CLFM: minus half the cosine between clusters of deep channels and the shallow channels assigned to them."""
        config = self.config
        centroids = kmeans(self.code(deep), config.map_clusters).centroids
        terms: Terms = {}
        for place, weight in enumerate(config.layer_weights):
            if weight:
                codes = self.code(shallow[place]).float()
                found = misalignment(codes, Clusters(centroids, nearest(codes, centroids)))
                terms[f"maps{place}"] = weight * found
        return terms

    def code(self, stage: Float[Tensor, "n c h w"]) -> Float[Tensor, "b c d"]:
        """The positions of each channel's activations, on the deep layer's grid (4 x 4 at least): one set of codes of
        all faces, 4 n numbers minus their mean, or with `legacy` a set of four integers for each face."""
        pooled = functional.adaptive_avg_pool2d(stage, self.cells)
        if self.config.legacy:
            return hard_peaks(pooled)
        return centred(soft_peaks(pooled, self.config.sharpness)).transpose(0, 1).flatten(1)[None]

    def embed(self, pooled: Float[Tensor, "n d"], stages: list[Tensor]) -> Float[Tensor, "n e"]:
        """The classified vector: pooled, fused, or both."""
        if not self.config.fusion:
            return pooled
        fused: Tensor = self.fusion(stages[-4:])
        return torch.cat([pooled, fused], dim=1) if self.config.pooled else fused

    @torch.no_grad()
    def predict(self, images: Float[Tensor, "n 3 h w"]) -> Prediction:
        embedding = self.embed(*self.backbone(images))
        return Prediction(self.expression(embedding), self.affect(embedding), embedding)


def _summary(channels: int, deep: int) -> nn.Sequential:
    """Conv, GAP, FC, ReLU of the figure: a layer's map to a vector in the deep layer's space."""
    return nn.Sequential(
        nn.Conv2d(channels, deep, 1, bias=False),
        nn.BatchNorm2d(deep),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(deep, deep),
        nn.ReLU(),
    )


def learning_intensity(method: CCLLS, batch: Batch) -> Float[Tensor, " layers"]:
    """g_l, shallow to deep: mean over images of |dL/dx_l| / sqrt(numel of x_l), L the sum of the method's terms.

    Our definition of the paper's "learning intensity"; divide by the last for R_l.
    """
    pooled, stages = method.backbone(batch.image)
    total = torch.stack(list(method.terms(pooled, stages, batch).values())).sum()
    gradients = torch.autograd.grad(total, stages[-4:])
    return torch.stack([gradient.flatten(1).square().mean(dim=1).sqrt().mean() for gradient in gradients])


_ALIGNED_NOTHING = {"samples": False, "maps": False}

ABLATION = (
    Ablation("backbone", "only the pooled vector", {"fusion": False, **_ALIGNED_NOTHING}),
    Ablation("msr", "multi-scale representation", _ALIGNED_NOTHING),
    Ablation("clbs", "and contrast across the batch", {"maps": False}),
    Ablation("clfm", "or contrast of feature maps", {"samples": False}),
    Ablation("full", "and both"),
    Ablation("legacy", "both as in the public code", {"legacy": True}),
)
"""The ladder of `mien ablate`."""
