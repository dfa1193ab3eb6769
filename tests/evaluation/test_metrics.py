"""Metrics: values computed by hand first, scikit-learn called directly second, properties third."""

import json
import math

import numpy as np
import pytest
from four_images import LABELS, MULTI_LABELS, MULTI_PROBABILITIES, PROBABILITIES, letters, softmax
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk
from sklearn.calibration import calibration_curve

from vggft.errors import DataError
from vggft.evaluation.checks import evaluate, score
from vggft.evaluation.metrics import METRICS, accuracy_of, average_precision, baseline, log_loss, lowest_f1


def by_bins(confidence, right):
    """The calibration error by scikit-learn's curve, whose bins are closed on the other side."""
    accuracy, mean = calibration_curve(right, confidence.astype(float), n_bins=15)
    images = np.histogram(confidence, np.linspace(0, 1, 16))[0]
    return (np.abs(accuracy - mean) * images[images > 0]).sum() / images.sum()


def test_single_label_by_hand():
    evaluation = evaluate(LABELS, PROBABILITIES, "abc")
    expected = {
        "accuracy": 3 / 4,
        "balanced_accuracy": (1 / 2 + 1 + 1) / 3,
        "top_2_accuracy": 1.0,
        "log_loss": -(math.log(0.7) + math.log(0.3) + math.log(0.8) + math.log(0.5)) / 4,
        "calibration_error": (0.3 + 0.6 + 0.2 + 0.5) / 4,  # four confidences in four bins
        "roc_auc": 1.0,  # every image of a class lies above every other image in its column: all three are 1
        "average_precision": 1.0,
        # (c s - sum t p) / sqrt((s^2 - sum p^2)(s^2 - sum t^2)) with c = 3, s = 4, t = (2, 1, 1), p = (1, 2, 1)
        "mcc": (3 * 4 - 5) / math.sqrt((16 - 6) * (16 - 6)),
        "macro_f1": (2 / 3 + 2 / 3 + 1) / 3,
        "weighted_f1": (2 * 2 / 3 + 2 / 3 + 1) / 4,
    }
    assert dict(evaluation.metrics) == pytest.approx(expected, abs=1e-6)
    a, b, c = evaluation.per_class
    assert (a.name, a.precision, a.recall, a.support) == ("a", 1.0, 0.5, 2)
    assert (b.name, b.precision, b.recall, b.support) == ("b", 0.5, 1.0, 1)
    assert (c.f1, c.roc_auc, c.average_precision) == (1.0, 1.0, 1.0)
    assert a.f1 == pytest.approx(2 / 3)
    assert evaluation.predictions.tolist() == [0, 1, 1, 2]
    assert evaluation.confusion_matrix.tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 1]]
    assert evaluation.most_confused() == [("a", "b", 1)]
    assert evaluation.notes == ()
    assert evaluation.probabilities.dtype == np.float32


def test_ranking_metrics_by_hand():
    # Class 1's column, best first: hit, miss, hit, miss. AUC: 3 of 4 pairs in order; AP: (1/1 + 2/3) / 2.
    p = np.array([0.9, 0.7, 0.6, 0.1])
    evaluation = evaluate([1, 0, 1, 0], np.stack([1 - p, p], axis=1), ["no", "yes"])
    no, yes = evaluation.per_class
    assert (yes.roc_auc, no.roc_auc) == (0.75, 0.75)
    assert yes.average_precision == pytest.approx(5 / 6)
    assert no.average_precision == pytest.approx(5 / 6)  # best first, from the other end: hit, miss, hit, miss
    assert evaluation["roc_auc"] == 0.75
    assert evaluation["mcc"] == pytest.approx(2 / math.sqrt(3 * 1 * 2 * 2))  # tp 2, fp 1, tn 1: 2 * 1 - 1 * 0 above
    assert not any(name.startswith("top") for name in evaluation)


def test_no_average_precision_above_one():
    labels, scores = np.arange(11) < 9, np.linspace(1, 0, 11)
    assert sk.average_precision_score(labels, scores) > 1  # 1.0000000000000002
    assert average_precision(labels[:, None].astype(int), scores[:, None]).tolist() == [1.0]


def test_probabilities_that_do_not_sum_to_one_by_hand():
    assert log_loss(np.array([0, 1]), np.array([[0.4, 0.4], [0.1, 0.3]])) == pytest.approx(-math.log(0.5 * 0.75) / 2)


def test_what_answers_are_worth_that_look_at_no_image():
    assert baseline(np.array([0, 1, 1, 1])) == 0.75
    labels = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 0], [0, 0, 0]])
    assert baseline(labels) == pytest.approx((1 / 2 + 1 / 4) / 2)  # nobody asks for the third
    assert baseline(np.zeros((3, 2), int)) == 0.0


def test_multi_label_by_hand():
    evaluation = evaluate(MULTI_LABELS, MULTI_PROBABILITIES, ["x", "y"], multi_label=True)
    assert evaluation.predictions.tolist() == [[1, 0], [1, 0], [0, 1], [0, 1]]
    right = [0.9, 0.8, 0.6, 0.4, 0.7, 0.7, 0.2, 0.5]  # the probability of what is true, image by image
    expected = {
        "exact_match": 2 / 4,
        "label_accuracy": 5 / 8,
        "log_loss": -sum(map(math.log, right)) / 8,
        "calibration_error": (0.1 + 0.6 + 0.4 + 0.6 + 0.3 + 0.3 + 0.5) / 8,  # 0.2 twice: once there, once not
        "roc_auc": (2 / 3 + 3 / 4) / 2,  # x: 2 of 3 pairs; y: 0.7 above both, 0.4 above one of 0.2 and 0.5
        "average_precision": ((1 + 1 + 3 / 4) / 3 + (1 + 2 / 3) / 2) / 2,
        "macro_f1": (4 / 5 + 1 / 2) / 2,  # x: tp 2, fn 1; y: tp 1, fp 1, fn 1
        "micro_f1": 6 / 9,
        "hamming_loss": 3 / 8,
    }
    assert dict(evaluation.metrics) == pytest.approx(expected, abs=1e-6)
    assert evaluation.confusion_matrix.tolist() == [[[1, 0], [1, 2]], [[1, 1], [1, 1]]]
    assert evaluation.most_confused() == []
    assert evaluation.thresholds.tolist() == [0.5, 0.5]


def test_single_label_against_scikit_learn():
    rng = np.random.default_rng(0)
    y = rng.permutation(np.arange(300) % 7)
    p = softmax(rng.normal(size=(300, 7)) + 1.5 * np.eye(7)[y]).astype(np.float32)
    predicted = p.argmax(axis=1)
    assert dict(evaluate(y, p, letters(7)).metrics) == pytest.approx(
        {
            "accuracy": sk.accuracy_score(y, predicted),
            "balanced_accuracy": sk.balanced_accuracy_score(y, predicted),
            "top_2_accuracy": sk.top_k_accuracy_score(y, p, k=2),
            "top_3_accuracy": sk.top_k_accuracy_score(y, p, k=3),
            "top_5_accuracy": sk.top_k_accuracy_score(y, p, k=5),
            "log_loss": -np.log(p[np.arange(300), y]).mean(),
            "calibration_error": by_bins(p.max(axis=1), predicted == y),
            "roc_auc": sk.roc_auc_score(y, p / p.sum(axis=1, keepdims=True), multi_class="ovr"),
            "average_precision": sk.average_precision_score(y, p),
            "mcc": sk.matthews_corrcoef(y, predicted),
            "macro_f1": sk.f1_score(y, predicted, average="macro"),
            "weighted_f1": sk.f1_score(y, predicted, average="weighted"),
        },
        rel=1e-5,
    )


def test_multi_label_against_scikit_learn():
    rng = np.random.default_rng(1)
    y = (rng.random((200, 6)) < 0.3).astype(float)  # floats, as Keras has them
    p = np.clip(0.3 * y + 0.7 * rng.random((200, 6)), 0, 1).astype(np.float32)
    decided = (p >= 0.5).astype(int)
    evaluation = evaluate(y, p, letters(6), multi_label=True)
    assert dict(evaluation.metrics) == pytest.approx(
        {
            "exact_match": sk.accuracy_score(y, decided),
            "label_accuracy": 1 - sk.hamming_loss(y, decided),
            "log_loss": -np.log(np.where(y == 1, p, 1 - p)).mean(),
            "calibration_error": by_bins(p.ravel(), y.ravel()),
            "roc_auc": sk.roc_auc_score(y, p),
            "average_precision": sk.average_precision_score(y, p),
            "macro_f1": sk.f1_score(y, decided, average="macro"),
            "micro_f1": sk.f1_score(y, decided, average="micro"),
            "hamming_loss": sk.hamming_loss(y, decided),
        },
        rel=1e-5,
    )
    assert [c.roc_auc for c in evaluation.per_class] == pytest.approx(sk.roc_auc_score(y, p, average=None).tolist())
    assert [c.f1 for c in evaluation.per_class] == pytest.approx(sk.f1_score(y, decided, average=None).tolist())


def test_a_class_without_images_is_undefined_and_left_out():
    # Class c has no images, but one of b's is taken for it.
    p = [[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.2, 0.7]]
    evaluation = evaluate([0, 1, 1], p, "abc", split="validation")
    c = evaluation.per_class[2]
    assert (c.precision, c.recall, c.f1, c.roc_auc, c.average_precision, c.support) == (None,) * 5 + (0,)
    assert [row.name for row in lowest_f1(evaluation.per_class[::-1], 3)] == ["b", "a", "c"]
    assert evaluation["macro_f1"] == pytest.approx((1 + 2 / 3) / 2)
    assert evaluation["balanced_accuracy"] == pytest.approx((1 + 1 / 2) / 2)
    assert evaluation["roc_auc"] == 1.0
    assert evaluation.notes == ("no validation images of c: left out of macro averages",)
    assert "Note: no validation images of c" in str(evaluation)
    assert evaluation.to_dict()["notes"] == list(evaluation.notes)
    assert evaluation.most_confused() == [("b", "c", 1)]


def test_one_image():
    evaluation = evaluate([1], [[0.1, 0.9]], ["a", "b"])
    assert (evaluation["accuracy"], evaluation["macro_f1"]) == (1.0, 1.0)
    assert (evaluation["roc_auc"], evaluation["mcc"]) == (None, None)
    assert evaluation["average_precision"] == 1.0
    assert evaluation.notes[1] == "all test images are of b: ROC AUC and MCC undefined"
    assert str(evaluation).startswith(
        "Test: accuracy 1.000 (95 % interval 0.055 to 1.000; most frequent class 1.000; 1 image, 2 classes)\n"
    )


def test_all_predictions_one_class():
    evaluation = evaluate([0, 1, 2, 2], [[1.0, 0.0, 0.0]] * 4, "abc")
    assert evaluation["mcc"] == 0.0
    assert evaluation["roc_auc"] == 0.5
    assert evaluation["macro_f1"] == pytest.approx((2 * 0.25 / 1.25) / 3)
    assert evaluation.per_class[2].precision == 0.0
    assert math.isfinite(evaluation["log_loss"])


def test_ties_never_put_top_k_below_accuracy():
    tied = np.full((3, 4), 0.25)
    assert score("accuracy", [0, 0, 1], tied) == pytest.approx(2 / 3)
    assert score("top_2_accuracy", [0, 0, 1], tied) == 1.0
    assert score("top_2_accuracy", [0, 0, 3], tied) == pytest.approx(2 / 3)


def test_a_single_label_column_and_a_full_one():
    evaluation = evaluate([[1], [0], [1]], [[0.9], [0.6], [0.2]], ["x"], multi_label=True)
    assert evaluation.per_class[0].recall == 0.5
    assert evaluation["micro_f1"] == evaluation["macro_f1"] == 0.5
    assert evaluation.confusion_matrix.tolist() == [[[0, 1], [1, 1]]]
    full = evaluate([[1, 1], [1, 0]], [[0.9, 0.9], [0.9, 0.1]], ["x", "y"], multi_label=True)
    assert (full.per_class[0].roc_auc, full["roc_auc"]) == (None, 1.0)
    assert full.notes == ("all test images are of x: ROC AUC undefined",)
    nothing = evaluate([[0, 0]], [[0.1, 0.2]], ["x", "y"], multi_label=True)
    assert (nothing["micro_f1"], nothing["average_precision"], nothing["exact_match"]) == (None, None, 1.0)


def test_metrics_table():
    assert {name for name, row in METRICS.items() if row.direction == "min"} == {
        "log_loss",
        "calibration_error",
        "hamming_loss",
    }
    single, multi = ([name for name, row in METRICS.items() if row.applies(m, 10)] for m in (False, True))
    assert list(evaluate([0, 1], np.eye(10)[:2], letters(10))) == single
    assert list(evaluate(np.eye(10)[:2], np.eye(10)[:2], letters(10), multi_label=True)) == multi
    two = list(evaluate([0, 1], np.eye(2), letters(2)))
    assert set(two) - set(single) == {"sensitivity", "specificity"}
    assert set(single) | set(multi) | set(two) == set(METRICS)
    assert all(row.description for row in METRICS.values())
    assert not METRICS["top_5_accuracy"].applies(False, 5)
    assert accuracy_of(False) == "accuracy" in single and accuracy_of(True) == "exact_match" in multi


@st.composite
def cases(draw):
    multi_label = draw(st.booleans())
    n, c = draw(st.integers(1, 12)), draw(st.integers(1 if multi_label else 2, 14))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    logits = np.round(rng.normal(size=(n, c)) * draw(st.sampled_from([0, 1, 1000])))  # tied, ordinary, saturated
    if multi_label:
        labels, p = (
            (rng.random((n, c)) < draw(st.sampled_from([0, 0.4, 1]))),
            1 / (1 + np.exp(-np.clip(logits, -99, 99))),
        )
    else:
        labels, p = rng.integers(0, draw(st.integers(1, c)), n), softmax(logits)
    return labels.astype(int), p, multi_label, rng.permutation(n)


@settings(deadline=None, max_examples=60)
@given(cases())
def test_any_shape_gives_sound_numbers(case):
    labels, p, multi_label, order = case
    names = letters(p.shape[1])
    evaluation = evaluate(labels, p, names, multi_label=multi_label)
    result = evaluation.to_dict()
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert str(evaluation).startswith("Test: ") and all(name in str(evaluation) for name in names)
    for name, value in evaluation.metrics.items():
        assert value is None or (-1 if name == "mcc" else 0) <= value <= (40 if name == "log_loss" else 1)
        if value is None:
            with pytest.raises(DataError, match="undefined"):
                score(name, labels, p, multi_label)
    tops = [
        evaluation[k] for k in ("accuracy", "top_2_accuracy", "top_3_accuracy", "top_5_accuracy") if k in evaluation
    ]
    assert multi_label or tops == sorted(tops)
    absent = [row.name for row in evaluation.per_class if not row.support]
    assert not absent or f"of {', '.join(absent)}:" in evaluation.notes[0]
    assert evaluation.confusion_matrix.sum() == len(labels) * (len(names) if multi_label else 1)

    permuted = evaluate(labels[order], p[order], names, multi_label=multi_label)
    for name, value in evaluation.metrics.items():
        assert permuted[name] == (value if value is None else pytest.approx(value, rel=1e-5, abs=1e-9))
    assert permuted.confusion_matrix.tolist() == result["confusion_matrix"]
