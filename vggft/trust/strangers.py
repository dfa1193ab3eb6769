"""Strangers: pictures that are of none of the classes, by how far they are from the images that were trained on.

The distance is Mahalanobis's to the nearest class, with one covariance for all classes (arXiv:1807.03888), less a share
of how much farther the next class is: an image that is far from all classes and between two of them is the strangest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from scipy.linalg import solve_triangular
from scipy.linalg.lapack import strtri
from sklearn.metrics import roc_auc_score

from ..engine import own_settings
from ..errors import ConfigError
from ..fields import is_number, shown
from ..network.head import normalize_images

SHARE = 0.05  # of the held-out images of the classes themselves that are taken for strangers, by default
SHRINKAGE = 0.3  # of the covariance: as good as that of Ledoit and Wolf or up to 1.5 points better, on 16 pairs of sets
MARGIN = 0.5  # weight of the margin, in standard deviations of both: 0 finds fewer strangers, 1 as many
MOST = 4000  # images that it is fitted on, enough for a covariance of 1,472 features
ENOUGH = 1000  # images by which blocks are chosen
FEWEST = 10  # held-out images from which there is a threshold


@dataclass(frozen=True, eq=False)
class Strangers:
    """Tells images of none of the classes from those of the classes, by the averages of the blocks' outputs.

    Attributes:
        blocks: the blocks whose averages are looked at.
        sizes: number of features of each of them; they sum to C.
        kernel, bias: (C, C) and (C,) float32: to features whose covariance within classes is the identity.
        centres: (K, C) float32, the mean of each class there; one mean if images may have several labels.
        scale: (2,) float32 weights of the squared distance, and of the margin to the next class.
        scores: (n,) float32 of images of the classes that it was not fitted on, sorted.
    """

    blocks: tuple[str, ...]
    sizes: tuple[int, ...]
    kernel: np.ndarray
    bias: np.ndarray
    centres: np.ndarray
    scale: np.ndarray
    scores: np.ndarray

    @own_settings()
    def raw(self, averages: Any) -> Any:
        """Return the (B,) scores of (B, C) averages, on tensors of Keras or on arrays; higher is stranger."""
        x = normalize_images(averages, "sqrt_l2", self.sizes, "stranger_norm")
        x = keras.ops.matmul(x, self.kernel) + self.bias
        lengths = keras.ops.sum(keras.ops.square(x), axis=1, keepdims=True)
        squares = lengths - 2 * keras.ops.matmul(x, self.centres.T) + np.square(self.centres).sum(axis=1)
        nearest = -keras.ops.top_k(-squares, min(2, len(self.centres)))[0]
        margin = nearest[:, -1] - nearest[:, 0]
        return float(self.scale[0]) * nearest[:, 0] - float(self.scale[1]) * margin

    def distances(self, averages: Any, share: float = SHARE) -> Any:
        """Return (B,) distances, of which those above 1 are of strangers, and 0 is usual; see `Classifier.predict`."""
        usual, limit = self.limits(share)
        return (self.raw(averages) - usual) / (limit - usual)

    def limits(self, share: float = SHARE) -> tuple[float, float]:
        """Return the median score of held-out images, and the score above which an image is a stranger.

        Of n such images, the limit is the ceil((n + 1) (1 - share))-th score: an image of the classes is above it with
        a probability of at most `share` (arXiv:2104.08279). With too few images for that it is the highest score.

        Raises:
            ConfigError: `share` is not between 0 and 1.
        """
        if not (is_number(share) and 0 < share < 1):
            raise ConfigError(
                "strangers: the share of the images of the classes that may be taken for strangers must be in (0, 1), "
                f"or True for {SHARE}; got {shown(share)}."
            )
        rank = int(np.ceil((len(self.scores) + 1) * (1 - share) - 1e-9))
        usual, limit = float(np.median(self.scores)), float(self.scores[min(rank, len(self.scores)) - 1])
        return usual, max(limit, usual + 1e-3 * (abs(usual) + 1))


def fit_strangers(
    averages: np.ndarray, targets: np.ndarray, held: np.ndarray, held_targets: np.ndarray, blocks: Sequence[str],
    sizes: Sequence[int],
) -> Strangers | None:  # fmt: skip
    """Fit on images that were trained on, and set the limit by held-out ones.

    Which blocks are looked at is chosen by classes that are left out: how well their held-out images are told from
    those of the other classes. With photographs and the weights of ImageNet that may be block 5 alone, and in small
    networks the earlier blocks are needed too.

    Args:
        averages: (N, C) average-pooled outputs of blocks, side by side.
        targets: (N, num_classes) 0/1.
        held, held_targets: the same of held-out images.
        blocks: those blocks, in the order of the network.
        sizes: number of features of each.

    Returns:
        None if there are too few images, or the network sees no difference between them.
    """
    several = bool((targets.sum(axis=1) != 1).any())
    labels, held_labels = (
        np.zeros(len(each), int) if several else each.argmax(axis=1) for each in (targets, held_targets)
    )
    if min(len(averages), len(held)) < FEWEST:
        return None
    rows = np.linspace(0, len(averages) - 1, min(len(averages), MOST)).astype(int)
    labels = labels[rows]
    # The deepest block comes first, so what holds for some blocks is the beginning of what holds for all of them.
    places = np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1])[::-1]
    known, unknown = (
        [np.asarray(normalize_images(x[:, at], "sqrt_l2")) for at in places] for x in (averages[rows], held)
    )
    x, new = np.concatenate(known, axis=1), np.concatenate(unknown, axis=1)
    if not (np.isfinite(x).all() and np.isfinite(new).all() and np.ptp(x, axis=0).max() > 1e-5):
        return None
    widths = [len(at) for at in places]
    names = np.unique(labels)
    halves = [half for half in (names[::2], names[1::2]) if 0 < len(half) < len(names)]
    told_apart = [_told_apart(x, labels, new, held_labels, half, widths) for half in halves]
    depth = len(sizes) - int(np.mean(told_apart, axis=0)[::-1].argmax()) if told_apart else min(len(sizes), 3)
    root, centre, means = _whitened(x, labels, widths)
    order = np.argsort(np.concatenate(places[:depth]))  # as the blocks follow in the network
    inverse, _ = strtri(root[: len(order), : len(order)], lower=1)
    kernel = np.ascontiguousarray(inverse.T)
    bias, centres = -(centre[: len(order)] @ kernel), (means - centre)[:, : len(order)] @ kernel
    squares, margins = _nearest(_squares(new[:, : len(order)] @ kernel + bias, centres))
    if not squares.std() > 0:
        return None
    scale = 1 / squares.std(), MARGIN / margins.std() if margins.std() > 0 else 0.0
    scores = np.sort(scale[0] * squares - scale[1] * margins).astype("float32")
    first = len(sizes) - depth
    kernel, bias, centres = (each.astype("float32") for each in (kernel[order], bias, centres))
    seen, used = tuple(blocks[first:]), tuple(sizes[first:])
    return Strangers(seen, used, kernel, bias, centres, np.array(scale, "float32"), scores)


def _whitened(x: np.ndarray, labels: np.ndarray, widths: Sequence[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the Cholesky factor of the shrunk covariance within classes, their mean, and the mean of each class.

    Each block is shrunk towards the mean variance of its own features.
    """
    names, labels = np.unique(labels, return_inverse=True)
    members = np.eye(len(names), dtype="float32")[labels]
    means = members.T @ x / members.sum(axis=0)[:, None]
    within = x - means[labels]
    covariance = within.T @ within / np.float32(len(x))
    spreads = [max(float(each.mean()), 1e-8) for each in np.split(covariance.diagonal(), np.cumsum(widths)[:-1])]
    covariance *= np.float32(1 - SHRINKAGE)
    covariance[np.diag_indices_from(covariance)] += SHRINKAGE * np.repeat(spreads, widths).astype("float32")
    return np.linalg.cholesky(covariance), means.mean(axis=0), means


def _squares(z: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Return the (n, K) squared distances of whitened features to centres."""
    found: np.ndarray = (z**2).sum(axis=1)[:, None] - 2 * z @ centres.T + (centres**2).sum(axis=1)
    return found


def _nearest(squares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the (n,) smallest of (n, K) squared distances, and how much larger the next one is."""
    nearest = np.partition(squares, min(1, squares.shape[1] - 1), axis=1)[:, :2]
    return nearest[:, 0], nearest[:, -1] - nearest[:, 0]


def _told_apart(
    x: np.ndarray, labels: np.ndarray, held: np.ndarray, held_labels: np.ndarray, strange: np.ndarray,
    widths: Sequence[int],
) -> list[float]:  # fmt: skip
    """Return how well held-out images of some classes are told from those of the others, by more and more blocks.

    Returns:
        The area under the ROC curve by the deepest block, by the two deepest, and so on.
    """
    rows, is_strange = np.flatnonzero(~np.isin(labels, strange)), np.isin(held_labels, strange)
    if is_strange.all() or not is_strange.any():
        return [0.5] * len(widths)
    rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), ENOUGH)).astype(int)]
    root, centre, means = _whitened(x[rows], labels[rows], widths)
    z, centres = (solve_triangular(root, (each - centre).T, lower=True).T for each in (held, means))
    squares, found = np.zeros((len(held), len(means)), "float32"), list[float]()
    for part in np.split(np.arange(x.shape[1]), np.cumsum(widths)[:-1]):
        squares += _squares(z[:, part], centres[:, part])
        found.append(float(roc_auc_score(is_strange, squares.min(axis=1))))
    return found
