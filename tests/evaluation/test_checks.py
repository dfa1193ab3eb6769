"""What `evaluate` and `score` refuse, and how they explain it."""

import math

import numpy as np
import pytest
from four_images import LABELS, MULTI_LABELS, MULTI_PROBABILITIES, PROBABILITIES, letters

from vggft.errors import ConfigError, DataError
from vggft.evaluation.checks import evaluate, score


def test_score_is_what_evaluate_says():
    for labels, p, multi_label in ((LABELS, PROBABILITIES, False), (MULTI_LABELS, MULTI_PROBABILITIES, True)):
        for name, value in evaluate(labels, p, letters(len(p[0])), multi_label=multi_label).metrics.items():
            assert score(name, labels, p, multi_label) == value
            assert type(value) is float


def test_score_refuses():
    with pytest.raises(ConfigError, match=r"one of accuracy, .*received 'hamming_loss'"):
        score("hamming_loss", LABELS, PROBABILITIES)
    with pytest.raises(ConfigError, match="received 'top_3_accuracy'"):
        score("top_3_accuracy", LABELS, PROBABILITIES)
    with pytest.raises(DataError, match=r"roc_auc is undefined: .*all given images are of 0"):
        score("roc_auc", [0, 0], [[0.5, 0.5], [0.4, 0.6]])
    with pytest.raises(KeyError, match=r"acuracy.*balanced_accuracy"):
        evaluate(LABELS, PROBABILITIES, "abc")["acuracy"]


@pytest.mark.parametrize(
    ("labels", "probabilities", "says"),
    [
        (np.eye(3)[LABELS], PROBABILITIES, r"received labels \(4, 3\) .* one-hot"),
        (["a", "a", "b", "c"], PROBABILITIES, "class names"),
        (LABELS[:3], PROBABILITIES, "not of the same images"),
        ([], np.zeros((0, 3)), "N >= 1"),
        ([0], [[1.0]], "C >= 2"),
        (LABELS, [0.1, 0.2, 0.3, 0.4], r"probabilities \(4,\)"),
        (LABELS, [[0.1], [0.2, 0.8], [0.3], [0.4]], "arrays"),
        (LABELS, [["much", "little", "none"]] * 4, "arrays"),
        ([0, 0, 1, 3], PROBABILITIES, r"labels in 0\.\.2; received 3 for image 3 \(in all 1 of 4 images\)"),
        ([0, -1, 1, 2], PROBABILITIES, "received -1 for image 1"),
        ([0, 0.5, 1, 2], PROBABILITIES, r"received 0\.5 for image 1"),
        ([0, math.nan, 1, 2], PROBABILITIES, "received nan for image 1"),
        (LABELS, np.full((4, 3), np.nan), r"finite .* received nan .* diverged"),
        (LABELS, np.full((4, 3), 1e300), "received inf"),
        (LABELS, np.full((4, 3), 4.0), r"0\.\.1; received 4\.0 .* logits"),
        (LABELS, np.full((4, 3), 0.4), r"sum to 1 .* received 1\.2.* multi-label"),
    ],
)
def test_bad_data_is_explained(labels, probabilities, says):
    with pytest.raises(DataError, match=says):
        evaluate(labels, probabilities, "abc")


def test_all_bad_data_is_reported_at_once_and_by_file():
    p = np.array(PROBABILITIES)
    p[1, 0], p[2, 1] = 3, np.nan
    with pytest.raises(DataError) as error:
        evaluate([9, 0, 1, 2], p, "abc", names=["w.jpg", "x.jpg", "y.jpg", "z.jpg"])
    lines = str(error.value).splitlines()
    assert [file for file, line in zip(("w.jpg", "y.jpg", "x.jpg"), lines, strict=True) if file in line] == [
        "w.jpg", "y.jpg", "x.jpg",
    ]  # fmt: skip
    with pytest.raises(DataError, match=r"0\.\.1; received 2"):
        evaluate([[2, 0]], [[0.5, 0.5]], "ab", multi_label=True)
    with pytest.raises(DataError, match="class indices"):
        evaluate([0], [[0.5, 0.5]], "ab", multi_label=True)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"class_names": "ab"}, "expected 3 different names"),
        ({"class_names": "aab"}, "expected 3 different names"),
        ({"names": ["1.jpg"]}, "one for each of 4 images; received 1"),
        ({"thresholds": 0.5}, "unless multi_label"),
        ({"multi_label": True, "labels": np.eye(3)[LABELS], "thresholds": [0.5, 0.5]}, "one or 3"),
        ({"multi_label": True, "labels": np.eye(3)[LABELS], "thresholds": 1.5}, r"0\.\.1.*received 1\.5"),
        ({"multi_label": True, "labels": np.eye(3)[LABELS], "thresholds": math.nan}, "received nan"),
    ],
)
def test_bad_arguments_are_explained(arguments, says):
    with pytest.raises(ConfigError, match=says):
        evaluate(**{"labels": LABELS, "probabilities": PROBABILITIES, "class_names": "abc"} | arguments)


def test_rounding_is_forgiven_and_arguments_are_left_alone():
    p = np.array([[1.0000002, -2e-7], [0.5004, 0.5004]], dtype=np.float32)
    before = p.copy()
    evaluation = evaluate([0, 1], p, "ab")
    assert evaluation.probabilities.min() == 0 and evaluation.probabilities.max() == 1
    assert evaluation["log_loss"] == pytest.approx(math.log(2) / 2, abs=1e-4)  # of the normalised rows
    np.testing.assert_array_equal(p, before)
