"""Class metrics by hand, and against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import f1_score, recall_score

from layerprobe.probe.metrics import CLASS_METRICS, macro_f1, uar

# recalls 3/4, 1/2, 0 and none of class 3; precisions 3/5, 1/1, 0/0 and 0/1
TRUTH = np.array([0, 0, 0, 0, 1, 1, 2])
PREDICTION = np.array([0, 0, 0, 3, 0, 1, 0])


def test_uar_averages_recall_over_labelled_classes_and_not_over_utterances():
    # accuracy would be 4/7, and the mean over all four classes (3/4 + 1/2) / 4
    assert uar(TRUTH, PREDICTION) == pytest.approx((3 / 4 + 1 / 2 + 0) / 3)


def test_macro_f1_counts_a_class_that_is_only_predicted_as_0():
    # F1 of class 0 is 2/3, of class 1 also 2/3; the mean over labelled classes alone would be 4/9
    assert macro_f1(TRUTH, PREDICTION) == pytest.approx((2 / 3 + 2 / 3 + 0 + 0) / 4)


def test_guessing_one_class_gives_chance_however_common_it_is():
    truth = np.repeat([0, 1, 2, 3], [97, 1, 1, 1])
    assert uar(truth, np.zeros(100, dtype=int)) == pytest.approx(1 / 4)


def test_the_metrics_equal_those_of_scikit_learn(rng):
    """Codes 0-2 are labelled and 0-3 predicted: recall is averaged over labelled classes, F1 over all four."""
    for _ in range(20):
        truth, prediction = rng.choice(3, size=40, p=[0.7, 0.2, 0.1]), rng.integers(0, 4, size=40)
        labels = np.unique(truth)
        recall = recall_score(truth, prediction, labels=labels, average="macro", zero_division=0)
        assert uar(truth, prediction) == pytest.approx(recall, abs=1e-12)
        f1 = f1_score(truth, prediction, average="macro", zero_division=0)
        assert macro_f1(truth, prediction) == pytest.approx(f1, abs=1e-12)


def test_every_metric_is_1_where_all_is_right_and_0_where_nothing_is():
    truth = np.array([4, 2, 2, 7])
    for metric in CLASS_METRICS.values():
        assert metric(truth, truth) == 1
        assert metric(truth, np.array([2, 4, 7, 4])) == 0
