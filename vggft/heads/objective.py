"""What training minimises, and the score that selects the best epoch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import keras
from keras import ops


class Objective:
    """Cross-entropy from logits with label smoothing, accuracy, and the score that selects the best epoch.

    Args:
        multi_label: whether an image may have several classes, or none: one sigmoid per class instead of a softmax.
        label_smoothing: label smoothing in [0, 1); a tensor (T, 1, 1) for a population of T members.
    """

    def __init__(self, multi_label: bool, label_smoothing: Any = 0.0):
        self.multi_label, self.label_smoothing = multi_label, label_smoothing

    def losses(self, targets: Any, logits: Any) -> Any:
        """Return the (..., B) cross-entropy of each image in nats, from (B, C) targets and (..., B, C) logits."""
        smoothing, classes = self.label_smoothing, targets.shape[-1]
        if not (isinstance(smoothing, float) and smoothing == 0.0):
            targets = targets * (1.0 - smoothing) + smoothing / (2 if self.multi_label else classes)
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

    def compile(self, model: keras.Model, optimizer: Any, steps_per_execution: int = 1) -> None:
        """Compile a model that ends in logits."""
        accuracy = keras.metrics.MeanMetricWrapper(self.right, name="accuracy")
        # XLA on the CPU does not use oneDNN's convolutions and is slower.
        options = {"jit_compile": False, "steps_per_execution": steps_per_execution}
        model.compile(optimizer, self.losses, metrics=[accuracy], **options)

    @staticmethod
    def score(logs: Mapping[str, float]) -> float:
        """Return the score of an epoch: validation accuracy and, for equal accuracies, the lower validation loss.

        The loss alone would end fine-tuning too early, since it rises with confidence while accuracy still improves.
        """
        accuracy, loss = logs["val_accuracy"], logs["val_loss"]
        return accuracy - 1e-4 * loss if math.isfinite(loss) else -math.inf
