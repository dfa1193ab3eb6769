"""The exact linear probe: logistic regression on pooled features, whose strength the validation images choose."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from scipy.special import logit
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from ..config import Head, Phase, Training
from ..network.blocks import BLOCKS, frozen_blocks
from .batches import Examples, Scaled, balancing_weights, class_weights
from .objective import Objective
from .resampling import Fitted

# Inverse strengths of the regularisation, as scikit-learn's C, that are compared on features of variance 1.
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)
WITHOUT_VALIDATION = 0.1  # the best or nearly so on seven of seven sets of pictures
ITERATIONS, TOLERANCE = 2000, 1e-5
LARGE = 2**22  # number of values from which several threads multiply matrices faster than one


def is_exact(head: Head, training: Training) -> bool:
    """Whether a head is solved exactly: a linear probe, unless its training asks for epochs, or for another problem.

    Epochs, rates, optimizer and averages are ways to a solution, which the exact one does not need. Balanced sampling
    gives the classes weights, which the solver has too.
    """
    another = training.label_smoothing or training.focal_gamma or training.weight_decay or training.loss is not None
    first = Phase("all") if isinstance(training.phases, str) else training.phases[0]
    plain = first == Phase(first.freeze) and frozen_blocks(first.freeze) == BLOCKS
    return not head.units and training.probe == "exact" and plain and not another


def train_probe(
    head: Head,
    training: Training,
    train: Examples,
    validation: Examples | None,
    *,
    multi_label: bool,
    class_names: Sequence[str] = (),
) -> Fitted:
    """Solve a linear probe by scikit-learn's L-BFGS for each strength, beginning with the strongest regularisation.

    The problem is convex, so the result does not depend on a seed, an order or a number of epochs.

    Args:
        train: pooled features, (N, C); every view counts as an image with its share of the weight.
        validation: selects the strength; None takes one that suits most data.
        class_names: the classes in order, for weights by name.

    Returns:
        The weights, and a history with a row for each `strength`.
    """
    scaled = Scaled.of(train, head.normalize)
    views = [train.inputs[train.rows], *(view[train.in_views] for view in train.views)]
    x, targets = np.concatenate([scaled(np.asarray(view)) for view in views]), train.targets[train.rows]
    y, share = np.tile(targets, (len(views), 1)), 1 / len(views)
    weigh = class_weights(train, training, class_names)
    if training.sampling == "balanced":
        weigh = balancing_weights(train) * (1 if weigh is None else weigh)
    solver = _Solver(x, y, share, weigh, multi_label)
    objective, rows, best = Objective(multi_label), list[dict[str, Any]](), None
    fixed = head.l2 and 1 / (2 * head.l2 * len(targets))
    judged = None if validation is None else scaled(np.asarray(validation.inputs[validation.rows]))
    strengths = (fixed,) if fixed else STRENGTHS if judged is not None else (WITHOUT_VALIDATION,)
    probabilities: np.ndarray | None = None
    weights: list[np.ndarray] = []
    for number, strength in enumerate(strengths, start=1):
        started = time.monotonic()
        found = solver.solve(strength)
        row: dict[str, Any] = {"phase": "head", "epoch": number, "strength": strength}
        row |= _judge(objective, x @ found[0] + found[1], y)
        if judged is not None and validation is not None:
            logits = judged @ found[0] + found[1]
            told = _judge(objective, logits, validation.targets[validation.rows])
            row |= {f"val_{name}": value for name, value in told.items()}
        score = -row["val_loss"] if judged is not None else 0.0  # smoother than accuracy, for as few as ten images
        if best is None or score > best:
            best, weights, kept = score, found, number
            probabilities = None if judged is None else np.asarray(objective.probabilities(logits))
        rows.append(row | {"seconds": time.monotonic() - started})
    history = [row | {"kept": row["epoch"] == kept} for row in rows]
    named = {"logits/0": weights[0], "logits/1": weights[1]}
    return Fitted(scaled.weights | named, history, probabilities)


class _Solver:
    """Solves one strength after another, each from the solution of the one before."""

    def __init__(self, x: np.ndarray, y: np.ndarray, share: float, weigh: np.ndarray | None, multi_label: bool):
        self.x, self.y, self.share, self.multi_label = x, y, share, multi_label
        columns = y.shape[1] if multi_label else 1
        options: dict[str, Any] = {"max_iter": ITERATIONS, "tol": TOLERANCE, "warm_start": True}
        options["class_weight"] = None if weigh is None else dict(enumerate(weigh.tolist()))
        self.models = [LogisticRegression(**options) for _ in range(columns)]

    def solve(self, strength: float) -> list[np.ndarray]:
        """Return (C, num_classes) kernel and (num_classes,) bias in float32."""
        with threadpool_limits(1 if self.x.size < LARGE else None), warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", ConvergenceWarning
            )  # for weak regularisation, where little changes any more
            columns = [self._column(n, strength) for n in range(len(self.models))]
        kernel, bias = (np.concatenate(each, axis=-1) for each in zip(*columns, strict=True))
        return [np.asarray(kernel, "float32"), np.asarray(bias, "float32")]

    def _column(self, n: int, strength: float) -> tuple[np.ndarray, np.ndarray]:
        """All classes together, or one label of several."""
        labels = self.y[:, n] > 0.5 if self.multi_label else self.y.argmax(axis=1)
        if len(np.unique(labels)) == 1:  # a label that all images have, or none
            count = len(labels)
            return np.zeros((self.x.shape[1], 1)), np.array([logit((labels.sum() + 0.5) / (count + 1))])
        model = self.models[n].set_params(C=strength * self.share).fit(self.x, labels)
        kernel, bias = model.coef_.T, model.intercept_
        if not self.multi_label and kernel.shape[1] == 1:  # two classes: softmax of (-z / 2, z / 2) is the sigmoid of z
            kernel, bias = (np.concatenate([-each / 2, each / 2], axis=-1) for each in (kernel, bias))
        return kernel, bias


def _judge(objective: Objective, logits: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    right, losses = objective.right(targets, logits), objective.losses(targets, logits)
    return {"accuracy": float(keras.ops.mean(right)), "loss": float(keras.ops.mean(losses))}
