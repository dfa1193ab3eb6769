"""Every kind of dataset, labels of every form, one decoding pass, splits, the fingerprint."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from vggft.data.dataset import Dataset, fingerprint, open_dataset
from vggft.data.scan import scan
from vggft.data.splitting import split_rows
from vggft.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Sequence


def picture(path: Path, seed: int = 0, size: tuple[int, int] = (40, 36)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(1, size, seed)[0]).save(path)
    return path


def pixels(count: int, size: tuple[int, int] = (40, 36), seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, size[1], size[0], 3), np.uint8)


def folder(root: Path, **counts: int) -> Path:
    for c, (name, count) in enumerate(counts.items()):
        for i in range(count):
            picture(root / name / f"{i}.png", seed=100 * c + i)
    return root


def write_csv(path: Path, rows: Sequence[Sequence[Any]], delimiter: str = ",", encoding: str = "utf-8") -> Path:
    with path.open("w", newline="", encoding=encoding) as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)
    return path


def whole(data: Any, *args: Any, **kwargs: Any) -> Dataset:
    opened = open_dataset(data, *args, **kwargs)
    assert list(opened) == ["all"]
    return opened["all"]


def error(data: Any, *args: Any, **kwargs: Any) -> str:
    with pytest.raises(DataError) as caught:
        open_dataset(data, *args, **kwargs)
    return str(caught.value)


# Folders --------------------------------------------------------------------------------------------------------------


def test_a_folder_of_class_folders(tmp_path: Path) -> None:
    folder(tmp_path, rose=2, daisy=3)
    picture(tmp_path / "rose" / "deep" / "down.JPG")
    for name in (".git/x.png", "__MACOSX/rose/x.png", "rose/.DS_Store"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"hidden")
    data = whole(tmp_path, 2)
    assert data.class_names == ("daisy", "rose")
    assert data.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert data.labels.dtype == np.int64
    assert data.names[-1] == str(tmp_path / "rose" / "deep" / "down.JPG") == str(data.images[-1])
    assert (len(data), data.num_classes, data.multi_label, data.ignored) == (6, 2, False, ())
    assert data.class_counts.tolist() == [3, 3]
    assert whole(str(tmp_path)).names == data.names


def test_files_that_are_left_out_are_named(tmp_path: Path) -> None:
    folder(tmp_path, a=1, b=1)
    (tmp_path / "a" / "notes.txt").write_text("hello")
    picture(tmp_path / "a" / "photo.png").rename(tmp_path / "a" / "photo.backup")
    picture(tmp_path / "loose.png")
    data = whole(tmp_path)
    assert sorted(Path(path).name for path in data.ignored) == ["loose.png", "notes.txt", "photo.backup"]
    notes = "\n".join(data.notes)
    assert "3 files" in notes
    assert "images by their content were left out (2)" in notes and "photo.backup (PNG)" in notes
    assert "notes.txt" not in notes


@pytest.mark.parametrize(
    ("train", "validation", "test"),
    [("train", "validation", "test"), ("training", "val", "testing"), ("Train", "Valid", "TESTING")],
)
def test_a_folder_that_is_split(tmp_path: Path, train: str, validation: str, test: str) -> None:
    folder(tmp_path / train, a=3, b=2)
    folder(tmp_path / validation, a=1, b=1)
    folder(tmp_path / test, b=1)
    opened = open_dataset(tmp_path, 2)
    assert {name: part.labels.tolist() for name, part in opened.items()} == {
        "train": [0, 0, 0, 1, 1],
        "validation": [0, 1],
        "test": [1],
    }
    assert all(part.class_names == ("a", "b") for part in opened.values())


def test_a_lone_train_folder_is_yet_to_be_split(tmp_path: Path) -> None:
    assert len(whole(folder(tmp_path / "train", a=1, b=1).parent)) == 2


@pytest.mark.parametrize(("name", "split"), [("test", "test"), ("testing", "test"), ("val", "validation")])
def test_a_lone_test_folder_is_for_a_trained_classifier(tmp_path: Path, name: str, split: str) -> None:
    folder(tmp_path / name, a=1, b=2)
    assert error(tmp_path) == f"the folder {tmp_path} has no train part, only {split}."
    opened = open_dataset(tmp_path, class_names=["c", "b", "a"])
    assert {name: part.labels.tolist() for name, part in opened.items()} == {split: [2, 1, 1]}
    rows = [("image", "label", "split"), *((f"{name}/b/{i}.png", "ab"[i], name) for i in range(2))]
    table = write_csv(tmp_path / "labels.csv", rows)
    assert error(table) == f"{table} has no train part, only {split}."
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


def test_a_class_may_be_called_test(tmp_path: Path) -> None:
    assert whole(folder(tmp_path, test=1, control=1)).class_names == ("control", "test")


def test_train_decides_which_classes_there_are(tmp_path: Path) -> None:
    folder(tmp_path / "train", a=1, b=1)
    folder(tmp_path / "val", a=1, c=2)
    assert "classes that the train split does not have: 'c' (2)" in error(tmp_path)


def test_the_number_of_classes_is_checked(tmp_path: Path) -> None:
    folder(tmp_path, a=1, b=1, c=1)
    for wrong in (2, 5):
        assert f"num_classes={wrong}, but the folder {tmp_path} has 3 classes: a, b, c." == error(tmp_path, wrong)


def test_folders_that_are_no_dataset(tmp_path: Path) -> None:
    assert "has no class folders (it holds no images)" in error(tmp_path)
    picture(tmp_path / "1.png")
    assert "has no class folders (1 images lie directly in it)" in error(tmp_path)
    folder(tmp_path, a=1)
    assert "only one class, 'a'" in error(tmp_path)
    (tmp_path / "b").mkdir()
    assert "no images are of class b." in error(tmp_path)


def test_a_classifier_fixes_the_classes(tmp_path: Path) -> None:
    folder(tmp_path, c=1, a=2)
    data = whole(tmp_path, class_names=["c", "b", "a"])
    assert data.class_names == ("c", "b", "a")
    assert data.labels.tolist() == [2, 2, 0]
    text = error(tmp_path, class_names=["a", "b"])
    assert "classes that the classifier does not know: 'c' (1). Known are a, b." in text


# CSV files and DataFrames ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("delimiter", "encoding"), [(",", "utf-8"), (";", "utf-8-sig"), ("\t", "utf-8")])
def test_a_csv(tmp_path: Path, delimiter: str, encoding: str) -> None:
    folder(tmp_path, x=3)
    rows = [("Label", "camera", "Path"), ("rose", "A", "x/0.png"), ("daisy", "B", "x/1.png"), ("rose", "A", "x/2.png")]
    data = whole(write_csv(tmp_path / "labels.csv", rows, delimiter, encoding), 2)
    assert data.class_names == ("daisy", "rose")
    assert data.labels.tolist() == [1, 0, 1]
    assert data.metadata == {"camera": ("A", "B", "A")}
    assert data.names == tuple(str(tmp_path / "x" / f"{i}.png") for i in range(3))
    part = data.subset([2, 1])
    assert part.metadata == {"camera": ("A", "B")} and part.labels.tolist() == [1, 0] and part.names[0] == data.names[2]


def test_a_csv_with_splits(tmp_path: Path) -> None:
    folder(tmp_path, x=4)
    rows = [
        ("file", "class", "split"),
        *((f"x/{i}.png", "ab"[i % 2], ("train", "Training", "val", "Test")[i]) for i in range(4)),
    ]
    opened = open_dataset(write_csv(tmp_path / "labels.csv", rows))
    assert {name: part.labels.tolist() for name, part in opened.items()} == {
        "train": [0, 1],
        "validation": [0],
        "test": [1],
    }
    assert "split" not in opened["train"].metadata
    rows[4] = ("x/3.png", "c", "Test")
    assert "classes that the train split does not have: 'c' (1)" in error(write_csv(tmp_path / "labels.csv", rows))
    rows[1] = ("x/0.png", "a", "holdout")
    assert "the split must be train, validation or test; got 'holdout'" in error(
        write_csv(tmp_path / "labels.csv", rows)
    )


def test_integers_in_a_csv_are_class_indices(tmp_path: Path) -> None:
    folder(tmp_path, x=12)
    table = tmp_path / "labels.csv"
    write_csv(table, [("image", "label"), *((f"x/{i}.png", i) for i in range(12))])
    assert whole(table, 12).class_names == tuple(map(str, range(12)))  # and not "0", "1", "10", ...
    write_csv(table, [("image", "label"), *((f"x/{i}.png", 1 + i % 3) for i in range(12))])
    assert "no images are of class 0. Integer labels count from 0." in error(table)
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
    assert "have several labels, where exactly one" in error(table, multi_label=False)
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


def test_the_label_column_is_not_guessed(tmp_path: Path) -> None:
    folder(tmp_path, x=3)
    rows = [("file", "species", "sex"), ("x/0.png", "cat", 0), ("x/1.png", "dog", 1), ("x/2.png", "cat", 1)]
    table = write_csv(tmp_path / "labels.csv", rows)
    text = error(table)
    assert "got the columns file, species, sex. Call it label" in text
    rows[0] = ("file", "Label", "sex")
    data = whole(write_csv(table, rows))
    assert data.class_names == ("cat", "dog") and data.metadata == {"sex": ("0", "1", "1")}


def test_a_table_without_a_header_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder(tmp_path, x=3)
    picture(tmp_path / "y.png").rename(tmp_path / "y")
    table = tmp_path / "labels.csv"
    for first in ("x/0.png", "missing.JPG", "y"):
        text = error(write_csv(table, [(first, "a"), ("x/1.png", "b"), ("x/2.png", "a")]))
        assert f"has no header line: its first line names the file {first!r}" in text and '"image,label"' in text
    assert "has no header line" in error(write_csv(table, [("x/0.png", 1, 1), ("x/1.png", 0, 1)]))
    pandas = pytest.importorskip("pandas")
    assert "the DataFrame has no header line" in error(pandas.read_csv(table))


def test_csv_files_that_are_no_dataset(tmp_path: Path) -> None:
    folder(tmp_path, x=2)
    table = tmp_path / "labels.csv"

    def message(*rows: Sequence[Any]) -> str:
        return error(write_csv(table, rows))

    assert "has no rows" in message(("image", "label"))
    for rows in ([("image", "age", "size"), ("x/0.png", 2, 3), ("x/1.png", 4, 5)], [("image",), ("x/0.png",)]):
        assert "does not say which column holds the labels: got the columns image" in message(*rows)
    assert "must have 2 cells in every line" in message(("image", "label"), ("x/0.png", "a", "b"))
    assert "a column name twice" in message(("image", "a", "a"), ("x/0.png", "a", "b"))
    text = message(("image", "label"), ("x/0.png", ""), ("x/1.png", "a"), ("x/7.png", "b"), ("x/8.png", "b"))
    assert text.startswith("2 problems in the dataset:")  # all at once
    assert f"images without a label (1): {tmp_path / 'x' / '0.png'}" in text
    assert (
        f"files that do not exist (2; relative paths begin at the CSV's folder, {tmp_path}): {tmp_path / 'x' / '7.png'}"
        in text
    )
    text = message(("image", "label"), *((f"{i}.png", "ab"[i % 2]) for i in range(50)))
    assert "files that do not exist (50;" in text and "and 30 more" in text
    table.write_bytes(b"image,label\n\xff\xfe,a\n")
    assert "is not a CSV file in UTF-8" in error(table)


def test_a_dataframe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pandas = pytest.importorskip("pandas")
    monkeypatch.chdir(folder(tmp_path, x=4))
    frame = pandas.DataFrame(
        {"filename": [f"x/{i}.png" for i in range(4)], "label": [1, 0, 1, 0], "site": list("abca")}
    )
    data = whole(frame, 2)
    assert data.labels.tolist() == [1, 0, 1, 0] and data.metadata == {"site": ("a", "b", "c", "a")}
    assert data.names[0] == str(Path("x/0.png"))
    frame["label"] = [1.0, 0.0, None, 0.0]  # pandas makes floats of integers with a gap
    assert "label nan at x/2.png" in error(frame, 2)
    frame["label"] = ["a", None, "b", "a"]
    assert "images without a label (1): x/1.png" in error(frame)
    frame["label"] = [["a", "b"], ["b"], [], ["a"]]
    assert whole(frame).labels.tolist() == [[1, 1], [0, 1], [0, 0], [1, 0]]
    frame["label"] = [True, False, True, True]
    assert whole(frame).labels.tolist() == [1, 0, 1, 1]
    assert error(frame.iloc[:0]) == "the DataFrame is empty."


# Arrays and what makes them -------------------------------------------------------------------------------------------


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
        assert data.images is images
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
        ([0, 1, 1, 0], 4, "no images are of class 2, 3."),
        ([0, 1, 3, 0], None, "no images are of class 2."),
        ([1, 2, 1, 2], None, "no images are of class 0. Integer labels count from 0."),
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


def test_images_are_brought_to_0_to_255_and_it_is_said() -> None:
    data = whole((np.linspace(0, 1, 3)[:, None, None, None] * np.ones((3, 32, 32, 3)), [0, 1, 0]))
    assert data.images.dtype == np.float32 and data.images.max() == 255
    assert "the images are taken for float 0..1" in data.notes
    assert data.pixel_dtype(32) == np.float32 and data.pixel_dtype(64) == np.uint8
    assert "images[1] holds NaN" in error((np.full((2, 32, 32, 3), [[[[0.0]]], [[[np.nan]]]]), [0, 1]))
    assert "28x28 px" in error((np.zeros((2, 28, 28)), [0, 1]))


def test_lists_of_images(tmp_path: Path) -> None:
    assert whole((list(pixels(2)), [0, 1])).images.shape == (2, 36, 40, 3)
    uneven = [pixels(1)[0] / 255, pixels(1, (50, 60))[0] / 255.0, np.zeros((32, 32))]
    data = whole((uneven, [0, 1, 0]))
    assert [image.shape for image in data.images] == [(36, 40, 3), (60, 50, 3), (32, 32, 3)]
    assert data.images[0].max() == 255
    dark = [np.full((32, 32, 3), 0.5), np.full((40, 40, 3), 200.0)]  # one scale for all of them
    assert whole((dark, [0, 1])).images[0].max() == 0.5
    assert "images[1], as images holds" not in (text := error(([pixels(1)[0], np.full((40, 40, 3), -1)], [0, 1])))
    assert "images[1]" in text and "-1" in text
    paths = [picture(tmp_path / "0.png"), str(tmp_path / "missing.png")]
    assert "files that do not exist (1;" in error((paths, [0, 1]))
    assert whole((paths[:1] * 2, [0, 1])).names == (str(paths[0]),) * 2
    with Image.open(paths[0]) as image:
        np.testing.assert_array_equal(whole(([image, image], [0, 1])).images, pixels(1).repeat(2, 0))


def test_what_is_no_dataset() -> None:
    for data in ("no such folder", Path("no such folder")):
        assert "'no such folder' is a string instead of a dataset, or a path that does not exist" in error(data)
    for data, message in [
        ({"train": 1}, "A dict is not a dataset; give each split by itself"),
        (3, "A int is not a dataset"),
        (None, "A NoneType is not a dataset"),
        ((1, 2, 3), "A tuple is not a dataset"),
        (("a", "b"), "(str, str) is not a dataset"),
        ((pixels(0), []), "There are no images"),
    ]:
        assert message in error(data)
    assert "a folder of class folders, a CSV file or DataFrame" in error(3)
    assert "is a single file, not a dataset" in error(__file__)


def test_a_dataset_passes_through() -> None:
    data = whole((pixels(4), ["b", "a", "b", "c"]))
    again = whole(data, 3)
    assert again.images is data.images and again.class_names == data.class_names
    assert again.labels.tolist() == data.labels.tolist()
    assert whole(data, class_names=["c", "b", "a"]).labels.tolist() == [1, 2, 1, 0]
    assert "num_classes=2" in error(data, 2)
    several = whole((pixels(3), np.array([[1, 1, 0], [0, 0, 0], [0, 0, 1]])))
    assert whole(several).labels.tolist() == several.labels.tolist()
    assert whole(several, class_names=["2", "1", "0"]).labels.tolist() == [[0, 1, 1], [0, 0, 0], [1, 0, 0]]
    assert whole(several.subset([0, 2])).labels.tolist() == [[1, 1, 0], [0, 0, 1]]
    assert len(repr(data)) < 500


@pytest.mark.filterwarnings("ignore")  # TensorFlow's own, on import
def test_tf_data(tmp_path: Path) -> None:
    tf = pytest.importorskip("tensorflow")
    import keras

    images, labels = pixels(7), np.array([0, 1, 2, 0, 1, 2, 0])
    plain = tf.data.Dataset.from_tensor_slices((images, labels))
    for data in (
        plain,
        plain.batch(3),
        plain.batch(3).map(lambda x, y: (tf.cast(x, tf.float32) / 255, tf.one_hot(y, 3))),
    ):
        opened = whole(data, 3)
        came = [int(np.abs(images - image).sum(axis=(1, 2, 3)).argmin()) for image in opened.images]
        assert sorted(came) == list(range(7)) and opened.labels.tolist() == labels[came].tolist()
        np.testing.assert_allclose(opened.images, images[came], atol=1e-4)
    strings = tf.data.Dataset.from_tensor_slices((images, ["b", "a", "b", "a", "b", "a", "b"]))
    assert whole(strings).class_names == ("a", "b")
    uneven = tf.data.Dataset.from_generator(
        lambda: ((pixels(1, (40 + i, 36))[0], i % 2) for i in range(3)),
        output_signature=(tf.TensorSpec((None, None, 3), tf.uint8), tf.TensorSpec((), tf.int64)),
    )
    assert {image.shape for image in whole(uneven).images} == {(36, 40, 3), (36, 41, 3), (36, 42, 3)}
    assert "infinite" in error(plain.repeat())
    assert "must be (image, label)" in error(plain.map(lambda x, y: x))
    assert "must be (image, label)" in error(plain.map(lambda x, y: (x, y, 1.0)))
    assert "(H, W, C) or (B, H, W, C)" in error(plain.map(lambda x, y: (x[0, 0], y)))
    assert "the dataset is empty" in error(plain.take(0))
    assert error(plain, 2).startswith("labels must be integers in 0..1; got label 2 (2 images).")

    folder(tmp_path, daisy=2, rose=1)
    named = keras.utils.image_dataset_from_directory(tmp_path, image_size=(32, 32), shuffle=False, verbose=False)
    assert whole(named).class_names == ("daisy", "rose")
    assert whole(named, class_names=["rose", "tulip", "daisy"]).labels.tolist() == [2, 2, 0]
    assert "does not know: daisy" in error(named, class_names=["rose", "tulip"])


@pytest.mark.filterwarnings("ignore")
def test_what_shuffles_gives_the_same_rows_each_time(tmp_path: Path) -> None:
    pytest.importorskip("tensorflow")
    import keras

    folder(tmp_path, daisy=9, rose=9)
    (tmp_path / "rose" / "copy.png").write_bytes((tmp_path / "daisy" / "0.png").read_bytes())  # only the label differs

    class Shuffled(keras.utils.PyDataset):  # type: ignore[misc, name-defined]
        def __init__(self, seed: int) -> None:
            super().__init__()
            self.order = np.random.default_rng(seed).permutation(12)

        def __len__(self) -> int:
            return 4

        def __getitem__(self, i: int) -> tuple[np.ndarray, np.ndarray]:
            rows = self.order[3 * i : 3 * i + 3]
            return pixels(12)[rows], (rows % 3)[:, None]

    from_files = {"image_size": (32, 32), "batch_size": 4, "verbose": False}
    for first, second in (
        (keras.utils.image_dataset_from_directory(tmp_path, seed=seed, **from_files) for seed in (1, 2)),
        (Shuffled(1), Shuffled(2)),
    ):
        one, other = whole(first), whole(second)
        np.testing.assert_array_equal(one.images, other.images)
        np.testing.assert_array_equal(one.labels, other.labels)
        assert one.names == other.names and one.names[:2] == ("images[0]", "images[1]")
        assert any("in the order of the images' content" in note for note in one.notes)
    rows = [int((pixels(12) == image).all(axis=(1, 2, 3)).argmax()) for image in one.images]
    assert one.labels.tolist() == [row % 3 for row in rows] and sorted(rows) == list(range(12))


@pytest.mark.filterwarnings("ignore")
def test_py_dataset() -> None:
    keras = pytest.importorskip("keras")

    class Batches(keras.utils.PyDataset):  # type: ignore[misc, name-defined]
        def __init__(self, count: float | None, width: int = 2) -> None:
            super().__init__()
            self.count, self.width = count, width

        @property
        def num_batches(self) -> float | None:
            return self.count

        def __getitem__(self, i: int) -> tuple[Any, ...]:
            if i >= (self.count or 0):
                raise IndexError(i)
            return (pixels(2, seed=i), np.array([0, 1]), np.ones(2))[: self.width]

    data = whole(Batches(3), 2)
    for seed in range(3):
        for label, image in enumerate(pixels(2, seed=seed)):
            (row,) = np.flatnonzero((data.images == image).all(axis=(1, 2, 3)))
            assert data.labels[row] == label
    assert "infinite" in error(Batches(None))
    assert "without sample weights" in error(Batches(1, width=3))
    assert "the dataset is empty" in error(Batches(0))


# One decoding pass ----------------------------------------------------------------------------------------------------


def test_a_scan_fills_the_pixels_and_finds_what_is_wrong(tmp_path: Path) -> None:
    folder(tmp_path, a=6, b=6)
    (tmp_path / "a" / "1.png").write_bytes(b"hello")
    (tmp_path / "b" / "0.png").write_bytes((tmp_path / "a" / "0.png").read_bytes())
    picture(tmp_path / "b" / "5.png", size=(20, 20))
    data = whole(tmp_path)
    calls: list[int] = []
    array = np.full((12, 32, 32, 3), 7, np.uint8)
    found = scan(data, 32, array, lambda: calls.append(1))
    assert len(calls) == 12
    assert sorted(found.problems) == [1, 11]
    assert found.problems[1] == f"{data.names[1]} is not an image: it begins with b'hello'."
    assert found.problems[11] == f"{data.names[11]} is 20x20 px; at least 32 px a side are needed."
    assert found.digests[1] is found.sizes[1] is found.modes[1] is found.formats[1] is None
    assert found.digests[0] == found.digests[6] != found.digests[2]
    assert len(set(found.digests)) == 10
    assert (found.sizes[0], found.modes[0], found.formats[0]) == ((40, 36), "RGB", "PNG")
    assert (array[1] == 7).all() and (array[0] == array[6]).all()
    np.testing.assert_array_equal(array[0], Image.fromarray(pixels(1)[0]).resize((32, 32), Image.Resampling.BILINEAR))


def test_arrays_and_files_with_the_same_content_have_the_same_digests(tmp_path: Path) -> None:
    for i, name in enumerate("aab"):
        picture(tmp_path / name / f"{i}.png", seed=i, size=(40, 40))
    files = whole(tmp_path)
    images = np.stack([np.asarray(Image.open(path)) for path in files.images])
    for size in (32, 40):
        expected = scan(files, size).digests
        assert len(set(expected)) == 3
        assert scan(whole((images, [0, 0, 1])), size).digests == expected
        assert scan(whole((images.astype(np.float32), [0, 0, 1])), size).digests == expected
        assert scan(whole((list(images), [0, 0, 1])), size).digests == expected


def test_a_scan_of_arrays_does_not_rescale_dark_images() -> None:
    images = np.zeros((3, 32, 32, 3), np.float32)
    images[0], images[1], images[2] = 0.7, 1, 200
    data = whole((images, [0, 1, 0]))
    array = np.empty((3, 32, 32, 3), data.pixel_dtype(32))
    found = scan(data, 32, array)
    np.testing.assert_array_equal(array, images)
    assert found.modes == ("float32",) * 3 and found.sizes == ((32, 32),) * 3
    rounded = np.empty((3, 32, 32, 3), np.uint8)
    scan(data, 32, rounded)
    np.testing.assert_array_equal(rounded[:, 0, 0, 0], [1, 1, 200])
    small = scan(whole(([np.zeros((32, 32, 3)), np.ones((32, 32, 3))], [0, 1])), 64)
    assert not small.problems


def test_a_scan_stops_where_its_caller_raises() -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        scan(whole((pixels(50), [0, 1] * 25)), 32, on_image=stop)


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


# Splits ---------------------------------------------------------------------------------------------------------------


@st.composite
def copied(draw: st.DrawFn) -> tuple[np.ndarray, list[str]]:
    """Labels and digests of images of which some are copies; every class has at least two distinct images."""
    labels, digests = [], []
    for c in range(draw(st.integers(2, 5))):
        for i, copies in enumerate(draw(st.lists(st.integers(1, 4), min_size=2, max_size=25))):
            labels += [c] * copies
            digests += [f"{c}-{i}"] * copies
    order = draw(st.randoms(use_true_random=False))
    rows = list(range(len(labels)))
    order.shuffle(rows)
    return np.array(labels)[rows], [digests[row] for row in rows]


@settings(max_examples=60, deadline=None)
@given(copied(), st.floats(0.05, 0.95), st.integers(0, 5))
def test_splits_hold_their_promises(data: tuple[np.ndarray, list[str]], fraction: float, seed: int) -> None:
    labels, digests = data
    classes = [str(c) for c in range(labels.max() + 1)]
    kept, held = split_rows(labels, digests, fraction, seed, classes)
    assert sorted([*kept, *held]) == list(range(len(labels)))
    assert (np.diff(kept) > 0).all() and (np.diff(held) > 0).all()
    assert not {digests[row] for row in kept} & {digests[row] for row in held}
    assert set(labels[kept]) == set(labels[held]) == set(labels)
    distinct, count = len(set(digests)), len({digests[row] for row in held})
    assert count == min(max(round(fraction * distinct), len(classes)), distinct - len(classes))
    again = split_rows(labels, digests, fraction, seed, classes)
    np.testing.assert_array_equal(again[1], held)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(20, 60), min_size=2, max_size=5), st.floats(0.1, 0.9), st.integers(0, 5))
def test_splits_are_stratified(counts: list[int], fraction: float, seed: int) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    kept, held = split_rows(labels, [None] * len(labels), fraction, seed, [str(c) for c in range(len(counts))])
    assert len(held) == round(fraction * len(labels))
    share = len(held) / len(labels)
    for c, count in enumerate(counts):
        assert abs((labels[held] == c).sum() - share * count) <= 1
    assert len(kept) + len(held) == len(labels)


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 6), st.integers(20, 80), st.floats(0.1, 0.9), st.integers(0, 1000))
def test_splits_of_several_labels(classes: int, count: int, fraction: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = (rng.random((count, classes)) < rng.uniform(0.05, 0.7, classes)).astype(np.uint8)
    assume((labels.sum(axis=0) != 1).all())
    digests = [str(rng.integers(count)) for _ in range(count)]
    first = {digest: row for row, digest in reversed(list(enumerate(digests)))}
    labels = labels[[first[digest] for digest in digests]]  # copies agree
    distinct = labels[sorted(set(first.values()))]
    assume((distinct.sum(axis=0) != 1).all())
    try:
        kept, held = split_rows(labels, digests, fraction, seed, [str(c) for c in range(classes)])
    except DataError as caught:
        assert "on both sides" in str(caught) and distinct.sum(axis=0).min() < 5  # a rare class that is tied to others
        return
    assert not {digests[row] for row in kept} & {digests[row] for row in held}
    np.testing.assert_array_equal(labels[kept].any(axis=0), labels.any(axis=0))
    np.testing.assert_array_equal(labels[held].any(axis=0), labels.any(axis=0))
    assert abs(len({digests[row] for row in held}) - fraction * len(distinct)) <= classes + 1


def test_seeds_differ() -> None:
    labels, digests = np.arange(100) % 2, list(map(str, range(100)))
    splits = [split_rows(labels, digests, 0.2, seed, "ab")[1].tolist() for seed in (0, 0, 1)]
    assert splits[0] == splits[1] != splits[2]


def test_a_small_class_is_on_both_sides_and_the_size_is_kept() -> None:
    labels = np.array([0] * 100 + [1] * 2 + [2] * 2)
    for seed in range(10):
        kept, held = split_rows(labels, [None] * 104, 0.1, seed, "abc")
        assert np.bincount(labels[held]).tolist() == [8, 1, 1]
        assert np.bincount(labels[kept]).tolist() == [92, 1, 1]


def test_what_cannot_be_split() -> None:
    labels = np.array([0, 0, 0, 1, 2, 2])
    with pytest.raises(DataError, match=r"at least 2 distinct images to be split; too few in: 'b' \(1\), 'c' \(1\)"):
        split_rows(labels, ["0", "1", "2", "3", "4", "4"], 0.5, 0, "abc")
    for fraction in (0, 1, 1.5):
        with pytest.raises(ConfigError, match=r"fraction in \(0, 1\)"):
            split_rows(labels, ["0"] * 6, fraction, 0, "abc")
    tied = np.array([[1, 1, 0], [0, 1, 1], [1, 0, 1]])  # whichever is held out, a class is missing from it
    with pytest.raises(DataError, match="on both sides"):
        split_rows(tied, [None] * 3, 0.34, 0, "abc")


def test_sign_digits(shared_data: Path) -> None:
    data = whole(shared_data / "sign_digits", 10)
    assert len(data) == 2062 and data.class_counts.min() == 204
    assert "num_classes=5" in error(shared_data / "sign_digits", 5)
