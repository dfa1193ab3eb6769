"""Batches: their order depends only on (seed, epoch), and may have every class equally often."""

from __future__ import annotations

import numpy as np
import pytest

from vggft.config import Training
from vggft.heads.batches import Batches, Examples, class_weights, image_weights, order_of, sampled_labels

LABELS = np.repeat([0, 1, 2], [60, 7, 3])


def test_every_class_is_equally_often_in_a_balanced_epoch() -> None:
    for epoch in range(5):
        order, views = order_of(70, 2, seed=3, epoch=epoch, labels=LABELS)
        assert len(order) == len(views) == 70
        assert sorted(np.bincount(LABELS[order])) == [23, 23, 24]
        few, many = order[LABELS[order] == 2], order[LABELS[order] == 0]
        assert set(np.bincount(few, minlength=70)[-3:]) <= {7, 8}  # each of three images equally often
        assert len(set(many)) == len(many)  # none twice before all were drawn once
    again, _ = order_of(70, 2, seed=3, epoch=4, labels=LABELS)
    np.testing.assert_array_equal(order, again)
    assert not np.array_equal(order, order_of(70, 2, seed=4, epoch=4, labels=LABELS)[0])


def test_balanced_batches_are_of_the_images_of_the_order() -> None:
    targets = np.eye(3, dtype="float32")[LABELS]
    train = Examples(np.arange(100.0)[:, None], np.concatenate([targets[:30], targets]), np.arange(30, 100))
    batches = Batches(train, 16, seed=0, labels=sampled_labels(train, Training(sampling="balanced")))
    pairs = [batches[n] for n in range(len(batches))]
    inputs, drawn = np.concatenate([pair[0] for pair in pairs]), np.concatenate([pair[1] for pair in pairs])
    assert sorted(drawn.sum(axis=0)) == [23, 23, 24]
    np.testing.assert_array_equal(drawn, train.targets[inputs[:, 0].astype(int)])
    assert sampled_labels(train, Training()) is None


def test_weights_by_name_are_in_the_order_of_the_classes() -> None:
    train = Examples(np.zeros((3, 1)), np.eye(3, dtype="float32"), np.arange(3))
    weights = class_weights(train, Training(class_weight={"c": 3, "a": 1, "b": 2}), ("b", "c", "a"))
    assert weights == pytest.approx([2, 3, 1])


def test_weights_of_classes_and_of_images_are_multiplied() -> None:
    images, rows = np.array([1.0, 2.0, 4.0, 8.0], "float32"), np.array([3, 0])
    targets, classes = np.eye(2, dtype="float32"), np.array([0.5, 3.0], "float32")
    assert image_weights(None, rows, targets, None) is None
    for of_images, of_classes, expected in (
        (images, None, [8, 1]),
        (None, classes, [0.5, 3]),
        (images, classes, [4, 3]),
    ):
        np.testing.assert_array_equal(image_weights(of_images, rows, targets, of_classes), expected)


def test_views_that_need_32_bits_are_read_in_them() -> None:
    images, view = np.ones((4, 1), "float16"), np.full((4, 1), 1e5, "float32")
    examples = Examples(images, np.eye(4, dtype="float32"), np.arange(4), [view], np.arange(4))
    batches = [Batches(examples, 4, seed=seed)[0][0] for seed in range(9)]
    assert {float(each) for batch in batches for each in batch.ravel()} == {1.0, 1e5}


def test_the_last_batch_is_the_rest() -> None:
    batches = Batches(Examples(np.zeros((40, 1)), np.eye(40, dtype="float32"), np.arange(40)), 16, seed=0)
    assert [batches.size_of(n) for n in range(3)] == [len(batches[n][0]) for n in range(3)] == [16, 16, 8]
