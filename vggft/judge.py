"""The last word: a classifier on validation and test images, from features where those say what the pixels say."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from .evaluate import Evaluation, evaluate
from .features import between, forward
from .splits import Pool

AGREE_ON = 4  # images of a split, whose probabilities from features are compared with those from pixels
AGREEMENT = 0.05


def judge(
    model: keras.Model, cut: str | None, inputs: np.ndarray, pool: Pool
) -> tuple[dict[str, Evaluation], dict[str, Any]]:
    """The evaluation on every split but train; and how far probabilities from features are from those from pixels.

    Args:
        model: what is saved.
        cut: where training started from; None: from pixels.
        inputs: (N, ...) what that layer gives for all images. Frozen features serve again, unless the model says
            something else of the pixels.
    """
    rows = {split: pool.rows[split] for split in pool.rows if split != "train"}
    rest = between(model, cut, "predictions")
    found = {split: forward(rest, inputs, rows=those) for split, those in rows.items()}
    difference = 0.0
    for split, those in rows.items():
        said = np.asarray(model(pool.pixels[those[:AGREE_ON]], training=False))  # so few are called, not traced
        difference = max(difference, float(np.abs(found[split][:AGREE_ON] - said).max()))
    judged_from = "pixels" if cut is None or difference > AGREEMENT else "features"
    if judged_from == "pixels" and cut is not None:
        found = {split: forward(model, pool.pixels, rows=those) for split, those in rows.items()}
    evaluations = {
        split: evaluate(
            pool.labels(split),
            found[split],
            pool.class_names,
            split=split,
            multi_label=pool.multi_label,
            names=tuple(pool.names[row] for row in those),
        )
        for split, those in rows.items()
    }
    return evaluations, {"largest_difference": difference, "judged_from": judged_from}


def summarize(evaluations: dict[str, Evaluation]) -> dict[str, Any]:
    """Every evaluation, and the gap from validation, which weights were chosen on, to test, which nothing was."""
    found: dict[str, Any] = {split: each.to_dict() for split, each in evaluations.items()}
    if {"validation", "test"} <= set(evaluations):
        chosen, touched = evaluations["validation"].metrics, evaluations["test"].metrics
        both = {name: (chosen[name], touched[name]) for name in ("accuracy", "average_precision", "log_loss")}
        found["gap"] = {name: a - b for name, (a, b) in both.items() if a is not None and b is not None}
    return found
