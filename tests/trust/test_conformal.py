"""Prediction sets: they cover what they promise, equal MAPIE's, and say when they cannot promise anything."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import betabinom

import vggft
from vggft.trust.conformal import HeldOut, coverage_of, scores_of, sets_of


def draws(n: int, seed: int, classes: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and probabilities that are too sure of themselves."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    logits = 2 * rng.normal(size=(n, classes)) + 2.5 * np.eye(classes)[labels]
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return labels, (powers / powers.sum(axis=1, keepdims=True)).astype("float32")


@pytest.mark.parametrize("method", ["lac", "aps"])
@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.95])
def test_sets_cover_what_they_promise(method: vggft.trust.conformal.Method, coverage: float) -> None:
    """Over 100 draws; each is beta-binomial, so the mean of 100 is within 3.3 of its standard deviations."""
    n, m, found = 99, 400, []
    for seed in range(100):
        held = HeldOut("validation", *draws(n, seed))
        labels, p = draws(m, 1000 + seed)
        found.append(
            coverage_of(labels, sets_of(p, held.quantile(coverage, method), method), "abcde", coverage, method)
        )
    rank = round((n + 1) * coverage)
    expected = betabinom(m, rank, n + 1 - rank)
    shares = np.array([each.found for each in found])
    assert abs(shares.mean() - expected.mean() / m) < 3.3 * expected.std() / m / 10
    low, high = np.array(expected.interval(0.95)) / m
    assert ((shares >= low) & (shares <= high)).mean() >= 0.85
    assert 1 < np.mean([each.size for each in found]) < 4  # neither one class nor all of them


def test_sets_equal_those_of_mapie() -> None:
    classification = pytest.importorskip("mapie.classification", reason="needs MAPIE: pip install mapie")
    scores = pytest.importorskip("mapie.conformity_scores")
    (labels, p), (_, new) = draws(150, 0), draws(300, 1)

    class Given:
        """A classifier whose inputs are its probabilities."""

        classes_ = np.arange(5)

        def fit(self, x: np.ndarray, y: np.ndarray) -> Given:
            return self

        def predict_proba(self, x: np.ndarray) -> np.ndarray:
            return x

        def predict(self, x: np.ndarray) -> np.ndarray:
            return x.argmax(axis=1)

        def __sklearn_is_fitted__(self) -> bool:
            return True

    for method, score, more in (
        ("lac", scores.LACConformityScore(), {}),
        ("aps", scores.APSConformityScore(), {"conformity_score_params": {"include_last_label": False}}),
    ):
        for coverage in (0.8, 0.9, 0.95):
            mapie = classification.SplitConformalClassifier(
                Given(), confidence_level=coverage, conformity_score=score, prefit=True, random_state=3
            ).conformalize(p.astype(float), labels)
            _, theirs = mapie.predict_set(new.astype(float), **more)
            drawn = 1 - np.random.RandomState(3).uniform(size=(150, 1))  # as MAPIE draws the share of a class itself
            own = scores_of(p, method, own=drawn)[np.arange(150), labels]
            limit = np.sort(own)[int(np.ceil(151 * coverage - 1e-9)) - 1]
            ours = scores_of(new, method, own=1.0) <= limit + 1e-12
            best = np.arange(300), new.argmax(axis=1)
            assert method == "lac" or theirs[..., 0][best].all()  # as here for both methods: no set is empty
            ours[best] = theirs[..., 0][best]
            np.testing.assert_array_equal(ours, theirs[..., 0])
            if method == "lac":
                assert limit == HeldOut("validation", labels, p).quantile(coverage, "lac")


def test_too_few_images_promise_nothing() -> None:
    held = HeldOut("validation", *draws(18, 0))
    with pytest.raises(vggft.DataError, match=r"0\.95 need at least 19 images .* has kept 18 .* up to 0\.94"):
        held.quantile(0.95, "lac")
    assert 0 < HeldOut("validation", *draws(19, 0)).quantile(0.95, "lac") <= 1
    for wrong in (1, 0, "much", True):
        with pytest.raises(vggft.ConfigError, match="coverage must be a share"):
            held.quantile(wrong)  # type: ignore[arg-type]
    with pytest.raises(vggft.ConfigError, match="method must be one of lac, aps"):
        held.quantile(0.8, "raps")  # type: ignore[arg-type]


def test_a_temperature_changes_the_held_out_probabilities_as_it_does_the_network() -> None:
    labels, p = draws(50, 0)
    logits = np.log(p.astype("float64")) / 2.5
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(HeldOut("validation", labels, p).at_temperature(2.5).probabilities, expected, rtol=1e-4)
