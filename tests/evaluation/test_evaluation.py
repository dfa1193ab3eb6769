"""`Evaluation`: decisions, slices, and its form as JSON."""

import json

import numpy as np
import pytest
from four_images import LABELS, MULTI_LABELS, MULTI_PROBABILITIES, PROBABILITIES

from vggft.errors import ConfigError
from vggft.evaluation.checks import evaluate, score
from vggft.evaluation.evaluation import Evaluation


def test_thresholds_decide_from_their_value_upwards():
    arguments = MULTI_LABELS, MULTI_PROBABILITIES, ["x", "y"]
    evaluation = evaluate(*arguments, multi_label=True, thresholds=[0.2, 0.7])  # neither is exact in float32
    assert evaluation.predictions.tolist() == [[1, 0], [1, 0], [1, 1], [1, 0]]
    assert evaluation.to_dict()["thresholds"] == [0.2, 0.7]
    assert score("hamming_loss", *arguments[:2], True, thresholds=[0.2, 0.7]) == 2 / 8
    assert evaluate(*arguments, multi_label=True, thresholds=0.95).predictions.sum() == 0


def test_slices_are_evaluations_of_their_images() -> None:
    names, labels, right = [f"cats/{i}.jpg" for i in range(6)], np.arange(6) % 2, np.array([1, 0, 1, 1, 1, 0])
    p = 0.8 * np.eye(2)[np.where(right, labels, 1 - labels)] + 0.1
    sites = ["north", "south", "north", "north", "south", "west"]
    evaluation = evaluate(labels, p, ["cat", "dog"], names=names, metadata={"site": sites})
    slices = evaluation.slices("site")
    assert list(slices) == ["north", "south", "west"]
    assert [each["accuracy"] for each in slices.values()] == [1.0, 0.5, 0.0]
    assert slices["south"].names == ("cats/1.jpg", "cats/4.jpg")
    assert slices["south"].metadata == {"site": ("south", "south")}
    with pytest.raises(ConfigError, match=r"columns of metadata \(site\); received 'device'"):
        evaluation.slices("device")
    with pytest.raises(ConfigError, match="metadata: expected 6 cells in site"):
        evaluate(labels, p, ["cat", "dog"], metadata={"site": sites[:5]})


def test_a_subset_is_given_by_rows_or_by_a_mask() -> None:
    labels = np.array([0, 1, 1, 0])
    whole = Evaluation("test", ("a", "b"), labels, np.eye(2, dtype="float32")[labels], names=tuple("wxyz"))
    for rows in ([1, 2], labels == 1):
        assert whole.subset(rows).names == ("x", "y")


def test_to_dict():
    result = evaluate(LABELS, PROBABILITIES, "abc", names=["1.jpg"] * 4).to_dict()
    assert result == json.loads(json.dumps(result, allow_nan=False))
    assert result["accuracy"] == 0.75
    assert (result["split"], result["num_images"], result["class_names"]) == ("test", 4, ["a", "b", "c"])
    assert result["confusion_matrix"] == [[1, 1, 0], [0, 1, 0], [0, 0, 1]]
    assert result["per_class"][1]["precision"] == 0.5
    assert (result["thresholds"], result["notes"], result["multi_label"]) == (None, [], False)
