"""Linear discriminant analysis of pooled features, for several shrinkages at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from scipy.linalg import eigh

Layer = tuple[np.ndarray, np.ndarray]  # (C, num_classes) kernel and (num_classes,) bias of logits


def discriminants(
    x: np.ndarray, labels: np.ndarray, shrinkages: Sequence[float], priors: np.ndarray
) -> Iterator[Layer]:
    """Yield the logits of linear discriminant analysis as a linear layer, for each shrinkage.

    The same as scikit-learn's `LinearDiscriminantAnalysis(solver="lsqr", shrinkage=...)`, but the covariance is
    decomposed once instead of for each shrinkage.

    Args:
        x: (n, C) features.
        labels: (n,) numbers of classes, of which none is empty.
        shrinkages: in (0, 1]; the covariance within classes becomes (1 - s) times itself, plus s times its mean
            variance in every direction.
        priors: (num_classes,) probabilities of the classes.

    >>> x, labels = np.array([[0.0, 1.0], [1.0, 0.0], [4.0, 5.0], [5.0, 4.0]]), np.array([0, 0, 1, 1])
    >>> ((kernel, bias),) = discriminants(x, labels, [0.5], np.array([0.5, 0.5]))
    >>> (x @ kernel + bias).argmax(axis=1).tolist()
    [0, 0, 1, 1]
    """
    x = x.astype("float64")
    members = np.eye(len(priors))[labels]
    means = members.T @ x / members.sum(axis=0)[:, None]
    within = x - means[labels]
    variances, directions = eigh(within.T @ within / len(x))
    for shrinkage in shrinkages:
        shrunk = (1 - shrinkage) * np.maximum(variances, 0) + shrinkage * variances.mean()
        kernel = (directions / shrunk) @ (directions.T @ means.T)
        yield kernel, np.log(priors) - (means.T * kernel).sum(axis=0) / 2
