"""`VGGClassifier` and `VGGFeatures` behave as scikit-learn's own estimators do, and give what `finetune` gives."""

from __future__ import annotations

import doctest
import pickle
from pathlib import Path
from typing import Any

import joblib
import keras
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import estimator_checks_generator
from sklearn.utils.validation import check_is_fitted, validate_data

import vggft
from vggft import estimators
from vggft.features.extract import Prefix

PROBE = vggft.Head(units=())
LAST = vggft.Head(blocks=("block5",), normalize="standardize")  # features small enough to be equal to the last bit
TINY: dict[str, Any] = {"image_size": 32, "precision": "float32"}
WORDS = np.array(["zebra", "ant", "cat"])


def draw(points: np.ndarray) -> np.ndarray:
    """Draw each of (N, C) points as a picture of grey squares."""
    grey = (1 + np.sin(points.astype(float) / 2)) / 2
    side = int(np.ceil(np.sqrt(grey.shape[1])))
    squares = np.full((len(grey), side * side), 0.5)
    squares[:, : grey.shape[1]] = grey
    pixels = np.kron(squares.reshape(-1, side, side), np.ones((1, -(-32 // side), -(-32 // side))))
    return np.rint(np.repeat(pixels[..., None], 3, axis=-1) * 255).astype("uint8")


class _OfPoints:
    """scikit-learn's checks know only points in columns, (N, C): they are checked by its own function, and drawn."""

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()  # type: ignore[misc]
        tags.input_tags.two_d_array, tags.input_tags.one_d_array, tags.input_tags.string = True, False, False
        return tags


class DrawnClassifier(_OfPoints, vggft.VGGClassifier):
    def fit(self, X: Any, y: Any) -> Any:  # noqa: N803
        X, y = validate_data(self, X, y, multi_output=True)  # noqa: N806
        return super().fit(draw(X), y)

    def predict_proba(self, X: Any) -> Any:  # noqa: N803
        check_is_fitted(self)
        return super().predict_proba(draw(validate_data(self, X, reset=False)))


class DrawnFeatures(_OfPoints, vggft.VGGFeatures):
    def fit(self, X: Any, y: Any = None) -> Any:  # noqa: N803
        validate_data(self, X)
        return super().fit()

    def transform(self, X: Any) -> Any:  # noqa: N803
        check_is_fitted(self)
        return super().transform(draw(validate_data(self, X, reset=False)))


# Most of what is named check_classifiers_... trains six classifiers and more.
CHECKS = [
    pytest.param(
        estimator,
        check,
        id=f"{type(estimator).__name__}-{check.func.__name__}-{number}",
        marks=[pytest.mark.slow] * isinstance(estimator, DrawnClassifier),  # each trains several times
    )
    for made in (DrawnClassifier("vgg16_mini", head=LAST, **TINY), DrawnFeatures("vgg16_mini", **TINY))
    for number, (estimator, check) in enumerate(estimator_checks_generator(made))
]


@pytest.mark.filterwarnings("default")  # of scikit-learn's about its own checks
@pytest.mark.parametrize(("estimator", "check"), CHECKS)
def test_scikit_learns_own_checks(estimator: Any, check: Any) -> None:
    check(estimator)


@pytest.fixture
def files(stripes: tuple, tmp_path: Path) -> list[str]:
    """60 of the pictures, as files."""
    for row in range(60):
        Image.fromarray(stripes[0][row]).save(tmp_path / f"{row:02}.png")
    return sorted(map(str, tmp_path.glob("*.png")))


@pytest.fixture
def probe(tiny_weights: Path) -> vggft.VGGClassifier:
    return vggft.VGGClassifier(tiny_weights, head=PROBE, **TINY)


def test_it_is_finetune_with_labels_of_any_kind(stripes: tuple, probe: vggft.VGGClassifier) -> None:
    images, labels = stripes
    by_words = probe.fit(images, WORDS[labels])
    assert by_words.classes_.tolist() == ["ant", "cat", "zebra"] == list(by_words.classifier_.class_names)
    assert set(by_words.predict(images)) <= set(WORDS)
    order = np.searchsorted(by_words.classes_, WORDS)[labels]  # the same labels, numbered as finetune numbers
    alone = vggft.finetune((images, order), 3, backbone=probe.backbone, head=PROBE, verbose=0, **TINY)
    np.testing.assert_array_equal(by_words.predict_proba(images), alone.predict(images))
    assert by_words.score(images, WORDS[labels]) == np.mean(by_words.predict(images) == WORDS[labels])

    by_tens = clone(probe).fit(images, 10.0 * labels)
    assert by_tens.classes_.tolist() == [0, 10, 20] and by_tens.predict(images[:5]).dtype == np.float64
    other = clone(probe).set_params(random_state=np.random.RandomState(1)).fit(images, WORDS[labels])
    assert other.classifier_.seen != by_words.classifier_.seen  # another split


def test_several_labels_per_image(stripes: tuple, probe: vggft.VGGClassifier) -> None:
    images, labels = stripes
    y = np.eye(3, dtype=int)[labels] | np.eye(3, dtype=int)[np.minimum(labels, 1)]
    probe.fit(images, y)
    predicted = probe.predict(images)
    np.testing.assert_array_equal(predicted, probe.predict_proba(images) >= 0.5)
    assert predicted.shape == (120, 3) and probe.score(images, y) == (predicted == y).all(axis=1).mean()


@pytest.mark.parametrize("kind", [list, np.array, pd.Series, lambda paths: pd.DataFrame({"path": paths})])
def test_pictures_may_be_files_in_any_column(
    kind: Any, files: list[str], stripes: tuple, probe: vggft.VGGClassifier
) -> None:
    images, labels = stripes[0][:60], stripes[1][:60]
    from_files, from_pixels = probe.fit(kind(files), labels).predict_proba(kind(files)), probe.predict_proba(images)
    np.testing.assert_array_equal(from_files, from_pixels)
    features = vggft.VGGFeatures(probe.backbone, **TINY).fit()
    np.testing.assert_array_equal(features.transform(kind(files)), features.transform(images))


def test_a_dataset_that_has_its_labels(files: list[str], tmp_path: Path, probe: vggft.VGGClassifier) -> None:
    lines = [f"{file},{'ab'[row % 2]}" for row, file in enumerate(files)]
    (tmp_path / "labels.csv").write_text("\n".join(["image,label", *lines]))
    assert probe.fit(tmp_path / "labels.csv").classes_.tolist() == ["a", "b"]
    assert probe.predict(files[0]).shape == (1,)


@pytest.mark.slow
def test_search_over_heads_computes_features_once(
    stripes: tuple, probe: vggft.VGGClassifier, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("VGGFT_CACHE_DIR", str(tmp_path))
    features = vggft.VGGFeatures(probe.backbone, **TINY).fit()
    features.transform(stripes[0])
    monkeypatch.setattr(Prefix, "network", lambda *_: pytest.fail("the features of these images are known"))
    heads = {"head": [PROBE, vggft.Head(units=(), normalize="l2")]}
    found = GridSearchCV(probe, heads, cv=2, error_score="raise").fit(stripes[0], WORDS[stripes[1]])
    assert found.best_params_["head"] in heads["head"] and set(found.predict(stripes[0])) <= set(WORDS)


def test_features_are_those_that_a_head_learns_from(stripes: tuple, tiny_weights: Path) -> None:
    images, labels = stripes
    features = vggft.VGGFeatures(tiny_weights, **TINY).set_output(transform="pandas")
    found = features.fit_transform(images)
    assert list(found.columns) == [f"block5_{n}" for n in range(32)] and (found.dtypes == np.float32).all()
    whole = vggft.finetune((images, labels), 3, backbone=tiny_weights, head=PROBE, verbose=0, **TINY).keras_model
    pooled = keras.Model(whole.input, whole.get_layer("avg_pool").output)
    np.testing.assert_allclose(found, pooled.predict(images, verbose=0), rtol=1e-5, atol=1e-6)

    lengths = vggft.VGGFeatures(tiny_weights, normalize="sqrt_l2", **TINY).fit().transform(images)
    np.testing.assert_allclose(np.linalg.norm(lengths, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(lengths, np.sqrt(found / found.to_numpy().sum(axis=1, keepdims=True)), atol=1e-3)
    flat = vggft.VGGFeatures(tiny_weights, pooling="flatten", image_size=64, precision="float32").fit(None)
    assert flat.transform(images[:2]).shape == (2, 4 * 32)


def test_in_a_pipeline(stripes: tuple, tiny_weights: Path) -> None:
    images, labels = stripes
    steps = vggft.VGGFeatures(tiny_weights, **TINY), StandardScaler(), LogisticRegression(max_iter=2000)
    scores = cross_val_score(make_pipeline(*steps), images, WORDS[labels], cv=3)
    assert scores.mean() > 0.5  # a third by chance
    guessed = cross_val_predict(make_pipeline(*steps), list(images), WORDS[labels], cv=3, method="predict_proba")
    assert guessed.shape == (120, 3)


def test_pickled_and_joblib_dumped_it_predicts_the_same(
    stripes: tuple, probe: vggft.VGGClassifier, tmp_path: Path
) -> None:
    images, labels = stripes
    probe.fit(images, WORDS[labels])
    expected = probe.predict_proba(images)
    joblib.dump(probe, tmp_path / "probe.joblib")
    for again in (pickle.loads(pickle.dumps(probe)), joblib.load(tmp_path / "probe.joblib")):
        np.testing.assert_allclose(again.predict_proba(images), expected, atol=1e-6)
        assert again.get_params() == probe.get_params()
        assert again.classifier_.evaluation.metrics == probe.classifier_.evaluation.metrics
        assert again.classifier_.record.config == probe.classifier_.record.config != {}


def test_errors_say_what_was_expected(
    stripes: tuple, files: list[str], probe: vggft.VGGClassifier, tiny_weights: Path
) -> None:
    images, labels = stripes
    for X, y, message in (  # noqa: N806
        (images, None, "VGGClassifier requires y to be passed"),
        (images, labels[:-1], "inconsistent numbers of samples"),
        (images, labels * 0, r"all labels are of one class, \[0\]"),
        (images, labels + 0.5, "Unknown label type: continuous"),
        (images.reshape(120, -1), labels, "Flat pixels have to be reshaped"),
        (["no/such.png"] * 120, labels, "files that do not exist"),
    ):
        with pytest.raises(ValueError, match=message):
            clone(probe).fit(X, y)
    with pytest.raises(vggft.ConfigError, match=r"head must be a vggft\.Head"):
        clone(probe).set_params(head=64).fit(images, labels)
    for wrong, message in (
        ({"blocks": ("block6",)}, r"VGGFeatures\.blocks must be"),
        ({"pooling": "sum"}, r"VGGFeatures\.pooling must be 'avg', 'max' or"),
        ({"normalize": "standardize"}, "StandardScaler"),
        ({"image_size": 16}, "image_size must be an integer >= 32"),
        ({"precision": "int8"}, "precision must be one of"),
    ):
        with pytest.raises(vggft.ConfigError, match=message):
            vggft.VGGFeatures(tiny_weights, **wrong).fit(images)
    with pytest.raises(vggft.DataError, match=r"1 of 2 images cannot be used.*\n.*missing\.png"):
        vggft.VGGFeatures(tiny_weights, **TINY).fit().transform([files[0], "missing.png"])


def test_the_examples_in_the_docstrings() -> None:
    results = doctest.testmod(estimators)
    assert results.attempted and results.failed == 0
