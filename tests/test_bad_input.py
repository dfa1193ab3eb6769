"""Each bad input gives one clear error that names the file or value, before any training, with nothing left behind."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import vggft

RNG = np.random.default_rng(0)


def picture(side: int = 40) -> np.ndarray:
    return RNG.integers(0, 256, (side, side, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three classes of eight images, and nothing wrong with them."""
    for name in ("ant", "bee", "cow"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(8):
            Image.fromarray(picture()).save(tmp_path / "data" / name / f"{i}.png")
    return tmp_path / "data"


@pytest.fixture
def arrays() -> tuple[np.ndarray, np.ndarray]:
    return np.stack([picture() for _ in range(24)]).astype("float32"), np.arange(24) % 3


def text_file(folder: Path) -> None:
    (folder / "bee" / "letter.jpg").write_text("Dear bee")


def truncated_jpeg(folder: Path) -> None:
    path = folder / "cow" / "broken.jpg"
    Image.fromarray(picture(200)).save(path)
    path.write_bytes(path.read_bytes()[:3000])


def bomb(folder: Path) -> None:
    """A PNG file that says it is 30000x30000."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 30000, 30000, 8, 2, 0, 0, 0)
    image = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    (folder / "ant" / "bomb.png").write_bytes(image)


def several_pages(folder: Path) -> None:
    pages = [Image.fromarray(picture(20)) for _ in range(2)]
    pages[0].save(folder / "ant" / "icon.tif", save_all=True, append_images=pages[1:])


def refuse(data: Any, match: str, tmp_path: Path, **arguments: Any) -> None:
    """Expect one error of ours, and no run directory nor other file."""
    before = sorted(tmp_path.rglob("*"))
    settings = {"num_classes": 3, "backbone": "vgg16_mini", "image_size": 32, "verbose": 0, "run_dir": tmp_path / "run"}
    with pytest.raises(vggft.VggftError, match=match):
        vggft.finetune(data, **(settings | arguments))
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("damage", "match"),
    [
        (text_file, r"letter\.jpg is not an image"),
        (truncated_jpeg, r"broken\.jpg is truncated"),
        (bomb, r"bomb\.png is 30000x30000"),
        (several_pages, r"icon\.tif has several pages"),
    ],
)
def test_a_file_that_cannot_be_used(damage: Any, match: str, folder: Path, tmp_path: Path) -> None:
    damage(folder)
    refuse(folder, match, tmp_path)
    classifier = vggft.finetune(
        folder,
        3,
        backbone="vgg16_mini",
        image_size=32,
        verbose=0,
        on_bad_image="skip",
        training=vggft.Training(epochs=1),
    )
    assert classifier.class_names == ("ant", "bee", "cow")


def test_all_bad_files_are_listed_at_once(folder: Path, tmp_path: Path) -> None:
    for damage in (text_file, truncated_jpeg, bomb, several_pages):
        damage(folder)
    refuse(folder, r"(?s)4 of 28 images.*bomb\.png.*icon\.tif.*letter\.jpg.*broken\.jpg", tmp_path)


@pytest.mark.parametrize(
    ("num_classes", "match"),
    [
        (2, r"num_classes=2, but the folder .* has 3 classes: ant, bee, cow\."),
        (4, r"num_classes=4, but the folder .* has 3 classes: ant, bee, cow\."),
        (1, r"num_classes must be an integer >= 2; got 1\."),
        ("ten", r"num_classes must be an integer >= 2; got 'ten'\."),
    ],
)
def test_num_classes_that_the_data_do_not_have(num_classes: Any, match: str, folder: Path, tmp_path: Path) -> None:
    refuse(folder, match, tmp_path, num_classes=num_classes)


def test_folders_without_classes(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "flowers").mkdir()
    refuse(tmp_path / "flowers", r"flowers has no class folders \(it holds no images\)", tmp_path)
    for name in ("bee", "cow"):
        for path in (folder / name).iterdir():
            path.unlink()
        (folder / name).rmdir()
    refuse(folder, r"num_classes=2, but the folder .* has 1 class: ant\.", tmp_path, num_classes=2)
    refuse("flowers!", "'flowers!' is a string instead of a dataset", tmp_path)
    refuse(None, "NoneType is not a dataset", tmp_path)


def test_arrays_with_impossible_values(arrays: tuple, tmp_path: Path) -> None:
    images, labels = arrays
    refuse((images, np.where(np.arange(24) == 5, -1, labels)), r"label -1 at images\[5\]", tmp_path)
    refuse((images, np.where(np.arange(24) == 7, 3, labels)), r"label 3 at images\[7\]", tmp_path)
    holes = images.copy()
    holes[4, 0, 0, 0] = np.nan
    refuse((holes, labels), r"images\[4\] holds NaN or infinity", tmp_path)
    refuse((images[..., [0, 1, 2, 0]], labels), r"has 4 bands, .* bands=\(0, 1, 2\)", tmp_path)
    refuse((images, labels[:-1]), "got 24 images, labels: 23", tmp_path)
    refuse((images[:0], labels[:0]), "There are no images: the dataset is empty", tmp_path)
    refuse((images, labels * 0), r"no images are of class 1\. All images have the same label", tmp_path, num_classes=2)


def test_empty_and_infinite_tf_data(arrays: tuple, tmp_path: Path) -> None:
    import tensorflow as tf

    data = tf.data.Dataset.from_tensor_slices(arrays).batch(8)
    refuse(data.take(0), "There are no images: the dataset is empty", tmp_path)
    refuse(data.repeat(), r"The tf\.data\.Dataset is infinite: leave out \.repeat\(\)", tmp_path)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"validation": 1.5}, r"validation must be a fraction in \(0, 1\)"),
        ({"test": -0.1}, r"test must be a fraction in \(0, 1\)"),
        ({"validation": None}, "validation must be a fraction or a dataset"),
        ({"freeze": "block9"}, "freeze must be .*; got 'block9'"),
        ({"image_size": 16}, r"image_size must be an integer >= 32; got 16\."),
        ({"backbone": "resnet"}, "backbone must be one of .*; got 'resnet'"),
        ({"image_size": (64, 16)}, r"image_size must be an integer >= 32; got \(64, 16\)\. Two of them"),
        ({"image_size": "large"}, r"image_size must be an integer >= 32; got 'large'"),
        ({"resize": "stretch"}, r"resize must be one of 'squash', 'crop', 'pad'; got 'stretch'"),
        ({"value_range": (5, 5)}, r"value_range must be two numbers"),
        ({"value_range": "0,9"}, r"value_range must be two numbers"),
        ({"bands": (0, 1)}, r"bands must be three indices"),
        ({"bands": (0, 1, 7)}, r"has 3 bands, but bands=\(0, 1, 7\) \(--bands 0,1,7\) asks for number 7"),
        ({"seed": -1}, r"seed must be an integer >= 0; got -1\."),
        ({"on_bad_image": "ignore"}, "on_bad_image must be .*; got 'ignore'"),
        ({"test": 0.9}, r"needs at least 2 distinct images to be split; too few in: 'ant' \(1\)"),
    ],
)
def test_impossible_arguments(arguments: dict, match: str, folder: Path, tmp_path: Path) -> None:
    refuse(folder, match, tmp_path, **arguments)
