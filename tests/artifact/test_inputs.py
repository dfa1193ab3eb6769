"""What `predict`, `classify`, `explain`, `evaluate` take: every form of the same images, and a zoo of other things."""

from __future__ import annotations

import csv
import datetime
import decimal
import fractions
import functools
import io
import itertools
import re
from collections import OrderedDict, UserDict, defaultdict, deque
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

import vggft
from vggft.network.description import Description, build

pytestmark = pytest.mark.filterwarnings("ignore")

X = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
Y = np.array([0, 0, 1])


@pytest.fixture(scope="module")
def classifier() -> vggft.Classifier:
    description = Description(("cat", "dog"), 32, width=1 / 16)
    return vggft.Classifier(build(description), description)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("images")
    for i, image in enumerate(X):
        (root / "in").mkdir(exist_ok=True)
        Image.fromarray(image).save(root / "in" / f"{i}.png")
    rows = [("image", "note"), *((f"in/{i}.png", "x") for i in range(3))]
    with (root / "table.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return root


def tf_data(*parts: Any) -> Any:
    tf = pytest.importorskip("tensorflow")
    return tf.data.Dataset.from_tensor_slices(parts[0] if len(parts) == 1 else parts)


def batches() -> Any:
    import keras

    class Batches(keras.utils.PyDataset):  # type: ignore[misc, name-defined]
        def __len__(self) -> int:
            return 2

        def __getitem__(self, i: int) -> Any:
            return X[2 * i : 2 * i + 2], Y[2 * i : 2 * i + 2]

    return Batches()


def frame(tree: Path) -> Any:
    return pytest.importorskip("pandas").DataFrame({"image": sorted((tree / "in").iterdir()), "age": [1, 5, 3]})


def hugging_face() -> Any:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Image()})
    return datasets.Dataset.from_dict({"image": [Image.fromarray(image) for image in X]}, features=features)


def keras_tensor(array: np.ndarray) -> Any:
    import keras

    return keras.ops.convert_to_tensor(array)


FORMS: dict[str, Callable[[Path], Any]] = {
    "an array": lambda tree: X,
    "files": lambda tree: sorted((tree / "in").iterdir()),
    "a folder": lambda tree: tree,
    "a folder as text": lambda tree: str(tree / "in"),
    "a CSV file": lambda tree: tree / "table.csv",
    "a frame": frame,
    "a column": lambda tree: frame(tree)["image"],
    "a table": lambda tree: vggft.Table({"f": ["0", "1", "2"], "g": ["a", "b", "c"]}, image="f", folder=tree),
    "glob": lambda tree: (path for path in sorted(tree.rglob("*.png"))),
    "an array of files": lambda tree: np.array(sorted(map(str, tree.rglob("*.png")))),
    "a tensor": lambda tree: keras_tensor(X),
    "a list of tensors": lambda tree: [keras_tensor(image) for image in X],
    "tf.data": lambda tree: tf_data(X),
    "tf.data with labels, in batches": lambda tree: tf_data(X, Y).batch(2),
    "tf.data of dicts": lambda tree: tf_data({"image": X, "label": Y}),
    "tf.data of files": lambda tree: tf_data(sorted(map(str, tree.rglob("*.png")))),
    "a PyDataset": lambda tree: batches(),
    "a generator": lambda tree: (image for image in X),
    "a generator of files": lambda tree: iter(sorted(tree.rglob("*.png"))),
    "names as NumPy has them": lambda tree: list(np.array(sorted(map(str, tree.rglob("*.png"))))),
    "a generator of batches with labels": lambda tree: iter([(X[:2], Y[:2]), (X[2:], Y[2:])]),
    "images with labels": lambda tree: (X, Y),
    "images with labels and weights": lambda tree: (X, Y, np.ones(3)),
    "a dict": lambda tree: {"image": X, "label": Y},
    "PIL images": lambda tree: tuple(Image.fromarray(image) for image in X),
    "Hugging Face": lambda tree: hugging_face(),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_the_same_images(form: str, classifier: vggft.Classifier, tree: Path) -> None:
    np.testing.assert_allclose(classifier.predict(FORMS[form](tree)), classifier.predict(X), atol=1e-6)


def test_one_image_is_one_and_several_are_a_list(classifier: vggft.Classifier, tree: Path) -> None:
    for one in (
        X[0],
        tree / "in" / "0.png",
        Image.fromarray(X[0]),
        keras_tensor(X[0]),
        (tree / "in/0.png").read_bytes(),
    ):
        assert classifier.classify(one).labels == classifier.classify(X)[0].labels
        assert classifier.explain(one).label == classifier.explain(X[:1])[0].label
    with (tree / "in/0.png").open("rb") as file:  # which could be read line by line
        assert classifier.classify(file).labels == classifier.classify(X)[0].labels
    assert len(classifier.predict(iter([X[0] * 0] * 30))) == 30  # which is not endless
    assert len(classifier.classify(tree)) == len(classifier.explain(tf_data(X))) == 3


def test_predictions_with_names(classifier: vggft.Classifier, tree: Path) -> None:
    pytest.importorskip("pandas")
    found = classifier.predict(tree, as_frame=True)
    assert found.columns.tolist() == ["image", "label", "probability", "cat", "dog"]
    assert found["image"].tolist() == [str(tree / "in" / f"{i}.png") for i in range(3)]
    np.testing.assert_allclose(found[["cat", "dog"]].to_numpy(), classifier.predict(X), atol=1e-6)
    assert found["label"].tolist() == [each.present[0] for each in classifier.classify(X)]
    assert classifier.predict(X, as_frame=True)["image"].tolist() == ["images[0]", "images[1]", "images[2]"]


def test_what_cannot_be_read_is_a_row_without_numbers(
    classifier: vggft.Classifier, tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pandas")
    files = [tree / "in" / "0.png", tree / "missing.png", X[1]]
    found = classifier.predict(files, on_bad_image="skip", verbose=1)
    assert np.isnan(found[1]).all() and "predict: 3/3" in capsys.readouterr().err
    np.testing.assert_allclose(found[[0, 2]], classifier.predict(X[:2]), atol=1e-6)
    frame = classifier.predict(files, on_bad_image="skip", as_frame=True)
    assert frame.columns.tolist() == ["image", "label", "probability", "cat", "dog", "error"]
    assert "missing.png does not exist" in frame["error"][1] and frame["label"].isna().tolist() == [False, True, False]
    assert np.isnan(classifier.predict(["missing.png"], on_bad_image="skip")).all()
    with pytest.raises(vggft.ConfigError, match="on_bad_image must be 'raise' or 'skip'; got 'ignore'"):
        classifier.predict(X, on_bad_image="ignore")  # type: ignore[arg-type]


def test_what_integers_stand_for_in_evaluate(classifier: vggft.Classifier) -> None:
    assert classifier.evaluate((X, Y)).labels.tolist() == [0, 0, 1]
    assert classifier.evaluate((X, Y), class_names=["dog", "cat"]).labels.tolist() == [1, 1, 0]
    assert classifier.evaluate({"train": (X, Y), "test": (X[:2], [1, 0])}).labels.tolist() == [1, 0]
    with pytest.raises(vggft.DataError, match="does not know: cow"):
        classifier.evaluate((X, Y), class_names=["dog", "cow"])


class Odd:
    """Has attributes of many kinds of datasets, and is none."""

    columns, shape, features, column_names = 3, "shape", 5, None

    def __getitem__(self, key: Any) -> Any:
        raise RuntimeError("odd")

    def cast_column(self) -> None: ...


class Angry:
    def __iter__(self) -> Any:
        raise RuntimeError("angry")

    def __len__(self) -> int:
        return 3


def _closed() -> Any:
    file = io.BytesIO(b"x")
    file.close()
    return file


ZOO: dict[str, Callable[[], Any]] = {
    "None": lambda: None,
    "True": lambda: True,
    "3": lambda: 3,
    "nan": lambda: float("nan"),
    "complex": lambda: 1j,
    "text": lambda: "text",
    "empty text": lambda: "",
    "null byte": lambda: "a\0b",
    "long text": lambda: "x" * 5000,
    "bytes": lambda: b"bytes",
    "empty bytes": lambda: b"",
    "Path": lambda: Path("nowhere"),
    "here.py": lambda: Path(__file__),
    "[]": list,
    "()": tuple,
    "{}": dict,
    "set": lambda: {1, 2},
    "[None]": lambda: [None],
    "[[]]": lambda: [[]],
    "[[], []]": lambda: [[], []],
    "nested": lambda: [[1, 2], [3, [4]]],
    "(None, None)": lambda: (None, None),
    "(X, None)": lambda: (X, None),
    "(X, 3)": lambda: (X, 3),
    "(X, dicts)": lambda: (X, [{}, {}, {}]),
    "(X, objects)": lambda: (X, [object()] * 3),
    "(X, complex)": lambda: (X, np.array([1j, 2, 3])),
    "(X, dates)": lambda: (X, np.array(["2020-01-01"] * 3, "M8[D]")),
    "(X, ragged)": lambda: (X, [[1], [1, 2], 3]),
    "(X, text)": lambda: (X, "abc"),
    "(None, Y)": lambda: (None, Y),
    "(objects, Y)": lambda: ([object()] * 3, Y),
    "(0-d, Y)": lambda: (np.array(3), Y),
    "(ragged, Y)": lambda: ([[1], [1, 2], 3], Y),
    "range": lambda: range(3),
    "count": itertools.count,
    "repeat": lambda: itertools.repeat((X[0], 1)),
    "repeat None": lambda: itertools.repeat(None),
    "empty generator": lambda: iter(()),
    "generator of None": lambda: iter([None, None]),
    "generator that fails": lambda: (1 // 0 for _ in range(3)),
    "map": lambda: map(int, "ab"),
    "object": object,
    "type": lambda: int,
    "function": lambda: len,
    "module": lambda: np,
    "array 0-d": lambda: np.array(1.0),
    "array 1-d": lambda: np.arange(3.0),
    "array 2-d": lambda: np.zeros((3, 4)),
    "array 5-d": lambda: np.zeros((1, 1, 32, 32, 3)),
    "array of none": lambda: np.zeros((0, 32, 32, 3)),
    "array of text": lambda: np.array(["a", "b"]),
    "array of objects": lambda: np.array([object(), None], object),
    "array of dates": lambda: np.array(["2020-01-01"], "M8[D]"),
    "array of NaN": lambda: np.full((2, 32, 32, 3), np.nan),
    "array of complex": lambda: np.zeros((2, 32, 32, 3), complex),
    "record array": lambda: np.zeros(3, [("image", "i4"), ("label", "i4")]),
    "masked": lambda: np.ma.masked_array([1, 2], mask=[True, False]),
    "{1: 2}": lambda: {1: 2},
    "{'train': None}": lambda: {"train": None},
    "{'train': {}}": lambda: {"train": {}},
    "{'image': 1, 'label': 2}": lambda: {"image": 1, "label": 2},
    "uneven columns": lambda: {"image": ["a", "b"], "label": [1]},
    "OrderedDict": OrderedDict,
    "defaultdict": lambda: defaultdict(list),
    "UserDict": lambda: UserDict({"a": 1}),
    "deque": lambda: deque([1, 2]),
    "SimpleNamespace": lambda: SimpleNamespace(columns=["a"], shape=(1, 2)),
    "Decimal": lambda: decimal.Decimal(1),
    "Fraction": lambda: fractions.Fraction(1, 2),
    "date": lambda: datetime.date(2020, 1, 1),
    "pattern": lambda: re.compile("a"),
    "StringIO": lambda: io.StringIO("text"),
    "BytesIO": lambda: io.BytesIO(b"no image"),
    "closed file": _closed,
    "memoryview": lambda: memoryview(b"abc"),
    "slice": lambda: slice(3),
    "exception": lambda: ValueError("x"),
    "odd": Odd,
    "angry": Angry,
    "empty frame": lambda: pytest.importorskip("pandas").DataFrame(),
    "frame of numbers": lambda: pytest.importorskip("pandas").DataFrame({"a": [1, 2], "b": [3, 4]}),
    "frame of None": lambda: pytest.importorskip("pandas").DataFrame({"image": [None, None], "label": [None, None]}),
    "frame of objects": lambda: pytest.importorskip("pandas").DataFrame({"image": [object()] * 2, "label": [1, 2]}),
    "frame with two of a name": lambda: pytest.importorskip("pandas").DataFrame([[1, 2]], columns=["a", "a"]),
    "frame with levels": lambda: pytest.importorskip("pandas").DataFrame({("a", "b"): [1], ("a", "c"): [2]}),
    "series": lambda: pytest.importorskip("pandas").Series([1, 2]),
    "table of nothing": lambda: vggft.Table(None),
    "table of text": lambda: vggft.Table("nowhere.csv"),
    "tf.data of scalars": lambda: tf_data(np.arange(3)),
    "tf.data of text": lambda: tf_data(["a", "b"]),
    "tf.data without end": lambda: tf_data(X, Y).repeat(),
    "tf.data of labels that differ": lambda: tf_data(X, np.arange(3.0) / 7),
    "a model": lambda: build(Description(("a", "b"), 32, width=1 / 16)),
    "PIL mode P": lambda: Image.new("P", (40, 40)),
    "PIL without size": lambda: Image.new("RGB", (0, 0)),
}


def table_with(name: str, value: Any) -> Any:
    return vggft.Table("x.csv", **{name: value})


@pytest.mark.parametrize("animal", ZOO)
def test_the_zoo_gives_a_result_or_an_error_that_is_ours(
    animal: str, classifier: vggft.Classifier, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    doors: list[Callable[[Any], Any]] = [
        classifier.predict,
        classifier.classify,
        classifier.explain,
        classifier.evaluate,
        lambda data: vggft.audit(data, image_size=32),
        lambda data: classifier.evaluate((X, Y), class_names=data),
        *(functools.partial(table_with, name) for name in ("image", "label", "folder", "split", "mark", "uncertain")),
    ]
    raw = []
    for number, door in enumerate(doors):
        try:
            door(ZOO[animal]())
        except vggft.VggftError as error:
            assert len(str(error)) > 20
        except Exception as error:
            raw.append(f"door {number}: {type(error).__name__}: {error}")
    assert raw == []
