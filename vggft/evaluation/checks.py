"""Judging a classifier: NumPy arrays in, scikit-learn's metrics out; imports no TensorFlow.

`evaluate` gives an `Evaluation` with every metric that applies, `score` computes just one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from ..errors import ConfigError, DataError
from .evaluation import METRICS, Evaluation, defined

__all__ = ["METRICS", "Evaluation", "evaluate", "score"]


def evaluate(
    labels: ArrayLike, probabilities: ArrayLike, class_names: Iterable[str], *, split: str = "test",
    multi_label: bool = False, names: Iterable[object] = (), thresholds: ArrayLike | None = None,
    metadata: Mapping[str, Iterable[object]] | None = None,
) -> Evaluation:  # fmt: skip
    """Judge the probabilities that a classifier gave to N images of C classes.

    labels: (N,) integers 0..C-1, C >= 2; when `multi_label`, (N, C) of 0/1, C >= 1. probabilities: (N, C) in 0..1, kept
    as float32; each row sums to 1 within 1e-3 unless `multi_label`. names: none, or N. thresholds: multi-label only,
    one or (C,), 0.5 by default. metadata: columns of N cells, for `slices`. Metrics are as scikit-learn's user guide
    defines them (section "Metrics and scoring"), the calibration error as arXiv:1706.04599, over 15 bins;
    ROC AUC and average precision are one against the rest, macro, for two classes too; log loss clips at float32's
    epsilon. Raises DataError for the first two arguments, with all that is wrong in them, ConfigError for the others.

    >>> evaluation = evaluate([0, 1, 1], [[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]], ["cat", "dog"])
    >>> evaluation
    Test: accuracy 0.667 (95 % interval 0.000 to 1.000; 3 images, 2 classes)
    >>> evaluation["balanced_accuracy"], evaluation.most_confused()
    (0.75, [('dog', 'cat', 1)])
    """
    evaluation = _checked(labels, probabilities, class_names, split, multi_label, names, thresholds)
    columns = {column: tuple(map(str, cells)) for column, cells in (metadata or {}).items()}
    if uneven := [column for column, cells in columns.items() if len(cells) != len(evaluation.labels)]:
        raise ConfigError(f"metadata: expected {len(evaluation.labels)} cells in {', '.join(uneven)}, one an image")
    evaluation = replace(evaluation, metadata=columns)
    _ = evaluation.metrics, evaluation.per_class  # computed here, once
    return evaluation


def score(
    metric: str, labels: ArrayLike, probabilities: ArrayLike, multi_label: bool = False,
    thresholds: ArrayLike | None = None,
) -> float:  # fmt: skip
    """Just one of `METRICS`, of arrays as in `evaluate` and equal to what that gives, at the cost of that one.

    Raises ConfigError if no such metric applies; DataError also where the labels do not define it, since a search
    cannot use an objective that is not a number.

    >>> score("accuracy", [0, 1], [[0.9, 0.1], [0.8, 0.2]])
    0.5
    """
    evaluation = _checked(labels, probabilities, None, "given", multi_label, (), thresholds)
    known = [name for name, row in METRICS.items() if row.applies(multi_label, len(evaluation.class_names))]
    if metric not in known:
        raise ConfigError(f"metric: expected one of {', '.join(known)}; received {metric!r}")
    if (value := defined(METRICS[metric].compute(evaluation))) is None:
        raise DataError(f"{metric} is undefined: {'; '.join(evaluation.notes) or 'too few classes have images'}")
    return value


def _checked(
    labels: ArrayLike, probabilities: ArrayLike, class_names: Iterable[object] | None, split: str,
    multi_label: bool, names: Iterable[object], thresholds: ArrayLike | None,
) -> Evaluation:  # fmt: skip
    try:
        with np.errstate(over="ignore"):  # what is too large for float32 is reported below
            truth, p = np.asarray(labels), np.asarray(probabilities).astype(np.float32)
    except (TypeError, ValueError) as error:
        raise DataError(f"{split}: expected labels and probabilities that are arrays; received: {error}") from error
    fewest, wanted, other = (1, "(N, C) 0/1", "class indices") if multi_label else (2, "(N,) class indices", "one-hot")
    columns, shape = p.shape[1] if p.ndim == 2 else 0, p.shape if multi_label else p.shape[:1]
    if not p.size or columns < fewest or truth.shape != shape or truth.dtype.kind not in "biuf":
        raise DataError(
            f"{split}: expected labels {wanted} and probabilities (N, C), N >= 1, C >= {fewest}; received labels"
            f" {truth.shape} {truth.dtype} and probabilities {p.shape}. This usually occurs when the labels are {other}"
            " or class names, or when labels and probabilities are not of the same images"
        )
    classes = tuple(map(str, range(columns) if class_names is None else class_names))
    if not len(classes) == len(set(classes)) == columns:
        raise ConfigError(f"class_names: expected {columns} different names, in column order; received {classes}")
    if len(files := tuple(map(str, names))) not in (0, len(p)):
        raise ConfigError(f"names: expected none, or one for each of {len(p)} images; received {len(files)}")
    cuts = np.asarray(0.5 if thresholds is None else thresholds, dtype=np.float64)
    allowed = cuts.shape in ((), (columns,)) and bool(((cuts >= 0) & (cuts <= 1)).all())
    if not allowed or (thresholds is not None and not multi_label):
        raise ConfigError(f"thresholds: expected one or {columns} in 0..1, if multi_label; received {cuts.tolist()}")

    valid, finite, inside = range(2 if multi_label else columns), np.isfinite(p), (p >= -1e-6) & (p <= 1 + 1e-6)
    sums = np.where(inside, p, 0).sum(axis=1, dtype=np.float64)
    off = inside.all(axis=1) & (abs(sums - 1) > 1e-3) & (not multi_label)
    problems = []
    for bad, values, expected, cause in (
        (~np.isin(truth, valid), truth, f"whole labels in 0..{valid[-1]}", "labels of another list of classes"),
        (~finite, p, "finite probabilities", "training that diverged: lower the learning rate"),
        (finite & ~inside, p, "probabilities in 0..1", "logits: apply the softmax or sigmoid first"),
        (off, sums, "probabilities that sum to 1 for each image", "sigmoids of a multi-label classifier"),
    ):
        if bad.any():
            first, images = np.argwhere(bad)[0], bad.reshape(len(p), -1).any(axis=1).sum()
            where = files[first[0]] if files else f"image {first[0]}"
            received = f"{values[tuple(first)]} for {where} (in all {images} of {len(p)} images)"
            problems.append(f"{split}: expected {expected}; received {received}; the usual cause is {cause}")
    if problems:
        raise DataError("\n".join(problems))
    truth, cuts = truth.astype(np.int8 if multi_label else np.int64), np.broadcast_to(cuts, columns).copy()
    return Evaluation(split, classes, truth, p.clip(0, 1), multi_label, files, cuts if multi_label else None)
