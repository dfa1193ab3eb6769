"""The last word: a classifier on validation and test images, from features where those say what the pixels say."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np

from ..data.pool import Pool
from ..errors import ConfigError
from ..evaluation.calibration import Calibration
from ..evaluation.checks import evaluate
from ..evaluation.evaluation import Evaluation, calibrated
from ..network.description import Description
from ..network.forward import between, forward
from ..network.head import divide_logits

AGREE_ON = 4  # images of a split, whose probabilities from features are compared with those from pixels
AGREEMENT = 0.05
SHOWN = 24  # images that surprised it most, whose pixels are kept for the report


@dataclass(frozen=True)
class Judged:
    """What was found.

    Args:
        description: of the classifier, with the temperature and thresholds that were fitted.
        evaluations: on every split that it did not learn from, test last.
        calibration: what temperature scaling did, if it was asked for.
        agreement: how far probabilities from features are from those from pixels.
        pictures: row of the last evaluation -> (S, S, 3) pixels, of the images with the highest losses.
    """

    description: Description
    evaluations: dict[str, Evaluation]
    calibration: Calibration | None
    agreement: dict[str, Any]
    pictures: dict[int, np.ndarray]

    @property
    def final(self) -> Evaluation:
        """On test if there is a test part, else on validation."""
        return list(self.evaluations.values())[-1]

    def to_dict(self) -> dict[str, Any]:
        """As JSON: every evaluation, and the gap from validation, which weights were chosen on, to test."""
        found: dict[str, Any] = {split: each.to_dict() for split, each in self.evaluations.items()}
        if {"validation", "test"} <= set(self.evaluations):
            chosen, touched = self.evaluations["validation"].metrics, self.evaluations["test"].metrics
            both = {name: (chosen[name], touched[name]) for name in ("accuracy", "average_precision", "log_loss")}
            found["gap"] = {name: a - b for name, (a, b) in both.items() if a is not None and b is not None}
        if self.calibration is not None:
            found["calibration"] = self.calibration.to_dict()
        return found | {"agreement": self.agreement}


def check_adjustments(calibrate: bool, tune_thresholds: bool, multi_label: bool, learned: Collection[str] = ()) -> None:
    """Raise `ConfigError` where there is nothing to fit a temperature or thresholds on, or no use for them."""
    for name, value in (("calibrate", calibrate), ("tune_thresholds", tune_thresholds)):
        if value and "validation" in learned:
            raise ConfigError(
                f"{name}=True needs images that nothing learned from, but a refit learns from validation images too."
            )
    if tune_thresholds and not multi_label:
        raise ConfigError(
            "tune_thresholds=True is for images with several labels each; with one label the likeliest class is given."
        )


def judge(
    model: keras.Model,
    description: Description,
    cut: str | None,
    inputs: np.ndarray,
    pool: Pool,
    *,
    calibrate: bool = False,
    tune_thresholds: bool = False,
    learned: Collection[str] = ("train",),
) -> Judged:
    """Judge a classifier on every split that it did not learn from.

    Args:
        model: what is saved; with `calibrate` its logits are divided by the temperature.
        cut: where training started from; None: from pixels.
        inputs: (N, ...) what that layer gives for all images. Frozen features serve again, unless the model says
            something else of the pixels.
        calibrate: fit a temperature on the validation images.
        tune_thresholds: fit a threshold for each class on the validation images; multi-label only.
        learned: the splits that it learned from.
    """
    rows = {split: those for split, those in pool.rows.items() if split not in learned}
    found, agreement = _probabilities(model, cut, inputs, pool, rows)
    evaluations = {split: _evaluate(pool, split, found[split], description) for split in rows}
    calibration = None
    if calibrate:
        calibration, evaluations = calibrated(evaluations, "validation")
        divide_logits(model, calibration.temperature)
        description = replace(description, temperature=calibration.temperature)
    if tune_thresholds:
        cuts = evaluations["validation"].best_thresholds()
        description = replace(description, thresholds=tuple(cuts.tolist()))
        evaluations = {split: replace(each, thresholds=cuts) for split, each in evaluations.items()}
    last = list(rows)[-1]
    worst = [mistake.row for mistake in evaluations[last].top_losses(SHOWN)]
    pictures = {row: np.asarray(pool.pixels[rows[last][row]]) for row in worst}
    return Judged(description, evaluations, calibration, agreement, pictures)


def _probabilities(
    model: keras.Model, cut: str | None, inputs: np.ndarray, pool: Pool, rows: dict[str, np.ndarray]
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    rest = between(model, cut, "predictions")
    found = {split: forward(rest, inputs, rows=those) for split, those in rows.items()}
    difference = 0.0
    for split, those in rows.items():
        said = np.asarray(model(pool.pixels[those[:AGREE_ON]], training=False))  # so few are called, not traced
        difference = max(difference, float(np.abs(found[split][:AGREE_ON] - said).max()))
    judged_from = "pixels" if cut is None or difference > AGREEMENT else "features"
    if judged_from == "pixels" and cut is not None:
        found = {split: forward(model, pool.pixels, rows=those) for split, those in rows.items()}
    return found, {"largest_difference": difference, "judged_from": judged_from}


def _evaluate(pool: Pool, split: str, probabilities: np.ndarray, description: Description) -> Evaluation:
    rows = pool.rows[split]
    return evaluate(
        pool.labels(split),
        probabilities,
        pool.class_names,
        split=split,
        multi_label=pool.multi_label,
        names=tuple(pool.names[row] for row in rows),
        thresholds=description.thresholds,
        metadata={column: tuple(cells[row] for row in rows) for column, cells in pool.metadata.items()},
    )
