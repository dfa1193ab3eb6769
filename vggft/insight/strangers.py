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
from sklearn.metrics import roc_auc_score

from ..engine import own_settings
from ..errors import ConfigError
from ..fields import is_number, shown
from ..network.head import normalize_images

SHARE = 0.05  # of the held-out images of the classes themselves that are taken for strangers, by default
SHRINKAGE = 0.3  # of the covariance towards a sphere: above Ledoit and Wolf's on 18 of 20 pairs of data sets
MARGIN = 0.5  # weight of the margin, in standard deviations of both: 0 and 1 find fewer strangers
MOST = 4000  # images that it is fitted on, enough for a covariance of 1,472 features
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
        None if there are too few images.
    """
    several = bool((targets.sum(axis=1) != 1).any())
    labels = np.zeros(len(targets), int) if several else targets.argmax(axis=1)
    held_labels = np.zeros(len(held), int) if several else held_targets.argmax(axis=1)
    if len(held) < FEWEST or len(averages) < FEWEST:
        return None
    rows = np.linspace(0, len(averages) - 1, min(len(averages), MOST)).astype(int)
    labels = labels[rows]
    ends = np.cumsum(sizes)
    parts = [(averages[:, end - size : end], held[:, end - size : end]) for end, size in zip(ends, sizes, strict=True)]
    known, unknown = (
        np.concatenate([np.asarray(normalize_images(each[of], "sqrt_l2")) for each in parts], axis=1) for of in (0, 1)
    )
    known = known[rows]
    first, best = 0, -1.0
    groups = _halves(labels)
    for start in reversed(range(len(blocks) if groups else 0)):
        seen = slice(int(ends[start] - sizes[start]), None)
        found = np.mean([_told_apart(known[:, seen], labels, unknown[:, seen], held_labels, half) for half in groups])
        if found >= best:
            first, best = start, float(found)
    if not groups:
        first = max(0, len(blocks) - 3)
    seen = slice(int(ends[first] - sizes[first]), None)
    kernel, bias, centres = _whitened(known[:, seen], labels)
    squares, margins = _nearest(unknown[:, seen], kernel, bias, centres)
    scale = 1 / squares.std(), MARGIN / margins.std() if margins.std() > 0 else 0.0
    scores = np.sort(scale[0] * squares - scale[1] * margins).astype("float32")
    if not np.isfinite(scores).all():
        return None
    weights = np.array(scale, "float32")
    return Strangers(tuple(blocks[first:]), tuple(sizes[first:]), kernel, bias, centres, weights, scores)


def _whitened(x: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the kernel and bias that give the covariance within classes the identity, and the class means there."""
    names, labels = np.unique(labels, return_inverse=True)
    members = np.eye(len(names), dtype="float32")[labels]
    means = members.T @ x / members.sum(axis=0)[:, None]
    within = x - means[labels]
    covariance = within.T @ within * np.float32((1 - SHRINKAGE) / len(x))
    spread = max(float(np.trace(covariance)) / (1 - SHRINKAGE) / len(covariance), 1e-12)
    covariance[np.diag_indices_from(covariance)] += np.float32(SHRINKAGE * spread)
    root = np.linalg.cholesky(covariance)
    kernel = solve_triangular(root, np.eye(len(root), dtype="float32"), lower=True).T
    bias = -(means.mean(axis=0) @ kernel)
    return kernel.astype("float32"), bias.astype("float32"), (means @ kernel + bias).astype("float32")


def _nearest(x: np.ndarray, kernel: np.ndarray, bias: np.ndarray, centres: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (n,) squared distances to the nearest centre, and how much farther the next one is."""
    z = x @ kernel + bias
    squares = (z**2).sum(axis=1)[:, None] - 2 * z @ centres.T + (centres**2).sum(axis=1)
    nearest = np.partition(squares, min(1, len(centres) - 1), axis=1)[:, :2]
    return nearest[:, 0], nearest[:, -1] - nearest[:, 0]


def _halves(labels: np.ndarray) -> list[np.ndarray]:
    """Return two halves of the classes, or none if there are too few."""
    names = np.unique(labels)
    return [names[::2], names[1::2]] if len(names) > 1 else []


def _told_apart(
    x: np.ndarray, labels: np.ndarray, held: np.ndarray, held_labels: np.ndarray, strange: np.ndarray
) -> float:
    """Return the area under the ROC curve of held-out images of some classes against the others, which are fitted."""
    known, is_strange = ~np.isin(labels, strange), np.isin(held_labels, strange)
    if is_strange.all() or not is_strange.any():
        return 0.5
    squares, _ = _nearest(held, *_whitened(x[known], labels[known]))
    return float(roc_auc_score(is_strange, squares))
