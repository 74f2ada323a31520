"""CCLLS: cross-layer contrastive learning of latent semantics for facial expression recognition (Xie et al. 2024).

IEEE TIP 33:2514-2529, DOI 10.1109/TIP.2024.3378459.

*Given* (abstract, and the authors' public code and figure): shallow layers receive weak gradients, so they are taught
by the deepest layer. Clusters found there are matched in two spaces: images of the batch by their vectors (CLBS) and
channels of one image by where they fire (CLFM); the loss is minus half the cosine between matched cluster means. All
scales are fused by an attention that rearranges each map to one resolution (MSR), and whose mean over channels, plus
its mean over the batch, is the vector that is classified. Released weights of layers 1-3: (0, 0.1, 0).

*Chosen*, mostly to correct what the public code does by accident:

- Channel codes are soft-argmax positions on maps pooled to one size, in [0, 1]. The code's integer indices pass no
  gradient, so its CLFM only monitors; that form is kept as `legacy`. Cosine is taken over a code's coordinates.
- At evaluation a running mean replaces the batch's mean, so that a face's logits do not depend on its neighbours.
- k-means runs in training only, starts from mutually distant points and re-seeds empty clusters: it cannot give NaN.
- Deep vectors are the deep map's channel means, and centroids pass no gradient: the deep layer teaches, and cannot
  shrink to please. Shallow vectors: 1x1 convolution, batch norm, ReLU, mean over the map, linear, ReLU (the figure).
- Kernels follow the map's size: twice the rearrangement ratio, halved on small maps, with the least padding that makes
  the stride whole. At 224 px this gives exactly the published table.
- `pooled` adds the backbone's own pooled vector to the classified one, for backbones whose pooling is pretrained.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import torch
from pydantic import Field
from torch import nn
from torch.nn import functional

from mien.errors import ConfigError
from mien.methods import backbone
from mien.methods.base import (
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
    from jaxtyping import Float
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
    map_clusters: int = Field(4, ge=2, description="clusters of an image's channels")
    sharpness: float = Field(0.1, gt=0, description="temperature of a channel's soft-argmax")
    legacy: bool = Field(False, description="integer channel codes, which pass no gradient")
    dropout: float = Field(0.2, ge=0, lt=1, description="on the embedding, as in the baseline")


# Multi-scale representation


class Fit(NamedTuple):
    """How one stage map becomes a grid: PixelShuffle ratio, then a convolution's kernel, stride and padding."""

    ratio: int
    kernel: int
    stride: int
    padding: int


def fit(sides: list[int], grid: int) -> list[Fit]:
    """The geometry that takes square maps of `sides`, shallow to deep, to `grid` x `grid` each.

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
            self.ambient.lerp_(mean.to(self.ambient.dtype), max(0.05, 1 / int(self.seen)))
        return mean


# Cross-layer contrast


@torch.no_grad()
def kmeans(points: Float[Tensor, "b n d"], clusters: int, steps: int = 15) -> Float[Tensor, "b clusters d"]:
    """Centroids of each of b sets of points by Lloyd's algorithm.

    Starts from the point nearest the mean and then, each time, the point farthest from those taken. A cluster that
    loses its members moves to the point worst served, so every centroid is finite whatever the points.
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
        worst = distance.argsort(dim=1, descending=True)
        place = (empty.cumsum(dim=1) - 1).clamp(min=0, max=points.shape[1] - 1)
        moved = torch.where(empty[..., None], take(worst.gather(1, place)), means)
        settled = bool((moved - centroids).norm(dim=2).max() < 1e-4)
        centroids = moved
        if settled:
            break
    return centroids


def misalignment(items: Float[Tensor, "b m d"], centroids: Float[Tensor, "b k d"]) -> Float[Tensor, ""]:
    """Minus half the mean cosine between each centroid and the mean of the items nearest it (by cosine); in [-.5, .5].

    A centroid that attracts nothing counts as met.
    """
    nearest = (
        functional.normalize(items, dim=2) @ functional.normalize(centroids, dim=2).transpose(1, 2)
    ).argmax(2)
    shares = functional.one_hot(nearest, centroids.shape[1]).to(items.dtype)
    counts = shares.sum(dim=1)[..., None]
    means = shares.transpose(1, 2) @ items / counts.clamp(min=1)
    return (
        -0.5
        * functional.cosine_similarity(torch.where(counts > 0, means, centroids), centroids, dim=2).mean()
    )


def soft_peaks(maps: Float[Tensor, "n c h w"], sharpness: float) -> Float[Tensor, "n c 4"]:
    """(row, column) of the strongest and the second strongest cell of each map, in [0, 1], by soft-argmax.

    Each map is divided by its largest magnitude first, so that `sharpness` means the same at every layer; but by no
    less than its layer's average of them, or channels that hardly fire would get huge gradients.
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
    """A backbone whose stages are fused for the decision, and whose shallow stages learn from the deepest."""

    Config: ClassVar[type[MethodConfig]] = CCLLSConfig

    def __init__(self, config: CCLLSConfig, size: int) -> None:
        super().__init__(config, size)
        self.config = config
        self.backbone = backbone.build(config.backbone, config.weights, size)
        shapes = map_shapes(self.backbone, size)[-4:]
        width = 0 if config.fusion and not config.pooled else self.backbone.width
        if config.fusion:
            self.fusion = MultiScale(shapes, config.channels)
            width += self.fusion.grid**2
        deep, self.cells = shapes[-1][0], max(4, shapes[-1][1])
        taught = [place for place, weight in enumerate(config.layer_weights) if weight and config.samples]
        self.students = nn.ModuleDict({str(place): _student(shapes[place][0], deep) for place in taught})
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
        if config.samples:
            centroids = kmeans(deep.mean(dim=(2, 3))[None], config.classes)
            for name, student in self.students.items():
                vectors = student(shallow[int(name)])[None].float()
                terms[f"samples{name}"] = config.layer_weights[int(name)] * misalignment(vectors, centroids)
        if config.maps:
            centroids = kmeans(self.code(deep), config.map_clusters)
            for place, weight in enumerate(config.layer_weights):
                if weight:
                    codes = self.code(shallow[place]).float()
                    terms[f"maps{place}"] = weight * misalignment(codes, centroids)
        if config.affect_weight:
            terms["affect"] = config.affect_weight * affect_loss(self.affect(embedding), batch)
        return terms

    def code(self, stage: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c 4"]:
        """Where each channel fires, on the deep layer's grid (4 x 4 at least)."""
        pooled = functional.adaptive_avg_pool2d(stage, self.cells)
        return hard_peaks(pooled) if self.config.legacy else soft_peaks(pooled, self.config.sharpness)

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


def _student(channels: int, deep: int) -> nn.Sequential:
    """Conv, GAP, FC, ReLU of the figure: a shallow map to a vector in the deep layer's space."""
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
