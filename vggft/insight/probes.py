"""Quick linear probes on embeddings, for questions that need dozens of them in a second or two."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy.special import expit, softmax
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.utils.extmath import randomized_svd

from ..heads.discriminants import discriminants
from ..heads.probe import WITHOUT_VALIDATION

DIRECTIONS = 320  # of many images, along which they differ most; more of them take longer and tell little
FEW = 3 * DIRECTIONS  # images that keep all directions, as those found in them would be theirs alone
SHRINKAGE = 0.1  # of the discriminants: less than in all directions
ITERATIONS, TOLERANCE = 40, 1e-2  # of the regression: within a point of the solution


@dataclass(frozen=True)
class Rotation:
    """The directions in which images differ most, for images whose mean square is 1 in each of C features.

    Args:
        mean: (C,) float32.
        directions: (C, 320) float32; None keeps all of the C features.
        scale: float.
    """

    mean: np.ndarray
    directions: np.ndarray | None
    scale: float

    @classmethod
    def of(cls, embeddings: np.ndarray) -> Self:
        """Find the directions of (n, C) float32 embeddings."""
        mean = embeddings.mean(axis=0)
        centred = embeddings - mean
        scale = float(np.sqrt(max((centred**2).mean(), 1e-12)))
        if len(centred) <= FEW or centred.shape[1] <= DIRECTIONS:
            return cls(mean, None, scale)
        return cls(mean, randomized_svd(centred, DIRECTIONS, n_iter=2, random_state=0)[2].T.astype("float32"), scale)

    def __call__(self, embeddings: np.ndarray) -> np.ndarray:
        """Map (n, C) embeddings to (n, 320) or (n, C) float32."""
        centred = (embeddings - self.mean) / np.float32(self.scale)
        return centred if self.directions is None else centred @ self.directions


@dataclass(frozen=True)
class QuickProbe:
    """A linear probe of fixed strength: the mean of logistic regression and discriminants, as `heads.probe` has it.

    With several labels per image it is a ridge regression.

    Args:
        kernel: (C, num_classes).
        bias: (num_classes,); of a class without images so low that it is never predicted.
        multi_label: whether probabilities are of each label alone.
    """

    kernel: np.ndarray
    bias: np.ndarray
    multi_label: bool

    @classmethod
    def of(cls, x: np.ndarray, targets: np.ndarray, multi_label: bool) -> Self:
        """Solve it.

        Args:
            x: (n, C) float32, of variance 1.
            targets: (n, num_classes), one-hot or multi-hot.
        """
        basis = None
        if len(x) < x.shape[1]:  # neither method leaves the directions in which the images lie
            basis = np.linalg.qr(x.T).Q
            x = x @ basis
        kernel, bias = _ridge(x, targets) if multi_label else _mean(x, targets)
        return cls(kernel if basis is None else basis @ kernel, bias, multi_label)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Return the (n, num_classes) probabilities of (n, C) embeddings."""
        logits = x @ self.kernel + self.bias
        return np.asarray(expit(logits) if self.multi_label else softmax(logits, axis=1))


def _mean(x: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    present, labels = np.unique(targets.argmax(axis=1), return_inverse=True)
    kernel, bias = np.zeros((x.shape[1], targets.shape[1])), np.full(targets.shape[1], -1e4)
    if len(present) == 1:
        bias[present] = 0.0
        return kernel, bias
    fixed, counts = WITHOUT_VALIDATION, np.bincount(labels)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = LogisticRegression(C=fixed["strength"], max_iter=ITERATIONS, tol=TOLERANCE).fit(x, labels)
    first, second = model.coef_.T, model.intercept_
    if len(present) == 2:
        first, second = (np.concatenate([-each / 2, each / 2], axis=-1) for each in (first, second))
    if len(x) > len(present):
        ((more, less),) = discriminants(x, labels, [SHRINKAGE], counts / counts.sum())
        first, second = ((a + fixed["factor"] * b) / 2 for a, b in ((first, more), (second, less)))
    kernel[:, present], bias[present] = first, second
    return kernel, bias


def _ridge(x: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    model = Ridge(alpha=x.shape[1] ** 0.5).fit(x, targets)
    return 4 * model.coef_.T, 4 * (model.intercept_ - 0.5)
