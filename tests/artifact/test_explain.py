"""Grad-CAM: it finds the right place for every block and class; overlays, files and errors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import vggft
from vggft.artifact.explain import Explanation, grad_cam, over_shown
from vggft.network.blocks import BLOCKS
from vggft.pictures.reading import Reading

SIDE, PATCH = 128, 48  # block 5 has 4 x 4 places


@pytest.fixture(scope="module")
def corners() -> tuple[np.ndarray, np.ndarray]:
    """Grey images of 3 classes: the patch in the upper left corner decides, that in the opposite corner is random."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:PATCH, :PATCH]
    waves = [np.sin(y * 0.9), np.sin(x * 0.9), np.sin(y * 0.7) * np.sin(x * 0.7)]
    patches = [np.stack([128 + 110 * wave * (c == n) for c in range(3)], -1) for n, wave in enumerate(waves)]
    images = rng.normal(128, 8, (150, SIDE, SIDE, 3))
    labels = np.arange(150) % 3
    for image, label in zip(images, labels, strict=True):
        image[:PATCH, :PATCH] = patches[label]
        image[-PATCH:, -PATCH:] = patches[rng.integers(3)]
    return images.clip(0, 255).astype("uint8"), labels


@pytest.fixture(scope="module")
def classifier(corners: tuple) -> vggft.Classifier:
    training = vggft.Training(epochs=10, fine_tune_epochs=4)
    settings = {"backbone": "vgg16_mini", "freeze": "block4", "precision": "float32", "training": training}
    return vggft.finetune(corners, 3, image_size=SIDE, head=vggft.Head(units=(32,)), **settings, verbose=0)


@pytest.mark.parametrize(("block", "share"), [("block5", 0.6), ("block4", 0.5)])
def test_it_shows_the_corner_that_decides(
    classifier: vggft.Classifier, corners: tuple, block: str, share: float
) -> None:
    """For every class, although images may have a patch of another class in the opposite corner."""
    assert classifier.evaluation["accuracy"] == 1
    images, labels = corners[0][:60], corners[1][:60]
    heat = grad_cam(classifier, images, labels, block)
    assert heat.shape == (60, SIDE, SIDE) and heat.dtype == np.float32
    assert heat.min() >= 0 and heat.max() <= 1
    hottest = np.stack(np.unravel_index(heat.reshape(60, -1).argmax(1), (SIDE, SIDE)), axis=1)
    # Of seeds 0 to 3: 0.87 to 1.00 for block 5, 0.72 to 0.88 for block 4; by chance 0.25.
    assert (hottest < SIDE / 2).all(axis=1).mean() >= 0.7
    inside = heat[:, : SIDE // 2, : SIDE // 2].sum((1, 2)) / heat.sum((1, 2))
    assert inside.mean() >= share  # of a quarter of the picture
    assert min(inside[labels == c].mean() for c in range(3)) > 0.3


def test_a_map_lies_over_the_part_of_the_picture_that_the_network_saw() -> None:
    heat, picture = np.ones((64, 64), "float32"), np.zeros((100, 300, 3), "uint8")
    cropped = over_shown(heat, picture, Reading((64, 64), "crop"))
    assert cropped.shape == (100, 300) and (cropped[:, 100:200] == 1).all()
    assert not cropped[:, :100].any() and not cropped[:, 200:].any()
    assert over_shown(heat, picture, Reading((64, 64), "squash")) is heat


def test_batches_classes_and_blocks(classifier: vggft.Classifier, corners: tuple) -> None:
    """Single images and batches give the same maps; other classes and blocks give other maps."""
    images = corners[0][:5]
    together = grad_cam(classifier, images, [0, 1, 2, 0, 1])
    single = np.concatenate([grad_cam(classifier, images[i : i + 1], [i % 3]) for i in range(5)])
    np.testing.assert_allclose(together, single, atol=1e-3)
    maps = [grad_cam(classifier, images[:1], [0], block) for block in BLOCKS]
    assert len({each.tobytes() for each in maps}) == len(BLOCKS)
    assert not np.array_equal(grad_cam(classifier, images[:1], [1]), together[:1])


def test_explaining_again_and_again_leaves_nothing_behind(classifier: vggft.Classifier, corners: tuple) -> None:
    """Keras stores a node in shared layers for every model that is built from them, so nothing may be built twice."""

    def nodes() -> int:
        return sum(len(layer._inbound_nodes) for layer in classifier.keras_model.layers)

    grad_cam(classifier, corners[0][:1], [0])
    before = nodes()
    for _ in range(3):
        grad_cam(classifier, corners[0][:1], [0])
    assert nodes() == before


def test_of_files_arrays_and_words(classifier: vggft.Classifier, corners: tuple, tmp_path: Path) -> None:
    """Images are shown upright and in their own proportions, and the file is the overlay."""
    turned = Image.fromarray(corners[0][0]).resize((320, 160)).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.jpg", exif=exif, quality=95)
    found = classifier.explain(tmp_path / "turned.jpg")
    assert found.picture.shape == (160, 320, 3)
    assert (found.label, found.block) == ("0", "block5")
    assert found.probability == pytest.approx(classifier.predict(tmp_path / "turned.jpg").max(), abs=1e-5)
    assert found.heatmap.shape == (SIDE, SIDE)
    np.testing.assert_array_equal(found.overlay(strength=0), found.picture)
    found.save(tmp_path / "overlay.png")
    np.testing.assert_array_equal(np.array(Image.open(tmp_path / "overlay.png")), found.overlay())
    half = Explanation(found.picture, np.eye(2, dtype="float32")[:1].repeat(2, 0), "0", 1.0, "block5").overlay()
    np.testing.assert_array_equal(half[:, -80:], found.picture[:, -80:])  # where nothing speaks for it
    assert (half[:, :80] != found.picture[:, :80]).any(-1).all()

    both = classifier.explain([corners[0][0], corners[0][1] / 255.0], label="2")
    assert [each.label for each in both] == ["2", "2"]
    np.testing.assert_array_equal(both[1].picture, corners[0][1])
    each = classifier.explain(list(corners[0][:3]), label=["2", "0", "1"], block="block1")
    assert [e.label for e in each] == ["2", "0", "1"]


def test_the_predicted_class_is_explained_where_an_operating_point_decides(
    classifier: vggft.Classifier, corners: tuple, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert classifier.explain(corners[0][0]).label == "0"
    monkeypatch.setattr(classifier, "description", replace(classifier.description, thresholds=(1.0, 0.0, 1.0)))
    found = classifier.explain(corners[0][0])
    assert found.label == classifier.classify(corners[0][0]).label == "1" and found.probability < 0.5


def test_what_cannot_be_explained_is_said(classifier: vggft.Classifier, corners: tuple, tmp_path: Path) -> None:
    with pytest.raises(vggft.ConfigError, match=r"'cat' is not a class of this classifier; known: 0, 1, 2"):
        classifier.explain(corners[0][0], label="cat")
    with pytest.raises(vggft.ConfigError, match=r"block must be one of block1, .*; got 'fc1'"):
        classifier.explain(corners[0][0], block="fc1")
    with pytest.raises(vggft.ConfigError, match="one for each of 2 images; got 1"):
        classifier.explain(corners[0][:2], label=["0"])
    (tmp_path / "broken.jpg").write_bytes(b"<html>")
    with pytest.raises(vggft.DataError, match=r"broken\.jpg is not an image"):
        classifier.explain([tmp_path / "broken.jpg", corners[0][0]])
