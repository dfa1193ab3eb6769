"""The classifier file: one saved by an earlier version, damage, and what the public classifier is made of."""

from __future__ import annotations

import ast
import gc
import weakref
from pathlib import Path

import keras
import numpy as np
import pytest

import vggft
from vggft import classifier
from vggft.artifact.artifact import Artifact
from vggft.artifact.predictions import Predictions
from vggft.artifact.record import Record
from vggft.evaluation.evaluation import Evaluation
from vggft.network.description import Description, build

FILES = Path(__file__).parent / "files"


def test_a_classifier_saved_by_0_1_0_before_the_move_loads_and_predicts_the_same() -> None:
    """By `vggft.load` and by plain Keras. Blocks 1 to 4 were frozen; it was calibrated and evaluated on test images."""
    loaded = vggft.load(FILES / "classifier_0.1.0.keras")
    plain = keras.models.load_model(FILES / "classifier_0.1.0.keras")
    with np.load(FILES / "classifier_0.1.0_predictions.npz") as stored:
        images, expected = stored["images"], stored["probabilities"]
    np.testing.assert_allclose(loaded.predict(images), expected, atol=1e-6)
    np.testing.assert_allclose(plain.predict(images.astype("float32"), verbose=0), expected, atol=1e-6)
    description, evaluation = loaded.description, loaded.evaluation
    assert description.frozen == ("block1", "block2", "block3", "block4") and description.temperature != 1
    assert evaluation is not None and evaluation.split == "test" and len(evaluation.labels) == 24
    assert evaluation["accuracy"] == pytest.approx((evaluation.predictions == evaluation.labels).mean())
    assert {row["phase"] for row in loaded.history} == {"head", "blocks and head"}
    assert len(loaded.seen) == 96 and loaded.record.config == {}


def test_loading_imports_nothing_that_only_other_methods_need() -> None:
    tree = ast.parse(Path(classifier.__file__).read_text(encoding="utf-8"))
    imported = {node.module for node in tree.body if isinstance(node, ast.ImportFrom) and node.level}
    assert imported == {"artifact.adjust", "artifact.inputs", "arguments", "errors"}


def test_the_classifier_adds_methods_and_no_state() -> None:
    description = Description(("a", "b"), 32, width=1 / 16)
    artifact, public = (kind(build(description), description) for kind in (Artifact, vggft.Classifier))
    assert vars(artifact).keys() == vars(public).keys()
    assert repr(artifact) == "<Artifact of 2 classes at 32 px on vgg16_imagenet>"
    assert repr(public) == "<Classifier of 2 classes at 32 px on vgg16_imagenet>"


def test_halves_of_the_network_end_with_their_artifact() -> None:
    """They were once in a cache of the module, which kept networks alive."""
    description = Description(("a", "b"), 32, width=1 / 16)
    artifact = Artifact(build(description), description)
    upper, lower = artifact.network.halves("block5")
    assert artifact.network.halves("block5") == (upper, lower)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype("float32")
    logits = keras.Model(artifact.keras_model.input, artifact.keras_model.get_layer("logits").output)(pixels)
    np.testing.assert_allclose(lower(upper(pixels)), logits, atol=1e-5)
    alive = [weakref.ref(each) for each in (artifact, artifact.keras_model, upper)]
    del artifact, upper, lower
    gc.collect()
    assert [each() for each in alive] == [None] * 3


def test_an_evaluation_of_other_weights_is_dropped(tmp_path: Path) -> None:
    description = Description(("a", "b"), 32, width=1 / 16)
    artifact = Artifact(build(description), description)
    images = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
    artifact.evaluation = artifact.evaluate((images, np.arange(6) % 2))
    artifact.keras_model.trainable = True  # handed out, but its weights stay
    assert artifact.evaluation is not None
    assert Artifact.from_file(artifact.save(tmp_path / "same.keras")).evaluation is not None
    logits = artifact.keras_model.get_layer("logits")
    logits.set_weights([each + 1 for each in logits.get_weights()])
    with pytest.warns(UserWarning, match=r"changed since this classifier was evaluated.*dropped: evaluate it again"):
        artifact.save(tmp_path / "other.keras")
    assert artifact.evaluation is None and Artifact.from_file(tmp_path / "other.keras").evaluation is None
    artifact.evaluation = artifact.evaluate((images, np.arange(6) % 2))
    assert artifact.evaluation is not None
    artifact.keras_model = build(description)
    with pytest.warns(UserWarning, match="evaluated"):
        assert artifact.evaluation is None


def test_pictures_and_comparisons_are_of_the_evaluation_that_they_were_made_for() -> None:
    description = Description(("a", "b"), 32, width=1 / 16)
    images = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
    artifact = Artifact(build(description), description)
    artifact.evaluation = artifact.evaluate((images, np.arange(6) % 2))
    artifact.record = Record(pictures={3: images[3]}, summary={"gap": {"accuracy": 0.1}, "caveats": ["x"], "test": {}})
    artifact.evaluation = artifact.evaluation.at_temperature(2.0)
    assert list(artifact.record.pictures) == [3] and "gap" in artifact.record.summary
    artifact.evaluation = artifact.evaluate((images[::-1].copy(), np.arange(6) % 2))
    assert not artifact.record.pictures and list(artifact.record.summary) == ["test"]


def test_a_classifier_of_many_classes_and_images_is_read_back(tmp_path: Path) -> None:
    names = tuple(f"Käse {n}" for n in range(510))
    description = Description(names, 32, width=1 / 16)
    seen = {f"{n:032x}": "train" for n in range(450_000)}
    labels = np.arange(510)
    artifact = Artifact(build(description), description, seen=seen)
    artifact.evaluation = Evaluation("test", names, labels, np.full((510, 510), 1 / 510, "float32"))
    again = Artifact.from_file(artifact.save(tmp_path / "many.keras"))
    assert again.class_names == names and again.seen == seen


def test_without_a_test_split_the_validation_images_judge_and_not_those_for_training(tmp_path: Path) -> None:
    description = Description(("a", "b"), 32, width=1 / 16)
    images = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
    splits = {"train": (images, np.arange(6) % 2), "validation": (images[:2], np.arange(2))}
    found = Artifact(build(description), description).evaluate(splits)
    assert found.split == "validation" and len(found.labels) == 2


def test_predictions_of_several_labels_say_what_is_below_its_threshold() -> None:
    about = Description(("cat", "dog", "sun"), 32, multi_label=True, thresholds=(0.5, 0.3, 0.5))
    p = np.array([[0.2, 0.4, 0.9], [0.1, 0.2, 0.3]], "float32")
    cuts = dict(zip(about.class_names, about.thresholds or (), strict=True))
    found = Predictions(("a.jpg", "b.jpg"), p, [about.describe(row) for row in p], about.class_names, None, cuts)
    assert found.line(0, 3) == "a.jpg: sun (90.0%), dog (40.0%); not cat (20.0%)"
    assert found.line(1, 1) == "b.jpg: nothing; not sun (30.0%)"
    assert found.rule == "A label is predicted from 50.0% on, but dog from 30.0%."
    assert [row["label"] for row in found.rows()] == ["sun|dog", ""]


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ((), "it is not a run directory."),
        (("saved_model.pb",), "it is a SavedModel, an export; load the .keras file that it was made from."),
        (("folds.csv",), "it holds a cross-validation, which keeps no classifier: make one by finetune."),
        (("config.json",), "its run has not finished: continue it by resume=True (--resume)."),
        (
            ("ants-2/classifier.keras", "ants-1/classifier.keras"),
            "it holds run directories to choose from: {}/ants-1, {}",
        ),
        (("b.keras", "a.keras"), "it holds files to choose from: {}/a.keras, {}/b.keras."),
    ],
)
def test_a_folder_without_a_classifier_says_what_it_is(files: tuple[str, ...], told: str, tmp_path: Path) -> None:
    for file in files:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).touch()
    with pytest.raises(vggft.ClassifierFileError) as caught:
        vggft.load(tmp_path)
    said = f"There is no classifier file in the folder {tmp_path}: {told.replace('{}', str(tmp_path))}"
    assert str(caught.value).startswith(said)
