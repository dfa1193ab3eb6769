"""The objective is Keras's own losses and metrics, for one model and for a population."""

from __future__ import annotations

import math

import keras
import numpy as np
import pytest

from vggft.heads.objective import Objective

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(0, 2, (7, 4)).astype("float32")
ONE_HOT = np.eye(4, dtype="float32")[RNG.integers(0, 4, 7)]
MULTI_HOT = (RNG.random((7, 4)) < 0.5).astype("float32")


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("multi_label", [False, True])
def test_it_is_kerass_loss_and_accuracy(multi_label: bool, smoothing: float) -> None:
    targets = MULTI_HOT if multi_label else ONE_HOT
    kind = keras.losses.BinaryCrossentropy if multi_label else keras.losses.CategoricalCrossentropy
    loss = kind(from_logits=True, label_smoothing=smoothing)(targets, LOGITS)
    accuracy = keras.metrics.BinaryAccuracy(threshold=0.0) if multi_label else keras.metrics.CategoricalAccuracy()
    accuracy.update_state(targets, LOGITS)
    objective = Objective(multi_label, smoothing)
    assert np.mean(objective.losses(targets, LOGITS)) == pytest.approx(float(loss), rel=1e-6)
    assert np.mean(objective.right(targets, LOGITS)) == pytest.approx(float(accuracy.result()), rel=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("multi_label", [False, True])
def test_the_focal_loss_is_kerass_without_its_weight_of_positives(multi_label: bool, smoothing: float) -> None:
    targets = MULTI_HOT if multi_label else ONE_HOT
    options = {"gamma": 1.5, "from_logits": True, "label_smoothing": smoothing}
    if multi_label:
        loss = keras.losses.BinaryFocalCrossentropy(**options)
    else:
        loss = keras.losses.CategoricalFocalCrossentropy(alpha=1.0, **options)
    losses = Objective(multi_label, smoothing, focal_gamma=1.5).losses(targets, LOGITS)
    assert np.mean(losses) == pytest.approx(float(loss(targets, LOGITS)), rel=1e-6)
    each = keras.Variable(np.full((2, 1, 1), smoothing, "float32"))
    together = Objective(multi_label, each, 1.5).losses(targets, np.stack([LOGITS, LOGITS + 1]))
    np.testing.assert_allclose(together[0], losses, rtol=1e-6)


@pytest.mark.parametrize("from_logits", [False, True])
def test_a_loss_of_keras_is_given_what_it_expects(from_logits: bool) -> None:
    mine = Objective(False, loss=keras.losses.CategoricalCrossentropy(from_logits=from_logits)).losses(ONE_HOT, LOGITS)
    np.testing.assert_allclose(mine, Objective(False).losses(ONE_HOT, LOGITS), rtol=1e-4)
    hinge = Objective(True, loss=keras.losses.Hinge()).losses(MULTI_HOT, LOGITS)
    probabilities = keras.ops.sigmoid(LOGITS)
    np.testing.assert_allclose(hinge, keras.losses.hinge(MULTI_HOT, probabilities), rtol=1e-6)


@pytest.mark.parametrize("multi_label", [False, True])
def test_each_member_of_a_population_has_its_own_smoothing(multi_label: bool) -> None:
    targets = MULTI_HOT if multi_label else ONE_HOT
    each = np.array([0.0, 0.1, 0.4], "float32")
    stacked = np.stack([LOGITS, LOGITS + 1, LOGITS * 2])
    together = np.asarray(Objective(multi_label, keras.Variable(each[:, None, None])).losses(targets, stacked))
    for member, smoothing in enumerate(each):
        alone = Objective(multi_label, float(smoothing)).losses(targets, stacked[member])
        np.testing.assert_allclose(together[member], alone, rtol=1e-6)


def test_the_score_is_accuracy_and_between_equals_the_lower_loss() -> None:
    score = Objective.score
    assert score({"val_accuracy": 0.9, "val_loss": 3.0}) > score({"val_accuracy": 0.89, "val_loss": 0.1})
    assert score({"val_accuracy": 0.9, "val_loss": 0.3}) > score({"val_accuracy": 0.9, "val_loss": 0.4})
    assert score({"val_accuracy": 0.9, "val_loss": math.nan}) == -math.inf
