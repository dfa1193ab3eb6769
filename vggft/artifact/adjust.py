"""Adjust a finished classifier on held-out images: a temperature for its logits, a threshold for each label."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ..errors import ConfigError
from ..evaluation.calibration import Calibration
from ..evaluation.evaluation import Evaluation, calibrated
from ..evaluation.operating import OperatingPoint, position_of
from ..network.assembly import Network
from ..network.description import Description
from .artifact import Artifact
from .predictions import LEARNED_FROM

ENOUGH = 10  # images of a class, from which its threshold is fitted: fewer would decide by chance
Evaluations = Mapping[str, Evaluation]  # by split


def fit_temperature(
    network: Network, description: Description, evaluations: Evaluations, split: str
) -> tuple[Description, dict[str, Evaluation], Calibration]:
    """Fit a temperature (arXiv:1706.04599) on one split, and divide the logits of the network by it, in place.

    Returns:
        The updated description and evaluations, and the result of the calibration.
    """
    calibration, after = calibrated(evaluations, split)
    network.divide_logits(calibration.temperature)
    cuts = after[split].thresholds
    description = replace(
        description,
        temperature=description.temperature * calibration.temperature,
        thresholds=description.thresholds and (None if cuts is None else tuple(cuts.tolist())),
    )
    return description, after, calibration


def fit_thresholds(
    description: Description, evaluations: Evaluations, split: str
) -> tuple[Description, dict[str, Evaluation]]:
    """Choose for each label the threshold with the highest F1 on one split, if it has enough images there.

    Returns:
        The description and the evaluations with these thresholds.
    """
    cuts = evaluations[split].best_thresholds(ENOUGH)
    after = {name: replace(each, thresholds=cuts) for name, each in evaluations.items()}
    return replace(description, thresholds=tuple(cuts.tolist())), after


def calibrate(artifact: Artifact, dataset: Any, split: str | None, verbose: int) -> Calibration:
    """Calibrate an artifact in place; see `Classifier.calibrate`."""
    found, own = _evaluate(artifact, dataset, split, verbose), artifact.evaluation
    evaluations = {found.split: found}
    if own is not None:
        evaluations.setdefault(own.split, own)
    network, description, trust = artifact.network, artifact.description, artifact.trust
    artifact.description, _, result = fit_temperature(network, description, evaluations, found.split)
    artifact.evaluation = None if own is None else own.at_temperature(result.temperature)
    artifact.trust = trust.at_temperature(result.temperature)
    return result


def tune_thresholds(artifact: Artifact, dataset: Any, split: str | None, verbose: int) -> tuple[float, ...]:
    """Choose the thresholds of an artifact in place; see `Classifier.tune_thresholds`."""
    if not artifact.description.multi_label:
        raise ConfigError(
            "Thresholds are for images that may have several labels; this classifier always predicts one class."
        )
    evaluations = {"fitted on": _evaluate(artifact, dataset, split, verbose)}
    if artifact.evaluation is not None:
        evaluations["own"] = artifact.evaluation
    artifact.description, after = fit_thresholds(artifact.description, evaluations, "fitted on")
    artifact.evaluation = after.get("own")
    return artifact.description.thresholds or ()


def operate(
    artifact: Artifact, dataset: Any, sensitivity: float, positive: str | None, split: str | None, verbose: int
) -> OperatingPoint:
    """Choose the operating point of an artifact in place; see `Classifier.operate`."""
    column = position_of(positive, artifact.class_names)
    point = _evaluate(artifact, dataset, split, verbose).operating_point(sensitivity, positive)
    cuts = [1 - point.threshold, 1 - point.threshold]
    cuts[column] = point.threshold
    artifact.description = replace(artifact.description, thresholds=tuple(cuts))
    if artifact.evaluation is not None:
        artifact.evaluation = replace(artifact.evaluation, thresholds=np.array(cuts))
    return point


def _evaluate(artifact: Artifact, dataset: Any, split: str | None, verbose: int) -> Evaluation:
    """Evaluate without the warning about validation images, which are the right ones to adjust on."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=LEARNED_FROM, category=UserWarning)
        return artifact.evaluate(dataset, split=split, verbose=verbose)
