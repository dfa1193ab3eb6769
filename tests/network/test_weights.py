"""Weights are found, checked and read; errors say what is wrong with them."""

from __future__ import annotations

import functools
import hashlib
import http.server
import importlib
import threading
from dataclasses import replace
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

import vggft
from vggft.network import vgg, weights

MD5 = "d41d8cd98f00b204e9800998ecf8427e"


@pytest.fixture
def legacy_file(tmp_path: Path) -> tuple[Path, dict[str, np.ndarray]]:
    """A file laid out as Keras Applications distributes its own, of a narrow network."""
    arrays = weights.convolutions(vgg.vgg("D", include_top=False, image_size=32, width=1 / 16))
    path = tmp_path / "there" / "narrow_notop.h5"
    path.parent.mkdir()
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = sorted({name.split("/")[0] for name in arrays})
        for name, array in arrays.items():
            layer, kind = name.split("/")
            file[f"{layer}/{layer}_{'W' if kind == 'kernel' else 'b'}_1:0"] = array
    return path, arrays


@pytest.fixture
def preset(
    legacy_file: tuple[Path, dict[str, np.ndarray]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> weights.Preset:
    """The row of `vgg16_imagenet`, served by a small server on loopback; Keras keeps its downloads in tmp_path."""
    path, _ = legacy_file
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=path.parent)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    row = replace(
        weights.PRESETS["vgg16_imagenet"],
        file=path.name,
        width=1 / 16,
        url=f"http://127.0.0.1:{server.server_port}/{path.name}",
        md5=hashlib.md5(path.read_bytes()).hexdigest(),
    )
    monkeypatch.setitem(weights.PRESETS, "vgg16_imagenet", row)
    monkeypatch.setattr(
        weights.keras.utils, "get_file", functools.partial(keras.utils.get_file, cache_dir=str(tmp_path / "home"))
    )
    monkeypatch.delenv("VGGFT_WEIGHTS_DIR", raising=False)
    yield row
    server.shutdown()
    server.server_close()


def test_a_preset_is_downloaded_once_and_checked(preset: weights.Preset, legacy_file: tuple) -> None:
    _, arrays = legacy_file
    first = weights.load_pretrained("vgg16_imagenet")
    assert first.column == "D" and first.width == 1 / 16
    for name, array in arrays.items():
        np.testing.assert_array_equal(first.arrays[name], array)
    legacy_file[0].unlink()  # the second time needs no server
    assert weights.load_pretrained("vgg16_imagenet").digest == first.digest


def test_a_preset_is_taken_from_the_weights_directory(
    preset: weights.Preset, legacy_file: tuple, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VGGFT_WEIGHTS_DIR", str(legacy_file[0].parent))
    monkeypatch.setitem(weights.PRESETS, "vgg16_imagenet", replace(preset, url="http://127.0.0.1:9/none.h5"))
    assert weights.load_pretrained("vgg16_imagenet").width == 1 / 16
    legacy_file[0].write_bytes(legacy_file[0].read_bytes()[:-10])
    with pytest.raises(
        vggft.WeightsError, match=r"narrow_notop.h5 is not the file of http://127.0.0.1:9/none.h5: its MD5"
    ):
        weights.load_pretrained("vgg16_imagenet")


def test_offline_the_error_says_what_to_fetch_and_where_to_put_it(
    preset: weights.Preset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(weights.PRESETS, "vgg16_imagenet", replace(preset, url="http://127.0.0.1:9/none.h5"))
    with pytest.raises(vggft.WeightsError) as caught:
        vggft.vgg16(weights="vgg16_imagenet")
    for part in ("http://127.0.0.1:9/none.h5", str(preset.md5), "VGGFT_WEIGHTS_DIR", "vgg16_mini"):
        assert part in str(caught.value)


@pytest.mark.parametrize("name", ["vgg16", "vgg19"])
def test_imagenet_is_the_file_of_keras_applications(name: str) -> None:
    theirs = importlib.import_module(f"keras.src.applications.{name}")  # the address is nowhere public
    row = weights.PRESETS[f"{name}_imagenet"]
    assert row.url == theirs.WEIGHTS_PATH_NO_TOP
    assert row.md5 and row.md5 in Path(theirs.__file__).read_text()


def test_a_file_is_read_for_column_and_width(tmp_path: Path, tiny_weights: Path) -> None:
    assert weights.load_pretrained(tiny_weights).width == 1 / 16
    wide = tmp_path / "b.npz"
    np.savez(wide, **weights.convolutions(vgg.vgg("B", include_top=False, image_size=32, width=1 / 8)))
    found = weights.load_pretrained(wide)
    assert (found.column, found.width) == ("B", 1 / 8)
    model = vggft.vgg("B", include_top=False, width=1 / 8, weights=wide, image_size=32)
    np.testing.assert_array_equal(model.get_layer("block5_conv2").kernel.numpy(), found.arrays["block5_conv2/kernel"])


def test_what_is_wrong_with_a_file_is_said(tmp_path: Path, tiny_weights: Path) -> None:
    with pytest.raises(
        vggft.ConfigError, match=r"got 'vgg16_imagnet', and there is no such file. Did you mean 'vgg16_imagenet'?"
    ):
        weights.load_pretrained("vgg16_imagnet")

    cut = tmp_path / "cut.npz"
    cut.write_bytes(tiny_weights.read_bytes()[:5000])
    with pytest.raises(vggft.WeightsError, match=r"cut.npz begins like a .keras or .npz file, but is no whole zip"):
        weights.load_pretrained(cut)

    other = tmp_path / "other.npz"
    np.savez(other, **{"dense/kernel": np.zeros((3, 3))})
    with pytest.raises(
        vggft.WeightsError, match=r"other.npz cannot be the backbone: it has no convolutions. Expected a VGG"
    ):
        weights.load_pretrained(other)

    arrays = dict(np.load(tiny_weights))
    arrays["block3_conv2/kernel"] = arrays["block3_conv2/kernel"][..., :-1]
    np.savez(tmp_path / "shape.npz", **arrays)
    with pytest.raises(vggft.WeightsError, match="its sixth convolution is 3x3x16x15, in VGG it is 3x3x16x16"):
        weights.load_pretrained(tmp_path / "shape.npz")

    with pytest.raises(vggft.WeightsError, match="block1_conv1/kernel has shape"):
        vggft.vgg16(weights=tiny_weights, include_top=False)


def test_other_layers_may_stand_before_the_blocks(tiny_weights: Path) -> None:
    grey = keras.Input((32, 32, 1))
    how = {"include_top": False, "width": 1 / 16, "weights": tiny_weights}
    model = vggft.vgg16(input_tensor=keras.layers.Conv2D(3, 1, name="to_rgb")(grey), **how)
    found = weights.load_pretrained(tiny_weights).arrays["block3_conv1/kernel"]
    np.testing.assert_array_equal(model.get_layer("block3_conv1").kernel.numpy(), found)


def test_a_top_that_is_not_in_the_weights_is_said(tiny_weights: Path) -> None:
    how = {"image_size": 32, "width": 1 / 16, "weights": tiny_weights}
    with pytest.warns(UserWarning, match=r"tiny\.npz has blocks alone, so the top is random: pass include_top=False"):
        vggft.vgg16(**how)
    assert vggft.vgg16(num_classes=3, **how).output.shape == (None, 3)  # to be trained


def test_the_mini_ships_with_the_package() -> None:
    mini = weights.load_pretrained("vgg16_mini")
    assert (mini.column, mini.width, mini.image_size) == ("D", 0.25, 64)
    path = weights.find_preset(weights.PRESETS["vgg16_mini"])
    assert path.stat().st_size < 2.5e6
    with np.load(path) as stored:
        assert all(stored[name].dtype == np.float16 for name in stored.files)
