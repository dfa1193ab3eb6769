"""What was just trained is predicted, evaluated and explained from its frozen features, without a pass."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vggft
from vggft.artifact import judge
from vggft.artifact import known as module

QUICK = vggft.Training(epochs=3, fine_tune_epochs=1, batch_size=16)


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VGGFT_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def finetune(stripes: tuple, weights: Path, **arguments: Any) -> vggft.Classifier:
    settings: dict[str, Any] = {"backbone": weights, "image_size": 32, "training": QUICK, "verbose": 0}
    return vggft.finetune(stripes, 3, **(settings | {"precision": "float32"} | arguments))


def test_known_images_need_no_network(
    stripes: tuple, tiny_weights: Path, own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = stripes[0]
    classifier = finetune(stripes, tiny_weights)
    known = classifier.predict(images)
    with pytest.warns(UserWarning, match="trained or chosen on") as told:
        evaluation = classifier.evaluate(stripes)
    assert told[0].filename == __file__ and not classifier.network.is_built
    np.testing.assert_array_equal(evaluation.probabilities, known)

    some = np.concatenate([images[:3], 255 - images[:2], images[5:6]])  # two of them were never seen
    mixed = classifier.predict(some)
    with monkeypatch.context() as few:  # features are read a part at a time
        few.setattr(module, "SHARD_ROWS", 4)
        np.testing.assert_allclose(classifier.predict(some), mixed, atol=1e-6)
    assert classifier.network.is_built
    classifier.save(tmp_path / "some.keras")
    shutil.rmtree(own_cache)
    from_pixels = vggft.load(tmp_path / "some.keras").predict(some)
    np.testing.assert_allclose(mixed, from_pixels, atol=1e-5)
    np.testing.assert_allclose(known[[0, 1, 2, 5]], from_pixels[[0, 1, 2, 5]], atol=1e-5)
    np.testing.assert_allclose(classifier.predict(images), known, atol=1e-5)  # nothing is in the cache any more


@pytest.mark.slow
def test_a_loaded_classifier_uses_them_too(stripes: tuple, tiny_weights: Path, own_cache: Path, tmp_path: Path) -> None:
    """Features are kept in 16 bits by default, so the answers show where they come from."""
    classifier = finetune(stripes, tiny_weights, precision="auto")
    classifier.save(tmp_path / "some.keras")
    known = vggft.load(tmp_path / "some.keras").predict(stripes[0])
    np.testing.assert_array_equal(known, classifier.predict(stripes[0]))
    shutil.rmtree(own_cache)
    from_pixels = vggft.load(tmp_path / "some.keras").predict(stripes[0])
    assert 0 < np.abs(known - from_pixels).max() < 0.05


def test_features_that_are_not_exact_enough_do_not_answer(
    stripes: tuple, tiny_weights: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judge, "INDISTINGUISHABLE", 0.0)
    classifier = finetune(stripes, tiny_weights, precision="bfloat16")
    known = classifier.predict(stripes[0][:6])
    shutil.rmtree(own_cache)
    np.testing.assert_array_equal(known, classifier.predict(stripes[0][:6]))


def test_a_network_that_was_trained_further_is_asked_itself(
    stripes: tuple, tiny_weights: Path, own_cache: Path
) -> None:
    classifier = finetune(stripes, tiny_weights)
    before = classifier.predict(stripes[0][:6])
    layer = classifier.keras_model.get_layer("block1_conv1")
    np.testing.assert_array_equal(classifier.predict(stripes[0][:6]), before)  # handed out, but not changed
    layer.set_weights([np.roll(weights, 1, axis=-1) for weights in layer.get_weights()])
    after = classifier.predict(stripes[0][:6])
    model = classifier.keras_model
    np.testing.assert_allclose(after, model.predict(stripes[0][:6].astype("float32"), verbose=0), atol=1e-5)
    assert np.abs(after - before).max() > 1e-3


def test_calibration_holds_for_known_images(stripes: tuple, tiny_weights: Path, own_cache: Path) -> None:
    classifier = finetune(stripes, tiny_weights)
    before = classifier.predict(stripes[0][:6])
    temperature = classifier.calibrate(stripes).temperature
    again = before ** (1 / temperature)
    np.testing.assert_allclose(classifier.predict(stripes[0][:6]), again / again.sum(1, keepdims=True), atol=1e-5)
    assert not classifier.network.is_built


def test_explanations_start_from_stored_maps(stripes: tuple, tiny_weights: Path, own_cache: Path) -> None:
    classifier = finetune(stripes, tiny_weights, freeze="block4")
    for block in ("block5", "block2"):
        kept = classifier.explain(list(stripes[0][:3]), block=block)
        aside = own_cache.rename(own_cache.with_name("aside"))
        fresh = classifier.explain(list(stripes[0][:3]), block=block)
        aside.rename(own_cache)
        for a, b in zip(kept, fresh, strict=True):
            np.testing.assert_allclose(a.heatmap, b.heatmap, atol=1e-4)
            assert a.probability == pytest.approx(b.probability, abs=1e-5)


def test_views_are_averaged_with_the_image_itself(stripes: tuple, tiny_weights: Path, own_cache: Path) -> None:
    images = np.concatenate([stripes[0][:5], 255 - stripes[0][:2]])  # two of them were never seen
    classifier = finetune(stripes, tiny_weights)
    plain, mirrored = classifier.predict(images), classifier.predict(images[:, :, ::-1])
    np.testing.assert_allclose(classifier.predict(images, views=2), (plain + mirrored) / 2, atol=1e-5)
    four = classifier.predict(images, views=4)
    assert np.abs(four - classifier.predict(images, views=2)).max() > 1e-4
    np.testing.assert_allclose(four.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(classifier.predict(images[3:], views=4), four[3:], atol=1e-5)  # the views of an image
    with pytest.warns(UserWarning, match="trained or chosen on"):
        evaluation = classifier.evaluate((images, stripes[1][[0, 1, 2, 3, 4, 0, 1]]), views=4)
    np.testing.assert_allclose(evaluation.probabilities, four, atol=1e-5)

    still = vggft.Augment(flip=False, crop=0.0, brightness=0.0, views=3)
    np.testing.assert_allclose(classifier.predict(images, views=still), plain, atol=1e-5)
    for wrong in (0, 2.5, True, vggft.Augment(views=None), vggft.Augment(mixup=0.2)):
        with pytest.raises(vggft.ConfigError, match="views"):
            classifier.predict(images, views=wrong)
