"""Labels that may be wrong: what a probe says of images that it has not seen, against the labels that they have."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize, minimize_scalar
from scipy.special import expit, log_softmax, softmax
from threadpoolctl import threadpool_limits

SURE = 0.7  # probability of a wrong label from which it is suggested to look: see docs/labels.md
FOLDS = 5
SHRINKAGE = 0.3  # of the covariance, as of a probe without validation images
PRIOR = 10.0  # images as many as which speak for errors that are as frequent between all pairs of classes
STEPS = 8  # of expectation and maximisation, after which nothing moves by more than a thousandth
LARGE = 2**20  # number of values from which several threads multiply matrices faster than one


@dataclass(frozen=True, eq=False)
class LabelIssues:
    """How likely the label of each of N images is wrong.

    Args:
        wrong: (N,) probability that the label is wrong, 0..1; 0 where nothing can be said.
        likely: (N,) int64, the class that is the most likely besides the label.
        confidence: (N,) its probability, 0..1, of a probe that has not seen the image.
        noise: estimated share of labels that are wrong, 0..1.
    """

    wrong: np.ndarray
    likely: np.ndarray
    confidence: np.ndarray
    noise: float

    def ranked(self, least: float = SURE) -> np.ndarray:
        """Return the rows whose label is wrong with at least this probability, the surest first."""
        order = np.argsort(-self.wrong, kind="stable")
        return order[self.wrong[order] >= least]


def label_issues(
    vectors: np.ndarray, labels: np.ndarray, num_classes: int, units: np.ndarray | None = None, seed: int = 0
) -> LabelIssues:
    """Find labels that may be wrong.

    A probe (linear discriminant analysis, in closed form) predicts every image from the folds that it is not in. Then
    its temperature, the share of wrong labels, and which classes are taken for which are fitted to the labels together,
    by maximum likelihood: a label is the true class, of which the probe gives the probability, or with the probability
    of an error another one (as in Bekker and Goldberger, ICASSP 2016). By this a doubtful probability of a weak
    probe counts for little, and a probe that fits all labels finds none. The thresholds of confident learning
    (arXiv:1911.00068) take a mistake of the probe for one of the label: where 80 % are told right, 30 % of what they
    find are errors, of this 85 %.

    Args:
        vectors: (N, C) float32 embeddings; see `features.vectors.embeddings`.
        labels: (N,) class indices.
        num_classes: number of classes.
        units: (N,) equal for images that are copies, or belong together: none is judged by another of them.
        seed: of the folds.

    >>> rng = np.random.default_rng(0)
    >>> labels = np.arange(200) % 4
    >>> vectors = rng.normal(size=(200, 8)).astype("float32") + 6 * np.eye(4, 8, dtype="float32")[labels]
    >>> labels[[3, 50]] = 0, 1  # were 3 and 2
    >>> found = label_issues(vectors, labels, 4)
    >>> sorted(found.ranked().tolist()), found.likely[[3, 50]].tolist()
    ([3, 50], [3, 2])
    """
    wrong, likely, confidence = np.zeros(len(labels)), np.array(labels, np.int64), np.zeros(len(labels))
    if len(np.unique(labels)) < 2:
        return LabelIssues(wrong, likely, confidence, 0.0)
    with threadpool_limits(1 if vectors.size < LARGE else None):
        logits, judged = _out_of_fold(vectors, labels, num_classes, units, seed)
    if not judged.any():
        return LabelIssues(wrong, likely, confidence, 0.0)
    posterior, probabilities, noise = _fit(logits[judged], labels[judged])
    own = np.arange(len(posterior)), labels[judged]
    wrong[judged] = 1 - posterior[own]
    posterior[own] = -1
    likely[judged] = posterior.argmax(axis=1)
    confidence[judged] = probabilities[own[0], likely[judged]]
    return LabelIssues(wrong, likely, confidence, noise)


def _folds(labels: np.ndarray, units: np.ndarray | None, seed: int) -> Iterator[np.ndarray]:
    """Yield the rows in each fold: units are dealt out in the order of their classes, so that these are even."""
    firsts, unit = np.unique(
        np.arange(len(labels)) if units is None else units, return_index=True, return_inverse=True
    )[1:]
    order = np.random.default_rng(seed).permutation(len(firsts))
    order = order[np.argsort(labels[firsts][order], kind="stable")]
    fold = np.empty(len(firsts), np.int64)
    fold[order] = np.arange(len(firsts)) % FOLDS
    for number in range(min(FOLDS, len(firsts))):
        yield np.flatnonzero(fold[unit.reshape(-1)] == number)


def _out_of_fold(
    vectors: np.ndarray, labels: np.ndarray, num_classes: int, units: np.ndarray | None, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return (N, num_classes) logits of linear discriminant analysis without each image's fold, and (N,) if they count.

    What a fold adds to the sums over all images is taken off them, which is much less work than the sums of the others.
    They do not count for an image whose class has no others.
    """
    x = vectors - vectors.mean(axis=0)
    if len(x) < x.shape[1]:  # the method never leaves the directions in which the images lie
        x = x @ np.linalg.qr(x.T).Q
    x = x / np.sqrt(max(float(x.var(axis=0).mean()), 1e-12))
    members = np.eye(num_classes, dtype="float32")[labels]
    squares, sums, counts = x.T @ x, members.T @ x, members.sum(axis=0)
    logits, known = np.zeros((len(x), num_classes)), np.zeros(len(x), bool)
    diagonal = np.diag_indices(x.shape[1])
    for rows in _folds(labels, units, seed):
        part, own = x[rows], members[rows]
        here = counts - own.sum(axis=0)
        means = (sums - own.T @ part) / np.maximum(here, 1)[:, None]
        within = (squares - part.T @ part - (means.T * here) @ means).astype("float64") / max(here.sum(), 1)
        spread = max(float(np.trace(within)) / len(within), 1e-6)
        within *= 1 - SHRINKAGE
        within[diagonal] += SHRINKAGE * spread
        kernel = cho_solve(cho_factor(within, overwrite_a=True), means.T)
        prior = np.log(np.maximum(here, 0.5) / max(here.sum(), 1))
        logits[rows] = part @ kernel + prior - (means.T * kernel).sum(axis=0) / 2
        known[rows] = here[labels[rows]] > 0
    return logits, known


def _fit(logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Fit temperature, share of wrong labels, and which class is taken for which.

    Returns:
        (n, num_classes) posterior of the true class given the label, the same without it, and the share.
    """
    rows, classes = np.arange(len(labels)), logits.shape[1]
    others = (1 - np.eye(classes)) / (classes - 1)
    scaled = logits - logits.max(axis=1, keepdims=True)

    def loss(values: np.ndarray) -> float:
        own, share = np.exp(log_softmax(scaled / np.exp(values[0]), axis=1)[rows, labels]), expit(values[1])
        return float(-np.log((1 - share) * own + share / (classes - 1) * (1 - own) + 1e-300).mean())

    first = minimize(loss, [1.0, -3.0], method="Nelder-Mead", options={"xatol": 0.01, "fatol": 1e-6}).x
    power, share, taken = float(first[0]), float(expit(first[1])), others
    for _ in range(STEPS):
        given = ((1 - share) * np.eye(classes) + share * taken)[:, labels].T  # (n, num_classes): of the label, by class

        def told(power: float, given: np.ndarray = given) -> float:
            return float(-np.log((softmax(scaled / np.exp(power), axis=1) * given).sum(axis=1) + 1e-300).mean())

        near = (power - 0.7, power + 0.7)
        power = float(minimize_scalar(told, bounds=near, method="bounded", options={"xatol": 0.02}).x)
        posterior = softmax(scaled / np.exp(power), axis=1) * given
        posterior /= posterior.sum(axis=1, keepdims=True) + 1e-300
        joint = np.zeros((classes, classes))
        np.add.at(joint, labels, posterior)
        wrong = joint.T * (others > 0)
        share = float(wrong.sum() / len(labels))
        taken = (wrong + PRIOR * others) / (wrong.sum(axis=1, keepdims=True) + PRIOR)
    probabilities = softmax(scaled / np.exp(power), axis=1)
    posterior = probabilities * ((1 - share) * np.eye(classes) + share * taken)[:, labels].T
    return posterior / (posterior.sum(axis=1, keepdims=True) + 1e-300), probabilities, share
