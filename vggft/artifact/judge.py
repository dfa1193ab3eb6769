"""Evaluate a freshly trained network on validation and test images, reusing frozen features if they are accurate."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..caching.rows import Rows
from ..errors import ConfigError
from ..evaluation.calibration import Calibration
from ..evaluation.checks import evaluate
from ..evaluation.evaluation import Evaluation
from ..heads.resampling import Held
from ..network.assembly import Network
from ..network.description import Description
from ..network.forward import forward
from ..splits.pool import Pool
from .adjust import fit_temperature, fit_thresholds
from .examples import LOSSES, shown_rows

AGREE_ON = 4  # images per split whose probabilities from frozen features are compared with those from exact ones
AGREEMENT = 0.05  # largest difference at which probabilities from frozen features are used
INDISTINGUISHABLE = 0.01  # largest difference at which later predictions may use frozen features as well


@dataclass(frozen=True)
class Judged:
    """The evaluations of a network, and its adjustments.

    Args:
        description: the description of the classifier, with the fitted temperature and thresholds.
        evaluations: split -> evaluation, for all splits that the network was not fitted on; test comes last.
        calibration: the effect of temperature scaling, if requested.
        agreement: how much probabilities from frozen features differ from those from pixels.
        pictures: row of the last evaluation -> (S, S, 3) pixels, for the images with the highest losses, and for the
            other ones that a report shows if they have no files.
    """

    description: Description
    evaluations: dict[str, Evaluation]
    calibration: Calibration | None
    agreement: dict[str, Any]
    pictures: dict[int, np.ndarray]

    @property
    def final(self) -> Evaluation:
        """The evaluation on test images if there is a test split, else on validation images."""
        return list(self.evaluations.values())[-1]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values: every evaluation, and validation minus test scores as `gap`."""
        found: dict[str, Any] = {split: each.to_dict() for split, each in self.evaluations.items()}
        if {"validation", "test"} <= set(self.evaluations):
            chosen, touched = self.evaluations["validation"].metrics, self.evaluations["test"].metrics
            names = [name for name in ("accuracy", "exact_match", "average_precision", "log_loss") if name in chosen]
            both = {name: (chosen[name], touched[name]) for name in names}
            found["gap"] = {name: a - b for name, (a, b) in both.items() if a is not None and b is not None}
        if self.calibration is not None:
            found["calibration"] = self.calibration.to_dict()
        return found | {"agreement": self.agreement}


def check_adjustments(calibrate: bool, tune_thresholds: bool, multi_label: bool, learned: Collection[str] = ()) -> None:
    """Raise `ConfigError` if no images are left to fit a temperature or thresholds on, or thresholds are not used."""
    for name, value in (("calibrate", calibrate), ("tune_thresholds", tune_thresholds)):
        if value and "validation" in learned:
            raise ConfigError(
                f"{name}=True needs images that were not trained on, but a refit trains on validation images too."
            )
    if tune_thresholds and not multi_label:
        raise ConfigError(
            "tune_thresholds=True (--tune-thresholds) is for images with several labels; with one label, thresholds "
            "are not used."
        )


def judge(
    network: Network,
    cut: str | None,
    inputs: np.ndarray | Rows,
    pool: Pool,
    exact: Callable[[str, np.ndarray], np.ndarray],
    *,
    calibrate: bool = False,
    tune_thresholds: bool = False,
    learned: Collection[str] = ("train",),
    held: Held | None = None,
) -> Judged:
    """Evaluate a network on every split that it was not fitted on.

    Args:
        network: the network that will be saved; `calibrate` divides its logits by the temperature, in place.
        cut: the layer whose frozen features training started from; None: from pixels.
        inputs: (N, ...) output of that layer for all images, or their pixels. Frozen features are reused for the
            evaluation unless predictions from exact features of some images differ.
        pool: the images, their labels and their splits.
        exact: gives the features of some rows at a cut in float32, as the network computes them.
        calibrate: fit a temperature on the validation images.
        tune_thresholds: fit a threshold for each label on the validation images; multi-label only.
        learned: the splits that the network was fitted on.
        held: predictions from before a refit, which are evaluated besides.
    """
    rows = {split: those for split, those in pool.rows.items() if split not in learned}
    found, agreement = predict_splits(network, cut, inputs, pool, rows, exact)
    description = network.description
    if agreement["largest_difference"] > INDISTINGUISHABLE:
        description = replace(description, features=())
    if held is not None:
        rows, found = {held.split: held.rows} | rows, {held.split: held.probabilities} | found
    evaluations = {
        split: evaluate_split(pool, split, those, found[split], description.thresholds) for split, those in rows.items()
    }
    calibration = None
    if calibrate:
        description, evaluations, calibration = fit_temperature(network, description, evaluations, "validation")
    if tune_thresholds:
        description, evaluations = fit_thresholds(description, evaluations, "validation")
    last = list(rows)[-1]
    # The highest losses stay with the run; others are read again from their files, if they have files.
    shown = [(i, row, rows[last][row]) for i, row in enumerate(shown_rows(evaluations[last]))]
    kept = [(row, at) for i, row, at in shown if i < LOSSES or not Path(pool.names[at]).is_file()]
    pictures = {row: np.asarray(pool.pixels[at]) for row, at in kept}
    return Judged(description, evaluations, calibration, agreement, pictures)


def predict_splits(
    network: Network,
    cut: str | None,
    inputs: np.ndarray | Rows,
    pool: Pool,
    rows: dict[str, np.ndarray],
    exact: Callable[[str, np.ndarray], np.ndarray],
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Predict the images of some splits, from features if they are accurate enough, else from pixels.

    Args:
        network, cut, inputs, pool, exact: as for `judge`.
        rows: split -> rows of `inputs`.

    Returns:
        split -> (n, num_classes) probabilities, and how much those from features differ from exact ones.
    """
    difference, found = 0.0, dict[str, np.ndarray]()
    if cut is not None:
        rest = network.rest(cut)
        found = {split: forward(rest, inputs, rows=those) for split, those in rows.items()}
        few = np.concatenate([those[:AGREE_ON] for those in (rows or pool.rows).values()])
        expected, compared = np.asarray(rest(exact(cut, few), training=False)), forward(rest, inputs, rows=few)
        difference = float(np.abs(compared - expected).max())
    judged_from = "pixels" if cut is None or difference > AGREEMENT else "features"
    if judged_from == "pixels":
        found = {split: forward(network.model, pool.pixels, rows=those) for split, those in rows.items()}
    return found, {"largest_difference": difference, "judged_from": judged_from}


def evaluate_split(
    pool: Pool, split: str, rows: np.ndarray, probabilities: np.ndarray, thresholds: Sequence[float] | None = None
) -> Evaluation:
    """Evaluate the probabilities of some rows, (n, num_classes), as a split of that name."""
    return evaluate(
        pool.labels(rows),
        probabilities,
        pool.class_names,
        split=split,
        multi_label=pool.multi_label,
        names=tuple(pool.names[row] for row in rows),
        thresholds=thresholds,
        metadata={column: tuple(cells[row] for row in rows) for column, cells in pool.metadata.items()},
        pictures=[pool.digests[row] for row in rows],
    )
