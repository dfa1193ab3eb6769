"""The network is the paper's, and freezing changes only what it should."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest

import vggft
from vggft.network import blocks, forward, freezing, precision, vgg

# Table 2 of the paper gives millions; the exact counts follow from Table 1.
PARAMETERS = {
    "A": 132_863_336,
    "A-LRN": 132_863_336,
    "B": 133_047_848,
    "C": 133_638_952,
    "D": 138_357_544,
    "E": 143_667_240,
}
UNFILLED = keras.StatelessScope(initialize_variables=False)  # shapes are enough: 138 million numbers take seconds
TABLE_2 = {"A": 133, "A-LRN": 133, "B": 133, "C": 134, "D": 138, "E": 144}


@pytest.mark.parametrize("column", PARAMETERS)
def test_parameter_counts_are_those_of_table_2(column: str) -> None:
    with UNFILLED:
        count = vggft.vgg(column).count_params()
    assert count == PARAMETERS[column]
    assert round(count / 1e6) == TABLE_2[column]


def test_vgg16_has_the_layer_table_of_the_paper() -> None:
    with UNFILLED:
        model, no_top = vggft.vgg16(), vggft.vgg16(include_top=False)
    shapes = {layer.name: tuple(layer.output.shape[1:]) for layer in model.layers}
    for n, (side, filters) in enumerate(zip((112, 56, 28, 14, 7), (64, 128, 256, 512, 512), strict=True), start=1):
        assert shapes[f"block{n}_pool"] == (side, side, filters)
    assert model.input.shape == (None, 224, 224, 3)
    assert [shapes[name] for name in ("flatten", "fc1", "fc2", "predictions")] == [(25088,), (4096,), (4096,), (1000,)]
    assert model.get_layer("predictions").activation is keras.activations.softmax
    assert [layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)] == [0.5, 0.5]
    assert no_top.count_params() == 14_714_688


def test_layers_are_named_as_in_keras_applications() -> None:
    with UNFILLED:
        theirs, ours = keras.applications.VGG16(weights=None), vggft.vgg16(dropout=0)
    assert [layer.name for layer in ours.layers[1:]] == [layer.name for layer in theirs.layers[1:]]


@pytest.mark.parametrize(
    ("column", "peer"),
    [("D", keras.applications.VGG16), pytest.param("E", keras.applications.VGG19, marks=pytest.mark.slow)],
)
def test_outputs_agree_with_keras_applications(column: str, peer: type) -> None:
    theirs = peer(weights=None, include_top=False, input_shape=(64, 64, 3))
    ours = vggft.vgg(column, include_top=False, image_size=64)
    ours.set_weights(theirs.get_weights())
    pixels = np.random.default_rng(0).uniform(-120, 150, (2, 64, 64, 3)).astype("float32")
    np.testing.assert_allclose(ours.predict(pixels, verbose=0), theirs.predict(pixels, verbose=0), rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("column", "peer"), [("D", keras.applications.VGG16), ("E", keras.applications.VGG19)])
def test_full_size_outputs_agree_with_keras_applications(column: str, peer: type) -> None:
    theirs = peer(weights=None)
    ours = vggft.vgg(column)
    ours.set_weights(theirs.get_weights())
    pixels = np.random.default_rng(0).uniform(-120, 150, (2, 224, 224, 3)).astype("float32")
    np.testing.assert_allclose(ours.predict(pixels, verbose=0), theirs.predict(pixels, verbose=0), atol=1e-5)


def test_preprocessing_is_that_of_keras_applications() -> None:
    pixels = np.random.default_rng(0).uniform(0, 255, (2, 8, 8, 3)).astype("float32")
    expected = keras.applications.vgg16.preprocess_input(pixels.copy())
    np.testing.assert_allclose(np.asarray(vgg.preprocess(pixels)), expected, atol=1e-4)


def test_local_response_normalization_is_tensorflows() -> None:
    import tensorflow as tf

    x = np.random.default_rng(0).normal(0, 30, (2, 5, 5, 16)).astype("float32")
    inputs = keras.Input((5, 5, 16))
    ours = keras.Model(inputs, vgg._local_response_normalization(inputs))
    expected = tf.nn.local_response_normalization(x, depth_radius=2, bias=2.0, alpha=1e-4, beta=0.75)
    np.testing.assert_allclose(ours.predict(x, verbose=0), expected.numpy(), rtol=1e-4)


def test_a_lrn_is_a_with_the_normalization_in_it() -> None:
    a, a_lrn = (vggft.vgg(column, width=1 / 16, include_top=False, image_size=32) for column in ("A", "A-LRN"))
    a_lrn.set_weights(a.get_weights())
    pixels = np.random.default_rng(0).normal(0, 60, (1, 32, 32, 3)).astype("float32")
    normalized = forward.between(a_lrn, None, "block1_pool").predict(pixels, verbose=0)
    plain = forward.between(a, None, "block1_conv1").predict(pixels, verbose=0)
    channels = plain.shape[-1]
    sums = np.stack([np.square(plain)[..., max(0, c - 2) : c + 3].sum(-1) for c in range(channels)], axis=-1)
    expected = (plain / (2 + 1e-4 * sums) ** 0.75).reshape(1, 16, 2, 16, 2, channels).max(axis=(2, 4))
    np.testing.assert_allclose(normalized, expected, rtol=1e-4)


def test_any_size_and_width_builds() -> None:
    model = vggft.vgg("B", image_size=45, width=1 / 16, num_classes=3)
    assert model.output.shape == (None, 3)
    assert model.get_layer("block1_conv1").filters == 4
    model.summary(print_fn=lambda line: None)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"column": "F"}, "column must be one of A, A-LRN"),
        ({"image_size": 31}, "image_size must be an integer >= 32"),
        ({"image_size": (64, 20)}, r"image_size must be an integer >= 32.*got \(64, 20\)"),
        ({"image_size": None}, "image_size=None needs include_top=False"),
        ({"width": 0}, "width multiplies"),
        ({"width": "1"}, "width multiplies"),
        ({"pooling": "avg"}, "pooling='avg' needs include_top=False"),
        ({"pooling": "mean", "include_top": False}, "pooling must be None, 'avg' or 'max'; got 'mean'"),
        ({"channels": 0}, "channels must be an integer from 1 to 4096"),
        ({"channels": 4, "weights": "vgg16_mini", "width": 0.25}, "channels=4 needs weights=None"),
        ({"num_classes": 2.5}, "num_classes must be an integer >= 1"),
        ({"dropout": 1}, r"dropout must be in \[0, 1\)"),
        ({"classifier_activation": "softmux"}, "classifier_activation must be the name of a Keras activation"),
        ({"dtype": "float31"}, "dtype must be a dtype policy of Keras"),
        ({"input_tensor": np.zeros((1, 32, 32, 3))}, "input_tensor must be a Keras tensor"),
        ({"name": 3}, "name must be a string"),
        ({"include_top": "no"}, "include_top must be True or False"),
    ],
)
def test_impossible_networks_are_refused(arguments: dict, match: str) -> None:
    with pytest.raises(vggft.ConfigError, match=match):
        vggft.vgg(**{"width": 1 / 16, **arguments})


def test_vgg16_has_the_options_of_keras_applications() -> None:
    how = {"width": 1 / 16, "include_top": False}
    assert vggft.vgg16(image_size=(64, 96), **how).output.shape == (None, 2, 3, 32)
    open_ended = vggft.vgg16(image_size=None, pooling="max", channels=1, **how)
    assert open_ended(np.zeros((2, 40, 70, 1), "float32")).shape == (2, 32)
    assert vggft.vgg("A-LRN", image_size=(None, 64), channels=4, **how)(np.zeros((1, 96, 64, 4))).shape == (1, 3, 2, 32)

    image = keras.Input((48, 48, 3))
    wrapped = vggft.vgg16(input_tensor=vgg.preprocess(image), name="mine", dtype="mixed_bfloat16", pooling="avg", **how)
    assert wrapped.input is image and wrapped.name == "mine"
    assert wrapped.output.dtype == "bfloat16" and wrapped.get_layer("block1_conv1").kernel.dtype == "float32"
    logits = vggft.vgg16(image_size=32, width=1 / 16, num_classes=5, classifier_activation=None)
    assert logits.get_layer("predictions").activation is keras.activations.linear
    with pytest.raises(vggft.ConfigError, match=r"vgg has no argument poling \(did you mean pooling"):
        vggft.vgg16(poling="avg")


def test_a_file_with_the_top_gives_the_whole_network(tmp_path: Path) -> None:
    whole = vggft.vgg19(image_size=(32, 64), width=1 / 16, num_classes=7, dropout=0)
    whole.save_weights(tmp_path / "whole.weights.h5")
    whole.save(tmp_path / "whole.h5")
    pixels = np.random.default_rng(0).normal(0, 60, (2, 32, 64, 3)).astype("float32")
    for file in ("whole.weights.h5", "whole.h5"):
        again = vggft.vgg19(weights=tmp_path / file, image_size=(32, 64), width=1 / 16)
        np.testing.assert_allclose(again(pixels), whole(pixels), atol=1e-6)
    blocks = vggft.vgg19(weights=tmp_path / "whole.h5", image_size=64, width=1 / 16, include_top=False)
    assert blocks.output.shape == (None, 2, 2, 32)
    with pytest.raises(vggft.WeightsError, match=r"has a top whose predictions/kernel has shape .*, 7.*, 3"):
        vggft.vgg19(weights=tmp_path / "whole.h5", image_size=(32, 64), width=1 / 16, num_classes=3)


@pytest.mark.parametrize(
    ("freeze", "frozen"),
    [
        ("all", blocks.BLOCKS),
        ("none", ()),
        ("block1", ("block1",)),
        ("block3", ("block1", "block2", "block3")),
        (("block4", "block1"), ("block1", "block4")),
        ([], ()),
        ("block4_conv2", ("block1", "block2", "block3", "block4_conv1", "block4_conv2")),
        (["block5_conv1", "block1", "block1_conv2"], ("block1", "block5_conv1")),
    ],
)
def test_freeze_names_blocks(freeze: object, frozen: tuple[str, ...]) -> None:
    assert blocks.frozen_blocks(freeze) == frozen
    model = vgg.vgg("D", include_top=False, image_size=32, width=1 / 16)
    freezing.set_frozen(model, frozen)
    layers = {weight.path.split("/")[0] for weight in model.weights}
    trainable = {weight.path.split("/")[0] for weight in model.trainable_weights}
    assert trainable == {name for name in layers if name not in frozen and name.split("_")[0] not in frozen}


@pytest.mark.parametrize("freeze", ["block6", "some", ("block1", "head"), 3, None, "block1_conv3"])
def test_unknown_freeze_is_refused(freeze: object) -> None:
    with pytest.raises(vggft.ConfigError, match="freeze must be 'all', 'none'"):
        blocks.frozen_blocks(freeze)


def test_the_prefix_is_the_run_of_frozen_blocks_from_the_input() -> None:
    assert blocks.frozen_prefix(("block1", "block2", "block4")) == ("block1", "block2")
    assert blocks.frozen_prefix(("block2",)) == ()


def test_movement_is_checked_both_ways() -> None:
    model = vgg.vgg("D", include_top=False, image_size=32, width=1 / 16)
    before = freezing.layer_digests(model)
    kernel = model.get_layer("block4_conv2").kernel
    kernel.assign(kernel + 1e-6)
    after = freezing.layer_digests(model)
    freezing.check_movement(before, after, [b for b in blocks.BLOCKS if b != "block4"])
    with pytest.raises(vggft.FreezeError, match="block4 is frozen, but its weights changed"):
        freezing.check_movement(before, after, blocks.BLOCKS)
    with pytest.raises(vggft.FreezeError, match="block5 is not frozen, but training did not change"):
        freezing.check_movement(before, after, ("block1", "block2", "block3"))
    freezing.check_movement(before, after, ("block1", "block2", "block3", "block5", "block4_conv1", "block4_conv3"))
    with pytest.raises(vggft.FreezeError, match="block4_conv2 is frozen, but its weights changed"):
        freezing.check_movement(before, after, ("block1", "block2", "block3", "block5", "block4_conv2"))


def test_a_picture_with_shapes_is_one_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = vgg.vgg("A", image_size=32, width=1 / 16)
    if shutil.which("dot"):
        assert vgg.draw(model, tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(vggft.VggftError, match="graphviz"):
        vgg.draw(model, tmp_path / "b.png")
    assert not (tmp_path / "b.png").exists()


def test_where_16_bits_are_slow_one_convolution_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "HOPELESS", 0.0)
    step, measured = precision._step, []
    monkeypatch.setattr(precision, "_step", lambda which, *how: (measured.append(which), step(which, *how))[1])
    found = precision.measure("D", 1 / 16, 32, False, tmp_path / "precision.json")
    assert measured == ["float32"] and len(found) == 2 and all(seconds > 0 for seconds in found.values())
    assert precision.measure("D", 1 / 16, 32, False, tmp_path / "precision.json") == found  # remembered
    assert precision.choose({"float32": 1.0, "bfloat16": 2.9})[0] == "float32"
    assert precision.choose({"float32": 1.0, "bfloat16": math.inf}) == (
        "float32", "this machine has no convolutions in bfloat16"
    )  # fmt: skip
