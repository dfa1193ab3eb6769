"""Whatever people bring: a table of cases, each a small dataset as it is found in the world, and what becomes of it."""

from __future__ import annotations

import io
import os
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_samples import error, folder, picture, pixels, whole, write_csv
from PIL import Image

import vggft
from vggft.cache import Cache
from vggft.data.dataset import open_dataset
from vggft.data.streams import Keep
from vggft.errors import ConfigError, DataError, VggftError


def outcome(data: Any, **how: Any) -> Any:
    """Split -> the class name of every image, or names of several; the message if the data is refused."""
    try:
        opened = open_dataset(data, **how)
    except DataError as refused:
        return str(refused)
    return {split: labels_of(part) for split, part in opened.items()}


def labels_of(part: Any) -> list[Any]:
    if part.multi_label:
        return ["+".join(part.class_names[c] for c in np.flatnonzero(row)) for row in part.labels]
    return [part.class_names[label] for label in part.labels]


# Folders --------------------------------------------------------------------------------------------------------------

CD = {"all": ["cats", "dogs"]}
TRAIN_TEST = {"train": ["cats", "dogs"], "test": ["cats", "dogs"]}

FOLDERS: list[tuple[str, str, Any]] = [
    ("names with a word for each split", "training_set/cats training_set/dogs test_set/cats test_set/dogs", TRAIN_TEST),
    ("Training and Testing", "Training/cats Training/dogs Testing/cats Testing/dogs", TRAIN_TEST),
    ("in camels", "TrainImages/cats TrainImages/dogs TestImages/cats TestImages/dogs", TRAIN_TEST),
    (
        "each split twice, and a folder without labels",
        "seg_train/seg_train/cats seg_train/seg_train/dogs seg_test/seg_test/cats seg_test/seg_test/dogs"
        " seg_pred/seg_pred",
        TRAIN_TEST,
    ),
    ("one split with another name", "train_images/cats train_images/dogs", CD),
    ("a wrapper", "archive/dataset/cats archive/dataset/dogs", CD),
    ("a wrapper around splits", "chest/xray/train/cats chest/xray/train/dogs chest/xray/test/cats", TRAIN_TEST | {"test": ["cats"]}),
    ("splits, and all of it once more", "train/cats train/dogs test/cats test/dogs data/train/cats data/test/dogs", TRAIN_TEST),
    ("a flat test", "train/cats train/dogs test", CD),
    ("a test with one folder for all", "train/cats train/dogs test/unknown", CD),
    ("splits inside classes", "cats/train cats/test dogs/train dogs/test", TRAIN_TEST),
    ("one folder in each class", "cats/images dogs/images", CD),
    ("nested classes", "cats/2020 cats/2021 dogs", {"all": ["cats", "cats", "dogs"]}),
    ("classes called like splits", "test control", {"all": ["control", "test"]}),
    ("vehicles", "bus train", {"all": ["bus", "train"]}),
    ("trains", "bullet_train steam_train", {"all": ["bullet_train", "steam_train"]}),
    ("parts with the same folders", "a/cats a/dogs b/cats b/dogs", "a holds no images itself, but the folders cats, dogs, as b also"),
    ("a train that is no class", "train/cats train/dogs sample", "train holds no images itself, but the folders cats, dogs"),
    ("two trains", "train/cats train/dogs train_big/cats train_big/dogs test/cats", "several folders that would be the train split"),
    ("flat splits", "train test", "has no class folders (1 image directly in it)"),
    ("flat splits of other names", "training_set test_set", "has no class folders (1 image directly in it)"),
]  # fmt: skip


@pytest.mark.parametrize(("paths", "expected"), [case[1:] for case in FOLDERS], ids=[case[0] for case in FOLDERS])
def test_folders(tmp_path: Path, paths: str, expected: Any) -> None:
    for seed, path in enumerate(paths.split()):
        picture(tmp_path / path / "1.png", seed)
    found = outcome(tmp_path)
    assert expected in found if isinstance(expected, str) else found == expected


def test_it_is_said_which_folder_is_meant_and_what_is_left_out(tmp_path: Path) -> None:
    folder(tmp_path / "archive" / "dataset" / "train", cats=1, dogs=1)
    picture(tmp_path / "archive" / "dataset" / "test" / "1.png", 9)
    notes = " ".join(whole(tmp_path).notes)
    assert f"the folder that is meant is {tmp_path / 'archive' / 'dataset'}" in notes
    assert "test has no class folders, so its 1 images have no labels and were left out" in notes
    assert any("have no labels and were left out" in each for each in vggft.audit(tmp_path, image_size=32).warnings)


def test_links_to_folders_are_followed(tmp_path: Path) -> None:
    folder(tmp_path / "far", cats=2, deep=1)
    (tmp_path / "data" / "dogs").mkdir(parents=True)
    (tmp_path / "data" / "cats").symlink_to(tmp_path / "far" / "cats")
    (tmp_path / "data" / "dogs" / "more").symlink_to(tmp_path / "far" / "deep")
    (tmp_path / "data" / "dogs" / "again").symlink_to(tmp_path / "data")
    (tmp_path / "link").symlink_to(tmp_path / "data")
    assert outcome(tmp_path / "link")["all"].count("cats") == 2
    names = [Path(name).relative_to(tmp_path / "link") for name in whole(tmp_path / "link").names]
    assert Path("dogs/more/0.png") in names and not any("dogs/again/dogs" in str(name) for name in names)


# Tables ---------------------------------------------------------------------------------------------------------------

AB = {"all": ["a", "b", "a"]}


def files(*names: str) -> Callable[[Path], None]:
    return lambda root: [picture(root / name, seed) for seed, name in enumerate(names)] and None


P = ("x/0.png", "x/1.png", "x/2.png")
TABLES: list[tuple[str, Any, list[tuple[Any, ...]], dict[str, Any], Any]] = [
    ("image, label", P, [("image", "label"), *zip(P, "aba")], {}, AB),
    ("index,img,...", P, [("index", "img", "kind"), *zip("012", P, "aba")], {}, AB),
    ("an index without a name", P, [("", "img", "label"), *zip("012", P, "aba")], {}, AB),
    ("named", P, [("a1", "b2", "c3"), *zip("xyz", P, "aba")], {"image": "b2", "label": "c3"}, AB),
    ("no such column", P, [("image", "label"), *zip(P, "aba")], {"label": "dx"}, "has no column 'dx', given as label"),
    (
        "HAM10000",
        ("part_1/I_0.jpg", "part_1/I_1.jpg", "part_2/I_2.jpg"),
        [("lesion_id", "image_id", "dx", "age"), ("L0", "I_0", "a", 3), ("L0", "I_1", "b", 4), ("L1", "I_2", "a", 5)],
        {},
        AB,
    ),
    ("backslashes", P, [("image", "label"), *zip(["x\\0.png", ".\\x\\1.png", "C:\\me\\x\\2.png"], "aba")], {}, AB),
    ("from another folder", P, [("image", "label"), *zip([f"/home/me/data/{p}" for p in P], "aba")], {}, AB),
    ("only names", P, [("image", "label"), *zip(["0.png", "1.png", "2.png"], "aba")], {}, AB),
    ("with a folder", P, [("image", "label"), *zip(["0", "1", "2"], "aba")], {"folder": "x"}, AB),
    ("another case", ("x/A.PNG", "x/B.png"), [("image", "label"), ("x/a.png", "a"), ("x/b.PNG", "b")], {}, {"all": ["a", "b"]}),
    (
        "accents in two forms",
        (unicodedata.normalize("NFD", "é.png"), unicodedata.normalize("NFC", "ü.png")),
        [("image", "label"), (unicodedata.normalize("NFC", "é.png"), "a"), (unicodedata.normalize("NFD", "ü.png"), "b")],
        {},
        {"all": ["a", "b"]},
    ),
    (
        "names in two forms",
        P,
        [("image", "label"), *zip(P, [unicodedata.normalize(form, "é") for form in ("NFC", "NFD")] + ["b"])],
        {},
        {"all": ["é", "é", "b"]},
    ),
    ("no other folder's file", ("y/0.png", "x/1.png"), [("image", "label"), ("x/0.png", "a"), ("x/1.png", "b")], {}, "files that do not exist (1"),
    ("two files would do", ("x/0.png", "y/0.png"), [("image", "label"), ("0.png", "a"), ("0.png", "b")], {}, "Several files would do for '0.png'"),
    ("lists in text", P, [("image", "label"), *zip(P, ["['a', 'b']", "['b']", "[]"])], {}, {"all": ["a+b", "b", ""]}),
    ("lists as NumPy writes them", P, [("image", "label"), *zip(P, ["['a' 'b']", "['b']", "['a']"])], {}, {"all": ["a+b", "b", "a"]}),
    ("words", P, [("image", "label"), *zip(P, ["a b", "b", "a"])], {}, {"all": ["a+b", "b", "a"]}),
    ("commas", P, [("image", "label"), *zip(P, ["a, b", "b", "a"])], {}, {"all": ["a+b", "b", "a"]}),
    ("names of two words", P, [("image", "label"), *zip(P, ["golden retriever", "labrador retriever", "poodle"])], {}, {"all": ["golden retriever", "labrador retriever", "poodle"]}),
    ("no mark", P, [("image", "label"), *zip(P, ["a b", "b", "a"])], {"mark": ""}, {"all": ["a b", "b", "a"]}),
    ("a mark", P, [("image", "label"), *zip(P, ["a/b", "b/c", "c/a"])], {"mark": "/"}, {"all": ["a+b", "b+c", "a+c"]}),
    ("one-hot columns", P, [("image", "age", "a", "b"), *zip(P, "345", "101", "010")], {"label": ["a", "b"]}, AB),
    ("columns called alike", P, [("image", "age", "label_a", "label_b"), *zip(P, "345", "111", "010")], {}, {"all": ["label_a", "label_a+label_b", "label_a"]}),
    ("CheXpert, not said", P, [("Path", "a", "b"), *zip(P, ["1.0", "", "1.0"], ["-1.0", "1.0", "0.0"])], {"label": ["a", "b"]}, "1 cells of -1 and 1 empty ones"),
    ("CheXpert, ones", P, [("Path", "a", "b"), *zip(P, ["1.0", "", "1.0"], ["-1.0", "1.0", "0.0"])], {"label": ["a", "b"], "uncertain": "positive"}, {"all": ["a+b", "b", "a"]}),
    ("CheXpert, zeros", P, [("Path", "a", "b"), *zip(P, ["1.0", "", "1.0"], ["-1.0", "1.0", "0.0"])], {"label": ["a", "b"], "uncertain": "negative"}, {"all": ["a", "b", "a"]}),
    ("CheXpert, left out", P, [("Path", "a", "b"), *zip(P, ["1.0", "", "1.0"], ["-1.0", "1.0", "1.0"])], {"label": ["a", "b"], "uncertain": "skip"}, {"all": ["b", "a+b"]}),
    ("angles", (*P, "x/3.png"), [("image", "label"), *zip((*P, "x/3.png"), ["0", "90", "180", "270"])], {}, {"all": ["0", "90", "180", "270"]}),
    ("10 and 20", P, [("image", "label"), *zip(P, ["10", "20", "10"])], {}, {"all": ["10", "20", "10"]}),
    ("counted from 1", P, [("image", "label"), *zip(P, ["1", "2", "3"])], {}, {"all": ["1", "2", "3"]}),
    ("the label is not clear", P, [("image", "sex", "kind"), *zip(P, "mfm", "aba")], {}, "label='sex')"),
    (
        "FER2013",
        (),
        [("emotion", "pixels", "Usage")] + [(k % 2, " ".join(map(str, pixels(1, (48, 48), k)[0, :, :, 0].ravel())), u) for k, u in enumerate(("Training", "Training", "PublicTest", "PrivateTest"))],
        {},
        {"train": ["0", "1"], "validation": ["0"], "test": ["1"]},
    ),
]  # fmt: skip


@pytest.mark.parametrize(("there", "rows", "how", "expected"), [c[1:] for c in TABLES], ids=[c[0] for c in TABLES])
def test_tables(tmp_path: Path, there: Any, rows: Any, how: dict[str, Any], expected: Any) -> None:
    pandas = pytest.importorskip("pandas")
    files(*there)(tmp_path)
    path = write_csv(tmp_path / "labels.csv", rows)
    where = tmp_path / how["folder"] if "folder" in how else tmp_path
    for data, base in ((path, how.get("folder") and where), (pandas.read_csv(path), where)):
        found = outcome(vggft.Table(data, **(how | {"folder": base})))
        assert expected in found if isinstance(expected, str) else found == expected


def test_files_beside_the_table_are_named_but_not_taken(tmp_path: Path) -> None:
    files("images/0.png", "images/1.png")(tmp_path)
    (tmp_path / "csv").mkdir()
    table = write_csv(tmp_path / "csv" / "labels.csv", [("image", "label"), ("0.png", "a"), ("1.png", "b")])
    text = error(table)
    assert f"Files of these names are in {str(tmp_path / 'images')!r}: pass it as folder" in text
    assert outcome(vggft.Table(table, folder=tmp_path / "images")) == {"all": ["a", "b"]}


def test_what_was_found_elsewhere_is_said(tmp_path: Path) -> None:
    files(*P)(tmp_path)
    data = whole(write_csv(tmp_path / "labels.csv", [("image_id", "dx"), ("0", "a"), ("1", "b"), ("2", "a")]))
    assert "images come from the column 'image_id', labels from 'dx'" in data.notes
    told = f"3 files were found under another path than the table says, such as {tmp_path / 'x' / '0.png'} for '0'"
    assert told in data.notes and data.names[0] == str(tmp_path / "x" / "0.png")


def png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "png")
    return buffer.getvalue()


@pytest.mark.parametrize("kind", [np.asarray, Image.fromarray, png, lambda image: {"bytes": png(image), "path": None}])
def test_a_frame_of_images(tmp_path: Path, kind: Callable[[np.ndarray], Any]) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(
        {"image": [kind(image) for image in pixels(3)], "label": ["a", "b", "a"], "site": [1, 2, 3]}
    )
    audit = vggft.audit(frame, image_size=32)
    assert audit.unreadable == () and audit.widths == (40, 40, 40) and audit.class_counts == {"all": {"a": 2, "b": 1}}
    assert outcome(frame) == AB and whole(frame).metadata == {"site": ("1", "2", "3")}


def test_a_frame_knows_the_order_of_its_categories_and_its_index(tmp_path: Path, monkeypatch: Any) -> None:
    pandas = pytest.importorskip("pandas")
    files(*P)(tmp_path)
    monkeypatch.chdir(tmp_path)
    grades = pandas.Categorical(["low", "high", "low"], categories=["low", "middle", "high"], ordered=True)
    frame = pandas.DataFrame({"image": P, "label": grades})
    assert whole(frame).class_names == ("low", "high") and outcome(frame) == {"all": ["low", "high", "low"]}
    indexed = pandas.DataFrame({"kind": list("aba")}, index=pandas.Index(P, name="photo"))
    assert outcome(indexed) == AB
    hot = pandas.DataFrame({"image": P, "label": [[1, 0], [0, 1], [1, 0]]})
    assert outcome(hot) == {"all": ["0", "1", "0"]}


def test_pixels_in_columns(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    images = pixels(2, (32, 32))[..., 0]
    frame = pandas.DataFrame(images.reshape(2, -1), columns=[f"pixel{i}" for i in range(1024)])
    frame.insert(0, "label", [0, 1])
    data = whole(frame)
    np.testing.assert_array_equal(np.asarray(data.images[1])[..., 0], images[1])
    assert data.metadata == {} and data.labels.tolist() == [0, 1]
