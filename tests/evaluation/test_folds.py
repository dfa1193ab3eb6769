"""The result of a cross-validation, from predictions that are made up."""

import numpy as np
import pytest

from vggft.evaluation.checks import evaluate
from vggft.evaluation.folds import CrossValidation, FoldScore


def predictions(seed, right):
    """An evaluation of 90 images of 3 classes, of which about the share `right` is right."""
    rng, labels = np.random.default_rng(seed), np.arange(90) % 3
    shown = np.where(rng.random(90) < right, labels, (labels + 1) % 3)
    probabilities = np.eye(3)[shown] * 0.7 + rng.dirichlet(np.ones(3), 90) * 0.3
    return evaluate(labels, probabilities, "abc", split="out-of-fold", names=range(90))


def test_one_repeat_has_the_intervals_of_its_evaluation():
    one = predictions(0, 0.8)
    assert CrossValidation((), (one,)).intervals == one.intervals
    assert CrossValidation((), (one,)).metrics == pytest.approx(one.metrics)


def test_the_same_predictions_again_tell_nothing_new():
    """More repeats are not more images: the interval does not shrink by them alone."""
    one = predictions(0, 0.8)
    many = CrossValidation((), (one,) * 4)
    for metric, ends in one.intervals.items():
        assert many.intervals[metric] == pytest.approx(ends), metric


def test_metrics_are_means_over_repeats():
    both = predictions(0, 0.9), predictions(1, 0.6)
    result = CrossValidation((), both)
    for metric in result:
        assert result[metric] == pytest.approx((both[0][metric] + both[1][metric]) / 2), metric
    low, high = result.interval
    assert both[1].intervals["accuracy"][0] < low < result.score < high < both[0].intervals["accuracy"][1]


def test_without_mistakes_there_is_an_interval_too():
    low, high = CrossValidation((), (predictions(0, 1.0),) * 2).interval
    assert 0.9 < low < high == 1


def test_a_fold_that_does_not_define_the_score():
    scores = [FoldScore(0, fold, 60, 10, 20, {"accuracy": score}) for fold, score in enumerate((0.5, None, 1.0))]
    result = CrossValidation(tuple(scores), (predictions(0, 0.8),))
    assert result.scores == [0.5, None, 1.0] and result.mean == 0.75
    assert result.about == "3 folds: accuracy 0.500 to 1.000, mean 0.750."
