"""The learning rate range test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import vggft
from vggft.learning_rates import LearningRates


def find(stripes: tuple, weights: Any, **arguments: Any) -> LearningRates:
    kinds: dict[str, Any] = {"backbone": weights, "image_size": 32, "precision": "float32", "verbose": 0}
    settings: dict[str, Any] = {"training": vggft.Training(batch_size=16), "head": vggft.Head(units=(16,))}
    return vggft.find_learning_rate(stripes, 3, **(kinds | settings | arguments))


def test_the_suggestion_lies_between_the_steepest_fall_and_the_lowest_loss(tmp_path: Path) -> None:
    rates = np.geomspace(1e-7, 10, 100)
    at = np.log10(rates)
    curve = 2 - 1.5 / (1 + np.exp(-4 * (at + 3))) + np.exp(5 * (at + 0.5))  # falls fastest at 1e-3, rises before 0.3
    found = LearningRates(rates, curve + 0.02 * np.random.default_rng(0).normal(size=100), "learning_rate")
    assert found.steepest == pytest.approx(1e-3, rel=0.6) and 0.003 < found.lowest < 0.3
    assert found.suggestion is not None and found.steepest < found.suggestion < found.lowest
    assert f"Training(learning_rate={found.suggestion:.1e})" in str(found)
    assert json.loads(json.dumps(found.to_dict()))["suggestion"] == found.suggestion
    assert "<img src=" in found._repr_html_() and "falls fastest" in found._repr_html_()
    with Image.open(found.plot(tmp_path / "rates.png")) as picture:
        assert np.asarray(picture.convert("RGB")).std() > 10
    with pytest.raises(vggft.ConfigError, match=r"\.png, \.svg or \.pdf file; got 'rates\.txt'"):
        found.plot(tmp_path / "rates.txt")

    flat = LearningRates(rates, 1 + np.exp(5 * at), "learning_rate")
    assert flat.suggestion is None and "no suggestion" in str(flat)


@pytest.mark.slow
def test_a_head_learns_at_the_suggested_rate(stripes: tuple, tiny_weights: Path) -> None:
    found = find(stripes, tiny_weights)
    assert found.field == "learning_rate" and len(found.rates) == len(found.losses) <= 100
    assert found.rates[0] == 1e-7 and np.isfinite(found.losses).all()
    np.testing.assert_allclose(found.losses[:20], found.losses[0], rtol=1e-3)  # at such rates nothing changes
    again = find(stripes, tiny_weights)
    np.testing.assert_array_equal(again.losses, found.losses)
    assert found.suggestion is not None

    def loss(rate: float) -> float:
        training = vggft.Training(batch_size=16, epochs=2, learning_rate=rate)
        kinds: dict[str, Any] = {"backbone": tiny_weights, "image_size": 32, "precision": "float32", "verbose": 0}
        classifier = vggft.finetune(stripes, 3, head=vggft.Head(units=(16,)), training=training, **kinds)
        return float(classifier.evaluation["log_loss"])

    assert loss(found.suggestion) < loss(found.suggestion / 100) / 10


@pytest.mark.slow
def test_unfrozen_blocks_and_a_start_stay_as_they_are(stripes: tuple, tiny_weights: Path, tmp_path: Path) -> None:
    quick: dict[str, Any] = {"training": vggft.Training(epochs=2, batch_size=16), "image_size": 32, "verbose": 0}
    start = vggft.finetune(stripes, 3, backbone=tiny_weights, head=vggft.Head(units=(16,)), **quick)
    before = [array.copy() for array in start.keras_model.get_weights()]
    kinds: dict[str, Any] = {"freeze": "block4", "steps": 20, "head": None, "backbone": "vgg16_imagenet"}
    found = find(stripes, None, start=start, run_dir=tmp_path / "none", **kinds | {"image_size": None})
    assert found.field == "fine_tune_learning_rate" and not (tmp_path / "none").exists()
    for a, b in zip(start.keras_model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)
    # the head is that of the start, so the test begins at its loss and not at that of a fresh one
    fresh = find(stripes, tiny_weights, freeze="block4", steps=20)
    assert found.losses[0] < fresh.losses[0]


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"lowest": 1.0, "highest": 0.1}, "0 < lowest < highest; got 1.0, 0.1"),
        ({"steps": 5}, "steps must be an integer >= 20; got 5"),
        ({"head": vggft.Head(units=())}, "solved exactly, without a learning rate"),
        ({"lowest": 1e9, "highest": 1e10}, "diverged after .* steps, so lowest=1000000000.0 .* is too high"),
    ],
)
def test_what_cannot_be_tested(arguments: dict, match: str, stripes: tuple, tiny_weights: Path) -> None:
    with pytest.raises(vggft.ConfigError, match=match):
        find(stripes, tiny_weights, **arguments)


def test_new_views_and_batch_normalisation(stripes: tuple, tiny_weights: Path) -> None:
    """Pixels that change in every epoch are what training starts from, so it is their loss."""
    augment, head = vggft.Augment(views=None, mixup=0.4), vggft.Head(units=(16,), batch_norm=True)
    found = find(stripes, tiny_weights, augment=augment, head=head, steps=30)
    assert found.field == "learning_rate" and found.suggestion is not None and found.suggestion > 1e-5
