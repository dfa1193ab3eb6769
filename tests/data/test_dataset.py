"""Datasets as a whole: splits, names, the fingerprint."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from data_samples import error, folder, picture, pixels, whole, write_csv

from vggft.data.dataset import fingerprint, open_dataset


def test_a_lone_train_folder_is_yet_to_be_split(tmp_path: Path) -> None:
    assert len(whole(folder(tmp_path / "train", a=1, b=1).parent)) == 2


@pytest.mark.parametrize(("name", "split"), [("test", "test"), ("testing", "test"), ("val", "validation")])
def test_a_lone_test_folder_is_for_a_trained_classifier(tmp_path: Path, name: str, split: str) -> None:
    folder(tmp_path / name, a=1, b=2)
    assert error(tmp_path) == f"the folder {tmp_path} has no train split, only {split}."
    opened = open_dataset(tmp_path, class_names=["c", "b", "a"])
    assert {name: part.labels.tolist() for name, part in opened.items()} == {split: [2, 1, 1]}
    rows = [("image", "label", "split"), *((f"{name}/b/{i}.png", "ab"[i], name) for i in range(2))]
    table = write_csv(tmp_path / "labels.csv", rows)
    assert error(table) == f"{table} has no train split, only {split}."
    assert list(open_dataset(table, class_names=["a", "b"])) == [split]


def test_names_that_are_not_utf8_are_refused(tmp_path: Path) -> None:
    root = folder(tmp_path / "data", a=1, b=2)
    broken = Path(os.fsdecode(os.fsencode(root) + b"/caf\xe9"))
    try:
        broken.mkdir()
    except OSError:
        pytest.skip("this file system holds no other names")
    assert r"not valid UTF-8: 'caf\udce9'. This usually occurs when a zip" in error(root)
    picture(broken / "0.png"), picture(broken / "1.png")
    text = error(root)
    assert f"{str(root)!r}"[:-1] + r"/caf\udce9'." in text and text.count("udce9") == 1  # the folder, once
    text.encode()
    broken.rename(root / "c")
    (root / "b" / "1.png").rename(Path(os.fsdecode(os.fsencode(root) + b"/b/\xff.png")))
    assert r"/b/\udcff.png'." in error(root)


def test_a_dataset_passes_through() -> None:
    data = whole((pixels(4), ["b", "a", "b", "c"]))
    again = whole(data, 3)
    assert again.images == data.images and again.class_names == data.class_names
    assert again.labels.tolist() == data.labels.tolist()
    assert whole(data, class_names=["c", "b", "a"]).labels.tolist() == [1, 2, 1, 0]
    assert "num_classes=2" in error(data, 2)
    several = whole((pixels(3), np.array([[1, 1, 0], [0, 0, 0], [0, 0, 1]])))
    assert whole(several).labels.tolist() == several.labels.tolist()
    assert whole(several, class_names=["2", "1", "0"]).labels.tolist() == [[0, 1, 1], [0, 0, 0], [1, 0, 0]]
    assert whole(several.subset([0, 2])).labels.tolist() == [[1, 1, 0], [0, 0, 1]]
    assert len(repr(data)) < 500


def test_the_fingerprint_holds_content_order_labels_and_names() -> None:
    labels = np.array([0, 1, 1])
    same = fingerprint(["a", "b", "c"], labels, ["x", "y"])
    assert same == fingerprint(("a", "b", "c"), labels.astype(np.int32), ("x", "y")) and len(same) == 64
    others = [
        fingerprint(["a", "b", "d"], labels, ["x", "y"]),
        fingerprint(["b", "a", "c"], labels, ["x", "y"]),
        fingerprint(["a", "b", "c"], 1 - labels, ["x", "y"]),
        fingerprint(["a", "b", "c"], labels, ["y", "x"]),
        fingerprint(["a", "b", "c"], labels[:, None], ["x", "y"]),
        fingerprint(["a", "bc", ""], labels, ["x", "y"]),
    ]
    assert len({same, *others}) == 7


def test_sign_digits(shared_data: Path) -> None:
    data = whole(shared_data / "sign_digits", 10)
    assert len(data) == 2062 and data.class_counts.min() == 204
    assert "num_classes=5" in error(shared_data / "sign_digits", 5)
