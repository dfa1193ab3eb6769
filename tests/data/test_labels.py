"""Labels of every form: which classes there are, how they are numbered, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_samples import error, folder, pixels, whole, write_csv


def test_train_decides_which_classes_there_are(tmp_path: Path) -> None:
    folder(tmp_path / "train", a=1, b=1)
    folder(tmp_path / "val", a=1, c=2)
    assert "classes that the train split does not have: 'c' (2)" in error(tmp_path)


def test_the_number_of_classes_is_checked(tmp_path: Path) -> None:
    folder(tmp_path, a=1, b=1, c=1)
    for wrong in (2, 5):
        assert f"num_classes={wrong}, but the folder {tmp_path} has 3 classes: a, b, c." == error(tmp_path, wrong)


def test_a_classifier_fixes_the_classes(tmp_path: Path) -> None:
    folder(tmp_path, c=1, a=2)
    data = whole(tmp_path, class_names=["c", "b", "a"])
    assert data.class_names == ("c", "b", "a")
    assert data.labels.tolist() == [2, 2, 0]
    text = error(tmp_path, class_names=["a", "b"])
    assert "classes that the classifier does not know: 'c' (1). Known are a, b." in text


def test_integers_in_a_csv_are_class_indices(tmp_path: Path) -> None:
    folder(tmp_path, x=12)
    table = tmp_path / "labels.csv"
    write_csv(table, [("image", "label"), *((f"x/{i}.png", i) for i in range(12))])
    assert whole(table, 12).class_names == tuple(map(str, range(12)))  # and not "0", "1", "10", ...
    write_csv(table, [("image", "label"), *((f"x/{i}.png", 1 + i % 3) for i in range(12))])
    assert whole(table).class_names == ("1", "2", "3")  # evenly spaced: names
    write_csv(table, [("image", "label"), *((f"x/{i}.png", f"{i % 2}.0") for i in range(12))])  # beside empty cells
    assert whole(table, class_names=["0", "1"]).labels[:2].tolist() == [0, 1]
    write_csv(table, [("image", "label"), *((f"x/{i}.png", i / 2) for i in range(12))])
    assert "label 0.5 at" in error(table)
    write_csv(table, [("image", "label"), *((f"x/{i}.png", f"00{i % 3}") for i in range(12))])
    assert whole(table).class_names == ("000", "001", "002")  # not an integer's spelling: a name
    write_csv(table, [("image", "label"), *((f"x/{i}.png", "31"[i % 2]) for i in range(12))])
    assert whole(table, class_names=["3", "1"]).labels[:2].tolist() == [0, 1]  # names come before indices


def test_several_labels_in_a_cell(tmp_path: Path) -> None:
    folder(tmp_path, x=4)
    table = write_csv(
        tmp_path / "labels.csv",
        [("image", "labels"), ("x/0.png", "cat|dog"), ("x/1.png", "dog"), ("x/2.png", ""), ("x/3.png", " bird | cat ")],
    )
    data = whole(table, 3)
    assert data.multi_label and data.class_names == ("bird", "cat", "dog")
    assert data.labels.tolist() == [[0, 1, 1], [0, 0, 1], [0, 0, 0], [1, 1, 0]]
    assert data.labels.dtype == np.uint8
    assert data.class_counts.tolist() == [1, 2, 2]
    assert whole(table, class_names=["dog", "cat", "bird"]).labels[0].tolist() == [1, 1, 0]
    assert "have several labels, but exactly one" in error(table, multi_label=False)
    assert "num_classes=2" in error(table, 2)


def test_a_column_for_each_class(tmp_path: Path) -> None:
    folder(tmp_path, x=3)
    table = tmp_path / "labels.csv"
    write_csv(table, [("image", "cat", "dog"), ("x/0.png", 1, 1), ("x/1.png", 0, 1), ("x/2.png", 1, 0)])
    data = whole(table, 2)
    assert data.multi_label and data.class_names == ("cat", "dog") and data.metadata == {}
    assert data.labels.tolist() == [[1, 1], [0, 1], [1, 0]]
    reordered = whole(table, class_names=["dog", "cow", "cat"])
    assert reordered.labels.tolist() == [[1, 0, 1], [1, 0, 0], [0, 0, 1]]
    assert "does not know: cat" in error(table, class_names=["dog", "cow"])


@pytest.mark.parametrize(
    ("labels", "expected", "names"),
    [
        ([2, 0, 1, 0], [2, 0, 1, 0], "012"),
        (np.array([[2], [0], [1], [0]]), [2, 0, 1, 0], "012"),
        (np.array([2.0, 0.0, 1.0, 0.0]), [2, 0, 1, 0], "012"),
        (["c", "a", "b", "a"], [2, 0, 1, 0], "abc"),
        (np.array([b"c", b"a", b"b", b"a"]), [2, 0, 1, 0], "abc"),
        (np.array(["c", "a", "b", "a"], object), [2, 0, 1, 0], "abc"),
        (np.array([True, False, True, True]), [1, 0, 1, 1], "01"),
        (np.eye(3)[[2, 0, 1, 0]], [2, 0, 1, 0], "012"),
    ],
)
def test_labels_of_every_form(labels: Any, expected: list[int], names: str) -> None:
    images = pixels(4)
    for pair in ((images, labels), [images, labels]):
        data = whole(pair, len(names))
        assert data.labels.tolist() == expected and data.labels.dtype == np.int64
        assert data.class_names == tuple(names) and not data.multi_label
        assert data.names == ("images[0]", "images[1]", "images[2]", "images[3]")
        assert np.shares_memory(np.asarray(data.images[0]), images)  # not copied
    assert any("one-hot" in note for note in data.notes) == (np.ndim(labels) == 2 and np.shape(labels)[1] == 3)


def test_one_hot_labels_stay_columns_where_a_classifier_has_several(tmp_path: Path) -> None:
    data = whole((pixels(2), np.eye(2)), multi_label=True)
    assert data.labels.tolist() == [[1, 0], [0, 1]] and not any("one-hot" in note for note in data.notes)
    assert whole((pixels(2), [1, 0]), multi_label=True).labels.tolist() == [[0, 1], [1, 0]]
    data = whole((pixels(2), ["b", "a"]), class_names=["a", "b"], multi_label=True)
    assert data.multi_label and data.labels.tolist() == [[0, 1], [1, 0]]


def test_several_labels_for_an_array() -> None:
    matrix = np.array([[1, 0, 1], [0, 0, 0], [0, 1, 0]])
    data = whole((pixels(3), matrix))
    assert data.multi_label and data.labels.tolist() == matrix.tolist() and data.class_names == ("0", "1", "2")
    data = whole((pixels(3), [["b", "a"], [], ["c"]]))
    assert data.multi_label and data.labels.tolist() == [[1, 1, 0], [0, 0, 0], [0, 0, 1]]


@pytest.mark.parametrize(
    ("labels", "num_classes", "message"),
    [
        ([0, -1, 1, 3], 2, "labels must be integers in 0..1; got label -1 at images[1], label 3 at images[3]."),
        ([0, 1, 1, 0], 4, "no images are of class 2, 3. Add images of them, or leave them out of the classes."),
        ([0, 1, 3, 0], None, "no images are of class 2."),
        ([1, 2, 4, 2], None, "label 4 at images[2]"),
        ([1, 2, 1, 2], 3, "no images are of class 0. Integer labels count from 0."),
        ([0, 0, 0, 0], None, "only one class, '0'"),
        ([0, 1, 70000, 0], None, "label 70000 at images[2]"),
        ([0, 1, np.nan, 0], 2, "label nan at images[2]"),
        ([0, 1, 0.5, np.inf], 2, "label 0.5 at images[2], label inf at images[3]"),
        (["a", None, "b", ""], 2, "images without a label (2): images[1], images[3]."),
        (["a", "b", "c", "a"], 2, "num_classes=2, but the dataset has 3 classes: a, b, c."),
        (
            [[0.9, 0.1], [0, 1], [1, 0], [1, 1]],
            2,
            "labels must be 0 or 1 in every column; got label [0.9 0.1] at images[0]",
        ),
        (np.eye(4), 3, "num_classes=3, but the dataset has 4 classes"),
        (np.zeros((4, 2, 2)), 2, "Labels must have shape (N,) or (N, num_classes); got (4, 2, 2)."),
        ([0, 1, 0], 2, "got 4 images, labels: 3"),
        ([0, 1, 0, 1, 0], 2, "got 4 images, labels: 5"),
    ],
)
def test_labels_that_cannot_be_right(labels: Any, num_classes: int | None, message: str) -> None:
    assert message in error((pixels(4), labels), num_classes)


def test_names_without_images_are_to_be_left_out_of_class_names() -> None:
    told = error((pixels(4), ["a", "b", "a", "b"]), says=["a", "b", "c"])
    assert told == "no images are of class c. Leave it out of class_names (--class-names), or add images of it."
