"""Two classifiers on the same images."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.stats import binomtest

import vggft
from vggft.evaluation.checks import evaluate
from vggft.evaluation.compare import compare, compare_all
from vggft.evaluation.evaluation import Evaluation

NAMES = [f"cats/{i}.jpg" for i in range(6)]


def judged(right: np.ndarray, **more: object) -> Evaluation:
    """Of two classes, of which image i is predicted right or wrong."""
    labels = np.arange(len(right)) % 2
    return evaluate(labels, 0.8 * np.eye(2)[np.where(right, labels, 1 - labels)] + 0.1, ["cat", "dog"], **more)


def test_a_better_classifier_is_told_from_chance() -> None:
    rng = np.random.default_rng(0)
    first = rng.random(400) < 0.7
    second = first | (rng.random(400) < 0.4)
    found = compare(judged(first), judged(second), names=("old", "new"))
    assert (found.only_first, found.both_right) == (0, first.sum())
    assert found.only_second == (second & ~first).sum() and found.neither == (~second).sum()
    assert found.p_value == pytest.approx(binomtest(0, found.only_second).pvalue)
    accuracy = found.metrics["accuracy"]
    assert accuracy.difference == pytest.approx(second.mean() - first.mean())
    assert 0 < accuracy.low < accuracy.difference < accuracy.high
    assert "new is right more often" in str(found)
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["p_value"] == found.p_value
    assert found.to_frame().set_index("metric").loc["accuracy", "difference"] == accuracy.difference
    assert f'<td class="n">{accuracy.difference:+.3f}</td>' in found._repr_html_() and found.verdict in str(found)

    narrow = compare(judged(first), judged(second), level=0.5, resamples=300, seed=1).metrics["accuracy"]
    assert accuracy.low < narrow.low < narrow.high < accuracy.high and narrow.difference == accuracy.difference

    unpaired = judged(second).intervals["accuracy"]
    assert accuracy.high - accuracy.low < unpaired[1] - unpaired[0]  # the same draws for both


def test_no_better_is_said_to_be_chance() -> None:
    rng = np.random.default_rng(1)
    first, second = (rng.random(100) < 0.8 for _ in range(2))
    found = compare(judged(first), judged(second))
    assert found.p_value > 0.05 and found.metrics["accuracy"].low < 0 < found.metrics["accuracy"].high
    assert "may well be chance" in str(found)
    same = compare(judged(first), judged(first))
    assert (same.p_value, same.metrics["accuracy"].difference) == (1.0, 0.0)


def test_the_images_are_named_by_their_split() -> None:
    for split, told in (("test", "on the same 6 test images"), ("all", "on the same 6 images")):
        several = [judged(np.ones(6, bool), split=split)] * 3
        assert str(compare(*several[:2])).startswith(f"first and second {told}\n")
        assert str(compare_all(several)).startswith(f"3 classifiers {told}\n")


def test_only_the_same_images_are_compared() -> None:
    right = np.ones(6, bool)
    with pytest.raises(vggft.DataError, match="not of the same images"):
        compare(judged(right), judged(right[:4]))
    with pytest.raises(vggft.DataError, match="not of the same images"):
        compare(judged(right, names=NAMES), judged(right, names=NAMES[::-1]))
    others = evaluate([0, 1], np.eye(2), ["cat", "cow"])
    with pytest.raises(vggft.ConfigError, match="cat, dog against cat, cow"):
        compare(judged(right), others)
    with pytest.raises(vggft.ConfigError, match="expected a Classifier with an evaluation"):
        compare(judged(right), "old.keras")
    with pytest.raises(vggft.ConfigError, match="one for each of the 2 classifiers; got 1"):
        compare_all([judged(right)] * 2, names=["old"])


def test_a_level_is_no_percentage() -> None:
    each = judged(np.arange(6) > 1)
    for judge in (lambda: compare(each, each, level=95), lambda: each.bootstrap(level=95)):
        with pytest.raises(vggft.ConfigError, match=r"level must be in \(0, 1\), such as 0.95; got 95"):
            judge()
