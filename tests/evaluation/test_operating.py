"""Operating points of two classes: what is chosen reaches what was asked for, and decides from then on."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import recall_score

from vggft.errors import ConfigError, DataError
from vggft.evaluation.checks import evaluate
from vggft.evaluation.evaluation import Evaluation
from vggft.evaluation.operating import at_threshold
from vggft.network.description import Description

NAMES = ["well", "ill"]


def judged(images: int = 400, seed: int = 0) -> Evaluation:
    """One in four is ill, and the classifier has seen so few of them that it says "well" too often."""
    rng = np.random.default_rng(seed)
    labels = (rng.random(images) < 0.25).astype(int)
    ill = 1 / (1 + np.exp(-(2.5 * labels - 2.5 + rng.normal(0, 1.2, images))))
    return evaluate(labels, np.stack([1 - ill, ill], axis=1), NAMES)


def test_sensitivity_and_specificity_are_recalls_with_intervals_of_their_own() -> None:
    found = judged()
    assert found["sensitivity"] == pytest.approx(recall_score(found.labels, found.predictions))
    assert found["specificity"] == pytest.approx(recall_score(found.labels, found.predictions, pos_label=0))
    few, many = (found.intervals[name] for name in ("sensitivity", "specificity"))
    assert few[1] - few[0] > many[1] - many[0] and few[0] < found["sensitivity"] < few[1]
    assert not {"sensitivity", "specificity"} & set(evaluate([0, 1, 2], np.eye(3), list("abc")).metrics)


@pytest.mark.parametrize("sensitivity", [0.8, 0.95, 1.0])
@pytest.mark.parametrize("positive", [None, "ill", "well"])
def test_the_point_reaches_what_was_asked_for_and_no_better_one_does(sensitivity: float, positive: str | None) -> None:
    found = judged()
    point = found.operating_point(sensitivity, positive)
    assert point.positive == (positive or "ill") and point.sensitivity >= sensitivity
    column = NAMES.index(point.positive)
    for cut in found.probabilities[:, column]:
        other = at_threshold(found.labels, found.probabilities, tuple(NAMES), float(cut), point.positive)
        assert other.sensitivity < sensitivity or other.specificity <= point.specificity
    assert f"{point.positive} from a probability of" in str(point) and sum(point.images) == 400


def test_predictions_follow_the_point_and_outlive_a_calibration() -> None:
    found = judged()
    point = found.operating_point(0.95)
    cuts = (1 - point.threshold, point.threshold)
    moved = evaluate(found.labels, found.probabilities, NAMES, thresholds=cuts)
    assert moved["sensitivity"] == point.sensitivity and moved["specificity"] == point.specificity
    np.testing.assert_array_equal(moved.at_temperature(2.5).predictions, moved.predictions)
    described = Description(tuple(NAMES), 32, thresholds=cuts)
    told = [described.describe(row).label for row in found.probabilities]
    assert told == [NAMES[n] for n in moved.predictions] and told != [NAMES[n] for n in found.predictions]


def test_what_is_no_operating_point() -> None:
    found = judged()
    for sensitivity in (0, 1.5, None, "high", np.nan):
        with pytest.raises(ConfigError, match=r"sensitivity must be in \(0, 1\]"):
            found.operating_point(sensitivity)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="positive must be 'well' or 'ill'; got 'sick'"):
        found.operating_point(0.9, "sick")
    with pytest.raises(ConfigError, match="for two classes; these are 3"):
        evaluate([0, 1, 2], np.eye(3), list("abc")).operating_point(0.9)
    with pytest.raises(DataError, match="needs images of both classes; got 0 of ill and 2 others"):
        evaluate([0, 0], [[0.9, 0.1], [0.8, 0.2]], NAMES).operating_point(0.9)
    with pytest.raises(ConfigError, match="two that sum to 1, of two classes"):
        evaluate([0, 1], np.eye(2), NAMES, thresholds=[0.5, 0.6])
