"""Whatever file, model or object people bring as a backbone: its VGG is found, or the error says what it is."""

from __future__ import annotations

import functools
import os
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
from keras import layers

import vggft
from vggft.network import weights
from vggft.network.weights import convolutions, load_pretrained

SIDE = (32, 32, 3)
FILTERS = (4, 4, "pool", 8, 8, "pool", 16, 16, 16, "pool", 32, 32, 32, "pool", 32, 32, 32, "pool")


def own(
    channels: int = 3, pool: type = layers.MaxPooling2D, normed: bool = False, **settings: Any
) -> list[layers.Layer]:
    """Layers of a VGG16 at a sixteenth of its width, with the names that Keras gives them."""
    found: list[layers.Layer] = [keras.Input((32, 32, channels))]
    for each in FILTERS:
        if each == "pool":
            found.append(pool(2))
            continue
        how = {"padding": "same", "activation": None if normed else "relu"} | settings
        found.append(layers.Conv2D(each, 3, **how))
        found += [layers.BatchNormalization(), layers.ReLU()] if normed else []
    return found


@pytest.fixture(scope="module")
def blocks() -> keras.Model:
    return vggft.vgg16(include_top=False, image_size=32, width=1 / 16)


def copy_of(blocks: keras.Model) -> keras.Model:
    copy = keras.models.clone_model(blocks)
    copy.set_weights(blocks.get_weights())
    return copy


def nested(blocks: keras.Model) -> keras.Model:
    """As tutorials build it: the last convolutions learn, so an old file lists their weights first."""
    inside = copy_of(blocks)
    for layer in inside.layers[:-4]:
        layer.trainable = False
    return keras.Sequential([keras.Input(SIDE), inside, layers.Flatten(), layers.Dense(8), layers.Dense(3)])


def flat(blocks: keras.Model) -> keras.Model:
    """With convolutions and normalisation in its head, and the moments of its optimizer."""
    inside = copy_of(blocks)
    x = layers.Conv2D(8, 3, padding="same")(inside.output)
    x = layers.GlobalAveragePooling2D()(layers.BatchNormalization()(x))
    model = keras.Model(inside.input, layers.Dense(2)(x))
    model.compile("adam", "mse", jit_compile=False)
    model.optimizer.build(model.trainable_variables)
    return model


def unnamed(blocks: keras.Model) -> keras.Model:
    model = keras.Sequential(own())
    model.set_weights(blocks.get_weights())
    return model


def with_top(blocks: keras.Model) -> keras.Model:
    model = vggft.vgg16(image_size=32, width=1 / 16, num_classes=5)
    for layer in blocks.layers:
        model.get_layer(layer.name).set_weights(layer.get_weights())
    return model


@pytest.mark.parametrize("build", [copy_of, with_top, nested, flat, unnamed])
def test_a_vgg_is_found_in_every_kind_of_file(build: Callable[..., Any], blocks: keras.Model, tmp_path: Path) -> None:
    model, expected = build(blocks), convolutions(blocks)
    model.save_weights(tmp_path / "new.weights.h5")
    model.save(tmp_path / "model.keras")
    model.save(tmp_path / "old.h5")
    np.savez(tmp_path / "list.npz", *[array for layer in model.layers for array in layer.get_weights()])
    names = ("new.weights.h5", "model.keras", "old.h5", *(["list.npz"] if build is not nested else []))
    for given in (*(tmp_path / name for name in names), model):
        found = load_pretrained(given)
        assert (found.column, found.width) == ("D", 1 / 16), given
        assert set(found.arrays) == set(expected)
        for name, array in expected.items():
            np.testing.assert_array_equal(found.arrays[name], array, err_msg=f"{given}: {name}")


def test_vgg19_and_bfloat16(tmp_path: Path) -> None:
    model = vggft.vgg("E", include_top=False, image_size=32, width=1 / 16)
    model.save_weights(tmp_path / "e.weights.h5")
    assert load_pretrained(tmp_path / "e.weights.h5").column == "E"
    half = keras.Sequential(own(dtype="bfloat16"))
    half.save(tmp_path / "half.keras")
    expected = np.asarray(half.layers[0].kernel.numpy(), "float32")
    for given in (tmp_path / "half.keras", half):
        np.testing.assert_array_equal(load_pretrained(given).arrays["block1_conv1/kernel"], expected)


def test_a_classifier_its_file_and_its_run_are_backbones(
    blocks: keras.Model, stripes: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    data = stripes[0][:30], stripes[1][:30]
    how: dict[str, Any] = {"image_size": 32, "verbose": 0, "head": vggft.Head()}
    made = vggft.finetune(data, 3, backbone=blocks, run_dir=tmp_path / "run", **how)
    expected = load_pretrained(blocks).digest
    for given in (made, tmp_path / "run", str(tmp_path / "run" / "classifier.keras")):
        assert load_pretrained(given).digest == expected
    again = vggft.finetune(data, 3, backbone=made, **how)
    np.testing.assert_allclose(again.predict(data[0]), made.predict(data[0]), atol=1e-5)


def test_random_weights_are_seeded_and_frozen_ones_noted(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = load_pretrained(None, seed=3)
    assert found.digest == load_pretrained("none", seed=3).digest != load_pretrained(None, seed=4).digest
    kernel = found.arrays["block4_conv1/kernel"]
    assert kernel.shape == (3, 3, 256, 512) and kernel.std() == pytest.approx(np.sqrt(2 / (9 * 256)), rel=0.01)
    monkeypatch.setattr(weights, "random_weights", functools.partial(weights.random_weights, width=1 / 16))
    images = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)
    vggft.estimate((images, np.arange(20) % 2), 2, backbone=None, image_size=32)
    assert "the blocks have random weights" in " ".join(capsys.readouterr().err.split())


def test_a_model_with_its_own_scaling_warns(blocks: keras.Model) -> None:
    model = keras.Sequential([keras.Input(SIDE), layers.Rescaling(1 / 255), copy_of(blocks)])
    with pytest.warns(
        UserWarning, match=r"begins with rescaling\w* \(Rescaling\): its blocks learned from other values"
    ):
        load_pretrained(model)


MODELS: dict[str, tuple[Callable[[], Any], str]] = {
    "resnet": (
        lambda: keras.Sequential([keras.Input(SIDE), layers.Conv2D(64, 7), layers.Conv2D(64, 1)], name="resnet50"),
        "'resnet50' cannot be the backbone: its first convolution is 7x7x3x64, in VGG it is 3x3x3xN",
    ),
    "depthwise": (
        lambda: keras.Sequential([keras.Input(SIDE), layers.Conv2D(32, 3), layers.DepthwiseConv2D(3)]),
        "its second convolution is 3x3x32x1, in VGG it is 3x3x32x32",
    ),
    "dense": (lambda: keras.Sequential([keras.Input((3,)), layers.Dense(2)]), "it has no convolutions"),
    "four blocks": (lambda: keras.Sequential(own()[:-4]), "it has 10 convolutions; column D of VGG has 13"),
    "grey": (lambda: keras.Sequential(own(channels=1)), "its first convolution is 3x3x1x4"),
    "normalised": (lambda: keras.Sequential(own(normed=True)), "batch normalisation"),
    "no bias": (lambda: keras.Sequential(own(use_bias=False)), "has no bias"),
    "tanh": (lambda: keras.Sequential(own(activation="tanh")), "has activation='tanh'"),
    "average": (lambda: keras.Sequential(own(pool=layers.AveragePooling2D)), r"\(AveragePooling2D\)"),
}


@pytest.mark.parametrize("case", MODELS)
def test_other_models_are_refused_with_the_reason(case: str, tmp_path: Path) -> None:
    build, reason = MODELS[case]
    model = build()
    model.save(tmp_path / "other.keras")
    for given in (model, tmp_path / "other.keras"):
        with pytest.raises(vggft.WeightsError, match=reason if given is model else reason.partition(": ")[2] or reason):
            load_pretrained(given)


def _linked(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["block1_conv1"] = h5py.ExternalLink("elsewhere.h5", "/block1_conv1")


def _external(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("block1_conv1/kernel", (3, 3, 3, 4), "f4", external=[("/etc/hostname", 0, 432)])


def _virtual(path: Path) -> None:
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource("elsewhere.h5", "x", (4,))
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("block1_conv1/bias", layout)


def _pytorch(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"")


def _write(content: bytes) -> Callable[[Path], Any]:
    return lambda path: path.write_bytes(content)


FILES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "linked.h5": (_linked, "points outside of itself"),
    "external.h5": (_external, "points outside of itself"),
    "virtual.h5": (_virtual, "points outside of itself"),
    "torch.pt": (_pytorch, "is a file of PyTorch"),
    "old.pth": (_write(b"\x80\x02}q\x00."), "never unpickles"),
    "empty.h5": (_write(b""), "is empty"),
    "page.keras": (_write(b"<!DOCTYPE html>"), "is a web page"),
    "pointer.h5": (_write(b"version https://git-lfs.github.com/spec/v1\n"), "git lfs pull"),
    "what.bin": (
        _write(b"\x00" * 80),
        "is of an unknown kind: it begins with .* Expected a .keras, ",
    ),
    "hdf5.h5": (_write(b"\x89HDF\r\n\x1a\n" + b"\x00" * 90), "hdf5.h5 cannot be read"),
    "folder": (Path.mkdir, "is a folder"),
}


@pytest.mark.parametrize("name", FILES)
def test_what_a_file_is_is_said(name: str, tmp_path: Path) -> None:
    write, reason = FILES[name]
    write(tmp_path / name)
    with pytest.raises(vggft.WeightsError, match=reason) as caught:
        load_pretrained(tmp_path / name)
    assert name in str(caught.value)


def test_every_cut_of_a_file_is_an_error_of_vggft(blocks: keras.Model, tmp_path: Path) -> None:
    for name in ("whole.keras", "whole.weights.h5"):
        (blocks.save if name.endswith(".keras") else blocks.save_weights)(tmp_path / name)
        whole = (tmp_path / name).read_bytes()
        for part in np.linspace(0, len(whole) - 1, 12).astype(int):
            (tmp_path / f"cut-{name}").write_bytes(whole[:part])
            with pytest.raises(vggft.WeightsError, match=f"cut-{name}"):
                load_pretrained(tmp_path / f"cut-{name}")


def test_a_lambda_in_a_file_is_not_run(blocks: keras.Model, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    text = f"__import__('pathlib').Path({str(mark)!r}).touch()"
    evil = layers.Lambda(eval(f"lambda x: x if {text} is None else x"), output_shape=SIDE)
    keras.Sequential([keras.Input(SIDE), evil, copy_of(blocks)]).save(tmp_path / "lambda.keras")
    mark.unlink(missing_ok=True)
    assert load_pretrained(tmp_path / "lambda.keras").width == 1 / 16
    assert not mark.exists()


@pytest.mark.parametrize("given", [3, b"x", ["vgg16_mini"], {}, object(), np.zeros(3), "", "vgg17", "x" * 5000, "a\0b"])
def test_anything_else_is_refused(given: Any) -> None:
    with warnings.catch_warnings(), pytest.raises(vggft.ConfigError, match="backbone must be one of vgg16_imagenet"):
        load_pretrained(given)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="needs a user whose permissions are checked")
def test_a_file_without_permission_says_so(tmp_path: Path) -> None:
    (tmp_path / "closed.h5").write_bytes(b"x")
    (tmp_path / "closed.h5").chmod(0)
    with pytest.raises(vggft.WeightsError, match=r"closed.h5 cannot be read: Permission denied"):
        load_pretrained(tmp_path / "closed.h5")
