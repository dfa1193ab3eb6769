"""Whatever people bring: a table of cases, each a small dataset as it is found in the world, and what becomes of it."""

from __future__ import annotations

import io
import itertools
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_samples import error, folder, picture, pixels, whole, write_csv
from PIL import Image

import vggft
from vggft.caching.cache import Cache
from vggft.data.dataset import open_dataset
from vggft.data.streams import Keep
from vggft.errors import ConfigError, DataError


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
    (
        "a wrapper around splits",
        "chest/xray/train/cats chest/xray/train/dogs chest/xray/test/cats",
        TRAIN_TEST | {"test": ["cats"]},
    ),
    (
        "splits, and all of it once more",
        "train/cats train/dogs test/cats test/dogs data/train/cats data/test/dogs",
        TRAIN_TEST,
    ),
    ("a flat test", "train/cats train/dogs test", CD),
    ("a test with one folder for all", "train/cats train/dogs test/unknown", CD),
    ("splits inside classes", "cats/train cats/test dogs/train dogs/test", TRAIN_TEST),
    ("one folder in each class", "cats/images dogs/images", CD),
    ("nested classes", "cats/2020 cats/2021 dogs", {"all": ["cats", "cats", "dogs"]}),
    ("classes called like splits", "test control", {"all": ["control", "test"]}),
    ("vehicles", "bus train", {"all": ["bus", "train"]}),
    ("trains", "bullet_train steam_train", {"all": ["bullet_train", "steam_train"]}),
    (
        "parts with the same folders",
        "a/cats a/dogs b/cats b/dogs",
        "a holds no images itself, but the folders cats, dogs, as b also",
    ),
    (
        "a train that is no class",
        "train/cats train/dogs sample",
        "train holds no images itself, but the folders cats, dogs",
    ),
    (
        "two trains",
        "train/cats train/dogs train_big/cats train_big/dogs test/cats",
        "several folders that would be the train split",
    ),
    ("flat splits", "train test", "has no class folders (1 image directly in it)"),
    ("flat splits of other names", "training_set test_set", "has no class folders (1 image directly in it)"),
]


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
    assert "test has no class folders, so what it holds has no labels and was left out (1 image)" in notes
    assert any("has no labels and was left out" in each for each in vggft.audit(tmp_path, image_size=32).warnings)


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


def table(header: str, *columns: Any) -> list[tuple[Any, ...]]:
    return [tuple(header.split(",") if "," in header else header.split()), *zip(*columns, strict=True)]


# Tables ---------------------------------------------------------------------------------------------------------------

AB = {"all": ["a", "b", "a"]}


def flat(seed: int) -> str:
    """A grey image of 48 px as FER2013 writes it."""
    return " ".join(map(str, pixels(1, (48, 48), seed)[0, :, :, 0].ravel()))


def files(*names: str) -> Callable[[Path], None]:
    return lambda root: [picture(root / name, seed) for seed, name in enumerate(names)] and None


P = ("x/0.png", "x/1.png", "x/2.png")
TABLES: list[tuple[str, Any, list[tuple[Any, ...]], dict[str, Any], Any]] = [
    ("image, label", P, table("image label", P, "aba"), {}, AB),
    ("index,img,...", P, table("index img kind", "012", P, "aba"), {}, AB),
    ("an index without a name", P, table(",img,label", "012", P, "aba"), {}, AB),
    ("named", P, table("a1 b2 c3", "xyz", P, "aba"), {"image": "b2", "label": "c3"}, AB),
    ("no such column", P, table("image label", P, "aba"), {"label": "dx"}, "has no column 'dx', given as label"),
    (
        "HAM10000",
        ("part_1/I_0.jpg", "part_1/I_1.jpg", "part_2/I_2.jpg"),
        [("lesion_id", "image_id", "dx", "age"), ("L0", "I_0", "a", 3), ("L0", "I_1", "b", 4), ("L1", "I_2", "a", 5)],
        {},
        AB,
    ),
    ("backslashes", P, table("image label", ["x\\0.png", ".\\x\\1.png", "C:\\me\\x\\2.png"], "aba"), {}, AB),
    ("from another folder", P, table("image label", [f"/home/me/data/{p}" for p in P], "aba"), {}, AB),
    ("only names", P, table("image label", ["0.png", "1.png", "2.png"], "aba"), {}, AB),
    ("with a folder", P, table("image label", ["0", "1", "2"], "aba"), {"folder": "x"}, AB),
    (
        "another case",
        ("x/A.PNG", "x/B.png"),
        [("image", "label"), ("x/a.png", "a"), ("x/b.PNG", "b")],
        {},
        {"all": ["a", "b"]},
    ),
    (
        "accents in two forms",
        (unicodedata.normalize("NFD", "é.png"), unicodedata.normalize("NFC", "ü.png")),
        [
            ("image", "label"),
            (unicodedata.normalize("NFC", "é.png"), "a"),
            (unicodedata.normalize("NFD", "ü.png"), "b"),
        ],
        {},
        {"all": ["a", "b"]},
    ),
    (
        "names in two forms",
        P,
        [
            ("image", "label"),
            *zip(P, [*(unicodedata.normalize(form, "é") for form in ("NFC", "NFD")), "b"], strict=True),
        ],
        {},
        {"all": ["é", "é", "b"]},
    ),
    (
        "no other folder's file",
        ("y/0.png", "x/1.png"),
        [("image", "label"), ("x/0.png", "a"), ("x/1.png", "b")],
        {},
        "files that do not exist (1",
    ),
    (
        "two files would do",
        ("x/0.png", "y/0.png"),
        [("image", "label"), ("0.png", "a"), ("0.png", "b")],
        {},
        "Several files would do for '0.png'",
    ),
    ("lists in text", P, table("image label", P, ["['a', 'b']", "['b']", "[]"]), {}, {"all": ["a+b", "b", ""]}),
    (
        "lists as NumPy writes them",
        P,
        table("image label", P, ["['a' 'b']", "['b']", "['a']"]),
        {},
        {"all": ["a+b", "b", "a"]},
    ),
    ("words", P, table("image label", P, ["a b", "b", "a"]), {}, {"all": ["a+b", "b", "a"]}),
    ("commas", P, table("image label", P, ["a, b", "b", "a"]), {}, {"all": ["a+b", "b", "a"]}),
    (
        "names of two words",
        P,
        table("image label", P, ["golden retriever", "labrador retriever", "poodle"]),
        {},
        {"all": ["golden retriever", "labrador retriever", "poodle"]},
    ),
    (
        "combined again and again",
        P,
        table("image tags", P, ["agri clear", "water clear", "agri water"]),
        {},
        {"all": ["agri+clear", "clear+water", "agri+water"]},
    ),
    (
        "colours and things",
        (*P, "x/3.png"),
        table("image labels", (*P, "x/3.png"), ["red car", "blue car", "red bus", "blue bus"]),
        {},
        {"all": ["red car", "blue car", "red bus", "blue bus"]},
    ),
    (
        "one more word",
        (*P, "x/3.png"),
        table("image tags", (*P, "x/3.png"), ["haze sea", "haze sea sand", "clear sea", "clear sea sand"]),
        {},
        {"all": ["haze+sea", "haze+sand+sea", "clear+sea", "clear+sand+sea"]},
    ),
    (
        "a name in brackets",
        P,
        table("image label", P, ["cat", "dog", "(none)"]),
        {},
        {"all": ["cat", "dog", "(none)"]},
    ),
    (
        "numbers of articles",
        P,
        table("image label", P, [f"62345678901234567{n}" for n in "898"]),
        {},
        {"all": [f"62345678901234567{n}" for n in "898"]},
    ),
    (
        "an empty cell",
        P,
        table("image label", (*P[:2], ""), "aba"),
        {},
        "(row 4, which names none: its 'image' is empty)",
    ),
    (
        "Latin names",
        P,
        table("image species", P, ["canis lupus", "canis latrans", "vulpes vulpes"]),
        {},
        {"all": ["canis lupus", "canis latrans", "vulpes vulpes"]},
    ),
    ("no mark", P, table("image label", P, ["a b", "b", "a"]), {"mark": ""}, {"all": ["a b", "b", "a"]}),
    ("a mark", P, table("image label", P, ["a/b", "b/c", "c/a"]), {"mark": "/"}, {"all": ["a+b", "b+c", "a+c"]}),
    ("one-hot columns", P, table("image age a b", P, "345", "101", "010"), {"label": ["a", "b"]}, AB),
    (
        "columns called alike",
        P,
        table("image age label_a label_b", P, "345", "111", "010"),
        {},
        {"all": ["label_a", "label_a+label_b", "label_a"]},
    ),
    (
        "CheXpert, not said",
        P,
        table("Path a b", P, ["1.0", "", "1.0"], ["-1.0", "1.0", "0.0"]),
        {"label": ["a", "b"]},
        "1 cell of -1 and 1 empty cell, which",
    ),
    (
        "CheXpert, ones",
        P,
        table("Path a b", P, ["1.0", "", "1.0"], ["-1.0", "1.0", "0.0"]),
        {"label": ["a", "b"], "uncertain": "positive"},
        {"all": ["a+b", "b", "a"]},
    ),
    (
        "CheXpert, zeros",
        P,
        table("Path a b", P, ["1.0", "", "1.0"], ["-1.0", "1.0", "0.0"]),
        {"label": ["a", "b"], "uncertain": "negative"},
        {"all": ["a", "b", "a"]},
    ),
    (
        "CheXpert, left out",
        P,
        table("Path a b", P, ["1.0", "", "1.0"], ["-1.0", "1.0", "1.0"]),
        {"label": ["a", "b"], "uncertain": "skip"},
        {"all": ["b", "a+b"]},
    ),
    (
        "angles",
        (*P, "x/3.png"),
        table("image label", (*P, "x/3.png"), ["0", "90", "180", "270"]),
        {},
        {"all": ["0", "90", "180", "270"]},
    ),
    ("CelebA", P, table("image_id a b", P, ["1", "-1", "1"], ["-1", "1", "1"]), {}, {"all": ["a", "b", "a+b"]}),
    (
        "no header, and ids",
        P,
        table("0 a", ["1", "2"], "ba"),
        {},
        "has no header line: its first line names the file",
    ),
    ("addresses", (), table("image label", ["http://a.b/c.png", "http://a.b/d.png"], "ab"), {}, "download them first"),
    ("10 and 20", P, table("image label", P, ["10", "20", "10"]), {}, {"all": ["10", "20", "10"]}),
    ("counted from 1", P, table("image label", P, ["1", "2", "3"]), {}, {"all": ["1", "2", "3"]}),
    ("the label is not clear", P, table("image sex kind", P, "mfm", "aba"), {}, "label='sex')"),
    (
        "FER2013",
        (),
        table(
            "emotion pixels Usage", [0, 1, 0, 1], map(flat, range(4)), ["Training"] * 2 + ["PublicTest", "PrivateTest"]
        ),
        {},
        {"train": ["0", "1"], "validation": ["0"], "test": ["1"]},
    ),
]


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
    told = f"'0.png' was found as {tmp_path / 'images' / '0.png'}: say so by vggft.Table(..., folder="
    assert f"{told}{str(tmp_path / 'images')!r})" in text
    assert error({"train": table, "test": table}).count(told) == 1
    assert outcome(vggft.Table(table, folder=tmp_path / "images")) == {"all": ["a", "b"]}
    assert outcome(vggft.Table(table, folder="../images")) == {"all": ["a", "b"]}  # from the CSV file


def test_files_of_other_folders_are_named_but_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Below the folder of the table under another path, and from the current folder, far from the table."""
    files("shop/photos/b/0.png", "shop/photos/a/0.png", "shop/photos/a/1.png")(tmp_path)
    (tmp_path / "far" / "away").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "shop")
    photos = tmp_path / "shop" / "photos"
    for place, first, found, base in (
        (tmp_path, "imgs", photos / "a" / "0.png", photos),
        (tmp_path / "far" / "away", "photos", Path("photos/a/0.png"), Path()),
    ):
        rows = [("image", "label"), (f"{first}/a/0.png", "a"), (f"{first}/a/1.png", "b"), (f"{first}/b/0.png", "b")]
        text = error(table := write_csv(place / "labels.csv", rows))
        assert "files that do not exist (3;" in text
        assert f"'{first}/a/0.png' was found as {found}: say so by vggft.Table(..., folder={str(base)!r})" in text
        assert outcome(vggft.Table(table, folder=base)) == {"all": ["a", "b", "b"]}


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
    frame = pandas.DataFrame({"image": P, "label": grades, "site": pandas.Categorical(["x", "y", "x"])})
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
    np.testing.assert_array_equal(np.squeeze(np.asarray(data.images[1])), images[1])
    assert data.metadata == {} and data.labels.tolist() == [0, 1]


# Labels that are integers ---------------------------------------------------------------------------------------------

TEN = tuple(sorted(map(str, range(12))))  # as folders 0 to 11 are sorted: 0, 1, 10, 11, 2, ...


@pytest.mark.parametrize(
    ("labels", "how", "expected"),
    [
        ([0, 90, 180, 270], {}, ["0", "90", "180", "270"]),
        ([0, 90, 180, 270], {"num_classes": 4}, ["0", "90", "180", "270"]),
        ([1, 2, 3, 1], {}, ["1", "2", "3", "1"]),
        ([-1, 1, 1, -1], {}, ["-1", "1", "1", "-1"]),
        ([3, 50, 3, 50], {"num_classes": 2}, ["3", "50", "3", "50"]),
        ([0, 1, 3, 0], {"num_classes": 3}, ["0", "1", "3", "0"]),
        ([0, 1, 3, 0], {}, "no images are of class 2"),
        ([0, 1, 3, 0], {"num_classes": 4}, "no images are of class 2"),
        ([2, 10, 11, 0], {"class_names": TEN}, ["2", "10", "11", "0"]),
        (["2", "10", "11", "0"], {"class_names": TEN}, ["2", "10", "11", "0"]),
        ([2, 10, 12, 0], {"class_names": TEN}, "classes that the classifier does not know: '12'"),
        ([0, 1, 1, 0], {"class_names": ("10", "20")}, "does not know: '0' (2), '1' (2)"),
        ([0, 1, 1, 0], {"class_names": ("cat", "dog")}, ["cat", "dog", "dog", "cat"]),
        ([1, 1, 1, 1], {"class_names": ("1", "cat")}, "may mean the class '1', or the class at position 1, 'cat'"),
        ([0, 1, 1, 0], {"says": ("cat", "dog")}, ["cat", "dog", "dog", "cat"]),
        ([0, 1, 1, 0], {"says": ("10", "20")}, ["10", "20", "20", "10"]),
        ([10, 20, 10, 20], {"says": ("20", "10")}, ["10", "20", "10", "20"]),
        ([1, 2, 1, 2], {"says": ("2", "3", "1")}, "may mean the class '1', or the class at position 1, '3'"),
        (["cat", "dog", "dog", "cat"], {"says": ("dog", "cat")}, ["cat", "dog", "dog", "cat"]),
        (["cat", "dog", "cow", "cat"], {"says": ("dog", "cat")}, "classes that class_names does not have: 'cow'"),
        (np.eye(2)[[0, 1, 1, 0]], {"says": ("cat", "dog")}, ["cat", "dog", "dog", "cat"]),
        (np.eye(2)[[0, 1, 1, 0]], {"says": ("cat", "dog", "cow")}, "labels have 2 columns, but there are 3 classes"),
        ([0, 1, 1, 0], {"says": ("dog", "cat"), "class_names": ("cat", "dog")}, ["dog", "cat", "cat", "dog"]),
        ([0, 1, 1, 0], {"says": ("dog", "cow"), "class_names": ("cat", "dog")}, "does not know: cow"),
    ],
)
def test_integers_and_names(labels: Any, how: dict[str, Any], expected: Any) -> None:
    found = outcome((pixels(4), labels), **how)
    assert expected in found if isinstance(expected, str) else found == {"all": expected}


def test_class_names_that_are_none() -> None:
    data = pixels(4), [0, 1, 1, 0]
    for wrong in ("ab", ["a"], ["a", "a"], {"a": 0, "b": 2}, 3, [None, "a"], ["", "a"]):
        with pytest.raises(ConfigError, match="class_names must be at least two different names"):
            vggft.estimate(data, 2, class_names=wrong, backbone="vgg16_mini", image_size=32, verbose=0)


# Objects --------------------------------------------------------------------------------------------------------------

CATS = {"all": ["cat", "cat", "dog"]}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder(tmp_path_factory.mktemp("tree"), cat=2, dog=1)


def of_keras(tree: Path) -> Any:
    import keras

    how = {"image_size": (32, 32), "shuffle": False, "verbose": False}
    return keras.utils.image_dataset_from_directory(tree, **how)


def of_iterator(tree: Path, **how: Any) -> Any:
    from keras.src.legacy.preprocessing.image import ImageDataGenerator

    return ImageDataGenerator(**how).flow_from_directory(str(tree), target_size=(32, 32), batch_size=2, shuffle=False)


def hugging_face(count: int = 3, **columns: Any) -> Any:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"]), **columns}
    )
    rows = {"image": [Image.fromarray(image) for image in pixels(count, (32, 32))], "label": [0, 0, 1][:count]}
    more = {name: [0, 1, 0][:count] for name in columns}
    return datasets.Dataset.from_dict(rows | more, features=features)


def tf_data(*parts: Any) -> Any:
    tf = pytest.importorskip("tensorflow")
    return tf.data.Dataset.from_tensor_slices(parts[0] if len(parts) == 1 else parts)


X, Y = pixels(3, (32, 32)), np.array([0, 0, 1])
NUMBERS = {"all": ["0", "0", "1"]}
BOTH = {"train": ["0", "0", "1"], "test": ["0", "0", "1"]}


def below(value: int) -> np.ndarray:
    """A picture that is black but for its last row, which comes after 100 kB."""
    picture = np.zeros((200, 200, 3), np.uint8)
    picture[-1] = value
    return picture


class Info:
    """As `tfds.load(..., with_info=True)` returns it."""

    def __init__(self) -> None:
        self.splits, self.features = {}, {"label": type("ClassLabel", (), {"names": ["cat", "dog"]})}


OBJECTS: dict[str, tuple[Callable[[Path], Any], Any]] = {
    "Keras's own": (of_keras, CATS),
    "map": (lambda tree: of_keras(tree).map(lambda x, y: (x / 255.0, y)), CATS),
    "prefetch, cache": (lambda tree: of_keras(tree).cache().prefetch(2), CATS),
    "unbatch, batch": (lambda tree: of_keras(tree).unbatch().batch(2).map(lambda x, y: (x, y)), CATS),
    "map that changes labels": (
        lambda tree: of_keras(tree).map(lambda x, y: (x, y * 0)),
        "before .map: pass class_names",
    ),
    "an iterator": (of_iterator, CATS),
    "an iterator, scaled": (lambda tree: of_iterator(tree, rescale=1 / 255), CATS),
    "two iterators": (
        lambda tree: (of_iterator(tree), of_iterator(tree)),
        {"train": CATS["all"], "validation": CATS["all"]},
    ),
    "an iterator and labels": (lambda tree: (of_iterator(tree), Y), "is not a dataset"),
    "rows": (
        lambda tree: [{"image": x, "label": "cd"[y]} for x, y in zip(X, Y, strict=True)],
        {"all": ["c", "c", "d"]},
    ),
    "Hugging Face for TensorFlow": (lambda tree: hugging_face().with_format("tf"), CATS),
    "tfds": (lambda tree: tf_data({"image": X, "label": Y, "id": Y}), NUMBERS),
    "tfds with info": (lambda tree: (tf_data({"image": X, "label": Y}), Info()), CATS),
    "tfds with other keys": (
        lambda tree: tf_data({"a": X, "b": Y}),
        "or a dict of image and label; got a dict of 'a', 'b'",
    ),
    "a dict of splits": (lambda tree: {"train": (X, Y), "test": tf_data(X, Y)}, BOTH),
    "a dict of folders": (
        lambda tree: {"train": str(tree), "val": tree},
        {"train": CATS["all"], "validation": CATS["all"]},
    ),
    "a dict of columns": (lambda tree: {"image": X, "label": Y}, NUMBERS),
    "a dict of lists": (lambda tree: {"image": list(X), "label": ["cat", "cat", "dog"]}, CATS),
    "a dict of classes": (lambda tree: {"cat": X[:2], "dog": X[2:]}, CATS),
    "a dict of files of classes": (lambda tree: {c: sorted((tree / c).iterdir()) for c in ("cat", "dog")}, CATS),
    "categories": (lambda tree: (X, pytest.importorskip("pandas").Categorical(["cat", "cat", "dog"])), CATS),
    "columns of classes": (
        lambda tree: (X, pytest.importorskip("pandas").DataFrame({"cat": [1, 1, 0], "dog": [0, 0, 1]})),
        CATS,
    ),
    "an npz": (lambda tree: {"x_train": X, "y_train": Y, "x_test": X, "y_test": Y}, BOTH),
    "another dict": (lambda tree: {"one": X}, "expected splits, as {'train': ..., 'test': ...}"),
    "two splits": (lambda tree: {"train": {"train": (X, Y), "test": (X, Y)}}, "is itself split"),
    "a pair": (lambda tree: (tf_data(X, Y), tf_data(X, Y)), {"train": NUMBERS["all"], "validation": NUMBERS["all"]}),
    "load_data": (
        lambda tree: ((X, Y[:, None]), (X, Y[:, None])),
        {"train": NUMBERS["all"], "validation": NUMBERS["all"]},
    ),
    "a pair of folders": (lambda tree: (tree, str(tree)), {"train": CATS["all"], "validation": CATS["all"]}),
    "names and numbers": (lambda tree: {"train": (X, ["0", "0", "1"]), "test": (X, Y)}, BOTH),
    "pairs": (lambda tree: list(zip(X, Y, strict=True)), NUMBERS),
    "pairs of files": (lambda tree: [(path, path.parent.name) for path in sorted(tree.rglob("*.png"))], CATS),
    "a generator": (lambda tree: ((x, y) for x, y in zip(X, Y, strict=True)), NUMBERS),
    "a generator of batches": (lambda tree: iter([(X[:2], Y[:2]), (X[2:], Y[2:])]), NUMBERS),
    "a generator of PIL": (lambda tree: ((Image.fromarray(x), int(y)) for x, y in zip(X, Y, strict=True)), NUMBERS),
    "a generator of dicts": (
        lambda tree: ({"image": x, "label": y} for x, y in zip(pixels(48, (32, 32)), [0, 1] * 24, strict=True)),
        {"all": ["0"] * 24 + ["1"] * 24},
    ),
    "a generator of pictures that begin alike": (
        lambda tree: iter([(below(n), n % 2) for n in range(30)]),
        {"all": ["0"] * 15 + ["1"] * 15},
    ),
    "grey batches": (lambda tree: tf_data(X[..., 0], Y).batch(2), NUMBERS),
    "the same batch again": (lambda tree: itertools.repeat((X, Y)), "again and again"),
    "an endless generator": (lambda tree: itertools.cycle([(X[:2], Y[:2]), (X[2:], Y[2:])]), "again and again"),
    "a generator of something": (lambda tree: iter(range(3)), "The elements must be (image, label)"),
    "equal weights": (lambda tree: tf_data(X, Y, np.ones(3)), NUMBERS),
    "weights": (lambda tree: tf_data(X, Y, np.arange(3.0)), NUMBERS),
    "weights of arrays": (lambda tree: (X, Y, np.arange(3.0)), NUMBERS),
    "tensors": (lambda tree: (keras_tensor(X), keras_tensor(Y)), NUMBERS),
    "Hugging Face": (lambda tree: hugging_face(), CATS),
    "DatasetDict": (
        lambda tree: {"train": hugging_face(), "test": hugging_face(2), "other": hugging_face()},
        {"train": CATS["all"], "test": ["cat", "cat"]},
    ),
    "unlabelled rows": (
        lambda tree: hugging_face().map(lambda row: {"label": -1 if row["label"] else 0}),
        "no images are of class dog",
    ),
    "two labels": (lambda tree: vggft.Table(hugging_face(), label="label"), CATS),
    "labels at batches": (lambda tree: pandas_pair(), CATS),
}


def keras_tensor(array: np.ndarray) -> Any:
    import keras

    return keras.ops.convert_to_tensor(array)


def pandas_pair() -> Any:
    pandas = pytest.importorskip("pandas")
    return pandas.Series(list(X)), pandas.Series(["cat", "cat", "dog"])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", OBJECTS)
def test_objects(case: str, tree: Path, tmp_path: Path) -> None:
    make, expected = OBJECTS[case]
    found = outcome(make(tree), keep=Keep(32, Cache(tmp_path)))
    assert expected in found if isinstance(expected, str) else {k: sorted(v) for k, v in found.items()} == expected


@pytest.mark.filterwarnings("ignore")
def test_a_hugging_face_dataset_with_several_labels_asks_which() -> None:
    datasets = pytest.importorskip("datasets")
    data = hugging_face(fine=datasets.ClassLabel(names=["a", "b"])).rename_column("label", "coarse")
    assert "Several could: coarse, fine. Call it label" in error(data)
    assert outcome(vggft.Table(data, label="fine")) == {"all": ["a", "b", "a"]}
    both = datasets.DatasetDict({"train": hugging_face(), "validation": hugging_face(2)})
    assert outcome(both) == {"train": ["cat", "cat", "dog"], "validation": ["cat", "cat"]}


def test_class_names_reach_the_classifier_and_its_updates(stripes: tuple, tiny_weights: Path) -> None:
    images, labels = stripes
    names, how = ("down", "across", "slanted"), {"image_size": 32, "verbose": 0}
    made = vggft.finetune((images, labels), 3, class_names=names, backbone=tiny_weights, **how)
    assert made.class_names == names and made.evaluation is not None and made.evaluation["accuracy"] > 0.8
    assert (made.predict(images).argmax(axis=1) == labels).mean() > 0.9
    assert made.update((images, labels), verbose=0).class_names == names
    spelled = [names[label] for label in labels]
    turned = vggft.finetune((images, spelled), 3, class_names=names[::-1], backbone=tiny_weights, **how)
    assert turned.class_names == names[::-1] and f"class_names={list(names[::-1])!r}" in turned.record.call
    np.testing.assert_allclose(turned.predict(images), made.predict(images)[:, ::-1], atol=0.05)
