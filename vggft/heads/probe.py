"""The exact linear probe: logistic regression and linear discriminant analysis, whose mean is one linear layer.

The first is convex and the second has a closed form, so the result depends on no seed, order or number of epochs.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_expit, log_softmax, logit
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from ..config import Head, Phase, Training
from ..network.blocks import BLOCKS, frozen_blocks
from .batches import Examples, Scaled, balancing_weights, class_weights
from .discriminants import Layer, discriminants
from .objective import Objective
from .resampling import Fitted

# Inverse strengths of the regularisation, as scikit-learn's C, that are compared on features of variance 1.
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)
SHRINKAGES = (0.05, 0.1, 0.3, 0.6, 0.9)
WITHOUT_VALIDATION = {"strength": 0.1, "shrinkage": 0.3, "factor": 0.3}  # near the best on seven sets of pictures
ENOUGH = 2  # strengths without a lower log loss, after which weaker ones, which take longer, are left out
ITERATIONS, TOLERANCE = 2000, 1e-5
MOST_FOR_DISCRIMINANTS = 4096  # features, whose covariance takes 0.13 GB
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
    chosen: Mapping[str, float] | None = None,
    class_names: Sequence[str] = (),
) -> Fitted:
    """Solve a linear probe.

    Logistic regression is solved by scikit-learn's L-BFGS for each of `STRENGTHS`, and linear discriminant analysis for
    each of `SHRINKAGES`. Of each, the validation images choose one by their log loss, which is smoother than accuracy
    for as few as ten images. The probe has the mean of their logits: the two err on different images. Images with
    several labels or with weights of their own, and a head with an `l2` of its own, have the regression alone.

    Args:
        train: pooled features, (N, C); every view counts as an image with its share of the weight.
        validation: chooses strength, shrinkage, and the factor on the logits of the discriminants.
        chosen: `strength`, `shrinkage` and `factor` of another training, out of the last row of its history; None takes
            what suits most data where there are no validation images.
        class_names: the classes in order, for weights by name.

    Returns:
        The weights, and a history with a row for each strength, for each shrinkage, and for the mean.
    """
    weights = class_weights(train, training, class_names)
    if training.sampling == "balanced":
        weights = balancing_weights(train) * (1 if weights is None else weights)
    free = validation is not None and not chosen and not head.l2
    fixed = {"strength": _strength(head.l2, train, multi_label)} if head.l2 else chosen or WITHOUT_VALIDATION
    size = len(train) * (1 + len(train.views)) * train.inputs.shape[1]
    with threadpool_limits(1 if size < LARGE else None):
        problem = _Problem(head, train, validation, multi_label)
        regression, solver = problem.best(), _Regression(problem, weights, len(train.views) + 1)
        for strength in STRENGTHS if free else (fixed["strength"],):
            regression.add(solver.solve(strength), strength=strength)
            if regression.since >= ENOUGH:
                break
        best, rows = regression.layer, regression.rows
        if "shrinkage" in (WITHOUT_VALIDATION if free else fixed) and problem.has_discriminants:
            priors = problem.y.sum(axis=0) * (1 if weights is None else weights)
            discriminant = problem.best()
            shrinkages = SHRINKAGES if free else (fixed["shrinkage"],)
            for shrinkage, (kernel, bias) in zip(
                shrinkages,
                discriminants(problem.x, problem.y.argmax(axis=1), shrinkages, priors / priors.sum()),
                strict=True,
            ):
                factor = problem.factor((kernel, bias)) if free else fixed["factor"]
                discriminant.add((factor * kernel, factor * bias), shrinkage=shrinkage, factor=factor)
            mean = problem.best()
            both = [(a + b) / 2 for a, b in zip(regression.layer, discriminant.layer, strict=True)]
            mean.add((both[0], both[1]), **regression.about, **discriminant.about)
            best, rows = mean.layer, [*rows, *discriminant.rows, *mean.rows]
    history = [{"phase": "head", "epoch": n, **row, "kept": n == len(rows)} for n, row in enumerate(rows, start=1)]
    if best is regression.layer:
        for row in history:
            row["kept"] = row["strength"] == regression.about["strength"]
    return problem.fitted(best, history)


def _strength(l2: float, train: Examples, multi_label: bool) -> float:
    """Return scikit-learn's `C` for `l2` times the squared kernel of the head.

    scikit-learn penalises half the square of its weights. Of two classes it has one vector, whose halves are the two
    columns of the head; with several labels it solves each one, where the loss of the head is their mean.
    """
    columns = train.targets.shape[1]
    scale = 1 / columns if multi_label else 2 if columns == 2 else 1
    return scale / (2 * l2 * len(train))


class _Problem:
    """The features of the images and their targets, for any linear layer.

    Where there are fewer images than features, these are rotated to the directions in which the images lie: neither
    method ever leaves them, and most of the arithmetic is saved.
    """

    def __init__(self, head: Head, train: Examples, validation: Examples | None, multi_label: bool):
        self.scaled, self.multi_label = Scaled.of(train, head.normalize), multi_label
        views = [train.inputs[train.rows], *(view[train.in_views] for view in train.views)]
        self.x = np.concatenate([self.scaled(np.asarray(view)) for view in views])
        self.y = np.tile(train.targets[train.rows], (len(views), 1))
        self.weights = None if train.weights is None else np.tile(train.weights[train.rows], len(views))
        self.basis: np.ndarray | None = None
        if len(self.x) < self.x.shape[1]:
            self.basis = np.linalg.qr(self.x.T.astype("float64")).Q.astype("float32")
            self.x = self.x @ self.basis
        self.judged: tuple[np.ndarray, np.ndarray] | None = None
        if validation is not None:
            x = self.scaled(np.asarray(validation.inputs[validation.rows]))
            self.judged = (x if self.basis is None else x @ self.basis), validation.targets[validation.rows]

    @property
    def has_discriminants(self) -> bool:
        """Whether every image has one class and equal weight, every class an image, and the covariance fits."""
        one_class = not self.multi_label and bool(self.y.any(axis=0).all()) and self.weights is None
        return one_class and self.x.shape[1] <= MOST_FOR_DISCRIMINANTS and len(self.x) > self.y.shape[1]

    def best(self) -> _Best:
        """Begin to compare layers."""
        return _Best(self)

    def factor(self, layer: Layer) -> float:
        """Return the factor on logits that gives the lowest log loss of the validation images, 0.001 to 1.

        Discriminants are too sure of themselves, as they take the covariance for known.
        """
        assert self.judged is not None
        x, y = self.judged
        logits = x @ layer[0] + layer[1]
        loss = lambda power: float(_losses(y, 10**power * logits, self.multi_label).mean())  # noqa: E731
        return float(10 ** minimize_scalar(loss, bounds=(-3, 0), method="bounded", options={"xatol": 0.02}).x)

    def logits(self, layer: Layer) -> np.ndarray | None:
        """Return the (n, num_classes) logits of the validation images, if there are any."""
        return None if self.judged is None else (self.judged[0] @ layer[0] + layer[1]).astype("float32")

    def told(self, layer: Layer) -> dict[str, float]:
        """Return accuracy and loss of training and validation images."""
        found = _judge(self.y, self.x @ layer[0] + layer[1], self.multi_label)
        if (logits := self.logits(layer)) is not None and self.judged is not None:
            judged = _judge(self.judged[1], logits, self.multi_label)
            found |= {f"val_{name}": value for name, value in judged.items()}
        return found

    def fitted(self, layer: Layer, history: list[dict[str, Any]]) -> Fitted:
        """Return what was learned."""
        logits = self.logits(layer)
        probabilities = None if logits is None else np.asarray(Objective(self.multi_label).probabilities(logits))
        kernel = layer[0] if self.basis is None else self.basis @ layer[0]
        named = {"logits/0": np.asarray(kernel, "float32"), "logits/1": np.asarray(layer[1], "float32")}
        return Fitted(self.scaled.weights | named, history, probabilities)


class _Best:
    """Layers that were compared, and the one with the lowest log loss of the validation images."""

    def __init__(self, problem: _Problem):
        self.problem, self.rows, self.score = problem, list[dict[str, Any]](), np.inf
        self.layer: Layer = np.zeros(0), np.zeros(0)
        self.about: dict[str, float] = {}
        self.started, self.since = time.monotonic(), 0

    def add(self, layer: Layer, **about: float) -> None:
        """Judge a layer; without validation images the last one is kept."""
        told = self.problem.told(layer)
        self.rows.append({**about, **told, "seconds": time.monotonic() - self.started})
        self.started, self.since = time.monotonic(), self.since + 1
        if not self.about or told.get("val_loss", -np.inf) < self.score:
            self.since, self.layer, self.about, self.score = 0, layer, about, told.get("val_loss", np.inf)


class _Regression:
    """Logistic regressions of one strength after another, each from the solution of the one before."""

    def __init__(self, problem: _Problem, weights: np.ndarray | None, views: int):
        self.x, self.y, self.views, self.multi_label = problem.x, problem.y, views, problem.multi_label
        self.weights = problem.weights
        options: dict[str, Any] = {"max_iter": ITERATIONS, "tol": TOLERANCE, "warm_start": True}
        options["class_weight"] = None if weights is None else dict(enumerate(weights.tolist()))
        self.models = [LogisticRegression(**options) for _ in range(self.y.shape[1] if self.multi_label else 1)]

    def solve(self, strength: float) -> Layer:
        """Return (C, num_classes) kernel and (num_classes,) bias."""
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", ConvergenceWarning
            )  # for weak regularisation, where little changes any more
            columns = [self._column(n, strength) for n in range(len(self.models))]
        kernel, bias = (np.concatenate(each, axis=-1) for each in zip(*columns, strict=True))
        return kernel, bias

    def _column(self, n: int, strength: float) -> Layer:
        """All classes together, or one label of several."""
        labels = self.y[:, n] > 0.5 if self.multi_label else self.y.argmax(axis=1)
        if len(np.unique(labels)) == 1:  # a label that all images have, or none
            count = len(labels)
            return np.zeros((self.x.shape[1], 1)), np.array([logit((labels.sum() + 0.5) / (count + 1))])
        model = self.models[n].set_params(C=strength / self.views).fit(self.x, labels, self.weights)
        kernel, bias = model.coef_.T, model.intercept_
        if not self.multi_label and kernel.shape[1] == 1:  # two classes: softmax of (-z / 2, z / 2) is the sigmoid of z
            kernel, bias = (np.concatenate([-each / 2, each / 2], axis=-1) for each in (kernel, bias))
        return kernel, bias


def _losses(targets: np.ndarray, logits: np.ndarray, multi_label: bool) -> np.ndarray:
    """Return the (n,) cross-entropy of each image: as `Objective`, but on small arrays a hundred times as fast."""
    if multi_label:
        return np.asarray(-(targets * log_expit(logits) + (1 - targets) * log_expit(-logits)).mean(axis=1))
    return np.asarray(-(targets * log_softmax(logits, axis=1)).sum(axis=1))


def _judge(targets: np.ndarray, logits: np.ndarray, multi_label: bool) -> dict[str, float]:
    right = (logits > 0) == (targets > 0.5) if multi_label else logits.argmax(axis=1) == targets.argmax(axis=1)
    return {
        Objective(multi_label).accuracy: float(right.mean()),
        "loss": float(_losses(targets, logits, multi_label).mean()),
    }
