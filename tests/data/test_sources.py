"""Every kind of dataset: folders, CSV files, DataFrames, arrays, `tf.data` and `PyDataset`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_samples import arrays, error, folder, picture, pixels, whole, write_csv
from PIL import Image

from vggft.caching.cache import Cache
from vggft.data.dataset import open_dataset
from vggft.data.scan import decode, pixel_dtype, scan
from vggft.data.streams import Keep
from vggft.pictures.files import read_image
from vggft.pictures.known import look_at
from vggft.pictures.reading import Reading
from vggft.telling.progress import Narrator


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
    assert "class folder were left out (3)" in notes
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


def test_a_class_may_be_called_test(tmp_path: Path) -> None:
    assert whole(folder(tmp_path, test=1, control=1)).class_names == ("control", "test")


def test_folders_that_are_no_dataset(tmp_path: Path) -> None:
    assert "has no class folders (it holds no images)" in error(tmp_path)
    picture(tmp_path / "1.png")
    assert "has no class folders (1 image directly in it)" in error(tmp_path)
    folder(tmp_path, a=1)
    assert "only one class, 'a'" in error(tmp_path)
    (tmp_path / "b").mkdir()
    assert "no images are of class b." in error(tmp_path)
    (tmp_path / "c").mkdir()
    assert f"The folders {tmp_path / 'b'}, {tmp_path / 'c'} hold no images: remove them" in error(tmp_path)


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
    text = message(("image", "label"), ("", ""), ("x/0.png", "a\nb"), ("x/1.png", "a", "b"))
    assert "must have 2 cells in every line" in text and "line 5: 3 cells" in text  # as an editor counts them
    assert "a column name twice" in message(("image", "a", "a"), ("x/0.png", "a", "b"))
    text = message(("image", "label"), ("x/0.png", ""), ("x/1.png", "a"), ("x/7.png", "b"), ("x/8.png", "b"))
    assert text.startswith("2 problems in the dataset:")  # all at once
    assert f"images without a label (1): {tmp_path / 'x' / '0.png'}" in text
    assert f"files that do not exist (2; relative paths are relative to the folder {tmp_path}): {tmp_path}" in text
    assert str(tmp_path / "x" / "7.png") in text and str(tmp_path / "x" / "8.png") in text
    text = message(("image", "label"), *((f"y/{i}.png", "ab"[i % 2]) for i in range(50)))
    assert "files that do not exist (50;" in text and "and 45 more" in text
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


def test_images_are_brought_to_0_to_255_and_it_is_said() -> None:
    given = np.linspace(0, 1, 3)[:, None, None, None] * np.ones((3, 32, 32, 3))
    data = whole((given, [0, 1, 0]))
    scanned = scan(data, 32, found := np.zeros((3, 32, 32, 3), np.float32))
    assert found.max() == 255 and scanned.notes == ("the images are taken to be float 0..1",)
    values = look_at(data.images, Reading())
    assert pixel_dtype(values, Reading.of(32)) == np.float32 and pixel_dtype(values, Reading.of(64)) == np.uint8
    bad = scan(whole((np.full((2, 32, 32, 3), [[[[0.0]]], [[[np.nan]]]]), [0, 1])), 32)
    assert bad.problems == {1: "images[1] holds NaN or infinity."}


def test_lists_of_images(tmp_path: Path) -> None:
    assert arrays(whole((list(pixels(2)), [0, 1]))).shape == (2, 36, 40, 3)
    uneven = [pixels(1)[0] / 255, pixels(1, (50, 60))[0] / 255.0, np.zeros((32, 32))]
    data = whole((uneven, [0, 1, 0]))
    assert [image.shape for image in data.images] == [(36, 40, 3), (60, 50, 3), (32, 32)]
    assert scan(data, 32).notes == ("the images are taken to be float 0..1",)
    dark = [np.full((32, 32, 3), 0.5), np.full((40, 40, 3), 200.0)]  # one scale for all of them
    scan(whole((dark, [0, 1])), 32, found := np.zeros((2, 32, 32, 3), np.float32))
    assert found[:, 0, 0, 0].tolist() == [0.5, 200]
    negative = scan(whole(([pixels(1)[0], np.full((40, 40, 3), -1)], [0, 1])), 32)
    assert "images[1] holds the value -1" in negative.problems[1]
    paths = [picture(tmp_path / "0.png"), str(tmp_path / "missing.png")]
    assert "files that do not exist (1;" in error((paths, [0, 1]))
    assert whole((paths[:1] * 2, [0, 1])).names == (str(paths[0]),) * 2
    with Image.open(paths[0]) as image:
        found = decode(whole(([image, image], [0, 1])), 40, Cache(tmp_path), Narrator(0))[0]
    np.testing.assert_array_equal(found, [read_image(paths[0], 40).pixels] * 2)


def test_what_is_no_dataset() -> None:
    for data in ("no such folder", Path("no such folder")):
        assert "'no such folder' is a string instead of a dataset, or a path that does not exist" in error(data)
    for data, message in [
        ({"train": 1}, "A int is not a dataset"),
        ({"one": 1}, "expected splits, as {'train': ..., 'test': ...}"),
        (3, "A int is not a dataset"),
        (None, "A NoneType is not a dataset"),
        ((1, 2, 3), "A tuple of 3 is not a dataset"),
        (("a", "b"), "(str, str) is not a dataset"),
        ((pixels(0), []), "There are no images"),
    ]:
        assert message in error(data)
    assert "a folder of class folders, a CSV file or DataFrame" in error(3)
    assert "is a single file, not a dataset" in error(__file__)


@pytest.mark.filterwarnings("ignore")  # TensorFlow's own, on import
def test_tf_data(tmp_path: Path) -> None:
    tf = pytest.importorskip("tensorflow")
    import keras

    keep = Keep(32, Cache(tmp_path / "cache"))
    images, labels = pixels(7, (32, 32)), np.array([0, 1, 2, 0, 1, 2, 0])
    plain = tf.data.Dataset.from_tensor_slices((images, labels))
    for data in (
        plain,
        plain.batch(3),
        plain.batch(3).map(lambda x, y: (tf.cast(x, tf.float32) / 255, tf.one_hot(y, 3))),
    ):
        opened = whole(data, 3, keep=keep)
        found = arrays(opened)
        came = [int(np.abs(images - image.astype(float)).sum(axis=(1, 2, 3)).argmin()) for image in found]
        assert sorted(came) == list(range(7)) and opened.labels.tolist() == labels[came].tolist()
        np.testing.assert_allclose(found, images[came], atol=1e-4)
    strings = tf.data.Dataset.from_tensor_slices((images, ["b", "a", "b", "a", "b", "a", "b"]))
    assert whole(strings).class_names == ("a", "b")
    uneven = tf.data.Dataset.from_generator(
        lambda: ((pixels(1, (40 + i, 36))[0], i % 2) for i in range(3)),
        output_signature=(tf.TensorSpec((None, None, 3), tf.uint8), tf.TensorSpec((), tf.int64)),
    )
    assert {image.facts[1:3] for image in whole(uneven).images} == {(40, 36), (41, 36), (42, 36)}
    assert "infinite" in error(plain.repeat())
    assert "must be (image, label)" in error(plain.map(lambda x, y: x))
    assert whole(plain.map(lambda x, y: (x, y, 1.0)), 3, keep=keep).num_classes == 3  # all weights are equal
    weighed = plain.map(lambda x, y: (x, y, tf.cast(y, tf.float32)))
    found = whole(weighed, 3, keep=keep)
    assert found.weights.tolist() == found.labels.tolist()
    assert "(H, W, C) or (B, H, W, C)" in error(plain.map(lambda x, y: (x[0, 0], y)))
    assert "the dataset is empty" in error(plain.take(0))
    assert error(plain, 2).startswith("labels must be integers in 0..1; got label 2 (2 images).")

    folder(tmp_path / "data", daisy=2, rose=1)
    named = keras.utils.image_dataset_from_directory(
        tmp_path / "data", image_size=(32, 32), shuffle=False, verbose=False
    )
    assert whole(named).class_names == ("daisy", "rose")
    assert whole(named, class_names=["rose", "tulip", "daisy"]).labels.tolist() == [2, 2, 0]
    assert "does not know: daisy" in error(named, class_names=["rose", "tulip"])


@pytest.mark.filterwarnings("ignore")
def test_what_shuffles_gives_the_same_rows_each_time(tmp_path: Path) -> None:
    pytest.importorskip("tensorflow")
    import keras

    keep, root = Keep(32, Cache(tmp_path / "cache")), folder(tmp_path / "data", daisy=9, rose=9)
    (root / "rose" / "copy.png").write_bytes((root / "daisy" / "0.png").read_bytes())  # only the label differs

    class Shuffled(keras.utils.PyDataset):  # type: ignore[misc, name-defined]
        def __init__(self, seed: int) -> None:
            super().__init__()
            self.order = np.random.default_rng(seed).permutation(12)

        def __len__(self) -> int:
            return 4

        def __getitem__(self, i: int) -> tuple[np.ndarray, np.ndarray]:
            rows = self.order[3 * i : 3 * i + 3]
            return pixels(12, (32, 32))[rows], (rows % 3)[:, None]

    from_files = {"image_size": (32, 32), "batch_size": 4, "verbose": False}
    for first, second in (
        (keras.utils.image_dataset_from_directory(root, seed=seed, **from_files) for seed in (1, 2)),
        (Shuffled(1), Shuffled(2)),
    ):
        one, other = whole(first, keep=keep), whole(second, keep=keep)
        np.testing.assert_array_equal(arrays(one), arrays(other))
        np.testing.assert_array_equal(one.labels, other.labels)
        assert one.names == other.names and one.names[:2] == ("images[0]", "images[1]")
        assert any("in the order of their content" in note for note in one.notes)
    rows = [int((pixels(12, (32, 32)) == image).all(axis=(1, 2, 3)).argmax()) for image in arrays(one)]
    assert one.labels.tolist() == [row % 3 for row in rows] and sorted(rows) == list(range(12))


@pytest.mark.filterwarnings("ignore")
def test_py_dataset(tmp_path: Path) -> None:
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
            return (pixels(2, (32, 32), seed=i), np.array([0, 1]), np.arange(2))[: self.width]

    data = whole(Batches(3), 2, keep=Keep(32, Cache(tmp_path)))
    for seed in range(3):
        for label, image in enumerate(pixels(2, (32, 32), seed=seed)):
            (row,) = np.flatnonzero((arrays(data) == image).all(axis=(1, 2, 3)))
            assert data.labels[row] == label
    assert "infinite" in error(Batches(None))
    assert whole(Batches(1, width=3), 2, keep=Keep(32, Cache(tmp_path))).weights.tolist() in ([0, 1], [1, 0])
    assert "the dataset is empty" in error(Batches(0))
