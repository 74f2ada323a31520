"""Validation of a method in training: right figures on crops as they are, and the method left as it was."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mien.data.cropping import Samples
from mien.evaluation import metrics
from mien.evaluation.validation import validate
from mien.methods.base import Prediction, Recognition


class Known(Recognition):
    """Says what it was told of each crop, which it knows by its first pixel."""

    def __init__(self, logits: torch.Tensor, affect: torch.Tensor) -> None:
        torch.nn.Module.__init__(self)
        self.answers = torch.nn.Parameter(torch.cat([logits, affect], dim=1))
        self.modes: list[bool] = []

    def forward(self, batch: object, turn: str) -> dict[str, torch.Tensor]:
        raise AssertionError("not trained")

    def predict(self, images: torch.Tensor) -> Prediction:
        self.modes.append(self.training)
        row = ((images[:, 0, 0, 0] * 0.229 + 0.485) * 255).round().long()
        found = self.answers[row]
        return Prediction(found[:, :-2], found[:, -2:], found)


def samples(rows: range, expression: np.ndarray, affect: np.ndarray) -> Samples:
    crops = np.broadcast_to(np.array(rows, np.uint8)[:, None, None], (len(rows), 4, 4))
    votes = np.full((len(rows), 3), np.nan, np.float32)
    some = slice(rows.start, rows.stop)
    names = tuple(map(str, rows))
    return Samples(
        crops, np.ones(len(rows), bool), expression[some], votes, affect[some], np.full(len(rows), -1), names
    )


def test_metrics_are_of_all_labelled_crops_of_all_sets() -> None:
    random = np.random.default_rng(0)
    logits = random.normal(size=(20, 3)).astype(np.float32)
    affect = random.uniform(-1, 1, (20, 2)).astype(np.float32)
    truth = random.integers(0, 3, 20)
    target = (affect + random.normal(0, 0.3, (20, 2))).astype(np.float32)
    truth[3], target[5] = -1, np.nan
    method = Known(torch.from_numpy(logits), torch.from_numpy(affect)).train()
    values = validate(method, [samples(range(13), truth, target), samples(range(13, 20), truth, target)], 4)
    labelled = truth >= 0
    hits = logits.argmax(axis=1) == truth
    assert values["accuracy"] == pytest.approx(hits[labelled].mean())
    recalls = [hits[truth == label].mean() for label in range(3)]
    assert values["macro_accuracy"] == pytest.approx(np.mean(recalls))
    entropy = torch.nn.functional.cross_entropy(
        torch.from_numpy(logits[labelled]), torch.from_numpy(truth[labelled])
    )
    assert values["cross_entropy"] == pytest.approx(float(entropy), abs=1e-6)
    rated = np.isfinite(target).all(axis=1)
    arousal = metrics.affect(affect[rated, 1], target[rated, 1])["ccc"]
    assert values["ccc_arousal"] == pytest.approx(arousal)
    assert values["ccc"] == pytest.approx((values["ccc_valence"] + arousal) / 2)
    assert method.training
    assert not any(method.modes), "judged in evaluation mode"


def test_what_is_not_labelled_is_not_judged() -> None:
    truth, target = np.full(4, -1), np.full((4, 2), np.nan, np.float32)
    method = Known(torch.zeros(4, 3), torch.zeros(4, 2))
    assert validate(method, [samples(range(4), truth, target)], 4) == {}
    assert validate(method, [samples(range(4), np.zeros(4, int), target)], 4).keys() == {
        "accuracy",
        "macro_accuracy",
        "cross_entropy",
    }
