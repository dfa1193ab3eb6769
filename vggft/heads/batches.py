"""Batches of features or pixels, in an order and with views that depend only on (seed, epoch)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import keras
import numpy as np
from sklearn.utils.class_weight import compute_class_weight

from ..caching.rows import Rows, selected
from ..config import Training
from ..errors import ConfigError
from ..features.cuts import POOLED, columns_of, kept_as
from ..network.blocks import pooled_blocks, sizes_of
from ..network.forward import forward
from ..network.head import EPSILON, STANDARDIZE, normalize_images, scale_of

MOST_FOR_SCALE = 4096  # training images, enough to determine the scale of their features

# inputs, targets, rows and epoch -> inputs and targets to train on instead
Transform = Callable[[np.ndarray, np.ndarray, np.ndarray, int], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Examples:
    """Rows of arrays to train or evaluate on; the arrays may be memory-mapped and larger than memory.

    Args:
        inputs: (N, ...) features or pixels.
        targets: (N, num_classes) float32, one-hot or multi-hot.
        rows: (n,) indices of the rows to use.
        views: further views, (m, ...) each; every epoch draws one view of each image.
        view_rows: (n,) index of each row in the views; None if they are in the same order.
        transform: changes a batch, given inputs, targets, their rows and the epoch.
        sizes: of pooled features, the number of those of each block; () if all are of one block.
        weights: (N,) float32 weights of the images in the loss; None if all are equal.
    """

    inputs: np.ndarray | Rows
    targets: np.ndarray
    rows: np.ndarray
    views: Sequence[np.ndarray | Rows] = ()
    view_rows: np.ndarray | None = None
    transform: Transform | None = None
    sizes: tuple[int, ...] = ()
    weights: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def in_views(self) -> np.ndarray:
        """(n,) index of each row in the views."""
        return np.arange(len(self)) if self.view_rows is None else self.view_rows


@dataclass(frozen=True)
class FeatureBank:
    """The inputs of trainings: pixels, and frozen features of all images with further views of some.

    Args:
        pixels: (N, S, S, 3) RGB in 0..255.
        targets: (N, num_classes) float32.
        features: for each cut that the cache keeps, an array of all images, then one for each further view.
        viewed: the rows that have further views.
        transform: the function that changes the pixels of a batch in every epoch, if any.
        width: of the backbone, by which pooled features of its blocks are told apart.
        weights: (N,) float32 weights of the images in the loss; None if all are equal.
    """

    pixels: np.ndarray | Rows
    targets: np.ndarray
    features: Mapping[str, Sequence[np.ndarray | Rows]] = field(default_factory=dict)
    viewed: np.ndarray = field(default_factory=lambda: np.arange(0))
    transform: Transform | None = None
    width: float = 1.0
    weights: np.ndarray | None = None

    def arrays(self, cut: str) -> list[np.ndarray | Rows]:
        """Return the features of all images at a cut, then those of each further view."""
        kept = self.features[kept_as(cut)]
        return [selected(array, columns_of(cut, self.width)) for array in kept] if kept_as(cut) != cut else list(kept)

    def inputs(self, cut: str | None) -> np.ndarray | Rows:
        """Return the features of all images at a cut, or their pixels if `cut` is None."""
        return self.pixels if cut is None else self.arrays(cut)[0]

    def examples(self, cut: str | None, rows: np.ndarray) -> Examples:
        """Select rows, with the further views and the transform that training may draw from."""
        if cut is None:
            return Examples(self.pixels, self.targets, rows, transform=self.transform, weights=self.weights)
        inputs, *views = self.arrays(cut)
        sizes = sizes_of(pooled_blocks(cut), self.width) if kept_as(cut) == POOLED else ()
        if not views:
            return Examples(inputs, self.targets, rows, sizes=sizes, weights=self.weights)
        where = np.zeros(len(self.targets), np.int64)
        where[self.viewed] = np.arange(len(self.viewed))
        return Examples(inputs, self.targets, rows, views, where[rows], sizes=sizes, weights=self.weights)

    def judged(self, cut: str | None, rows: np.ndarray | None) -> Examples | None:
        """Select rows to judge a training on, without views; None for no rows."""
        return None if rows is None else Examples(self.inputs(cut), self.targets, rows)


def pooled_features(examples: Examples, rest: keras.Model | None = None) -> Iterator[np.ndarray]:
    """Yield batches of (B, C) features that the head starts from, for up to `MOST_FOR_SCALE` images without views.

    Args:
        rest: maps the inputs of the examples to pooled features; None if they are pooled features.
    """
    rows = np.sort(np.random.default_rng(0).permutation(examples.rows)[:MOST_FOR_SCALE])
    for part in np.array_split(rows, -(-len(rows) // 256)):
        inputs = np.asarray(examples.inputs[part])
        yield inputs if rest is None else forward(rest, inputs)


@dataclass(frozen=True)
class Scaled:
    """Normalises pooled features as the layers of a head do, to the last bit.

    Args:
        how: as in `Head.normalize`.
        sizes: number of features of each block; () for one block.
        mean, variance: (C,) float32, of the layer `standardize`.
    """

    how: str
    sizes: tuple[int, ...]
    mean: np.ndarray
    variance: np.ndarray

    @classmethod
    def of(cls, train: Examples, how: str) -> Scaled:
        """Measure mean and variance of the features of training images."""
        parts = (part.astype("float32") for part in pooled_features(train))
        normal = (np.asarray(normalize_images(part, how, train.sizes)) for part in parts)
        return cls(how, train.sizes, *scale_of(normal, how))

    @property
    def weights(self) -> dict[str, np.ndarray]:
        """The weights of the layer `standardize`, by layer and number."""
        return {f"{STANDARDIZE}/0": self.mean, f"{STANDARDIZE}/1": self.variance}

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Map (n, C) features to the input of the first dense layer, float32."""
        normal = np.asarray(normalize_images(features.astype("float32"), self.how, self.sizes))
        factor = np.asarray(keras.ops.rsqrt(self.variance + np.float32(EPSILON)))
        return np.asarray(normal * factor - self.mean * factor)


# Keras's `fit` calls on_epoch_end before the first epoch, so the first epoch has the order of number 1.
FIRST_ORDER = 1


def order_of(
    count: int, num_views: int, seed: int, epoch: int, labels: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the order of the images in an epoch, and the view of each that is drawn (0 for the image itself).

    Args:
        labels: (count,) class of each image; with them, every class is equally often among the `count` images, which
            then holds some images several times, and others not.
    """
    rng = np.random.default_rng((seed, epoch))
    order = rng.permutation(count) if labels is None else _balanced(labels, rng)
    return order, rng.integers(1 + num_views, size=count) if num_views else np.zeros(count, np.int64)


def _balanced(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return as many positions as there are labels, each class equally often; if this is uneven, some once more.

    Images of a class are drawn without replacement, until all have been drawn.
    """
    classes = np.unique(labels)
    counts = np.full(len(classes), len(labels) // len(classes))
    counts[rng.permutation(len(classes))[: len(labels) % len(classes)]] += 1
    drawn = []
    for name, wanted in zip(classes, counts, strict=True):
        where = np.flatnonzero(labels == name)
        rounds = [rng.permutation(where) for _ in range(-(-wanted // len(where)))]
        drawn.append(np.concatenate(rounds)[:wanted] if rounds else where[:0])
    return rng.permutation(np.concatenate(drawn))


def sampled_labels(train: Examples, training: Training) -> np.ndarray | None:
    """Return the (n,) classes that sampling balances; None if an epoch has every image once."""
    return train.targets[train.rows].argmax(1) if training.sampling == "balanced" else None


def class_weights(train: Examples, training: Training, class_names: Sequence[str] = ()) -> np.ndarray | None:
    """Return the (num_classes,) float32 weights of the classes; None unless `training` weights them.

    Args:
        class_names: the names of the classes in order, for weights by name.
    """
    if training.class_weight is None:
        return None
    if isinstance(training.class_weight, Mapping):
        return np.array(weights_by_name(training.class_weight, class_names), "float32")
    return balancing_weights(train)


def image_weights(
    of_images: np.ndarray | None, rows: np.ndarray, targets: np.ndarray, of_classes: np.ndarray | None
) -> np.ndarray | None:
    """Return the (n,) weights in the loss of some rows with (n, num_classes) targets; None if all are equal."""
    weights = None if of_classes is None else targets @ of_classes
    if of_images is None:
        return weights
    return of_images[rows] if weights is None else of_images[rows] * weights


def weights_by_name(weights: Mapping[str, float], class_names: Sequence[str]) -> list[float] | None:
    """Return the weight of each class, given by name, or all by position from 0; None unless each class has one.

    >>> weights_by_name({"0": 1.0, "1": 2.0}, ["cat", "dog"])
    [1.0, 2.0]
    """
    for keys in (class_names, list(map(str, range(len(class_names))))):
        if set(weights) == set(keys):
            return [weights[key] for key in keys]
    return None


def balancing_weights(train: Examples) -> np.ndarray:
    """Return the (num_classes,) float32 weights that are inverse to the frequency of the classes, 1 on average."""
    labels, classes = train.targets[train.rows].argmax(1), np.arange(train.targets.shape[1])
    return np.asarray(compute_class_weight("balanced", classes=classes, y=labels), "float32")


class Batches(keras.utils.PyDataset):
    """Batches of examples; with a seed, in an order that depends only on (seed, epoch), so that it can be resumed."""

    def __init__(
        self,
        examples: Examples,
        batch_size: int,
        seed: int | None = None,
        epoch: int = 0,
        class_weight: np.ndarray | None = None,
        labels: np.ndarray | None = None,
    ):
        super().__init__()
        self.examples, self.batch_size, self.seed, self.epoch = examples, batch_size, seed, epoch
        self.class_weight, self.labels = class_weight, labels
        self.failed: ConfigError | None = None
        self._draw()

    def _draw(self) -> None:
        count = len(self.examples)
        self.order, self.drawn = np.arange(count), np.zeros(count, np.int64)
        if self.seed is not None:
            self.order, self.drawn = order_of(count, len(self.examples.views), self.seed, self.epoch, self.labels)

    @property
    def num_images(self) -> int:
        """Number of images in an epoch."""
        return len(self.order)

    def __len__(self) -> int:
        return -(-len(self.order) // self.batch_size)

    def __getitem__(self, index: int) -> tuple[np.ndarray, ...]:
        return self.part(index, 0, 1)

    def size_of(self, index: int) -> int:
        """Return the number of images in a batch."""
        return min(self.batch_size, len(self.order) - index * self.batch_size)

    def part(self, index: int, share: int, shares: int) -> tuple[np.ndarray, ...]:
        """Read one of so many equal shares of a batch; the first ones may have one image more."""
        examples, part = self.examples, slice(index * self.batch_size, (index + 1) * self.batch_size)
        chosen, drawn = self.order[part][share::shares], self.drawn[part][share::shares]
        rows = examples.rows[chosen]
        kind = np.result_type(*(each.dtype for each in (examples.inputs, *examples.views)))  # some may need 32 bits
        inputs, targets = np.asarray(examples.inputs[rows], kind), examples.targets[rows]
        for view, features in enumerate(examples.views, start=1):
            where = drawn == view
            inputs[where] = features[examples.in_views[chosen[where]]]
        if examples.transform and self.seed is not None:
            try:
                inputs, targets = examples.transform(inputs, targets, rows, self.epoch)
            except ConfigError as error:
                self.failed = error  # of which Keras's `fit` would make an error of its graph
                raise
        weights = image_weights(examples.weights, rows, targets, self.class_weight)
        return (inputs, targets) if weights is None else (inputs, targets, weights)

    def go_to(self, epoch: int) -> None:
        """Draw the order and the views of an epoch, unless they are those of now."""
        if epoch != self.epoch:
            self.epoch = epoch
            self._draw()

    def on_epoch_end(self) -> None:
        self.go_to(self.epoch + 1)
