"""`freeze="auto"`: whether blocks learn is found out, and it ends in time."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import vggft
from vggft import depth
from vggft.network.blocks import BLOCKS
from vggft.training.request import seconds_of


def finetune(data: Any, weights: Path, **arguments: Any) -> vggft.Classifier:
    settings = {"num_classes": 3, "backbone": weights, "image_size": 32, "precision": "float32", "verbose": 1}
    return vggft.finetune(data, **(settings | {"freeze": "auto", "test": 0.2} | arguments))


@pytest.fixture
def said(capfd: pytest.CaptureFixture[str]) -> Any:
    return lambda: " ".join(capfd.readouterr().err.split())


def test_times_are_read_and_refused() -> None:
    assert [seconds_of(each) for each in (None, 90, "90", "1.5h", "10 m", "30s")] == [None, 90, 90, 5400, 600, 30]
    for wrong in ("soon", "0m", -1, True, "1d", 0):
        with pytest.raises(vggft.ConfigError, match="time_limit must be a number of seconds"):
            seconds_of(wrong)


@pytest.mark.slow
def test_few_images_or_little_time_leave_the_frozen_classifier(
    stripes: tuple, tiny_weights: Path, said: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    frozen = finetune(stripes, tiny_weights, freeze="all", verbose=0)
    few = finetune(stripes, tiny_weights)
    assert "No block learns: that takes 100 training images or more." in said()
    monkeypatch.setattr(depth, "FEWEST", 10)
    late = finetune(stripes, tiny_weights, time_limit="1s")
    assert "No block learns: 2 epochs would take about" in said()
    for classifier in (few, late):
        assert classifier.description.frozen == BLOCKS
        np.testing.assert_array_equal(classifier.predict(stripes[0][:9]), frozen.predict(stripes[0][:9]))


def test_blocks_learn_and_are_kept_if_the_validation_images_say_so(
    stripes: tuple, tiny_weights: Path, said: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(depth, "FEWEST", 10)
    training = vggft.Training(fine_tune_epochs=3, batch_size=16, fine_tune_learning_rate=1e-3)
    classifier = finetune(stripes, tiny_weights, training=training, run_dir=tmp_path / "run")
    told = said()
    assert "Probes on blocks 1 to 5 alone have log losses" in told
    learned = "the learned ones are kept" in told
    assert learned != ("the frozen ones are kept" in told)
    assert (classifier.description.frozen != BLOCKS) == learned
    assert ("blocks and head" in {row["phase"] for row in classifier.history}) == learned
    again = finetune(stripes, tiny_weights, training=training, run_dir=tmp_path / "run", resume=True)
    np.testing.assert_allclose(again.predict(stripes[0][:9]), classifier.predict(stripes[0][:9]), atol=1e-6)

    harmful = vggft.Training(fine_tune_epochs=2, batch_size=16, fine_tune_learning_rate=10.0)
    classifier = finetune(stripes, tiny_weights, training=harmful)
    assert "the frozen ones are kept" in said() and classifier.description.frozen == BLOCKS


@pytest.mark.slow
def test_callbacks_and_metrics_see_blocks_learn_in_any_phases(
    stripes: tuple, tiny_weights: Path, said: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(depth, "FEWEST", 10)
    monkeypatch.setattr(depth, "_losses", lambda run, fitted, fold: np.ones(9) / (1 + len(fitted.epochs)))
    gradual = vggft.Training(fine_tune_epochs=2, batch_size=16, fine_tune_learning_rate=1e-3, phases="gradual")
    seen = keras.callbacks.History()
    classifier = finetune(stripes, tiny_weights, training=gradual, callbacks=[seen], metrics=["AUC"])
    assert "the learned ones are kept" in said()  # as if they had told validation images better
    assert "block5 and head" in {row["phase"] for row in classifier.history} and len(seen.epoch) == 2
    assert all("auc" in map(str.lower, row) for row in classifier.history)


def test_a_limit_ends_what_was_asked_for_too(stripes: tuple, tiny_weights: Path) -> None:
    """After one step, with labels by chance, so that there is something to learn: blocks have moved."""
    images, labels = stripes[0], np.random.default_rng(0).integers(0, 3, 120)
    training = vggft.Training(fine_tune_epochs=50, patience=50, batch_size=16, fine_tune_learning_rate=1e-3)
    how: dict[str, Any] = {"freeze": "block4", "training": training, "verbose": 0}
    classifier = finetune((images, labels), tiny_weights, time_limit="0.1s", **how)
    assert [row["phase"] for row in classifier.history].count("blocks and head") == 1


def test_own_phases_leave_nothing_to_find_out(stripes: tuple, tiny_weights: Path) -> None:
    training = vggft.Training(phases=(vggft.Phase("all"), vggft.Phase("block4")))
    with pytest.raises(vggft.ConfigError, match="freeze='auto' finds out which blocks learn: leave phases out"):
        finetune(stripes, tiny_weights, training=training)


@pytest.mark.slow
def test_a_time_limit_is_kept(stripes: tuple, tiny_weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(depth, "FEWEST", 10)
    monkeypatch.setattr(depth, "epoch_seconds", lambda *_: 1e-3)  # as if the estimate were far too low
    started = time.monotonic()
    finetune(stripes, tiny_weights, training=vggft.Training(fine_tune_epochs=9000, patience=9000), time_limit="40s")
    assert time.monotonic() - started < 42


def test_the_estimate_counts_the_time_limit(stripes: tuple, tiny_weights: Path) -> None:
    how: dict[str, Any] = {"backbone": tiny_weights, "image_size": 32, "precision": "float32", "verbose": 0}
    how |= {"validation": 0.1}  # of 120 images, so that blocks learn from 108
    frozen = vggft.estimate(stripes, 3, **how)
    assert vggft.estimate(stripes, 3, freeze="auto", time_limit="10m", **how).training_seconds == 600
    assert vggft.estimate(stripes, 3, time_limit="10m", **how).training_seconds < 60
    assert frozen.training_seconds < 60
    few = stripes[0][:90], stripes[1][:90]  # of which no block learns
    assert vggft.estimate(few, 3, freeze="auto", **how).training_seconds < 60
    many = vggft.estimate(stripes, 3, freeze="auto", time_limit="10m", images=1000, **how)
    assert many.seconds["training of blocks"] > 400 and many.minutes == pytest.approx(10)
