"""Confidence intervals of metrics by the bootstrap: images are resampled with replacement, a thousand times.

Drawing N of N images with replacement gives each image an integer weight. `METRICS` has every metric of
`metrics.METRICS` as a function of such weights, for all draws at once: calling scikit-learn for each draw would take
250 times as long. A test compares every metric with scikit-learn's on the images drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.stats import binomtest, norm

from ..errors import ConfigError
from ..fields import is_number, shown
from .calibration import BINS, bin_of, decisions, error_if_calibrated
from .mistakes import correct, in_top, losses

Interval = tuple[float, float] | None
TIE = 1e-6  # values of a metric that are nearer are the same
WEIGHTS_AT_ONCE = 400_000  # few enough for the processor's caches: more are slower, and take 100 MB


@dataclass(frozen=True, eq=False)
class Draws:
    """B draws of the images, with their labels and predictions.

    Args:
        weights: (B, N) float32, how often each image was drawn.
        labels: (N,) class indices; (N, C) 0/1 when multi-label.
        probabilities: (N, C) in 0..1.
        predictions: predicted class indices, or 0/1, in the form of labels.
    """

    weights: np.ndarray
    labels: np.ndarray
    probabilities: np.ndarray
    predictions: np.ndarray

    def mean(self, values: np.ndarray) -> np.ndarray:
        """Return the (B,) mean of one value for each image."""
        return (self.weights @ values.astype(np.float32) / self.weights.sum(axis=1)).astype(np.float64)

    def one_hot(self, labels: np.ndarray) -> np.ndarray:
        """Return labels as (N, C) float32."""
        classes = self.probabilities.shape[1]
        return labels.astype(np.float32) if labels.ndim == 2 else np.eye(classes, dtype=np.float32)[labels]

    @cached_property
    def counts(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(B, C) float64 each: images of the class, images predicted as it, and images that are both."""
        true, predicted = self.one_hot(self.labels), self.one_hot(self.predictions)
        return tuple((self.weights @ each).astype(np.float64) for each in (true, predicted, true * predicted))  # type: ignore[return-value]

    @cached_property
    def recall(self) -> np.ndarray:
        """(B, C) recall; NaN for a class without images."""
        true, _, both = self.counts
        return _ratio(both, true)

    @cached_property
    def f1(self) -> np.ndarray:
        """(B, C) F1; NaN for a class without images."""
        true, predicted, both = self.counts
        return np.where(true > 0, _ratio(2 * both, true + predicted), np.nan)

    def weighted_f1(self) -> np.ndarray:
        """Return the (B,) mean F1, weighted by the images of each class."""
        return np.nansum(self.f1 * self.counts[0], axis=1) / self.counts[0].sum(axis=1)

    def micro_f1(self) -> np.ndarray:
        """Return the (B,) F1 of all decisions together."""
        true, predicted, both = (each.sum(axis=1) for each in self.counts)
        return _ratio(2 * both, true + predicted)

    def mcc(self) -> np.ndarray:
        """Return the (B,) Matthews correlation: NaN if only one class was drawn, 0 if only one is predicted."""
        true, predicted, both = self.counts
        total = true.sum(axis=1)
        above = both.sum(axis=1) * total - (true * predicted).sum(axis=1)
        below = np.sqrt((total**2 - (true**2).sum(axis=1)) * (total**2 - (predicted**2).sum(axis=1)))
        several = (true > 0).sum(axis=1) > 1
        return np.where(several, above / np.where(below > 0, below, np.inf), np.nan)

    @cached_property
    def ranked(self) -> tuple[np.ndarray, np.ndarray]:
        """(B, C) ROC AUC and average precision of each class against the rest; NaN if undefined."""
        true = self.one_hot(self.labels)
        auc, precision = (np.full((len(self.weights), true.shape[1]), np.nan) for _ in range(2))
        for c in np.flatnonzero(true.any(axis=0)):
            scores = self.probabilities[:, c]
            order = np.argsort(-scores, kind="stable")
            starts = np.flatnonzero(np.r_[True, np.diff(scores[order]) != 0])  # images with equal scores form a group
            drawn = self.weights[:, order].astype(np.float64)
            positive, every = (np.add.reduceat(each, starts, axis=1) for each in (drawn * true[order, c], drawn))
            above, total = positive.cumsum(axis=1), every.cumsum(axis=1)
            positives = above[:, -1]
            negatives = total[:, -1] - positives
            higher = above - positive / 2  # positives ranked above each group, and half of those in it
            auc[:, c] = _ratio(((every - positive) * higher).sum(axis=1), positives * negatives)
            precision[:, c] = _ratio((positive * above / np.maximum(total, 1)).sum(axis=1), positives)
        return auc, precision

    def calibration_error(self) -> np.ndarray:
        """Return the (B,) expected calibration error."""
        confidence, right = decisions(self.labels, self.probabilities)
        gaps, bins = right - confidence.astype(np.float64), bin_of(confidence)
        each = np.zeros((len(gaps), BINS))
        if gaps.ndim == 1:
            each[np.arange(len(gaps)), bins] = gaps
        else:
            np.add.at(each, (np.arange(len(gaps))[:, None], bins), gaps / gaps.shape[1])
        return np.abs(self.weights @ each).sum(axis=1) / self.weights.sum(axis=1)


METRICS = {
    "accuracy": lambda d: d.mean(correct(d.labels, d.predictions)),
    "exact_match": lambda d: d.mean(correct(d.labels, d.predictions)),
    "label_accuracy": lambda d: d.mean((d.labels == d.predictions).mean(axis=1)),
    "sensitivity": lambda d: d.recall[:, 1],
    "specificity": lambda d: d.recall[:, 0],
    "balanced_accuracy": lambda d: _mean(d.recall),
    "top_2_accuracy": lambda d: d.mean(in_top(d.labels, d.probabilities, 2)),
    "top_3_accuracy": lambda d: d.mean(in_top(d.labels, d.probabilities, 3)),
    "top_5_accuracy": lambda d: d.mean(in_top(d.labels, d.probabilities, 5)),
    "log_loss": lambda d: d.mean(losses(d.labels, d.probabilities)),
    "calibration_error": Draws.calibration_error,
    "roc_auc": lambda d: _mean(d.ranked[0]),
    "average_precision": lambda d: _mean(d.ranked[1]),
    "mcc": Draws.mcc,
    "macro_f1": lambda d: _mean(d.f1),
    "weighted_f1": Draws.weighted_f1,
    "micro_f1": Draws.micro_f1,
    "hamming_loss": lambda d: d.mean((d.labels != d.predictions).mean(axis=1)),
}
# Shares of images: of all, or of those of one class.
SHARES: dict[str, Callable[[np.ndarray], int]] = {
    **dict.fromkeys(("accuracy", "exact_match", "top_2_accuracy", "top_3_accuracy", "top_5_accuracy"), len),
    "sensitivity": lambda labels: int((labels == 1).sum()),
    "specificity": lambda labels: int((labels == 0).sum()),
}


def check_level(level: object) -> None:
    """Raise `ConfigError` unless a confidence level is a number between 0 and 1."""
    if not (is_number(level) and 0 < level < 1):  # type: ignore[operator]
        raise ConfigError(f"level must be in (0, 1), such as 0.95; got {shown(level)}.")


def resamples_for(images: int, classes: int) -> int:
    """Return the default number of draws: 1000, or down to 200 where ranking many images and classes takes long."""
    return max(200, min(1000, 200_000_000 // (images * classes)))


def resampled(
    metrics: Iterable[str], labels: np.ndarray, probabilities: np.ndarray, predictions: np.ndarray,
    resamples: int | None = None, seed: int = 0,
) -> dict[str, np.ndarray]:  # fmt: skip
    """Compute metrics of images drawn with replacement. The same seed and number of images give the same draws.

    Args:
        metrics: names in `METRICS`.
        labels, probabilities, predictions: as in `Draws`.
        resamples: the number of draws, by default `resamples_for`.
        seed: seed of the draws.

    Returns:
        metric -> (resamples,) float64, NaN if the images drawn do not define it.

    >>> labels, p = np.array([0, 1]), np.array([[0.9, 0.1], [0.8, 0.2]])
    >>> resampled(["accuracy"], labels, p, np.array([0, 0]), resamples=8)["accuracy"].shape
    (8,)
    """
    rng, (images, classes) = np.random.default_rng(seed), probabilities.shape
    resamples, at_once = resamples or resamples_for(images, classes), max(1, WEIGHTS_AT_ONCE // images)
    found: dict[str, list[np.ndarray]] = {name: [] for name in metrics}
    for start in range(0, resamples, at_once):
        size = min(at_once, resamples - start)
        weights = rng.multinomial(images, np.full(images, 1 / images), size=size).astype(np.float32)
        draws = Draws(weights, labels, probabilities, predictions)
        for name, values in found.items():
            values.append(METRICS[name](draws))
    return {name: np.concatenate(values) for name, values in found.items()}


def intervals(
    metrics: Mapping[str, float | None], labels: np.ndarray, probabilities: np.ndarray, predictions: np.ndarray,
    level: float, resamples: int | None = None, seed: int = 0,
) -> dict[str, Interval]:  # fmt: skip
    """Compute the confidence interval of each metric; `Evaluation.bootstrap` says how.

    Args:
        metrics: metric -> its value on these images; None if they do not define it.
        labels, probabilities, predictions: as in `Draws`.
        level: confidence level, 0..1.
        resamples, seed: as for `resampled`.

    >>> labels, p = np.array([0, 1]), np.array([[0.9, 0.1], [0.2, 0.8]])
    >>> found = intervals({"accuracy": 1.0, "mcc": 1.0}, labels, p, labels, level=0.5)
    >>> round(found["accuracy"][0], 2), found["mcc"]
    (0.51, None)
    """
    return mean_intervals(metrics, [(labels, probabilities, predictions)], level, resamples, seed)


def mean_intervals(
    metrics: Mapping[str, float | None], several: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]],
    level: float, resamples: int | None = None, seed: int = 0,
) -> dict[str, Interval]:  # fmt: skip
    """Compute the confidence interval of the mean of each metric over several predictions of the same images.

    A draw has the same images in all of the predictions.

    Args:
        metrics: metric -> its mean; None if the images do not define it.
        several: labels, probabilities and predictions, as in `Draws`, of each.
        level: confidence level, 0..1.
        resamples, seed: as for `resampled`.
    """
    check_level(level)
    found: dict[str, Interval] = dict.fromkeys(metrics)
    known = {name: value for name, value in metrics.items() if value is not None}
    drawn = [resampled([name for name in known if name not in SHARES], *arrays, resamples, seed) for arrays in several]
    for name, value in known.items():
        if name in SHARES:
            found[name] = share_interval(value, SHARES[name](several[0][0]), level)
            continue
        replicates = np.mean([each[name] for each in drawn], axis=0)
        if name == "calibration_error":
            by_chance = float(np.mean([error_if_calibrated(labels, p, level) for labels, p, _ in several]))
            found[name] = error_interval(value, replicates, by_chance, level)
        else:
            found[name] = interval(value, replicates, level)
    return found


def interval(value: float, replicates: np.ndarray, level: float) -> Interval:
    """Compute the bias-corrected percentile interval of Efron (1981).

    Args:
        value: value of the metric.
        replicates: (B,) its value in each draw; NaN if undefined.
        level: confidence level, 0..1.

    Returns:
        (low, high), or None if all draws give the same value, for example because no image is wrong.
    """
    known = np.sort(replicates[np.isfinite(replicates)])
    if len(known) < 2 or known[0] == known[-1]:
        return None
    # The weights are float32, so that a draw with the value itself may differ from it in the last bits.
    below = (np.count_nonzero(known < value - TIE) + np.count_nonzero(np.abs(known - value) <= TIE) / 2) / len(known)
    shift = 2 * norm.ppf(np.clip(below, 1 / len(known), 1 - 1 / len(known)))
    low, high = np.quantile(known, norm.cdf(shift + norm.ppf([(1 - level) / 2, (1 + level) / 2])))
    return float(low), float(high)


def error_interval(value: float, replicates: np.ndarray, by_chance: float, level: float) -> tuple[float, float]:
    """Compute the interval of the calibration error, whose upward bias is larger for fewer images.

    The basic bootstrap removes most of this bias, so its quantiles are taken at half the error rate. The interval
    begins at 0 if the error is at most `by_chance`, the result of `calibration.error_if_calibrated`. In simulations,
    90 % intervals contained the true error in 84 to 97 % of the samples.
    """
    low, high = 2 * value - np.quantile(replicates, [(3 + level) / 4, (1 - level) / 4])
    return 0.0 if value <= by_chance else max(0.0, float(low)), float(high)


def share_interval(share: float, images: int, level: float) -> tuple[float, float]:
    """Compute Wilson's interval of a share of images with the correction for continuity (Newcombe, 1998, method 4).

    For 20 to 400 images and shares from 0.6 to 0.99, 95 % intervals contain the true share in 95 to 99.3 % of all
    samples; percentiles of the bootstrap in 82 to 93 %.

    >>> [round(end, 3) for end in share_interval(1.0, images=10, level=0.95)]
    [0.655, 1.0]
    """
    found = binomtest(round(share * images), images).proportion_ci(level, method="wilsoncc")
    return float(found.low), float(found.high)


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    return np.divide(above, below, out=np.full(np.broadcast_shapes(above.shape, below.shape), np.nan), where=below > 0)


def _mean(scores: np.ndarray) -> np.ndarray:
    """Return the (B,) mean over the classes whose score is defined."""
    known = np.isfinite(scores)
    return _ratio(np.where(known, scores, 0).sum(axis=1), known.sum(axis=1))
