"""Weights of images: they come with any kind of data, and the loss follows them, however a head is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import vggft
from vggft.caching.cache import Cache
from vggft.data.dataset import open_dataset
from vggft.data.streams import Keep


class _Batched(keras.utils.PyDataset):
    def __init__(self, *parts: np.ndarray):
        super().__init__()
        self.parts = parts

    def __len__(self) -> int:
        return -(-len(self.parts[0]) // 7)

    def __getitem__(self, index: int) -> tuple[np.ndarray, ...]:
        return tuple(part[7 * index : 7 * index + 7] for part in self.parts)


def numbered() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images of one grey each, which says what weight they have."""
    greys = np.arange(20) * 9
    return np.repeat(greys.astype("uint8"), 32 * 32 * 3).reshape(20, 32, 32, 3), np.arange(20) % 2, greys / 9 + 1.0


@pytest.mark.parametrize(
    "kind",
    [
        lambda *parts: parts,
        lambda *parts: tf.data.Dataset.from_tensor_slices(parts).shuffle(20, seed=1).batch(6),
        lambda *parts: tf.data.Dataset.from_tensor_slices(parts).shuffle(20, seed=1),
        _Batched,
        lambda *parts: (each for each in [tuple(part[:9] for part in parts), tuple(part[9:] for part in parts)]),
    ],
    ids=["arrays", "tf.data in batches", "tf.data", "PyDataset", "generator"],
)
def test_weights_stay_with_their_images(kind: Any, tmp_path: Path) -> None:
    data = open_dataset(kind(*numbered()), keep=Keep(32, Cache(tmp_path)))["all"]
    assert data.weights is not None
    for image, weight in zip(data.images, data.weights, strict=True):
        assert np.asarray(image).max() / 9 + 1 == weight
    assert sorted(data.weights.tolist()) == sorted(numbered()[2].tolist())


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.ones(19), "one weight for each of 20 images"),
        (-np.ones(20), "numbers from 0 on, some above 0; got -1 to -1"),
        (np.zeros(20), "some above 0"),
        (np.full(20, np.nan), "numbers from 0 on"),
        (["a"] * 20, "must be numbers"),
    ],
)
def test_what_is_no_weight(weights: Any, message: str) -> None:
    images, labels, _ = numbered()
    with pytest.raises(vggft.DataError, match=message):
        open_dataset((images, labels, weights))


@pytest.mark.parametrize(
    "how",
    [
        {},
        pytest.param({"head": vggft.Head(units=(16,))}, marks=pytest.mark.slow),
        pytest.param(
            {
                "head": vggft.Head(units=(16,)),
                "training": vggft.Training(optimizer="sgd", learning_rate=0.05, epochs=30),
            },
            marks=pytest.mark.slow,
        ),
        pytest.param(
            {
                "freeze": "block4",
                "training": vggft.Training(epochs=10, fine_tune_epochs=2, fine_tune_learning_rate=1e-3),
            },
            marks=pytest.mark.slow,
        ),
    ],
    ids=["probe", "population", "Keras's fit", "blocks"],
)
def test_images_without_weight_teach_nothing(how: dict[str, Any], stripes: tuple, tiny_weights: Path) -> None:
    """Most labels of one class are wrong, but have no weight: what is learned is right, and wrong without weights."""
    images, truth = stripes
    wrong = np.flatnonzero(truth == 0)[4:]
    labels, weights = truth.copy(), np.ones(len(truth))
    labels[wrong], weights[wrong] = 1, 0.0
    common: dict[str, Any] = {"backbone": tiny_weights, "image_size": 32, "precision": "float32", "verbose": 0}
    common |= {"validation": (images // 2 + 60, truth)} | how
    weighed = vggft.finetune((images, labels, weights), 3, **common)
    plain = vggft.finetune((images, labels), 3, **common)
    right, less = ((each.predict(images[wrong]).argmax(axis=1) == 0).mean() for each in (weighed, plain))
    assert right > 0.8 and less < right
