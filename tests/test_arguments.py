"""An argument that does not exist is answered with the nearest one that does, and its place."""

from __future__ import annotations

import copy
import inspect
import pickle
from collections.abc import Callable
from typing import Any

import pytest

import vggft

ANSWERS: list[tuple[Callable[[], Any], str]] = [
    (lambda: vggft.finetune("d", 10, epochs=5), "epochs belongs in Training: training=vggft.Training(epochs=5)."),
    (lambda: vggft.finetune("d", lr=0.1), "lr belongs in Training: training=vggft.Training(learning_rate=0.1)."),
    (lambda: vggft.finetune("d", learning_rate=0.1), "training=vggft.Training(learning_rate=0.1)."),
    (
        lambda: vggft.finetune("d", batch_size=8),
        "training=vggft.Training(batch_size=8).",
    ),
    (lambda: vggft.finetune("d", class_weight={0: 1}), "training=vggft.Training(class_weight={0: 1})."),
    (lambda: vggft.finetune("d", units=(8,)), "units belongs in Head: head=vggft.Head(units=(8,))."),
    (lambda: vggft.finetune("d", dropout=0.5), "dropout belongs in Head: head=vggft.Head(dropout=0.5)."),
    (lambda: vggft.finetune("d", hflip=True), "hflip belongs in Augment: augment=vggft.Augment(flip=True)."),
    (lambda: vggft.finetune("d", epochs=1, units=2), "vggft.Training(epochs=1). units belongs in Head"),
    (lambda: vggft.finetune("d", folds=3), "folds is one of cross_validate and search"),
    (lambda: vggft.finetune("d", n_classes=3), "finetune has no argument n_classes: did you mean num_classes?"),
    (lambda: vggft.finetune("d", sede=3), "did you mean seed?"),
    (lambda: vggft.finetune("d", random_state=3), "did you mean seed?"),
    (lambda: vggft.finetune("d", validation_split=3), "did you mean validation?"),
    (lambda: vggft.finetune("d", colour="red"), "finetune has no argument colour; it has dataset, num_classes"),
    (vggft.finetune, "finetune: missing a required argument: 'dataset'"),
    (lambda: vggft.finetune("d", 2, 0.2), "finetune takes dataset, num_classes by position; got also 0.2"),
    (lambda: vggft.search("d", n_trials=3), "did you mean trials?"),
    (lambda: vggft.search("d", dropout=0.3), "or to search it space=vggft.SearchSpace(dropout=[...])"),
    (lambda: vggft.cross_validate("d", n_splits=3), "did you mean folds?"),
    (lambda: vggft.estimate("d", epochs=3), "epochs belongs in Training: training=vggft.Training(epochs=3)."),
    (lambda: vggft.find_learning_rate("d", epohcs=3), "training=vggft.Training(epochs=3)."),
    (lambda: vggft.VGGClassifier(epochs=3), "training=vggft.Training(epochs=3)."),
    (lambda: vggft.VGGClassifier(seed=3), "did you mean random_state?"),
    (lambda: vggft.VGGFeatures(block="block4"), "did you mean blocks?"),
    (lambda: vggft.Training(lr=0.1), "Training has no argument lr: did you mean learning_rate?"),
    (lambda: vggft.Training(units=3), "units belongs in Head: vggft.Head(units=3)."),
    (lambda: vggft.Head(epochs=3), "epochs belongs in Training: vggft.Training(epochs=3)."),
    (lambda: vggft.Head(unit=3), "Head has no argument unit: did you mean units?"),
    (lambda: vggft.Augment(rotation_range=3), "Augment has no argument rotation_range: did you mean rotate?"),
    (lambda: vggft.SearchSpace(lr=3), "SearchSpace has no argument lr: did you mean learning_rate?"),
    (lambda: vggft.Phase("all", lr=3), "did you mean learning_rate?"),
    (lambda: vggft.Head(*range(9)), "Head takes units, pooling"),
]


@pytest.mark.parametrize(("call", "told"), ANSWERS)
def test_an_unknown_argument_is_answered(call: Callable[[], Any], told: str) -> None:
    _ = vggft.finetune, vggft.search  # what a user has imported, of which the places are known
    with pytest.raises(vggft.ConfigError) as caught:
        call()
    assert told in str(caught.value)
    assert isinstance(caught.value, TypeError) and isinstance(caught.value, ValueError)


def test_signatures_copies_and_pickles_stay() -> None:
    assert list(inspect.signature(vggft.finetune).parameters)[:3] == ["dataset", "num_classes", "validation"]
    assert next(iter(inspect.signature(vggft.Head).parameters)) == "units"
    assert pickle.loads(pickle.dumps(vggft.finetune)) is vggft.finetune
    phase = vggft.Phase("all", epochs=3)
    assert copy.deepcopy(phase) == pickle.loads(pickle.dumps(phase)) == phase
