"""KE2NT: facial expression recognition with knowledge and an emotional-to-neutral transformation (Li et al. 2025).

arXiv 2409.08598; IEEE TMM 2025, DOI 10.1109/TMM.2025.3604916.

*Given* (abstract, and the authors' public script for Swin-T on RAF-DB): an image is classified by the cosine between
its feature and frozen CLIP embeddings of the expression names, scaled by about 100; a small network 512 -> 128 -> 512
turns the feature into a neutral version of itself; the difference of the two must point from the neutral text to the
expression's text; the text is the anchor of a contrast between the two versions; all losses have weight 1.

*Chosen:*

- Both versions, and all texts, have length 1. With free lengths, a long neutral version can give the difference any
  direction: on real faces it grew to 18 times the feature's length, and its direction was meaningless. On the
  sphere the difference points along t_y - t_n only where f_n is f_e mirrored in the plane between the two texts, and
  then cos(f_n, t_n) = cos(f_e, t_y): a neutral version is as near to neutral as the face is to its expression.
- The contrast pushes a neutral version away from its expression's text until it is no nearer than the neutral text.
  Without that bound its minimum is the opposite of t_y, which is far from neutral if texts are similar, and at the
  published weight 1 it dominates the transformation.
- The contrast is of each image with its own text. The public script averages over all pairs of texts and images, which
  does not change when labels are shuffled, so it cannot teach labels. `legacy` is that form, with free lengths and no
  bound.
- Vote shares: the transformation and contrast terms are averaged over (image, expression) pairs, each weighted by its
  vote share, neutral left out. One-hot shares give the paper's sums.
- Texts are centred by their mean. Sentences that differ in one word share most of their direction (cosines of .72 to
  .87), which batch-normalised features cannot have: they stay at cosines of .3 to .4 with their own text. `raw` is the
  paper's form.
- Text: MiniLM's by default, as CLIP's weights do not ship with the package. Its sentences are too similar for a scale
  of 100, so the scale starts at 20 and is learnt; 100 and fixed is the published setting.
- Projection: batch-normalised linear map from the backbone's width to the text's; `double` is the script's pair of such
  maps for Swin-T, `none` uses the pooled vector as it is (ResNet-18 with CLIP: 512 = 512).
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
)

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


class KE2NTConfig(MethodConfig):
    """The released weights of the three losses; each part can be switched off."""

    text: str = Field("minilm-photo", description="a name or file for mien.methods.text_embeddings.load")
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
    geometry: Literal["centred", "raw", "orthonormal"] = Field(
        "centred", description="raw is the paper's; orthonormal removes the texts' similarity, a control"
    )
    legacy: bool = Field(
        False, description="free lengths and a contrast of all pairs, as in the public script"
    )


class Versions(NamedTuple):
    """The two versions of a face's feature, of length 1 (of any length with `legacy`)."""

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


def _texts(config: KE2NTConfig) -> Float[Tensor, "k d"]:
    from mien.methods import text_embeddings  # imported here: the method itself needs only the vectors

    table = torch.from_numpy(text_embeddings.load(config.text).embeddings[: config.classes].copy())
    if config.geometry == "centred":
        table = table - table.mean(dim=0)
    if config.geometry == "orthonormal":  # the nearest orthonormal rows (Loewdin 1950)
        left, _, right = torch.linalg.svd(table, full_matrices=False)
        table = left @ right
    return table if config.legacy else functional.normalize(table, dim=1)


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
    """Mean of 2 + max(cos(t_y, f_n), cos(t_y, t_n)) - cos(t_y, f_e) over votes for y other than neutral; in [0, 4]."""
    anchors = functional.normalize(texts, dim=1)
    near = functional.normalize(versions.emotional, dim=1) @ anchors.T
    far = functional.normalize(versions.neutral, dim=1) @ anchors.T
    return _mean_over_votes(2 + torch.maximum(far, anchors @ anchors[NEUTRAL]) - near, shares)


def self_contrast_all_pairs(
    versions: Versions, texts: Float[Tensor, "k d"], shares: Float[Tensor, "n k"]
) -> Float[Tensor, ""]:
    """The public script's form: every emotional image against the text of every other, independent of labels."""
    anchors = functional.normalize(texts, dim=1)
    near = functional.normalize(versions.emotional, dim=1) @ anchors.T
    far = functional.normalize(versions.neutral, dim=1) @ anchors.T
    emotional = _emotional(shares)
    pooled = emotional.sum(dim=0, keepdim=True).expand_as(emotional)
    return _mean_over_votes(2 + far - near, pooled * emotional.sum(dim=1, keepdim=True))


def _emotional(shares: Float[Tensor, "n k"]) -> Float[Tensor, "n k"]:
    """The shares with the neutral class set to 0."""
    keep = torch.ones_like(shares)
    keep[:, NEUTRAL] = 0
    return shares * keep


def _mean_over_votes(each: Float[Tensor, "n k"], shares: Float[Tensor, "n k"]) -> Float[Tensor, ""]:
    weights = _emotional(shares)
    return (each * weights).sum() / weights.sum().clamp(min=1e-6)


class KE2NT(Recognition):
    """Compares a backbone's features with texts and, in training, with a neutral version of themselves."""

    Config: ClassVar[type[MethodConfig]] = KE2NTConfig
    eight_only: ClassVar[str] = "it compares faces with texts of the eight expressions"
    texts: Tensor

    def __init__(self, config: KE2NTConfig, size: int) -> None:
        super().__init__(config, size)
        self.config = config
        self.register_buffer("texts", _texts(config))
        dimension = self.texts.shape[1]
        self.backbone = config.encoder(size)
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
            versions = self.versions_of(feature)
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

    def versions_of(self, feature: Float[Tensor, "n d"]) -> Versions:
        """A feature and its neutral version."""
        if self.config.legacy:
            return Versions(feature, self.transformer(feature))
        emotional = functional.normalize(feature, dim=1)
        return Versions(emotional, functional.normalize(self.transformer(emotional), dim=1))

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
        return self.versions_of(self.feature(images))

    @torch.no_grad()
    def predict(self, images: Float[Tensor, "n 3 h w"]) -> Prediction:
        feature = self.feature(images)
        return Prediction(self.classify(feature), self.affect(feature), feature)


_NO_TRANSFORMATION, _NO_CONTRAST = {"transform_weight": 0.0}, {"contrast_weight": 0.0}

ABLATION = (
    Ablation(
        "linear", "a free linear classifier", {"matching": "linear", **_NO_TRANSFORMATION, **_NO_CONTRAST}
    ),
    Ablation("text", "classification by text", {**_NO_TRANSFORMATION, **_NO_CONTRAST}),
    Ablation("transformation", "text and the emotional-to-neutral transformation", _NO_CONTRAST),
    Ablation("contrast", "text and self-contrast", _NO_TRANSFORMATION),
    Ablation("full", "all three"),
    Ablation("raw", "all three on texts without centring", {"geometry": "raw"}),
    Ablation("random", "all three on random directions instead of text", {"text": "random-0"}),
    Ablation("orthonormal", "all three on texts made orthogonal to each other", {"geometry": "orthonormal"}),
)
"""The ladder of `mien ablate`, with its controls."""
