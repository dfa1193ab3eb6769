"""What training minimises, and the score that selects the best epoch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import keras
from keras import ops

from ..config import Training


class Objective:
    """The loss, accuracy, and the score that selects the best epoch.

    Args:
        multi_label: whether an image may have several classes, or none: one sigmoid per class instead of a softmax.
        label_smoothing: label smoothing in [0, 1); a tensor (T, 1, 1) for a population of T members.
        focal_gamma: exponent of the focal loss (arXiv:1708.02002); 0 is cross-entropy.
        loss: a `keras.losses.Loss` instead, as in `Training`.
    """

    def __init__(self, multi_label: bool, label_smoothing: Any = 0.0, focal_gamma: float = 0.0, loss: Any = None):
        self.multi_label, self.label_smoothing = multi_label, label_smoothing
        self.focal_gamma, self.loss = focal_gamma, loss

    @classmethod
    def of(cls, training: Training, multi_label: bool) -> Objective:
        """Return what a training minimises."""
        return cls(multi_label, training.label_smoothing, training.focal_gamma, training.loss)

    @property
    def accuracy(self) -> str:
        """The name of the share of right decisions in a history."""
        return "label_accuracy" if self.multi_label else "accuracy"

    def losses(self, targets: Any, logits: Any) -> Any:
        """Return the (..., B) loss of each image, from (B, C) targets and (..., B, C) logits; cross-entropy is in nats.

        Focal losses are Keras's, without a weight of their own: `class_weight` has these.
        """
        if self.loss is not None:
            from_logits = getattr(self.loss, "from_logits", self.loss.get_config().get("from_logits", False))
            return self.loss.call(targets, logits if from_logits else self.probabilities(logits))
        smoothing, classes = self.label_smoothing, targets.shape[-1]
        if not (isinstance(smoothing, float) and smoothing == 0.0):
            targets = targets * (1.0 - smoothing) + smoothing / (2 if self.multi_label else classes)
        if self.focal_gamma:
            options = {"gamma": self.focal_gamma, "from_logits": True}
            if self.multi_label:
                return keras.losses.binary_focal_crossentropy(targets, logits, **options)
            return keras.losses.categorical_focal_crossentropy(targets, logits, alpha=1.0, **options)
        if self.multi_label:
            return ops.mean(ops.binary_crossentropy(targets, logits, from_logits=True), axis=-1)
        return ops.categorical_crossentropy(targets, logits, from_logits=True)

    def right(self, targets: Any, logits: Any) -> Any:
        """Return the (..., B) share of decisions that are right, from (B, C) targets and (..., B, C) logits."""
        if self.multi_label:
            return ops.mean(ops.cast((logits > 0) == (targets > 0.5), "float32"), axis=-1)
        return ops.cast(ops.argmax(logits, axis=-1) == ops.argmax(targets, axis=-1), "float32")

    def probabilities(self, logits: Any) -> Any:
        """Apply the sigmoid or the softmax to logits."""
        return ops.sigmoid(logits) if self.multi_label else ops.softmax(logits)

    def compile(
        self, model: keras.Model, optimizer: Any, steps_per_execution: int = 1, metrics: Iterable[Any] = ()
    ) -> None:
        """Compile a model that ends in logits; further metrics are shown probabilities, each phase a fresh copy."""
        accuracy = keras.metrics.MeanMetricWrapper(self.right, name=self.accuracy)
        more = [_OfProbabilities(metric, self.probabilities) for metric in metrics]
        # XLA on the CPU does not use oneDNN's convolutions and is slower.
        options = {"jit_compile": False, "steps_per_execution": steps_per_execution}
        model.compile(optimizer, self.losses, metrics=[accuracy, *more], **options)

    @staticmethod
    def score(logs: Mapping[str, float], learns_blocks: bool = False) -> float:
        """Return the score of an epoch: validation accuracy and, for equal accuracies, the lower validation loss.

        For a head, the loss alone would end too early, since it rises with confidence while accuracy still improves.
        Blocks learn at small rates from a trained head, and the loss of some hundred images falls steadily where one
        image more or less decides the accuracy: there it is the loss. With several labels per image it is always the
        loss: most labels are absent, so that the share of right decisions is highest for who says nothing.
        """
        loss = logs["val_loss"]
        if not math.isfinite(loss):
            return -math.inf
        by_loss = learns_blocks or "val_accuracy" not in logs
        return -loss if by_loss else logs["val_accuracy"] - 1e-4 * loss


class _OfProbabilities(keras.metrics.Metric):
    """A copy of a metric, of the probabilities that logits stand for."""

    def __init__(self, metric: keras.metrics.Metric, probabilities: Callable[[Any], Any]):
        super().__init__(name=metric.name)
        self.metric, self.probabilities = metric.from_config(metric.get_config()), probabilities

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        self.metric.update_state(y_true, self.probabilities(y_pred), sample_weight=sample_weight)

    def result(self) -> Any:
        return self.metric.result()

    def reset_state(self) -> None:
        self.metric.reset_state()
