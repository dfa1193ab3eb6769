"""What a fine-tuned classifier knows of its limits, from the run to its file, and what makes it forget."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import vggft
from vggft.artifact.archive import TRUST_MEMBER


@pytest.fixture(scope="module")
def trained(stripes: tuple, tiny_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple:
    """A classifier of stripes with a test split, so that its head has learned from validation images too; its file."""
    how: dict[str, Any] = {"backbone": tiny_weights, "image_size": 32, "precision": "float32", "verbose": 0}
    classifier = vggft.finetune(stripes, 3, test=0.2, **how)
    return classifier, classifier.save(tmp_path_factory.mktemp("trust") / "stripes.keras")


@pytest.fixture
def foreign() -> np.ndarray:
    """Pictures that are no stripes: checks of a few pixels in colour."""
    tiles = np.random.default_rng(5).integers(0, 2, (12, 4, 4, 3)) * 255
    return np.kron(tiles, np.ones((1, 8, 8, 1))).astype("uint8")


def test_strangers_are_told_from_pixels_features_and_files_alike(
    trained: tuple, stripes: tuple, foreign: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    classifier, path = trained
    images = stripes[0]
    plain, (probabilities, own) = classifier.predict(images), classifier.predict(images, strangers=True)
    np.testing.assert_allclose(probabilities, plain, atol=1e-6)
    assert (own > 1).mean() < 0.2
    _, far = classifier.predict(foreign, strangers=True)
    assert (far > 1).all() and far.shape == (12,) and far.dtype == np.float32
    half = (classifier.predict(images, strangers=0.5)[1] > 1).mean()
    assert (own > 1).mean() < half < 0.7

    monkeypatch.setenv("VGGFT_CACHE_DIR", str(tmp_path / "none"))
    loaded = vggft.load(path)
    _, from_pixels = loaded.predict(np.concatenate([images[:9], foreign]), strangers=True, views=2)
    np.testing.assert_allclose(from_pixels, np.r_[own[:9], far], rtol=1e-3, atol=1e-3)
    assert keras.models.load_model(path).output_shape == (None, 3)  # plain Keras sees one output, as ever

    found = loaded.classify([foreign[0], images[0]])
    assert [each.stranger for each in found] == [True, False]
    assert str(found[0]).startswith("none of the classes? ") and not str(found[1]).startswith("none")
    frame = loaded.predict(foreign[:2], strangers=True, as_frame=True)
    assert list(frame.columns[-2:]) == ["stranger", "distance"] and frame["stranger"].tolist() == [True, True]
    with pytest.raises(vggft.ConfigError, match="share of the images of the classes"):
        loaded.predict(foreign, strangers=2.0)


def test_sets_come_from_images_that_were_not_learned_from(trained: tuple, stripes: tuple) -> None:
    classifier, path = trained
    held = classifier.trust.held_out
    assert held.split == "cross-validation" and len(held.labels) == 96  # all that are not for testing
    sets = vggft.load(path).predict_sets(stripes[0][:30], coverage=0.9)
    assert sets.sets.shape == (30, 3) and sets.sets.any(axis=1).all() and len(sets.labels) == 30
    assert sets.to_frame()["size"].tolist() == sets.sizes.tolist() and "at least 0.9" in str(sets)
    found = classifier.coverage(0.9, "aps")
    assert found.found >= 0.75 and set(found.by_class) == {"0", "1", "2"} and "By class" in str(found)
    with pytest.raises(vggft.DataError, match="need at least 999 images"):
        classifier.predict_sets(stripes[0][:2], coverage=0.999)


def test_embeddings_have_length_one_for_each_block(trained: tuple, stripes: tuple) -> None:
    found = trained[0].embed(stripes[0][:6])
    assert found.dtype == np.float32 and found.shape[0] == 6
    np.testing.assert_allclose((found**2).sum(axis=1), 3, rtol=1e-4)  # blocks 3 to 5


def test_other_weights_and_old_files_know_nothing(trained: tuple, stripes: tuple, tmp_path: Path) -> None:
    path = shutil.copy(trained[1], tmp_path / "other.keras")
    changed = vggft.load(path)
    logits = changed.keras_model.get_layer("logits")
    logits.set_weights([each * 2 for each in logits.get_weights()])
    with pytest.warns(UserWarning, match="knew of strangers and coverage, is dropped"):
        assert changed.trust.strangers is None
    with pytest.raises(vggft.ConfigError, match="does not know how far"):
        changed.predict(stripes[0][:2], strangers=True)
    assert changed.classify(stripes[0][0]).stranger is None

    with zipfile.ZipFile(path) as whole, zipfile.ZipFile(tmp_path / "old.keras", "w") as old:
        for name in whole.namelist():
            if name != TRUST_MEMBER:
                old.writestr(name, whole.read(name))
    with pytest.raises(vggft.ConfigError, match="does not know what held-out images were told"):
        vggft.load(tmp_path / "old.keras").predict_sets(stripes[0][:2])

    with zipfile.ZipFile(tmp_path / "bad.keras", "w") as bad, zipfile.ZipFile(path) as whole:
        for name in whole.namelist():
            bad.writestr(name, whole.read(name) if name != TRUST_MEMBER else whole.read(name)[:500])
    with pytest.raises(vggft.ClassifierFileError, match="vggft_trust"):
        vggft.load(tmp_path / "bad.keras")


def test_calibration_keeps_the_promise(trained: tuple, stripes: tuple) -> None:
    """The held-out probabilities follow the temperature, as the limit has to be for those that are predicted."""
    classifier = vggft.load(trained[1])
    before = classifier.trust.held_out.probabilities
    result = classifier.calibrate((stripes[0], np.roll(stripes[1], 40)))  # some labels are wrong
    after, strangers = classifier.trust.held_out.probabilities, classifier.trust.strangers
    assert strangers is not None and result.temperature > 1 and after.max(axis=1).mean() < before.max(axis=1).mean()
    np.testing.assert_array_equal(after.argmax(axis=1), before.argmax(axis=1))


@pytest.mark.slow
def test_blocks_that_have_learned_from_all_images_give_no_limit(stripes: tuple, tiny_weights: Path) -> None:
    quick = vggft.Training(epochs=1, fine_tune_epochs=2, batch_size=32)
    how: dict[str, Any] = {"backbone": tiny_weights, "image_size": 32, "precision": "float32", "verbose": 0}
    how |= {"freeze": "block4", "head": vggft.Head(units=(4,)), "training": quick, "test": 0.2}
    apart, both = (vggft.finetune(stripes, 3, refit=refit, **how) for refit in (False, True))
    assert apart.network.learned_blocks and both.network.learned_blocks
    assert apart.trust.known_strangers().blocks[-1] == "block5" and apart.trust.held_out.split == "validation"
    assert both.trust.strangers is None and both.trust.held_out.split == "validation"
