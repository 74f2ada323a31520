"""Validation metrics of a method in training, for `mien.training.loop.run`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from mien.data.transforms import normalise, to_float
from mien.evaluation import metrics
from mien.faces.recognise import softmax

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mien.data.cropping import Samples
    from mien.methods.base import Recognition


def validate(method: Recognition, samples: list[Samples], batch: int) -> dict[str, float]:
    """Evaluate a method on crops without augmentation, in evaluation mode.

    Args:
        method: the method to evaluate; its mode is restored.
        samples: the validation sets, pooled.
        batch: crops in one run of the network.

    Returns accuracy, macro_accuracy and cross_entropy (nats) where pictures have an expression label, and ccc_valence,
    ccc_arousal and their mean ccc where at least two have valence and arousal; see `mien.evaluation.metrics`.
    """
    was_training = method.training
    logits, affect = _answers(method.eval(), samples, batch)
    method.train(was_training)
    expression = np.concatenate([one.expression for one in samples])
    target = np.concatenate([one.affect for one in samples])
    values: dict[str, float] = {}
    labelled = expression >= 0
    if labelled.any():
        truth, answered = expression[labelled], logits[labelled]
        scores = metrics.classification(metrics.confusion(truth, answered.argmax(axis=1), answered.shape[1]))
        values = {name: float(scores[name]) for name in ("accuracy", "macro_accuracy")}
        values["cross_entropy"] = metrics.log_loss(softmax(answered), truth)
    rated = np.isfinite(target).all(axis=1)
    if rated.sum() > 1:
        for place, name in enumerate(("valence", "arousal")):
            values[f"ccc_{name}"] = metrics.affect(affect[rated, place], target[rated, place])["ccc"]
        values["ccc"] = (values["ccc_valence"] + values["ccc_arousal"]) / 2
    return values


def _answers(
    method: Recognition, samples: list[Samples], batch: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Logits [n, k] and affect [n, 2] of all samples, in order."""
    device = next(method.parameters()).device
    logits: list[NDArray[np.float32]] = []
    affect: list[NDArray[np.float32]] = []
    with torch.inference_mode():
        for one in samples:
            for start in range(0, len(one), batch):
                crops = torch.from_numpy(np.array(one.images[start : start + batch])).to(device)
                prediction = method.predict(normalise(to_float(crops)))
                logits.append(prediction.logits.float().cpu().numpy())
                affect.append(prediction.affect.float().cpu().numpy())
    return np.concatenate(logits), np.concatenate(affect)
