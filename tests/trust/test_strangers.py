"""Strangers: what is of no class is far, images of the classes are called strangers as often as was asked for."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

import vggft
from vggft.files.documents import DocumentError
from vggft.trust.conformal import HeldOut
from vggft.trust.strangers import Strangers, fit_strangers
from vggft.trust.trust import Trust

SIZES = (4, 8, 16, 32, 32)  # of VGG16 at a sixteenth of its width
BLOCKS = ("block1", "block2", "block3", "block4", "block5")


def averages(n: int, classes: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(n, 92) averages of some of six classes, and one-hot labels."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).gamma(2, 1, (6, 92))
    labels = classes[rng.integers(0, len(classes), n)]
    return (centres[labels] * np.exp(0.4 * rng.normal(size=(n, 92)))).astype("float32"), np.eye(6, dtype="float32")[
        labels
    ]


@pytest.fixture(scope="module")
def fitted() -> Strangers:
    known = np.array([0, 1, 2, 3])
    found = fit_strangers(*averages(300, known, 1), *averages(200, known, 2), BLOCKS, SIZES)
    assert found is not None
    return found


def seen(fitted: Strangers, values: np.ndarray) -> np.ndarray:
    return values[:, -sum(fitted.sizes) :]


def test_strangers_are_far_and_the_share_is_kept(fitted: Strangers) -> None:
    own, _ = averages(2000, np.array([0, 1, 2, 3]), 3)
    new, _ = averages(500, np.array([4, 5]), 4)
    near, far = (np.asarray(fitted.distances(seen(fitted, each))) for each in (own, new))
    assert roc_auc_score(np.r_[np.zeros(2000), np.ones(500)], np.r_[near, far]) > 0.8
    assert abs(np.median(near)) < 0.15
    for share in (0.2, 0.05):  # of 200 held-out images the share is Beta distributed, with deviations of 0.03 and 0.015
        found = float((np.asarray(fitted.distances(seen(fitted, own), share)) > 1).mean())
        assert abs(found - share) < 0.06


def test_blocks_are_chosen_by_classes_that_are_left_out() -> None:
    known, rng = np.array([0, 1, 2, 3]), np.random.default_rng(0)
    (train, targets), (held, held_targets) = averages(300, known, 1), averages(200, known, 2)
    train, held = (values * np.exp(0.8 * rng.normal(size=values.shape)) for values in (train, held))
    for values in (train, held):
        values[:, :60] = rng.gamma(0.2, 5, (len(values), 60))  # blocks 1 to 4 see nothing but noise
    found = fit_strangers(train, targets, held, held_targets, BLOCKS, SIZES)
    assert found is not None and found.blocks == ("block5",)


def test_a_share_is_checked_and_few_images_give_none(fitted: Strangers) -> None:
    for wrong in (0, 1.5, "few"):
        with pytest.raises(vggft.ConfigError, match="share of the images of the classes"):
            fitted.limits(wrong)  # type: ignore[arg-type]
    few = averages(300, np.array([0, 1]), 1), averages(9, np.array([0, 1]), 2)
    assert fit_strangers(*few[0], *few[1], BLOCKS, SIZES) is None
    same, lost = (np.full_like(few[0][0], value) for value in (1, np.nan))  # dead networks, and those that diverged
    for values in (same, lost):
        assert fit_strangers(values, few[0][1], values, few[0][1], BLOCKS, SIZES) is None


def test_several_labels_have_one_centre() -> None:
    values, targets = averages(300, np.array([0, 1]), 1)
    targets[0] = 1
    found = fit_strangers(values, targets, *averages(100, np.array([0, 1]), 2), BLOCKS, SIZES)
    assert found is not None and len(found.centres) == 1
    own, new = (averages(200, np.array(classes), 3)[0] for classes in ([0, 1], [4]))
    near, far = (np.asarray(found.distances(seen(found, each))) for each in (own, new))
    assert np.isfinite(near).all() and far.mean() > near.mean() + 1


def changed(arrays: dict[str, np.ndarray], **how: Any) -> bytes:
    kept = {name: array for name, array in (arrays | how).items() if array is not None}
    np.savez(file := io.BytesIO(), **kept)
    return file.getvalue()


def test_it_is_read_again_and_what_cannot_be_is_refused(fitted: Strangers) -> None:
    labels, p = np.array([0, 1, 5]), np.eye(6, dtype="float32")[:3]
    packed = Trust(fitted, HeldOut("validation", labels, p)).to_bytes()
    again = Trust.from_bytes(packed, len(packed), 1 / 16, 6)
    values = seen(fitted, averages(20, np.array([0, 5]), 5)[0])
    strangers, held = again.known_strangers(), again.known_held_out(False)
    np.testing.assert_array_equal(strangers.distances(values), fitted.distances(values))
    np.testing.assert_array_equal(held.probabilities, p)
    assert not Trust() and not Trust.from_bytes(Trust().to_bytes(), 1000, 1 / 16, 6)

    with np.load(io.BytesIO(packed)) as file:
        arrays = dict(file)
    for fault, how in {
        "lacks the array bias": {"bias": None},
        "in kernel, where": {"kernel": arrays["kernel"][:, 1:]},
        "NaN or infinity in scores": {"scores": np.append(arrays["scores"], np.float32(np.nan))},
        "no centres or no scores": {"scores": arrays["scores"][:0]},
        "blocks that do not follow": {"blocks": np.array(["block1", "block5"])},
        "labels that are no classes": {"labels": np.array([0, 1, 6])},
        "do not sum to 1": {"probabilities": 2 * p},
        "in probabilities, where": {"probabilities": p[:, 1:]},
    }.items():
        with pytest.raises(DocumentError, match=fault):
            Trust.from_bytes(changed(arrays, **how), len(packed), 1 / 16, 6)
