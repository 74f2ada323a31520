"""KE2NT: facial expression recognition with knowledge and an emotional-to-neutral transformation (Li et al. 2025).

arXiv 2409.08598; IEEE TMM 2025, DOI 10.1109/TMM.2025.3604916.

*Given* (abstract, and the authors' public script for Swin-T on RAF-DB): an image is classified by the cosine between
its feature and frozen CLIP embeddings of the expression names, scaled by about 100; a small network 512 -> 128 -> 512
turns the feature into a neutral version of itself; the difference of the two must point the way from the neutral text
to the expression's text; the text is the anchor of a contrast between the two versions; all losses have weight 1.

*Chosen:*

- The contrast is of each image with its own text. The public script averages over all pairs of texts and images, which
  does not change when labels are shuffled, so cannot teach labels; it is kept as `legacy`.
- Vote shares: the transformation and contrast terms are averaged over (image, expression) pairs, each weighted by its
  vote share, neutral left out. One-hot shares give the paper's sums back.
- Text: MiniLM's by default, as CLIP's weights do not ship with the package. Its sentences lie closer together than a
  scale of 100 can bear, so the scale starts at 20 and is learned; 100 and fixed is the published setting.
- Projection: batch-normalised linear map from the backbone's width to the text's; `double` is the script's pair of
  them for Swin-T, `none` uses the pooled vector as it is (ResNet-18 with CLIP: 512 = 512).
- A batch without any emotional sample contributes exactly zero to both terms (the script's mean over nothing is NaN).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

import torch
from pydantic import Field
from torch import nn
from torch.nn import functional

from mien.errors import ConfigError
from mien.labels import NEUTRAL
from mien.methods import backbone, text_embeddings
from mien.methods.base import (
    AffectHead,
    Batch,
    MethodConfig,
    Prediction,
    Recognition,
    Terms,
    affect_loss,
    expression_loss,
    expression_target,
)

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


class KE2NTConfig(MethodConfig):
    """The released weights of the three losses; each part can be switched off."""

    text: str = Field(
        "minilm-photo", description="a name or file that mien.methods.text_embeddings.load knows"
    )
    matching: Literal["text", "linear"] = Field(
        "text", description="classify by text or by a free linear layer"
    )
    projection: Literal["linear", "double", "none"] = "linear"
    hidden: int = Field(128, ge=1, description="width of the emotional-to-neutral network")
    scale: float = Field(20.0, gt=0, description="multiplies the cosines; the paper takes CLIP's, about 100")
    learn_scale: bool = True
    transform_weight: float = Field(1.0, ge=0, description="lambda_t; 0 turns the term off")
    contrast_weight: float = Field(1.0, ge=0, description="lambda_c; 0 turns the term off")
    dropout: float = Field(0.2, ge=0, lt=1, description="on the pooled vector, as in the baseline")
    legacy: bool = Field(False, description="contrast all pairs, as the public script does")


class Versions(NamedTuple):
    """The two versions of a face's feature, both on the text's scale of directions."""

    emotional: Float[Tensor, "n d"]
    neutral: Float[Tensor, "n d"]


def _projection(kind: str, width: int, dimension: int) -> nn.Module:
    if kind == "none":
        if width != dimension:
            raise ConfigError(
                f"projection 'none' needs text of {width} numbers, this set has {dimension}: use 'linear'"
            )
        return nn.Identity()
    last = [nn.Linear(width, dimension, bias=False), nn.BatchNorm1d(dimension)]
    if kind == "linear":
        return nn.Sequential(*last)
    return nn.Sequential(nn.Linear(width, width, bias=False), nn.BatchNorm1d(width), *last)


def match(features: Float[Tensor, "n d"], texts: Float[Tensor, "k d"], scale: Tensor) -> Float[Tensor, "n k"]:
    """Scaled cosine between each feature and each text."""
    return scale * functional.normalize(features, dim=1) @ functional.normalize(texts, dim=1).T


def transformation(
    versions: Versions, texts: Float[Tensor, "k d"], shares: Float[Tensor, "n k"]
) -> Float[Tensor, ""]:
    """Mean of 1 - cos(f_e - f_n, t_y - t_n) over votes for y other than neutral; 0 where the two are parallel."""
    change = functional.normalize(versions.emotional - versions.neutral, dim=1)
    meaning = functional.normalize(texts - texts[NEUTRAL], dim=1)
    return _mean_over_votes(1 - change @ meaning.T, shares)


def self_contrast(
    versions: Versions, texts: Float[Tensor, "k d"], shares: Float[Tensor, "n k"]
) -> Float[Tensor, ""]:
    """Mean of 2 + cos(t_y, f_n) - cos(t_y, f_e) over votes for y other than neutral; in [0, 4]."""
    anchors = functional.normalize(texts, dim=1)
    near = functional.normalize(versions.emotional, dim=1) @ anchors.T
    far = functional.normalize(versions.neutral, dim=1) @ anchors.T
    return _mean_over_votes(2 + far - near, shares)


def self_contrast_all_pairs(
    versions: Versions, texts: Float[Tensor, "k d"], shares: Float[Tensor, "n k"]
) -> Float[Tensor, ""]:
    """The public script's form: every emotional image against the text of every other, whatever its label."""
    emotional = _emotional(shares)
    pooled = emotional.sum(dim=0, keepdim=True).expand_as(emotional)
    images = emotional.sum(dim=1, keepdim=True)
    return self_contrast(versions, texts, pooled * images)


def _emotional(shares: Float[Tensor, "n k"]) -> Float[Tensor, "n k"]:
    """The shares without the neutral class; columns keep their places."""
    keep = torch.ones_like(shares)
    keep[:, NEUTRAL] = 0
    return shares * keep


def _mean_over_votes(each: Float[Tensor, "n k"], shares: Float[Tensor, "n k"]) -> Float[Tensor, ""]:
    weights = _emotional(shares)
    return (each * weights).sum() / weights.sum().clamp(min=1e-6)


class KE2NT(Recognition):
    """A backbone whose features are compared with texts, and with a neutral version of themselves in training."""

    Config: ClassVar[type[MethodConfig]] = KE2NTConfig
    eight_only: ClassVar[str] = "it compares faces with texts of the eight expressions"
    texts: Tensor

    def __init__(self, config: KE2NTConfig, size: int) -> None:
        super().__init__(config, size)
        self.config = config
        table = torch.from_numpy(text_embeddings.load(config.text).embeddings[: config.classes].copy())
        dimension = table.shape[1]
        self.register_buffer("texts", table)
        self.backbone = backbone.build(config.backbone, config.weights, size)
        self.dropout = nn.Dropout(config.dropout)
        self.projection = _projection(config.projection, self.backbone.width, dimension)
        if config.matching == "linear":
            self.linear = nn.Linear(dimension, config.classes)
        else:
            scale = torch.tensor(math.log(config.scale))
            self.log_scale = nn.Parameter(scale, requires_grad=config.learn_scale)
        if config.transform_weight or config.contrast_weight:
            self.transformer = nn.Sequential(
                nn.Linear(dimension, config.hidden), nn.ReLU(), nn.Linear(config.hidden, dimension)
            )
        self.affect = AffectHead(dimension)

    def forward(self, batch: Batch, turn: str) -> Terms:
        config = self.config
        feature = self.feature(batch.image)
        shares, labelled = expression_target(batch, config.classes)
        shares = shares * labelled[:, None]
        terms = {"supervision": expression_loss(self.classify(feature), batch)}
        if config.transform_weight or config.contrast_weight:
            versions = Versions(feature, self.transformer(feature))
            if config.transform_weight:
                terms["transformation"] = config.transform_weight * transformation(
                    versions, self.texts, shares
                )
            if config.contrast_weight:
                contrast = self_contrast_all_pairs if config.legacy else self_contrast
                terms["self_contrast"] = config.contrast_weight * contrast(versions, self.texts, shares)
        if config.affect_weight:
            terms["affect"] = config.affect_weight * affect_loss(self.affect(feature), batch)
        return terms

    def feature(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n d"]:
        """The image's vector in the space of the texts."""
        vector: Tensor = self.projection(self.dropout(self.backbone(images)[0]))
        return vector

    def classify(self, feature: Float[Tensor, "n d"]) -> Float[Tensor, "n k"]:
        """Logits by text, or by the free linear layer of the ladder's first rung."""
        if self.config.matching == "linear":
            logits: Tensor = self.linear(feature)
            return logits
        return match(feature, self.texts, self.log_scale.exp().clamp(max=100))

    @torch.no_grad()
    def versions(self, images: Float[Tensor, "n 3 h w"]) -> Versions:
        """Each face's feature and its neutral version, for figures.

        Raises:
            ConfigError: this network was trained without the transformation.
        """
        if not hasattr(self, "transformer"):
            raise ConfigError("no neutral versions: transform_weight and contrast_weight were both 0")
        feature = self.feature(images)
        return Versions(feature, self.transformer(feature))

    @torch.no_grad()
    def predict(self, images: Float[Tensor, "n 3 h w"]) -> Prediction:
        feature = self.feature(images)
        return Prediction(self.classify(feature), self.affect(feature), feature)
