"""Wrong labels that were planted are found, in arrays of features, by the audit and by a run, and nothing else is."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vggft
from vggft.insight.labels import FOLDS, _folds, label_issues


def clouds(count: int, seed: int = 0, apart: float = 2.2) -> tuple[np.ndarray, np.ndarray]:
    """(N, 16) vectors of five classes that overlap a little."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 5
    vectors = rng.normal(size=(count, 16)) + apart * np.eye(5, 16)[labels] * np.sqrt(2)
    return vectors.astype("float32"), labels


@pytest.mark.parametrize("share", [0.02, 0.05, 0.1])
def test_planted_errors_are_found_and_their_share_is_estimated(share: float) -> None:
    vectors, labels = clouds(1500, apart=3.0)
    rng = np.random.default_rng(1)
    rows = rng.choice(1500, round(1500 * share), replace=False)
    given = labels.copy()
    given[rows] = (labels[rows] + rng.integers(1, 5, len(rows))) % 5
    found = label_issues(vectors, given, 5)
    suggested = found.ranked()
    hits = np.isin(suggested, rows)
    assert hits.mean() >= 0.8 and hits.sum() >= 0.6 * len(rows)
    assert (found.likely[suggested[hits]] == labels[suggested[hits]]).mean() >= 0.9
    assert found.noise == pytest.approx(share, abs=0.02)


def test_a_weak_probe_is_not_taken_for_wrong_labels() -> None:
    vectors, labels = clouds(1500, apart=1.0)
    found = label_issues(vectors, labels, 5)
    wrong = vectors[:, :5].argmax(axis=1) != labels
    assert wrong.mean() > 0.2 and len(found.ranked()) <= 3


def test_copies_are_never_judged_by_each_other_and_folds_are_even() -> None:
    labels = np.repeat(np.arange(4), 30)
    units = np.arange(120) // 3
    folds = list(_folds(labels, units, seed=0))
    assert sorted(np.concatenate(folds).tolist()) == list(range(120)) and len(folds) == FOLDS
    for rows in folds:
        assert len(rows) == 24 and set(np.bincount(labels[rows], minlength=4)) <= {3, 6, 9}
        assert all((units == unit).sum() == (units[rows] == unit).sum() for unit in units[rows])


@pytest.mark.parametrize("labels", [[0, 0, 0, 0], [0, 1, 1, 1, 1, 1], [0, 1], [0]])
def test_what_cannot_be_judged_is_not_doubted(labels: list[int]) -> None:
    vectors = np.random.default_rng(0).normal(size=(len(labels), 3)).astype("float32")
    found = label_issues(vectors, np.array(labels), 2)
    assert np.isfinite(found.wrong).all() and found.wrong[0] == 0 and 0 not in found.ranked(0.01)


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


@pytest.fixture(scope="module")
def planted(stripes: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    rng, labels = np.random.default_rng(0), stripes[1].copy()
    patches = np.kron(rng.normal(0, 30, (120, 4, 4, 1)), np.ones((1, 8, 8, 3)))  # no two pictures alike
    images = (stripes[0] + patches).clip(0, 255).astype("uint8")
    labels[[5, 40]] = (labels[[5, 40]] + 1) % 3
    images[119], labels[119] = images[7][:, ::-1], labels[7]  # mirrored
    return images, labels


def test_the_audit_tells_doubtful_labels_and_twins_with_pictures(planted: Any, tmp_path: Path) -> None:
    found = vggft.audit(planted, labels=True, near_duplicates=True, backbone="vgg16_mini", image_size=32)
    assert {each.images[0] for each in found.of_kind("doubtful label")} == {"images[5]", "images[40]"}
    assert "says 0, looks like 2" in str(found) and "labels that may be wrong (2 images)" in str(found)
    assert [each.images for each in found.of_kind("near-duplicates")] == [("images[7]", "images[119]")]
    page = found.to_html(tmp_path / "audit.html").read_text(encoding="utf-8")
    assert page.count("<img") == 4 and 'src="data:image/jpeg' in page
    kinds = {row["problem"] for row in rows_of(found.to_csv(tmp_path / "a.csv"))}
    assert kinds == {"doubtful label", "near-duplicates"} and "pictures" not in found.to_dict()


def test_a_run_writes_them_down_and_changes_nothing(
    planted: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    how: dict[str, Any] = {"backbone": "vgg16_mini", "image_size": 32, "head": vggft.Head()}
    classifier = vggft.finetune(planted, run_dir=tmp_path / "run", **how)
    rows = rows_of(tmp_path / "run" / "labels.csv")
    assert {row["image"] for row in rows if row["suggested"] == "True"} == {"images[5]", "images[40]"}
    printed = " ".join(capsys.readouterr().err.split())
    assert f"2 images may have a wrong label ({tmp_path / 'run' / 'labels.csv'}); the first: images[" in printed
    insight = json.loads((tmp_path / "run" / "insight.json").read_text())
    assert insight["doubtful_labels"] == list(classifier.record.insight.doubts.labels)
    assert [row["image"] for row in insight["near_duplicates"]] == ["images[7]", "images[119]"]
    assert vggft.load(tmp_path / "run").record.insight.to_dict() == insight
