"""Which datasets a run has, in which splits, and which fractions are still to be split off."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from vggft.caching.cache import Cache
from vggft.data.streams import Keep
from vggft.errors import VggftError
from vggft.splits.parts import open_parts
from vggft.splits.splitting import Known
from vggft.telling.progress import Narrator

PIXELS = np.random.default_rng(0).integers(0, 256, (24, 32, 32, 3), dtype=np.uint8)
LABELS = np.arange(24) % 2
ARRAYS, OTHERS, SEVERAL = (PIXELS, LABELS), (PIXELS[:6], LABELS[:6]), (PIXELS[:6], np.eye(2, dtype=int)[LABELS[:6]])


def parts_of(data: Any, num_classes: int | None = 2, known: Known | None = None, **wanted: Any) -> Any:
    """The number of images of each part, the fractions, and whether the data had splits."""
    wanted = {"validation": 0.2, "test": None} | wanted
    keep = Keep(32, Cache(), Narrator(0))
    parts, fractions, own = open_parts(data, num_classes, wanted, known or Known(), keep, None)
    return {split: len(part) for split, part in parts.items()}, fractions, own


def folders(root: Path, *splits: str) -> Path:
    for split in splits:
        for row in range(4):
            file = root / split / "ab"[row % 2] / f"{row}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(PIXELS[row]).save(file)
    return root


def test_fractions_are_of_what_the_data_has_not_split(tmp_path: Path) -> None:
    assert parts_of(ARRAYS) == ({"all": 24}, {"validation": 0.2}, False)
    assert parts_of(ARRAYS, test=0.25) == ({"all": 24}, {"validation": 0.2, "test": 0.25}, False)
    assert parts_of(ARRAYS, validation=np.float32(0.5))[1] == {"validation": 0.5}
    whole = folders(tmp_path / "three", "train", "validation", "test")
    assert parts_of(whole) == ({"train": 4, "validation": 4, "test": 4}, {}, True)
    assert parts_of(whole, validation=None) == parts_of(whole)
    two = folders(tmp_path / "two", "train", "test")
    assert parts_of(two) == ({"train": 4, "test": 4}, {"validation": 0.2}, True)


def test_datasets_beside_the_data_make_it_the_training_images(tmp_path: Path) -> None:
    assert parts_of(ARRAYS, validation=OTHERS) == ({"train": 24, "validation": 6}, {}, False)
    assert parts_of(ARRAYS, test=OTHERS) == ({"train": 24, "test": 6}, {"validation": 0.2}, False)
    stream = tf.data.Dataset.from_tensor_slices(OTHERS)
    assert parts_of(ARRAYS, validation=stream)[0] == {"train": 24, "validation": 6}
    both = folders(tmp_path / "both", "train", "test")
    assert parts_of(folders(tmp_path / "one", "."), test=both)[0] == {"train": 4, "test": 4}  # the test split of both
    assert parts_of(ARRAYS, known=Known(("0", "1"), True), test=SEVERAL)[0] == {"train": 24, "test": 6}


TRAIN_AND_TEST = "train", "test"
LATER = {"train": OTHERS, "validation": OTHERS}
REFUSED: list[tuple[tuple[str, ...], dict[str, Any], str]] = [
    (
        (),
        {"validation": None},
        "validation must be a fraction or a dataset; got None, and the dataset has no validation",
    ),
    ((), {"validation": 1.0}, r"validation must be a fraction in (0, 1) or a dataset; got 1.0."),
    ((), {"test": 0}, r"test must be a fraction in (0, 1) or a dataset; got 0."),
    (TRAIN_AND_TEST, {"test": 0.2}, "test=0.2 was requested, but the dataset already has a test split."),
    (("train", "validation"), {"validation": 0.3}, "validation=0.3 was requested, but the dataset already has a valid"),
    (TRAIN_AND_TEST, {"test": OTHERS}, "test was passed as an argument, but the dataset already has a test split."),
    ((), {"test": LATER}, "The dataset passed as test has no test split; it has train, validation."),
    ((), {"test": (PIXELS[:6], np.ones((6, 2), int))}, "images in the dataset have several labels, but exactly one is"),
]


@pytest.mark.parametrize(("splits", "wanted", "told"), REFUSED)
def test_what_does_not_go_together(splits: tuple[str, ...], wanted: dict[str, Any], told: str, tmp_path: Path) -> None:
    data = folders(tmp_path / "data", *splits) if splits else ARRAYS
    with pytest.raises(VggftError, match=re.escape(told)):
        parts_of(data, **wanted)


def test_the_number_of_classes_is_that_of_the_training_images() -> None:
    with pytest.raises(VggftError, match=r"^no images are of class 2, 3, 4\."):
        parts_of(ARRAYS, 5)
