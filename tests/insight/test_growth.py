"""What more images would bring: the power law, honest answers without one, and images that must not judge."""

from __future__ import annotations

import doctest
import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vggft.artifact.record import read_record
from vggft.errors import RunError
from vggft.insight.growing import growth_of
from vggft.insight.growth import Growth, errors_at, power_laws
from vggft.insight.probes import QuickProbe, Rotation


def blobs(count: int, seed: int, apart: float = 0.5, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Images of classes that overlap, as embeddings, and their one-hot labels."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    centres = np.random.default_rng(99).normal(size=(classes, 40)) * apart
    vectors = (centres[labels] + rng.normal(size=(count, 40))).astype("float32")
    return vectors, np.eye(classes, dtype="float32")[labels]


def test_a_power_law_is_found_again_and_goes_on_to_more_images() -> None:
    sizes = np.array([40, 80, 160, 320, 640])
    exact = 0.05 + 1.5 * sizes**-0.6
    (found,) = power_laws(sizes, exact[None], np.full(5, 1e-3))
    assert (
        np.abs(errors_at(found[None], np.array([1280, 2560])) - (0.05 + 1.5 * np.array([1280, 2560]) ** -0.6)).max()
        < 0.005
    )
    rising = power_laws(sizes, np.linspace(0.1, 0.2, 5)[None], np.full(5, 1e-3))  # more images, more errors: flat
    assert rising[0, 1] == 0 and abs(rising[0, 0] - 0.15) < 1e-6


def test_twice_the_images_are_foretold() -> None:
    foretold, true, inside = [], [], 0
    for seed in range(3):
        found = growth_of(*blobs(240, seed), seed=seed)
        (x, y), (unseen, truth) = blobs(480, 100 + seed), blobs(2000, 200 + seed)
        turned = Rotation.of(x)
        right = QuickProbe.of(turned(x), y, False)(turned(unseen)).argmax(1) == truth.argmax(1)
        middle, low, high = found.predict(480)
        foretold.append(middle)
        true.append(right.mean())
        inside += low <= right.mean() <= high
    assert abs(np.mean(foretold) - np.mean(true)) < 0.02 and inside >= 2
    gain, low, high = found.gain(240)
    assert str(found).startswith("Another 80 images would raise accuracy by about 0.0")
    assert str(found).endswith(f"twice as many images as now, by about {low:.3f} to {high:.3f}.")
    assert 0 <= low <= gain <= high < 0.2
    needed = found.needed(float(found.predict(1000)[0]))
    assert needed is not None and abs(needed - 1000) < 10 and found.needed(1.1) is None


def test_it_is_honest_where_there_is_nothing_to_gain_or_to_tell() -> None:
    easy = growth_of(*blobs(200, 0, apart=5.0))
    assert "would change little: accuracy would rise by less than 0.005." in str(easy)
    x, y = blobs(60, 0)
    few = np.flatnonzero((y[:, 0] == 0) | (np.arange(60) < 8))  # two images of the first class
    found = growth_of(x[few], y[few], class_names=["rose", "tulip", "daisy", "lily"])
    assert not found.known and "'rose' has only 2" in str(found) and np.isnan(found.predict(500)).all()
    assert not growth_of(*blobs(12, 0)).known and found.needed(0.9) is None


@pytest.mark.parametrize("kept", ["digests", "groups"])
def test_copies_and_images_of_a_group_do_not_judge_what_learned_from_the_others(kept: str) -> None:
    rng = np.random.default_rng(0)
    x = np.repeat(rng.normal(size=(60, 40)), 4, axis=0).astype("float32")  # noise, four times each
    y = np.eye(2, dtype="float32")[np.repeat(rng.permutation(np.arange(60) % 2), 4)]
    same = [str(n // 4) for n in range(240)]
    leaking, honest = growth_of(x, y), growth_of(x, y, **{kept: same})
    assert leaking.scores[-1] > 0.8 and honest.scores[-1] < 0.65


def test_images_with_several_labels_are_judged_by_average_precision() -> None:
    x, y = blobs(160, 0, apart=1.0)
    several = np.maximum(y, np.roll(y, 1, axis=1))
    found = growth_of(x, several, multi_label=True)
    assert found.metric == "average_precision" and found.known and found.scores[-1] > found.scores[0] > 0.5


def test_it_is_written_down_and_read_back(tmp_path: Path) -> None:
    found = growth_of(*blobs(160, 0), quick=True)
    values: dict[str, Any] = json.loads(json.dumps(found.to_dict()))
    again = Growth.from_dict(values)
    assert str(again) == str(found) == values["told"]
    assert np.allclose(again.predict(np.array([100, 320])), found.predict(np.array([100, 320])), atol=1e-4)
    frame = found.to_frame()
    assert list(frame["measured"])[-3:] == [False] * 3 and frame["images"].iloc[-1] == 320
    assert "<img" in found._repr_html_() and str(found) in found._repr_html_()
    with pytest.raises(RunError, match="as many scores"):
        Growth.from_dict(values | {"scores": [0.5]})
    (tmp_path / "insight.json").write_text(json.dumps({"growth": values | {"scores": [0.5]}}))
    with pytest.raises(RunError, match=r"insight.json cannot be read. A learning curve has as many scores"):
        read_record(tmp_path)


def test_the_examples_in_docstrings_run() -> None:
    for name in ("growth", "growing", "ranking", "layout"):
        found = doctest.testmod(importlib.import_module(f"vggft.insight.{name}"))
        assert found.attempted and not found.failed, name
