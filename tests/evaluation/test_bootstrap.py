"""Intervals: every resampled metric equals that of the images drawn, and intervals have the coverage they state."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from vggft.evaluation import bootstrap
from vggft.evaluation.checks import evaluate
from vggft.evaluation.metrics import METRICS

CLASSES = ["a", "b", "c", "d", "e", "f", "g"]


def draw(rng: np.random.Generator, images: int, multi_label: bool, classes: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Images of classes of unequal sizes, and what a classifier that is a little too sure says of them."""
    prior = np.linspace(3, 1, classes) / np.linspace(3, 1, classes).sum()
    if multi_label:
        labels = (rng.random((images, classes)) < prior).astype(int)
        return labels, 1 / (1 + np.exp(-(3.6 * labels - 1.8 + rng.normal(0, 1.5, (images, classes)))))
    labels = rng.choice(classes, images, p=prior)
    logits = 1.6 * (rng.normal(size=(images, classes)) + 2.4 * np.eye(classes)[labels])
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return labels, odds / odds.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("multi_label", [False, True])
def test_each_draw_is_judged_as_its_images_would_be(multi_label: bool) -> None:
    """Every metric equals scikit-learn's on the images of each draw; with ties, and with classes that are not drawn."""
    rng = np.random.default_rng(1)
    labels, probabilities = draw(rng, 40, multi_label, classes=7)
    probabilities = probabilities.round(1)
    if not multi_label:
        probabilities = (probabilities + 0.01) / (probabilities + 0.01).sum(axis=1, keepdims=True)
    whole = evaluate(labels, probabilities, CLASSES, multi_label=multi_label)
    arrays = whole.labels, whole.probabilities, whole.predictions
    found = bootstrap.resampled(list(whole), *arrays, 25, seed=3)
    assert set(found) == set(whole.metrics)
    weights = np.random.default_rng(3).multinomial(40, np.full(40, 1 / 40), size=25)
    undefined = 0
    for i, drawn in enumerate(weights):
        rows = np.repeat(np.arange(40), drawn)
        again = evaluate(labels[rows], probabilities[rows], CLASSES, multi_label=multi_label)
        for name, values in found.items():
            expected = again[name]
            undefined += expected is None
            assert values[i] == pytest.approx(np.nan if expected is None else expected, abs=2e-5, nan_ok=True), name
    assert not undefined


def test_a_draw_without_all_classes() -> None:
    whole = evaluate([0, 0, 1], [[0.9, 0.1], [0.2, 0.8], [0.3, 0.7]], ["a", "b"])
    arrays = whole.labels, whole.probabilities, whole.predictions
    found = bootstrap.resampled(["mcc", "roc_auc", "balanced_accuracy"], *arrays, 200)
    assert np.isnan(found["mcc"]).any() and np.isnan(found["roc_auc"]).any()
    assert np.isfinite(found["balanced_accuracy"]).all()
    assert whole.intervals["mcc"] is not None


def test_the_names_are_those_of_the_evaluation() -> None:
    assert set(bootstrap.METRICS) == set(METRICS)
    assert set(bootstrap.SHARES) <= set(METRICS)


@pytest.mark.parametrize("samples", [120, pytest.param(1000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("multi_label", [False, True])
def test_intervals_hold_the_truth_at_their_rate(multi_label: bool, samples: int) -> None:
    """90 % intervals of samples of 200 images: 85 to 95 % of them hold the truth, give or take two standard errors."""
    rng, names = np.random.default_rng(0), CLASSES[:5]
    truth = evaluate(*draw(rng, 100_000, multi_label), names, multi_label=multi_label).metrics
    held = dict.fromkeys(truth, 0)
    for _ in range(samples):
        labels, probabilities = draw(rng, 200, multi_label)
        predictions = (probabilities >= 0.5).astype(int) if multi_label else probabilities.argmax(axis=1)
        once = bootstrap.Draws(np.ones((1, 200), "float32"), labels, probabilities, predictions)
        values = {name: round(float(bootstrap.METRICS[name](once)[0]), 6) for name in truth}  # faster than scikit-learn
        for name, ends in bootstrap.intervals(values, labels, probabilities, predictions, 0.9, 200).items():
            assert ends is not None
            held[name] += ends[0] <= truth[name] <= ends[1]
    rates = {name: count / samples for name, count in held.items()}
    scatter = 2 * np.sqrt(0.9 * 0.1 / samples)
    print({name: round(rate, 3) for name, rate in rates.items()})
    assert all(0.85 - scatter <= rate <= 0.95 + scatter for rate in rates.values()), rates


@pytest.mark.parametrize("images", [20, 30, 50, 100, 400])
def test_the_interval_of_an_accuracy_holds_the_truth_at_its_rate(images: int) -> None:
    """Exactly, by the binomial distribution: at least 95 % for every accuracy, and not much more."""
    right = np.arange(images + 1)
    ends = np.array([bootstrap.share_interval(count / images, images, 0.95) for count in right])
    assert (np.diff(ends, axis=0) > -1e-12).all() and (
        (ends[:, 0] <= right / images) & (right / images <= ends[:, 1])
    ).all()
    for truth in np.arange(0.6, 0.995, 0.01):
        inside = (ends[:, 0] <= truth) & (truth <= ends[:, 1])
        assert 0.949 < binom.pmf(right[inside], images, truth).sum() < 0.994


def test_few_images_of_which_most_are_right() -> None:
    """26 of 30: the bootstrap gave 0.667 to 0.933, and to 25 of 30 0.733 to 0.967, by rounding in float32."""
    ends = []
    for count in (25, 26):
        labels = np.zeros(30, int)
        probabilities = np.tile([0.9, 0.1], (30, 1))
        probabilities[count:] = [0.2, 0.8]
        ends.append(evaluate(labels, probabilities, ["a", "b"]).intervals["accuracy"])
    assert ends[1] == (pytest.approx(0.684, abs=1e-3), pytest.approx(0.956, abs=1e-3))
    assert ends[0][0] < ends[1][0] and ends[0][1] < ends[1][1]


def test_ties_fall_on_both_sides() -> None:
    """Replicates in float32 that equal the value but for the last bits count as equal to it."""
    value, rng = 0.7, np.random.default_rng(0)
    drawn = rng.binomial(30, value, 4000) / 30
    exact = bootstrap.interval(value, drawn, 0.95)
    for off in (-1e-8, 1e-8):
        assert bootstrap.interval(value, drawn + off, 0.95) == pytest.approx(exact, abs=1e-6)


def test_where_no_image_is_wrong_only_shares_have_an_interval() -> None:
    perfect = evaluate(np.arange(40) % 4, np.eye(4)[np.arange(40) % 4], list("abcd"))
    low, high = perfect.intervals["accuracy"]
    assert 0.88 < low < 0.9 and high == 1.0
    assert perfect.intervals["macro_f1"] is None
    assert perfect.to_dict()["intervals"]["macro_f1"] is None


def test_more_images_tell_more_and_the_same_seed_the_same() -> None:
    rng = np.random.default_rng(0)
    widths = []
    for images in (100, 1600):
        found = evaluate(*draw(rng, images, False), CLASSES[:5])
        low, high = found.intervals["accuracy"]
        assert low < found["accuracy"] < high
        assert found.bootstrap() == found.intervals
        assert found.bootstrap(0.8)["accuracy"][0] > low
        widths.append(high - low)
    assert 2.5 < widths[0] / widths[1] < 6  # a fourth, by the root of 16
    assert bootstrap.resamples_for(400, 10) == 1000 and bootstrap.resamples_for(10_000, 1000) == 200
