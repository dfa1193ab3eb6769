"""Views of images, and batches that change in every epoch."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import vggft
from vggft.augment import named
from vggft.features.changes import changer, mix, repeats
from vggft.features.views import make_views
from vggft.training import callbacks

KEYS = np.arange(40, dtype=np.uint64)
STILL: dict[str, Any] = {"flip": False, "crop": 0.0, "brightness": 0.0}


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)


def views(pixels: np.ndarray, **fields: Any) -> np.ndarray:
    return make_views(pixels, KEYS, 1, vggft.Augment(**STILL | fields), seed=0)


def test_views_without_the_newer_changes_are_those_of_before(pixels: np.ndarray) -> None:
    """Their features are in caches: neither their pixels nor their keys may change."""
    found = views(pixels, flip=True, brightness=0.3)
    assert hashlib.sha256(found.tobytes()).hexdigest() == (
        "c6efcb9bbb610c83167456cbf5f15e39ae923f8d98fe9553700f2bc322e939d4"
    )
    assert vggft.Augment().changes() == {"flip": True, "crop": 0.1, "brightness": 0.1}
    assert vggft.Augment(mixup=0.2, views=None).changes() == vggft.Augment().changes()
    assert vggft.Augment(rotate=15).changes() == vggft.Augment(rotate=15.0).changes() != vggft.Augment().changes()


@pytest.mark.parametrize(
    "change",
    [{"vertical_flip": True}, {"rotate": 30}, {"contrast": 0.5}, {"saturation": 0.5}, {"hue": 0.2}, {"erase": 1}],
)
def test_every_change_is_seeded_and_leaves_the_others_alone(change: dict, pixels: np.ndarray) -> None:
    found = views(pixels, **change)
    assert found.dtype == np.uint8 and not np.array_equal(found, pixels)
    np.testing.assert_array_equal(views(pixels, **change), found)
    np.testing.assert_array_equal(
        make_views(pixels[3:5], KEYS[3:5], 1, vggft.Augment(**STILL, **change), 0), found[3:5]
    )
    as_floats = views(pixels.astype("float32"), **change)
    assert as_floats.dtype == np.float32 and as_floats.min() >= 0 and as_floats.max() <= 255
    np.testing.assert_allclose(as_floats, found, atol=0.51)
    flipped = views(pixels, flip=True, **change)  # draws the same change, and mirrors half of the images first
    same = (flipped == found).all(axis=(1, 2, 3))
    assert 0 < same.sum() < len(pixels)


def test_what_the_changes_do(pixels: np.ndarray) -> None:
    upside = (views(pixels, vertical_flip=True) == pixels[:, ::-1]).all(axis=(1, 2, 3))
    assert 10 < upside.sum() < 30
    grey = np.repeat(pixels[..., :1], 3, axis=-1)
    np.testing.assert_array_equal(views(grey, saturation=0.9, hue=0.5), grey)
    for changed in (views(pixels, contrast=0.9), views(pixels, saturation=0.9)):  # greys keep their mean
        assert np.abs(changed.mean(axis=(1, 2, 3)) - pixels.mean(axis=(1, 2, 3))).max() < 4
    np.testing.assert_allclose(views(pixels, hue=0.5).max(axis=-1), pixels.max(axis=-1), atol=1)  # HSV's value
    middle = np.zeros((40, 33, 33, 3), np.uint8)
    middle[:, 16, 24] = 255  # eight to the right of the centre
    line = views(middle, rotate=90)[..., 0].reshape(40, -1).argmax(axis=1) // 33
    assert line.min() < 12 and line.max() > 20
    erased = (views(pixels, erase=1) != pixels).any(axis=-1).mean(axis=(1, 2))
    assert erased.min() > 0.01 and erased.max() < 0.42 and np.ptp(erased) > 0.2
    assert 10 < (views(pixels, erase=0.5) != pixels).any(axis=(1, 2, 3)).sum() < 30


@pytest.mark.parametrize("size", [(16, 16), (8, 24), (24, 8)])
@pytest.mark.parametrize("way", ["mixup", "cutmix"])
def test_targets_are_mixed_by_the_same_shares_as_the_pixels(way: str, size: tuple[int, int]) -> None:
    """Image k has the value k everywhere, so its mean pixel tells what it is mixed of."""
    numbers = np.arange(8, dtype="float32")
    images = np.broadcast_to(numbers[:, None, None, None], (8, *size, 3)).astype("uint8")
    augment, kinds, reached = vggft.Augment(views=None, **{way: 1.0}), set(), np.zeros(size, bool)
    for seed in range(20):
        mixed, targets = mix(images, np.eye(8, dtype="float32"), augment, np.random.default_rng(seed))
        assert mixed.dtype == targets.dtype == np.float32
        np.testing.assert_allclose(targets.sum(axis=1), 1, atol=1e-6)
        np.testing.assert_allclose(mixed.mean(axis=(1, 2, 3)), targets @ numbers, atol=1e-4)
        assert (np.unique(mixed[0]).size > 1) <= (way == "cutmix")  # mixup keeps a plain image plain
        kinds.add(float(targets[0, 0]))
        reached |= (mixed != images).any(axis=(0, 3))
    assert len(kinds) > 10 and reached.all()


def test_a_rectangle_has_the_share_that_is_drawn_less_what_lies_outside() -> None:
    """Shares are uniform with Beta(1, 1): a half on average, of which about two thirds lie inside."""
    images, targets, augment = (
        np.zeros((2, 64, 64, 3), "uint8"),
        np.eye(2, dtype="float32"),
        vggft.Augment(views=None, cutmix=1.0),
    )
    mixed = [mix(images, targets, augment, np.random.default_rng(seed))[1] for seed in range(400)]
    pasted = [found[0, 1] for found in mixed if found[0, 1]]  # the others were mixed with themselves
    assert len(pasted) > 150 and 0.25 < np.mean(pasted) < 0.42 and np.min(pasted) < 0.02 and np.max(pasted) > 0.8


def test_mixing_needs_the_pixels(stripes: tuple) -> None:
    kinds: dict[str, Any] = {"backbone": "vgg16_mini", "image_size": 32, "verbose": 0}
    with pytest.raises(vggft.ConfigError, match=r"views=4 features are computed once.*pass views=None"):
        vggft.finetune(stripes, 3, augment=vggft.Augment(cutmix=1.0), **kinds)
    with pytest.raises(vggft.ConfigError, match=r"MixUp mixes images, but would not see their labels"):
        vggft.finetune(stripes, 3, augment=keras.Sequential([keras.layers.MixUp()]), **kinds)


def test_layers_draw_by_seed_epoch_and_batch(pixels: np.ndarray) -> None:
    targets = np.eye(40, dtype="float32")

    def changed(seed: int, rows: np.ndarray, epoch: int) -> np.ndarray:
        layers = [keras.layers.RandomFlip(), keras.layers.RandomColorJitter(brightness_factor=0.3, hue_factor=0.2)]
        found, same = changer(keras.Sequential(layers), seed, KEYS)(pixels[rows], targets[rows], rows, epoch)
        np.testing.assert_array_equal(same, targets[rows])
        return found

    first = changed(0, np.arange(8), 1)
    np.testing.assert_array_equal(changed(0, np.arange(8), 1), first)
    for other in ((1, np.arange(8), 1), (0, np.arange(8), 2), (0, np.arange(8)[::-1], 1)):
        assert not np.array_equal(changed(*other), first)
    assert changed(0, np.arange(1), 1).shape == (1, 32, 32, 3)  # the last batch of some sizes


def test_a_run_knows_a_layer_by_its_arguments() -> None:
    """Names and seeds that Keras makes up differ between processes, and would make a run seem another one."""

    def made(factor: float) -> keras.Sequential:
        return keras.Sequential([keras.layers.RandomFlip("horizontal"), keras.layers.RandomRotation(factor)])

    assert named(made(0.1)) == named(made(0.1)) != named(made(0.2))
    assert named(made(0.1)).startswith("Sequential([RandomFlip(mode='horizontal'), RandomRotation(factor=(-0.1, 0.1)")


def test_a_function_with_a_randomness_of_its_own_is_noticed(pixels: np.ndarray) -> None:
    rng, targets = np.random.default_rng(0), np.eye(40)
    assert not repeats(changer(lambda images: images + rng.normal(size=images.shape), 0, KEYS), pixels, targets)
    assert repeats(changer(keras.layers.RandAugment(), 0, KEYS), pixels, targets)
    with pytest.raises(vggft.ConfigError, match=r"given \(8, 32, 32, 3\), it returned \(8, 16, 16, 3\)"):
        repeats(changer(keras.layers.CenterCrop(16, 16), 0, KEYS), pixels, targets)
    with pytest.raises(vggft.ConfigError, match=r"augment mixes images, but would not see their labels"):
        repeats(changer(lambda images: (images + images[::-1]) / 2, 0, KEYS), pixels, targets)


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (lambda images: images * np.nan, r"8 of the images that it returned had pixels that are not finite"),
        (lambda images: images[:1], r"given \(8, 32, 32, 3\), it returned \(1, 32, 32, 3\)"),
        (lambda images: None, r"it returned \(\)\."),
    ],
)
def test_what_a_function_does_wrong_is_told(function: Any, told: str, pixels: np.ndarray) -> None:
    with pytest.raises(vggft.ConfigError, match=told):
        changer(function, 0, KEYS)(pixels[:8], np.eye(8), np.arange(8), 3)


def test_an_error_in_the_middle_of_training_is_one_sentence(stripes: tuple) -> None:
    calls = iter(range(100))

    def augment(images: np.ndarray) -> np.ndarray:
        if next(calls) > 4:
            raise ZeroDivisionError("too many")
        return images

    training = vggft.Training(epochs=2, fine_tune_epochs=2, batch_size=16)
    how: dict[str, Any] = {"backbone": "vgg16_mini", "image_size": 32, "verbose": 0, "freeze": "block4"}
    with pytest.raises(vggft.ConfigError, match=r"given \(16, 32, 32, 3\), it raised ZeroDivisionError: too many"):
        vggft.finetune(stripes, 3, augment=augment, training=training, precision="float32", **how)


def test_a_loss_that_is_no_number_ends_training_and_is_told(stripes: tuple) -> None:
    training = vggft.Training(epochs=2, fine_tune_epochs=4, fine_tune_learning_rate=1e20, batch_size=16)
    how: dict[str, Any] = {"backbone": "vgg16_mini", "image_size": 32, "verbose": 0, "freeze": "block4"}
    with pytest.warns(UserWarning, match=r"not a finite number in epoch 1 of 'blocks and head'.*try a tenth"):
        found = vggft.finetune(stripes, 3, head=vggft.Head(units=(8,)), training=training, precision="float32", **how)
    assert sum(row["phase"] == "blocks and head" for row in found.history) == 1
    assert np.isfinite(found.predict(stripes[0][:4])).all()


@pytest.mark.slow
@pytest.mark.parametrize("by_keras", [False, True])
def test_a_run_that_changes_its_images_can_be_resumed(
    by_keras: bool, stripes: tuple, tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(**more: Any) -> vggft.Classifier:
        augment: Any = vggft.Augment(views=None, rotate=20, erase=0.3, mixup=0.4, cutmix=1.0)
        if by_keras:
            augment = keras.Sequential([keras.layers.RandomFlip(), keras.layers.RandomErasing()])
        return vggft.finetune(
            stripes, 3, backbone=tiny_weights, image_size=32, precision="float32", head=vggft.Head(units=(8,)),
            training=vggft.Training(epochs=4, batch_size=32), augment=augment, verbose=0, **more,
        )  # fmt: skip

    alone = run()
    monkeypatch.setattr(callbacks, "SECONDS_BETWEEN_POINTS", 0)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        ended = callbacks.Bar.on_epoch_end

        def stop(self: Any, epoch: int, logs: Any = None) -> None:
            ended(self, epoch, logs)
            if epoch == 1:
                raise KeyboardInterrupt

        patch.setattr(callbacks.Bar, "on_epoch_end", stop)
        run(run_dir=tmp_path / "run")
    resumed = run(run_dir=tmp_path / "run", resume=True)
    for a, b in zip(resumed.keras_model.get_weights(), alone.keras_model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert [row["loss"] for row in resumed.history] == [row["loss"] for row in alone.history]
