"""Metrics against slow loops, closed forms, scikit-learn and scipy, and against their own invariances."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from scipy import linalg, stats
from sklearn import metrics as sk

from mien.evaluation import intervals, metrics
from mien.faces.recognise import softmax

K = 8


@pytest.fixture(scope="module")
def answers() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits, truth and prediction of 400 images, unbalanced, right about two times in three."""
    generator = np.random.default_rng(3)
    truth = generator.choice(K, 400, p=np.array([30, 25, 12, 12, 10, 1, 8, 2]) / 100)
    logits = generator.normal(size=(400, K)) + 2.2 * np.eye(K)[truth]
    return logits, truth, logits.argmax(axis=1)


def test_headline_figures_equal_scikit_learn(answers) -> None:
    _, truth, predicted = answers
    found = metrics.classification(metrics.confusion(truth, predicted, K))
    assert found["accuracy"] == pytest.approx(sk.accuracy_score(truth, predicted))
    assert found["macro_accuracy"] == pytest.approx(sk.balanced_accuracy_score(truth, predicted))
    for average, name in (("macro", "macro_f1"), ("weighted", "weighted_f1")):
        oracle = sk.f1_score(truth, predicted, average=average, labels=range(K), zero_division=0)
        assert found[name] == pytest.approx(oracle)


def test_confusion_rows_are_the_truth(answers) -> None:
    _, truth, predicted = answers
    matrix = metrics.confusion(truth, predicted, K)
    np.testing.assert_array_equal(matrix[:, :K], sk.confusion_matrix(truth, predicted, labels=range(K)))
    assert matrix[:, K].sum() == 0
    one = metrics.confusion([3], [5], K)
    assert one[3, 5] == 1
    assert one[5, 3] == 0


def test_a_missed_face_is_an_error_of_its_class_only() -> None:
    truth, predicted = np.array([0, 0, 1, 1]), np.array([0, metrics.NOT_DETECTED, 1, 1])
    matrix = metrics.confusion(truth, predicted, 2)
    found, each = metrics.classification(matrix), metrics.per_class(matrix)
    assert matrix.tolist() == [[1, 0, 1], [0, 2, 0]]
    assert found["accuracy"] == 0.75
    assert found["macro_accuracy"] == 0.75
    np.testing.assert_allclose(each["precision"], [1, 1])
    np.testing.assert_allclose(each["f1"], [2 / 3, 1])


def test_an_absent_class_counts_zero_in_f1_and_not_at_all_in_recall() -> None:
    found = metrics.classification(metrics.confusion([0, 1], [0, 1], 3))
    assert found["macro_accuracy"] == 1
    assert found["macro_f1"] == pytest.approx(2 / 3)


def test_an_empty_set_is_undefined_without_a_warning() -> None:
    found = metrics.classification(metrics.confusion([], [], K))
    assert all(math.isnan(value) for value in found.values())
    assert math.isnan(metrics.calibration_error([], []))
    assert math.isnan(metrics.affect([], [])["ccc"])


def test_a_class_out_of_range_is_refused() -> None:
    with pytest.raises(metrics.MetricError, match="leave unlabelled images out"):
        metrics.confusion([-1], [0], K)
    with pytest.raises(metrics.MetricError, match="2 true classes but 1 predictions"):
        metrics.confusion([0, 1], [0], K)


def test_calibration_error_equals_a_slow_loop(answers) -> None:
    logits, truth, predicted = answers
    sure, right = softmax(logits).max(axis=1), predicted == truth
    slow = 0.0
    for low in range(15):
        inside = (sure >= low / 15) & (sure < (low + 1) / 15)
        if inside.any():
            slow += inside.mean() * abs(right[inside].mean() - sure[inside].mean())
    assert metrics.calibration_error(sure, right) == pytest.approx(slow)


def test_calibration_error_of_known_cases() -> None:
    assert metrics.calibration_error([0.8] * 10, [1] * 8 + [0] * 2) == pytest.approx(0)
    assert metrics.calibration_error([1.0] * 10, [1] * 4 + [0] * 6) == pytest.approx(0.6)
    bins = metrics.reliability([1.0, 0.0, 0.5], [1, 0, 1], bins=2)
    assert [(part.low, part.high, part.count) for part in bins] == [(0.0, 0.5, 1), (0.5, 1.0, 2)]


def test_brier_and_log_loss_equal_slow_loops(answers) -> None:
    logits, truth, _ = answers
    shares = softmax(logits)
    slow = np.mean(
        [sum((p[c] - (c == y)) ** 2 for c in range(K)) for p, y in zip(shares, truth, strict=True)]
    )
    assert metrics.brier(shares, truth) == pytest.approx(slow)
    assert metrics.log_loss(shares, truth) == pytest.approx(sk.log_loss(truth, shares, labels=range(K)))
    assert metrics.log_loss([[0.0, 1.0]], [0]) == pytest.approx(-math.log(1e-12))


def test_risk_coverage_equals_a_slow_loop_and_ends_at_the_error_rate(answers) -> None:
    logits, truth, predicted = answers
    sure, right = softmax(logits).max(axis=1), predicted == truth
    coverage, risk, area = metrics.risk_coverage(sure, right)
    order = sorted(range(len(sure)), key=lambda index: -sure[index])
    slow = [1 - np.mean([right[i] for i in order[: kept + 1]]) for kept in range(len(order))]
    np.testing.assert_allclose(risk, slow)
    assert coverage[-1] == 1
    assert risk[-1] == pytest.approx(1 - right.mean())
    assert area == pytest.approx(np.mean(slow))


def test_ties_of_confidence_do_not_depend_on_the_order() -> None:
    _, risk, _ = metrics.risk_coverage([0.5] * 4, [1, 1, 0, 0])
    _, turned, _ = metrics.risk_coverage([0.5] * 4, [0, 0, 1, 1])
    np.testing.assert_allclose(risk, 0.5)
    np.testing.assert_allclose(turned, 0.5)


def test_temperature_recovers_the_one_that_was_applied() -> None:
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(20000, 4)) * 1.5
    shares = softmax(logits)
    truth = (shares.cumsum(axis=1) < generator.random((20000, 1))).sum(axis=1)
    assert metrics.fit_temperature(logits, truth) == pytest.approx(1, abs=0.05)
    assert metrics.fit_temperature(logits * 3, truth) == pytest.approx(3, rel=0.05)
    with pytest.raises(metrics.MetricError, match="validation"):
        metrics.fit_temperature(np.empty((0, 4)), [])


def test_mcnemar_equals_the_binomial_test_and_the_mid_p_definition() -> None:
    first = np.array([1] * 12 + [0] * 4 + [1] * 30, dtype=bool)
    second = np.array([0] * 12 + [1] * 4 + [1] * 30, dtype=bool)
    found = metrics.mcnemar(first, second)
    assert (found.first_only, found.second_only) == (12, 4)
    assert found.p_exact == pytest.approx(stats.binomtest(4, 16).pvalue)
    chance = [math.comb(16, i) / 2**16 for i in range(17)]
    assert found.p_mid == pytest.approx(2 * (sum(chance[:4]) + chance[4] / 2))
    assert metrics.mcnemar(first, first).p_exact == 1
    assert metrics.mcnemar([1, 0], [0, 1]).p_mid == 1


def test_affect_equals_closed_forms() -> None:
    """Acceptance check A1: exact to 1e-6."""
    generator = np.random.default_rng(1)
    y = generator.uniform(-1, 1, 500)
    p = np.clip(0.6 * y + 0.1 + 0.3 * generator.normal(size=500), -1, 1)
    found = metrics.affect(p, y)
    assert found["pcc"] == pytest.approx(stats.pearsonr(p, y).statistic, abs=1e-9)
    assert found["rmse"] == pytest.approx(math.sqrt(sk.mean_squared_error(y, p)), abs=1e-9)
    cov = np.mean((p - p.mean()) * (y - y.mean()))
    assert found["ccc"] == pytest.approx(2 * cov / (p.var() + y.var() + (p.mean() - y.mean()) ** 2), abs=1e-9)
    assert found["sagr"] == pytest.approx(np.mean([(a > 0) == (b > 0) for a, b in zip(p, y, strict=True)]))


def test_affect_relations_and_shuffled_order() -> None:
    generator = np.random.default_rng(2)
    y = generator.uniform(-1, 1, 300)
    p = 0.5 * y + 0.2 * generator.normal(size=300)
    base = metrics.affect(p, y)
    assert metrics.affect(y, y) == pytest.approx({"ccc": 1, "pcc": 1, "rmse": 0, "sagr": 1})
    assert abs(base["ccc"]) <= abs(base["pcc"]) <= 1
    moved, flipped = metrics.affect(p + 0.3, y), metrics.affect(-p, y)
    assert moved["pcc"] == pytest.approx(base["pcc"])
    assert moved["ccc"] < base["ccc"]
    assert flipped["pcc"] == pytest.approx(-base["pcc"])
    order = generator.permutation(300)
    assert metrics.affect(p[order], y[order]) == pytest.approx(base, abs=1e-12)


def test_affect_of_a_constant_and_the_sign_of_zero() -> None:
    found = metrics.affect([0.2, 0.2], [0.1, 0.5])
    assert math.isnan(found["pcc"])
    assert found["ccc"] == 0
    assert math.isnan(metrics.affect([0.1, 0.1], [0.1, 0.1])["ccc"])
    assert metrics.affect([0.0, 0.1, 0.2, -0.3], [0.0, 0.0, 0.5, 0.5])["sagr"] == 0.5


def test_affect_weights_equal_repeated_images() -> None:
    p, y = np.array([0.1, -0.4, 0.7]), np.array([0.2, -0.1, 0.4])
    repeated = metrics.affect(np.repeat(p, [2, 0, 3]), np.repeat(y, [2, 0, 3]))
    assert metrics.affect(p, y, weights=[2, 0, 3]) == pytest.approx(repeated)


def test_frechet_equals_the_matrix_square_root() -> None:
    generator = np.random.default_rng(5)
    a = generator.normal(size=(200, 6))
    b = generator.normal(size=(150, 6)) @ generator.normal(size=(6, 6)) + 0.5
    s, t = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    oracle = np.sum((a.mean(0) - b.mean(0)) ** 2) + np.trace(s + t - 2 * linalg.sqrtm(s @ t).real)
    assert metrics.frechet(a, b) == pytest.approx(oracle, rel=1e-9)
    assert metrics.frechet(a, b) == pytest.approx(metrics.frechet(b, a), rel=1e-9)
    assert metrics.frechet(a, a) == pytest.approx(0, abs=1e-9)
    assert metrics.frechet(a, a + 2) == pytest.approx(4 * 6, rel=1e-9)


def test_frechet_bias_falls_with_samples_and_is_ordered_floor_to_ceiling() -> None:
    """Acceptance check A2 in small: the same distribution < a half-way edit < the unedited one, at equal n."""
    generator = np.random.default_rng(6)
    near = [metrics.frechet(*generator.normal(size=(2, n, 16))) for n in (50, 200, 800)]
    assert all(before > after for before, after in pairwise(near))
    real, other, half = generator.normal(size=(3, 400, 16))
    assert metrics.frechet(real, other) < metrics.frechet(real, half + 0.5) < metrics.frechet(real, half + 1)


def test_frechet_survives_fewer_samples_than_dimensions() -> None:
    generator = np.random.default_rng(7)
    assert math.isfinite(metrics.frechet(*generator.normal(size=(2, 10, 40))))
    with pytest.raises(metrics.MetricError, match="same d"):
        metrics.frechet(np.zeros((4, 3)), np.zeros((4, 2)))
    with pytest.raises(metrics.MetricError, match="two or more"):
        metrics.frechet(np.zeros((1, 3)), np.zeros((4, 3)))


def test_separation_of_known_clouds() -> None:
    generator = np.random.default_rng(9)
    labels = np.repeat(np.arange(4), 25)
    apart = np.eye(8)[labels] + 0.02 * generator.normal(size=(100, 8))
    found = metrics.separation(apart, labels)
    assert found["silhouette"] > 0.95
    assert found["nmi"] == pytest.approx(1)
    assert found["recall_at_1"] == 1
    mixed = metrics.separation(generator.normal(size=(100, 8)), labels)
    assert abs(mixed["silhouette"]) < 0.1
    assert mixed["recall_at_1"] < 0.5
    assert all(math.isnan(value) for value in metrics.separation(apart[:3], [0, 0, 0]).values())


def test_spearman_is_one_for_any_rising_curve() -> None:
    x = np.linspace(0, 1, 11)
    assert metrics.spearman(x, x**5) == pytest.approx(1)
    assert metrics.spearman(x, -x) == pytest.approx(-1)
    assert math.isnan(metrics.spearman(x, np.ones(11)))


def test_bootstrap_interval_equals_the_binomial_one(answers) -> None:
    _, truth, predicted = answers
    found = intervals.classification_intervals(truth, predicted, K, intervals.Resampling(4000))["accuracy"]
    share = (truth == predicted).mean()
    half = 1.96 * math.sqrt(share * (1 - share) / len(truth))
    assert found.value == pytest.approx(share)
    assert found.low == pytest.approx(share - half, abs=0.006)
    assert found.high == pytest.approx(share + half, abs=0.006)


def test_bootstrap_draws_equal_repeated_images(answers) -> None:
    _, truth, predicted = answers
    drawn = intervals.classification_draws(truth, predicted, K, intervals.Resampling(3, 1))
    counts = np.concatenate(list(intervals.Resampling(3, 1).blocks(len(truth))))
    for row, times in enumerate(counts):
        matrix = metrics.confusion(np.repeat(truth, times), np.repeat(predicted, times), K)
        for name, value in metrics.classification(matrix).items():
            assert drawn[name][row] == pytest.approx(float(value)), name


def test_debiased_calibration_error_equals_the_binomial_formula() -> None:
    """With whole images the bootstrap's variance of a bin's gap is the plain one of Kumar, Liang & Ma."""
    random = np.random.default_rng(0)
    sure = random.choice([0.55, 0.7, 0.85, 0.95], 2000)
    right = random.random(2000) < sure - 0.1
    squared = 0.0
    for level in np.unique(sure):
        mine = right[sure == level]
        share = mine.mean()
        squared += len(mine) / 2000 * ((share - level) ** 2 - share * (1 - share) / len(mine))
    found = intervals.calibration_interval(sure, right, intervals.Resampling(4000))
    assert found.value == pytest.approx(math.sqrt(squared), rel=0.01)
    assert found.low < found.value < found.high


def test_calibration_error_of_few_and_constant_confidences() -> None:
    assert math.isnan(intervals.calibration_interval([], []).value)
    assert math.isnan(intervals.calibration_interval([0.5, math.nan], [0, 1]).value)
    one = intervals.calibration_interval([0.7], [1])
    assert one.value == pytest.approx(0.3)
    same = intervals.calibration_interval([1.0] * 50, [1] * 50)
    assert (same.value, same.low, same.high) == (0, 0, 0)
    assert metrics.equal_mass([0.5] * 9).tolist() == [0] * 9
    assert np.bincount(metrics.equal_mass(np.linspace(0, 1, 300))).tolist() == [20] * 15


@pytest.mark.parametrize("constant", [[0.1] * 5, [0.2] * 7, [1 / 3] * 11, [-0.7]])
def test_agreement_of_constants_is_undefined(constant: list[float]) -> None:
    found = metrics.affect(constant, constant)
    assert math.isnan(found["ccc"])
    assert math.isnan(found["pcc"])
    assert found["rmse"] == 0
    assert found["sagr"] == pytest.approx(1)
    other = metrics.affect(constant, [value + 0.1 for value in constant])
    assert other["ccc"] == 0
    assert math.isnan(other["pcc"])


def test_affect_of_odd_input() -> None:
    nothing = metrics.affect([], [])
    assert all(math.isnan(value) for value in nothing.values())
    assert all(math.isnan(v) for v in metrics.affect([0.1, math.nan], [0.1, 0.2]).values())
    assert all(math.isnan(v) for v in metrics.affect([0.1, 0.2], [0.1, 0.2], [0, 0]).values())
    kept = metrics.affect([0.1, math.nan, 0.4, 0.2], [0.3, 0.1, 0.5, 0.1], [1, 0, 2, 1])
    again = metrics.affect([0.1, 0.4, 0.4, 0.2], [0.3, 0.5, 0.5, 0.1])
    assert kept == pytest.approx(again)
    for weights in ([1, -1], [1, math.nan], [1]):
        with pytest.raises(metrics.MetricError):
            metrics.affect([0.1, 0.2], [0.1, 0.2], weights)


def test_affect_equals_scipy_and_the_definition() -> None:
    random = np.random.default_rng(1)
    for count in (2, 3, 10, 500):
        y = random.uniform(-1, 1, count)
        p = np.round(0.6 * y + random.normal(0, 0.3, count), 1)  # with ties
        found = metrics.affect(p, y)
        moments = np.cov(p, y, ddof=0)
        if np.ptp(p):
            assert found["pcc"] == pytest.approx(stats.pearsonr(p, y).statistic)
        ccc = 2 * moments[0, 1] / (moments[0, 0] + moments[1, 1] + (p.mean() - y.mean()) ** 2)
        assert found["ccc"] == pytest.approx(ccc)


@pytest.mark.parametrize("truth", [[0] * 6, [2, 2, 2, 5, 5, 5], [0, 1, 2, 3, 4, 5]])
@pytest.mark.parametrize("predicted", [[0] * 6, [7] * 6, [0, 1, 2, 3, 4, 5]])
def test_classification_of_few_classes_equals_scikit_learn(truth: list[int], predicted: list[int]) -> None:
    found = metrics.classification(metrics.confusion(truth, predicted, K))
    every = {"labels": range(K), "zero_division": 0}
    assert found["accuracy"] == pytest.approx(sk.accuracy_score(truth, predicted))
    recalls = sk.recall_score(truth, predicted, labels=sorted(set(truth)), average="macro", zero_division=0)
    assert found["macro_accuracy"] == pytest.approx(recalls)
    assert found["macro_f1"] == pytest.approx(sk.f1_score(truth, predicted, average="macro", **every))
    assert found["weighted_f1"] == pytest.approx(sk.f1_score(truth, predicted, average="weighted", **every))


@pytest.mark.parametrize(("hits", "count"), [(0, 16), (16, 16), (3, 18), (980, 1089)])
def test_score_interval_equals_scipy(hits: int, count: int) -> None:
    found = intervals.wilson(hits, count)
    oracle = stats.binomtest(hits, count).proportion_ci(0.95, method="wilson")
    assert (found.value, found.low, found.high) == pytest.approx(
        (hits / count, oracle.low, oracle.high), abs=1e-9
    )


def test_subjects_are_drawn_whole_and_widen_the_interval() -> None:
    subjects = [f"s{index // 20}" for index in range(400)]
    for counts in intervals.Resampling(20, subjects=subjects).blocks(400):
        assert (counts.reshape(-1, 20, 20).std(axis=2) == 0).all()
    right = np.repeat(np.arange(20) % 2, 20)
    images = intervals.classification_intervals(np.ones(400, int), right, 2)["accuracy"]
    people = intervals.classification_intervals(
        np.ones(400, int), right, 2, intervals.Resampling(subjects=subjects)
    )["accuracy"]
    assert people.high - people.low > 3 * (images.high - images.low)


def test_unknown_subjects_are_subjects_of_their_own() -> None:
    subjects = ["a", None, "a", None, "b"]
    counts = np.concatenate(list(intervals.Resampling(500, subjects=subjects).blocks(5)))
    assert (counts[:, 0] == counts[:, 2]).all()
    for other in (1, 3, 4):
        assert (counts[:, 0] != counts[:, other]).any()
    assert (counts[:, 1] != counts[:, 3]).any()


def test_blocks_do_not_change_the_draws(monkeypatch) -> None:
    whole = np.concatenate(list(intervals.Resampling(40, 4).blocks(50)))
    monkeypatch.setattr(intervals, "_CHUNK", 300)
    parts = list(intervals.Resampling(40, 4).blocks(50))
    assert len(parts) > 1
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_affect_interval_holds_the_value_and_shrinks_with_images() -> None:
    generator = np.random.default_rng(10)
    y = generator.uniform(-1, 1, 1600)
    p = 0.5 * y + 0.3 * generator.normal(size=1600)
    wide, narrow = (
        intervals.affect_intervals(p[:n], y[:n], intervals.Resampling(300))["ccc"] for n in (100, 1600)
    )
    assert wide.low < wide.value < wide.high
    assert (narrow.high - narrow.low) < 0.5 * (wide.high - wide.low)
