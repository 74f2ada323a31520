"""The baseline: a fine-tuned backbone with one linear layer per task.

*Given:* nothing; every other method is compared with this one, on the same backbone, size, augmentation and
schedule. *Chosen:* cross-entropy against FERPlus vote shares (Barsoum et al. 2016 found that soft targets beat the
majority label), dropout 0.2 on the pooled vector, and a linear head with tanh for apparent valence and arousal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
from pydantic import Field
from torch import nn

from mien.methods.base import (
    AffectHead,
    Batch,
    MethodConfig,
    Prediction,
    Recognition,
    Terms,
    affect_loss,
    expression_loss,
)

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


class BaselineConfig(MethodConfig):
    """Linear heads on a backbone."""

    dropout: float = Field(0.2, ge=0, lt=1)
    adjust: float = Field(
        0.0, ge=0, le=1, description="share of each set's log prior added to training logits"
    )


class Baseline(Recognition):
    """A backbone with linear expression and affect heads."""

    Config: ClassVar[type[MethodConfig]] = BaselineConfig

    def __init__(self, config: BaselineConfig, size: int) -> None:
        super().__init__(config, size)
        self.config = config
        self.backbone = config.encoder(size)
        self.dropout = nn.Dropout(config.dropout)
        self.expression = nn.Linear(self.backbone.width, config.classes)
        self.affect = AffectHead(self.backbone.width)

    def forward(self, batch: Batch, turn: str) -> Terms:
        embedding = self.dropout(self.backbone(batch.image)[0])
        terms = {"expression": expression_loss(self.expression(embedding), batch, self.config.adjust)}
        if self.config.affect_weight:
            terms["affect"] = self.config.affect_weight * affect_loss(self.affect(embedding), batch)
        return terms

    @torch.no_grad()
    def predict(self, images: Float[Tensor, "n 3 h w"]) -> Prediction:
        embedding = self.backbone(images)[0]
        return Prediction(self.expression(embedding), self.affect(embedding), embedding)
