"""Adjust a finished classifier on held-out images: a temperature for its logits, a threshold for each label."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ..errors import ConfigError, short_traceback
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


@short_traceback
class Adjustable(Artifact):
    """An artifact whose probabilities and thresholds can be adjusted, in place."""

    def calibrate(self, dataset: Any, *, split: str | None = None, verbose: int = 0) -> Calibration:
        """Calibrate the probabilities: fit a temperature and divide the logits by it, permanently (arXiv:1706.04599).

        The stored evaluation is updated. Print the result to see whether calibration also helped on other images. The
        most probable class of an image never changes.

        Args:
            dataset: labelled images that it was not fitted on: validation images as a rule, and not the test images.
            split: as for `evaluate`.
            verbose: 1 shows progress bars.
        """
        found, own = _evaluate(self, dataset, split, verbose), self.evaluation
        evaluations = {found.split: found}
        if own is not None:
            evaluations.setdefault(own.split, own)
        network, description, trust = self.network, self.description, self.trust
        self.description, _, result = fit_temperature(network, description, evaluations, found.split)
        self.evaluation = None if own is None else own.at_temperature(result.temperature)
        self.trust = trust.at_temperature(result.temperature)
        return result

    def tune_thresholds(self, dataset: Any, *, split: str | None = None, verbose: int = 0) -> tuple[float, ...]:
        """Choose the threshold of each label with the highest F1, permanently; only for images with several labels.

        Args:
            dataset: labelled images that it was not fitted on: validation images as a rule, and not the test images.
            split: as for `evaluate`.
            verbose: 1 shows progress bars.

        Returns:
            One threshold per class, 0..1. The stored evaluation is updated.

        Raises:
            ConfigError: images have one label each, so no threshold is used.
        """
        if not self.description.multi_label:
            raise ConfigError(
                "Thresholds are for images that may have several labels; this classifier always predicts one class."
            )
        evaluations = {"fitted on": _evaluate(self, dataset, split, verbose)}
        if self.evaluation is not None:
            evaluations["own"] = self.evaluation
        self.description, after = fit_thresholds(self.description, evaluations, "fitted on")
        self.evaluation = after.get("own")
        return self.description.thresholds or ()

    def operate(
        self,
        dataset: Any,
        *,
        sensitivity: float,
        positive: str | None = None,
        split: str | None = None,
        verbose: int = 0,
    ) -> OperatingPoint:
        """Choose the operating point of two classes, permanently: how probable the positive class has to be.

        The threshold has the highest specificity that reaches the sensitivity on these images. Predictions, the stored
        evaluation and files follow it; probabilities stay as they are.

        Args:
            dataset: labelled images that it was not fitted on: validation images as a rule, and not the test images.
            sensitivity: at least this share of the positive images is found, in (0, 1].
            positive: the name of the positive class; None is the second one.
            split: as for `evaluate`.
            verbose: 1 shows progress bars.

        Returns:
            The threshold with sensitivity, specificity and their intervals on these images.

        Raises:
            ConfigError: there are not two classes, or an argument has an impossible value.
            DataError: images cannot be used, or one of the classes has none.
        """
        column = position_of(positive, self.class_names)
        point = _evaluate(self, dataset, split, verbose).operating_point(sensitivity, positive)
        cuts = [1 - point.threshold, 1 - point.threshold]
        cuts[column] = point.threshold
        self.description = replace(self.description, thresholds=tuple(cuts))
        if self.evaluation is not None:
            self.evaluation = replace(self.evaluation, thresholds=np.array(cuts))
        return point


def _evaluate(artifact: Artifact, dataset: Any, split: str | None, verbose: int) -> Evaluation:
    """Evaluate without the warning about validation images, which are the right ones to adjust on."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=LEARNED_FROM, category=UserWarning)
        return artifact.evaluate(dataset, split=split, verbose=verbose)
