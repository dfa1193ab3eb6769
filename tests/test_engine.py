"""What the program around sets in Keras does not reach the network, and a Keras that cannot be used is named."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import config

import vggft
from vggft.engine import LOG_LINE, own_settings, quiet_stderr

HOW = {"backbone": "vgg16_mini", "image_size": 32, "precision": "float32", "verbose": 0}


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    yield
    config.set_floatx("float32")
    config.set_dtype_policy("float32")
    config.set_image_data_format("channels_last")
    config.set_epsilon(1e-7)
    config.set_max_epochs(None)


def learned(stripes: tuple[np.ndarray, np.ndarray], folder: Path) -> dict[str, np.ndarray]:
    """What a user gets from training head and blocks, from the file, from plain Keras, from Grad-CAM and features."""
    images, labels = stripes[0][:24], stripes[1][:24]
    training = vggft.Training(epochs=2, batch_size=8)
    found = vggft.finetune((images, labels), 3, freeze="block4", head=vggft.Head(), training=training, **HOW)
    found.save(folder / "saved.keras")
    plain = keras.models.load_model(folder / "saved.keras")
    how = {"image_size": 32, "normalize": "l2", "precision": "float32", "verbose": 0}
    return {
        "probabilities": found.predict(images),
        "loaded": vggft.load(folder / "saved.keras").predict(images),
        "handed out": np.asarray(found.keras_model(images.astype("float32"))),
        "plain Keras": np.asarray(plain(images.astype("float32"))),
        "heatmap": found.explain(images[0]).heatmap,
        "features": vggft.VGGFeatures("vgg16_mini", **how).fit_transform(images),
    }


@pytest.fixture(scope="module")
def expected(stripes: tuple[np.ndarray, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    return learned(stripes, tmp_path_factory.mktemp("plain"))


SETTINGS: dict[str, Callable[[], object]] = {
    "mixed_float16, channels_first, epsilon, epochs": lambda: (
        config.set_dtype_policy("mixed_float16"),
        config.set_image_data_format("channels_first"),
        config.set_epsilon(0.1),
        config.set_max_epochs(1),
    ),
    "float64": lambda: (config.set_floatx("float64"), config.set_dtype_policy("float64")),
}


@pytest.mark.slow
@pytest.mark.parametrize("setting", SETTINGS)
def test_settings_of_keras_change_nothing(
    setting: str,
    stripes: tuple[np.ndarray, np.ndarray],
    expected: dict[str, np.ndarray],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("VGGFT_CACHE_DIR", str(tmp_path / "cache"))  # or features of the plain run would be found
    SETTINGS[setting]()
    before = config.dtype_policy().name, config.floatx(), config.image_data_format(), config.epsilon()
    found = learned(stripes, tmp_path)
    assert (config.dtype_policy().name, config.floatx(), config.image_data_format(), config.epsilon()) == before
    for what, values in found.items():
        assert values.dtype == np.float32, what
        np.testing.assert_allclose(values, expected[what], atol=1e-6, err_msg=what)


def test_settings_come_back_after_nested_calls_and_errors() -> None:
    config.set_floatx("float16")
    with pytest.raises(ZeroDivisionError), own_settings(), own_settings():
        assert config.floatx() == "float32"
        raise ZeroDivisionError
    assert config.floatx() == "float16"


def test_layers_for_channels_first_are_refused(stripes: tuple[np.ndarray, np.ndarray]) -> None:
    layer = keras.Sequential([keras.layers.RandomFlip(data_format="channels_first")])
    with pytest.raises(vggft.ConfigError, match=r"random_flip(_\d+)? is for images whose channels come first"):
        vggft.finetune(stripes, 3, augment=layer, head=vggft.Head(), **HOW)


def test_training_inside_a_strategy_or_a_graph_is_refused(stripes: tuple[np.ndarray, np.ndarray]) -> None:
    with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
        assert vggft.vgg16(image_size=32, width=1 / 16).built
        with pytest.raises(vggft.ConfigError, match=r"inside that of a MirroredStrategy(.|\n)*pass strategy=strategy"):
            vggft.finetune(stripes, 3, **HOW)
    with tf.Graph().as_default(), pytest.raises(vggft.ConfigError, match="eager execution, which is off here"):
        vggft.finetune(stripes, 3, **HOW)


@pytest.mark.parametrize("how", ["KERAS_BACKEND", "keras.json"])
def test_another_backend_is_named_when_it_is_needed(how: str, tmp_path: Path) -> None:
    (tmp_path / "keras.json").write_text(json.dumps({"backend": "jax" if how == "keras.json" else "tensorflow"}))
    given = {"KERAS_BACKEND": "jax"} if how == "KERAS_BACKEND" else {}
    env = {name: value for name, value in os.environ.items() if name != "KERAS_BACKEND"}
    code = """
import vggft
vggft.Head(), vggft.Training(), vggft.Augment()
try:
    vggft.finetune
except vggft.ConfigError as error:
    print(error)
"""
    out = subprocess.run(
        [sys.executable, "-c", code],
        env=env | given | {"KERAS_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert "vggft needs Keras on TensorFlow, but Keras is set to 'jax'" in out.stdout


def test_lines_of_tensorflow_are_logged_and_others_shown(capfd, caplog) -> None:  # type: ignore[no-untyped-def]
    told = [
        "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR",
        "I0000 00:00:1795701414.599128   22913 port.cc:153] oneDNN custom operations are on.",
        "E0000 00:00:1795701418.646581   22913 cuda_platform.cc:52] failed call to cuInit: INTERNAL: CUDA error",
        "2026-11-26 13:56:14.123456: I tensorflow/core/platform/cpu_feature_guard.cc:210] This binary is optimized",
        "To enable the following instructions: AVX2 FMA, in other operations, rebuild TensorFlow",
    ]
    with caplog.at_level(logging.DEBUG, logger="vggft"), quiet_stderr(LOG_LINE):
        os.write(2, "\n".join([*told, "another library says this"]).encode())
    assert capfd.readouterr().err == "another library says this" and caplog.messages == told
    with pytest.raises(ZeroDivisionError), quiet_stderr(LOG_LINE):
        os.write(2, told[1].encode())
        raise ZeroDivisionError
    assert capfd.readouterr().err == told[1]
