"""The exact linear probe: it is scikit-learn's logistic regression, chosen by the validation images."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.special import softmax
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier

import vggft
from vggft.config import Head, Phase, Training
from vggft.heads.batches import Examples, Scaled
from vggft.heads.probe import SHRINKAGES, STRENGTHS, is_exact, train_probe
from vggft.network.blocks import BLOCKS
from vggft.network.head import head_model

PROBE = Head(units=(), normalize="sqrt_l2")


def examples(classes: int = 3, multi_label: bool = False, views: int = 0) -> tuple[Examples, Examples]:
    """90 images to learn from and 30 to judge on, with 12 features that are not negative."""
    rng = np.random.default_rng(5)
    inputs = np.abs(rng.normal(size=(120, 12)) * rng.uniform(0.5, 20, 12)).astype("float16")
    signal = inputs[:, :classes] / inputs[:, :classes].std(0) + 0.5 * rng.normal(size=(120, classes))
    targets = (signal > 1.2).astype("float32") if multi_label else np.eye(classes, dtype="float32")[signal.argmax(1)]
    rows = rng.permutation(120)
    more = [inputs[np.sort(rows[:90])] + np.float16(view) for view in range(1, views + 1)]
    where = np.searchsorted(np.sort(rows[:90]), rows[:90]) if views else None
    return Examples(inputs, targets, rows[:90], more, where), Examples(inputs, targets, rows[90:])


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("normalize", ["standardize", "scale", "l2", "sqrt_l2"])
def test_it_is_the_mean_of_regression_and_discriminants(classes: int, normalize: Any) -> None:
    train, validation = examples(classes)
    head = Head(units=(), normalize=normalize)
    began = time.monotonic()
    found = train_probe(head, Training(), train, validation, multi_label=False)
    *compared, kept = found.history
    assert all(0 <= row["seconds"] <= time.monotonic() - began for row in found.history)
    assert [row["kept"] for row in found.history] == [False] * len(compared) + [True]
    for name, values in (("strength", STRENGTHS), ("shrinkage", SHRINKAGES)):
        rows = [row for row in compared if name in row]
        assert [row[name] for row in rows] == list(values[: len(rows)]) and len(rows) > 2
        assert kept[name] == min(rows, key=lambda row: row["val_loss"])[name]

    scaled = Scaled.of(train, normalize)
    x, y = scaled(train.inputs[train.rows]), train.targets[train.rows].argmax(1)
    judged = scaled(validation.inputs[validation.rows])
    regression = LogisticRegression(C=kept["strength"], max_iter=5000, tol=1e-8).fit(x, y)
    discriminants = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=kept["shrinkage"]).fit(x, y)
    both = regression.predict_log_proba(judged) + kept["factor"] * discriminants.predict_log_proba(judged)
    np.testing.assert_allclose(found.probabilities, softmax(both / 2, axis=1), atol=0.01)

    model = head_model((12,), head, classes)  # Keras's layers compute the same from these weights
    for layer in ("standardize", "logits"):
        model.get_layer(layer).set_weights([found.weights[f"{layer}/{n}"] for n in range(2)])
    by_keras = model.predict(validation.inputs[validation.rows].astype("float32"), verbose=0)
    np.testing.assert_allclose(by_keras, found.probabilities, atol=1e-5)


def test_several_labels_one_of_which_nobody_has() -> None:
    train, validation = examples(multi_label=True)
    train.targets[:, 2] = 0
    found = train_probe(PROBE, Training(), train, validation, multi_label=True)
    (kept,) = [row for row in found.history if row["kept"]]
    scaled = Scaled.of(train, "sqrt_l2")
    x, y = scaled(train.inputs[train.rows]), train.targets[train.rows][:, :2]
    alone = OneVsRestClassifier(LogisticRegression(C=kept["strength"], max_iter=5000, tol=1e-8)).fit(x, y)
    expected = alone.predict_proba(scaled(validation.inputs[validation.rows]))
    assert found.probabilities is not None
    np.testing.assert_allclose(found.probabilities[:, :2], expected, atol=0.01)
    np.testing.assert_allclose(found.probabilities[:, 2], 0.5 / 91, rtol=1e-5)  # as if half an image of 91 had it


@pytest.mark.parametrize(("classes", "multi_label"), [(2, False), (3, False), (4, True)])
def test_a_penalty_is_that_of_the_layer(classes: int, multi_label: bool) -> None:
    """The kernel and bias minimise the loss that Keras's layer would have: its gradient is zero."""
    train, validation = examples(classes, multi_label)
    head = Head(units=(), normalize="standardize", l2=0.02)
    found = train_probe(head, Training(), train, validation, multi_label=multi_label)
    kernel, bias = (tf.Variable(found.weights[f"logits/{n}"]) for n in range(2))
    x, y = Scaled.of(train, "standardize")(train.inputs[train.rows]), train.targets[train.rows]
    kind = keras.losses.BinaryCrossentropy if multi_label else keras.losses.CategoricalCrossentropy
    with tf.GradientTape() as tape:
        loss = kind(from_logits=True)(y, x @ kernel + bias) + head.l2 * keras.ops.sum(kernel**2)
    slope = tape.gradient(loss, [kernel, bias])
    assert max(float(np.abs(each).max()) for each in slope) < 2e-4 < 0.02 * float(np.abs(kernel).max())


def test_views_weigh_as_much_as_one_image_and_classes_may_be_balanced() -> None:
    train, validation = examples(views=3)
    same = Examples(train.inputs, train.targets, train.rows)
    copies = Examples(train.inputs, train.targets, train.rows, [train.inputs[np.sort(train.rows)]] * 3, train.view_rows)
    plain = train_probe(PROBE, Training(), same, validation, multi_label=False)
    again = train_probe(PROBE, Training(), copies, validation, multi_label=False)
    np.testing.assert_allclose(again.weights["logits/0"], plain.weights["logits/0"], atol=0.02)
    viewed = train_probe(PROBE, Training(), train, validation, multi_label=False)
    assert not np.allclose(viewed.weights["logits/0"], plain.weights["logits/0"], atol=0.02)
    balanced = train_probe(PROBE, Training(class_weight="balanced"), same, validation, multi_label=False)
    assert not np.allclose(balanced.weights["logits/0"], plain.weights["logits/0"], atol=1e-3)


@pytest.mark.parametrize("sampling", [False, True])
def test_the_regression_alone_weighs_classes_as_scikit_learn_does(sampling: bool) -> None:
    train, validation = examples()
    rows = train.rows[~((train.targets[train.rows, 1] > 0) & (np.arange(90) % 4 > 0))]  # fewer of the second class
    few, training = replace(train, rows=rows), Training(**{"sampling" if sampling else "class_weight": "balanced"})
    found = train_probe(Head(units=(), l2=0.01), training, few, validation, multi_label=False)
    scaled = Scaled.of(few, "sqrt_l2")
    strength = 1 / (2 * 0.01 * len(rows))
    alone = LogisticRegression(C=strength, max_iter=5000, tol=1e-8, class_weight="balanced")
    alone.fit(scaled(train.inputs[rows]), train.targets[rows].argmax(1))
    expected = alone.predict_proba(scaled(validation.inputs[validation.rows]))
    np.testing.assert_allclose(found.probabilities, expected, atol=0.01)


def test_fewer_images_than_features_are_solved_where_they_lie() -> None:
    """The directions in which no image lies have no weight in either solution, so leaving them out changes nothing."""
    rng = np.random.default_rng(3)
    inputs, targets = rng.uniform(0, 9, (60, 200)).astype("float32"), np.eye(3, dtype="float32")[np.arange(60) % 3]
    inputs[np.arange(60), np.arange(60) % 3] += 9
    train = Examples(inputs, targets, np.arange(40), sizes=(120, 80))
    found = train_probe(
        Head(l2=0.01), Training(), train, Examples(inputs, targets, np.arange(40, 60)), multi_label=False
    )
    scaled = Scaled.of(train, "sqrt_l2")
    alone = LogisticRegression(C=1 / (2 * 0.01 * 40), max_iter=5000, tol=1e-8).fit(
        scaled(inputs[:40]), targets[:40].argmax(1)
    )
    np.testing.assert_allclose(found.probabilities, alone.predict_proba(scaled(inputs[40:])), atol=0.01)


def test_settings_may_be_given_or_are_the_usual_ones_without_validation() -> None:
    train, validation = examples()
    given = train_probe(Head(units=(), l2=0.01), Training(), train, validation, multi_label=False)
    assert [row["strength"] for row in given.history] == [pytest.approx(1 / (2 * 0.01 * 90))]
    assert given.history[0]["kept"]
    usual = train_probe(PROBE, Training(), train, None, multi_label=False)
    assert usual.probabilities is None and [row["kept"] for row in usual.history] == [False, False, True]
    chosen = train_probe(PROBE, Training(), train, validation, multi_label=False).history[-1]
    settings = {name: chosen[name] for name in ("strength", "shrinkage", "factor")}
    again = train_probe(PROBE, Training(), train, validation, multi_label=False, chosen=settings)
    assert again.history[-1]["val_loss"] == pytest.approx(chosen["val_loss"], abs=1e-3)


@pytest.mark.slow
def test_from_images_to_a_file_that_plain_keras_opens(
    stripes: tuple, tiny_weights: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    settings: dict[str, Any] = {"backbone": tiny_weights, "image_size": 32, "precision": "float32", "verbose": 0}
    runs = [
        vggft.finetune(stripes, 3, head=PROBE, seed=0, training=Training(epochs=epochs), **settings)
        for epochs in (1, 9)
    ]
    np.testing.assert_array_equal(*(run.network.learned["logits/0"] for run in runs))
    vggft.finetune(stripes, 3, head=PROBE, **(settings | {"verbose": 1}))
    assert "the head is a linear probe, solved exactly" in " ".join(capfd.readouterr().err.split())
    runs[0].save(tmp_path / "probe.keras")
    plain = keras.models.load_model(tmp_path / "probe.keras")
    pixels = stripes[0][:7]
    np.testing.assert_allclose(plain.predict(pixels.astype("float32"), verbose=0), runs[0].predict(pixels), atol=1e-5)
    again = vggft.load(tmp_path / "probe.keras")
    assert again.description.head == replace(PROBE, blocks=BLOCKS[2:]) and again.evaluation["accuracy"] > 0.8
    epochs = vggft.finetune(stripes, 3, head=PROBE, training=Training(epochs=3, probe="epochs"), **settings)
    assert [row["epoch"] for row in epochs.history] == [1, 2, 3] and "strength" not in epochs.history[0]


def test_blocks_learn_from_the_exact_probe(stripes: tuple, tiny_weights: Path) -> None:
    """LP-FT, arXiv:2202.10054."""
    training = Training(fine_tune_epochs=2, batch_size=16, fine_tune_learning_rate=1e-4)
    classifier = vggft.finetune(
        stripes, 3, backbone=tiny_weights, image_size=32, head=PROBE, freeze="block4", training=training, verbose=0
    )
    phases = [row["phase"] for row in classifier.history]
    assert phases[-2:] == ["blocks and head"] * 2 and set(phases[:-2]) == {"head"}
    assert classifier.description.head.blocks == BLOCKS[3:]


def test_balanced_sampling_and_weights_by_name_are_weights_of_the_solver() -> None:
    train, validation = examples()
    names = ("x", "y", "z")
    counts = train.targets[train.rows].sum(axis=0)

    def solved(**craft: Any) -> np.ndarray:
        training = Training(**craft)
        found = train_probe(PROBE, training, train, validation, multi_label=False, class_names=names)
        return found.weights["logits/0"]

    balanced = solved(class_weight="balanced")
    np.testing.assert_array_equal(solved(sampling="balanced"), balanced)
    by_name = dict(zip(names, (len(train) / (3 * counts)).tolist(), strict=True))
    np.testing.assert_allclose(solved(class_weight=by_name), balanced, atol=1e-4)
    assert not np.allclose(solved(class_weight=by_name, sampling="balanced"), balanced, atol=1e-4)


@pytest.mark.parametrize(
    "craft",
    [
        {"label_smoothing": 0.1},
        {"focal_gamma": 2.0},
        {"weight_decay": 0.1},
        {"loss": keras.losses.CategoricalHinge()},
        {"phases": (Phase("all", epochs=3),)},
        {"phases": (Phase("block4"), Phase("all"))},
    ],
)
def test_another_problem_than_the_solvers_is_trained_by_epochs(craft: dict[str, Any]) -> None:
    assert not is_exact(PROBE, Training(**craft))
    assert is_exact(PROBE, Training(phases=(Phase("block5"), Phase("block4", learning_rate=1e-5)), optimizer="sgd"))
