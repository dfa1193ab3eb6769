"""Check labels and probabilities: `evaluate` makes an `Evaluation` of all metrics, `score` computes one metric."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
from numpy.typing import ArrayLike

from ..errors import ConfigError, DataError
from .evaluation import Evaluation
from .metrics import METRICS, defined
from .mistakes import image_name


def evaluate(
    labels: ArrayLike, probabilities: ArrayLike, class_names: Iterable[str], *, split: str = "test",
    multi_label: bool = False, names: Iterable[object] = (), thresholds: ArrayLike | None = None,
    metadata: Mapping[str, Iterable[object]] | None = None, pictures: Iterable[object] = (),
) -> Evaluation:  # fmt: skip
    """Evaluate the probabilities that a classifier gave to N images of C classes.

    Args:
        labels: (N,) integers 0..C-1, C >= 2; when multi-label, (N, C) of 0/1, C >= 1.
        probabilities: (N, C) in 0..1, kept as float32. Unless multi-label, each row sums to 1 within 1e-3.
        class_names: C different names, in column order.
        split: the name of the split.
        multi_label: whether an image may have several labels, or none.
        names: N names of the images, or none.
        thresholds: one threshold or (C,), 0.5 by default, when multi-label; of two classes, (2,) that sum to 1.
        metadata: column -> N cells, for `Evaluation.slices`.
        pictures: N digests of the images, or other values that are equal for equal pictures, or none.

    Returns:
        Metrics as scikit-learn defines them; ROC AUC and average precision are macro averages of each class against
        the rest, for two classes too. The calibration error is that of arXiv:1706.04599 with 15 bins.

    Raises:
        DataError: problems with labels or probabilities; all of them are listed.
        ConfigError: a problem with another argument.

    >>> evaluation = evaluate([0, 1, 1], [[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]], ["cat", "dog"])
    >>> evaluation
    Test: accuracy 0.667 (95 % interval 0.125 to 0.982; most frequent class 0.667; 3 images, 2 classes)
    >>> evaluation["balanced_accuracy"], evaluation.most_confused()
    (0.75, [('dog', 'cat', 1)])
    """
    evaluation = _checked(labels, probabilities, multi_label, thresholds, split, class_names, names, metadata, pictures)
    _ = evaluation.metrics, evaluation.per_class  # computed now, so that reading them later costs nothing
    return evaluation


def score(
    metric: str, labels: ArrayLike, probabilities: ArrayLike, multi_label: bool = False,
    thresholds: ArrayLike | None = None,
) -> float:  # fmt: skip
    """Compute one metric of `METRICS`, with the same value as `evaluate`, but without computing the others.

    Args:
        metric: name of the metric.
        labels, probabilities, multi_label, thresholds: as for `evaluate`.

    Raises:
        ConfigError: there is no such metric for these images.
        DataError: bad labels or probabilities, or they do not define the metric, as a search needs a number.

    >>> score("accuracy", [0, 1], [[0.9, 0.1], [0.8, 0.2]])
    0.5
    """
    evaluation = _checked(labels, probabilities, multi_label, thresholds)
    known = [name for name, row in METRICS.items() if row.applies(multi_label, len(evaluation.class_names))]
    if metric not in known:
        raise ConfigError(f"metric: expected one of {', '.join(known)}; received {metric!r}")
    value = defined(METRICS[metric].compute(evaluation.labels, evaluation.probabilities, evaluation.predictions))
    if value is None:
        raise DataError(f"{metric} is undefined: {'; '.join(evaluation.notes) or 'too few classes have images'}")
    return value


def _checked(
    labels: ArrayLike, probabilities: ArrayLike, multi_label: bool, thresholds: ArrayLike | None, split: str = "given",
    class_names: Iterable[object] | None = None, names: Iterable[object] = (),
    metadata: Mapping[str, Iterable[object]] | None = None, pictures: Iterable[object] = (),
) -> Evaluation:  # fmt: skip
    y, p = _arrays(labels, probabilities, split, multi_label)
    classes = p.shape[1]
    columns = tuple(map(str, range(classes) if class_names is None else class_names))
    files, shown = tuple(map(str, names)), tuple(map(str, pictures))
    cells = {column: tuple(map(str, given)) for column, given in (metadata or {}).items()}
    cuts = np.asarray(0.5 if thresholds is None else thresholds, dtype=np.float64)
    two = not multi_label and cuts.shape == (2,) and abs(cuts.sum() - 1) < 1e-6
    if thresholds is not None and not (multi_label or (two and classes == 2)):
        raise ConfigError(
            "thresholds: expected none unless multi_label, or two that sum to 1, of two classes; received "
            f"{cuts.tolist()}"
        )
    if problems := list(_argument_problems(p.shape, columns, files, shown, cells, cuts)):
        raise ConfigError("\n".join(problems))
    if problems := list(_value_problems(y, p, multi_label, files)):
        raise DataError("\n".join(f"{split}: {problem}" for problem in problems))
    y = y.astype(np.int8 if multi_label else np.int64)
    cuts = np.broadcast_to(cuts, classes).copy()
    return Evaluation(
        split,
        columns,
        y,
        p.clip(0, 1),
        multi_label,
        files,
        cuts if thresholds is not None or multi_label else None,
        cells,
        np.unique(shown, return_inverse=True)[1] if shown else None,
    )


def _arrays(
    labels: ArrayLike, probabilities: ArrayLike, split: str, multi_label: bool
) -> tuple[np.ndarray, np.ndarray]:
    try:
        with np.errstate(over="ignore"):  # what is too large for float32 becomes infinite, which is reported later
            y, p = np.asarray(labels), np.asarray(probabilities).astype(np.float32)
    except (TypeError, ValueError) as error:
        raise DataError(f"{split}: expected labels and probabilities that are arrays; received: {error}") from error
    kind = (1, "(N, C) 0/1", "class indices") if multi_label else (2, "(N,) class indices", "one-hot")
    fewest, expected, other = kind
    matching = p.ndim == 2 and y.shape == (p.shape if multi_label else p.shape[:1]) and y.dtype.kind in "biuf"
    if not (matching and p.size and p.shape[1] >= fewest):
        raise DataError(
            f"{split}: expected labels {expected} and probabilities (N, C), N >= 1, C >= {fewest}; received labels"
            f" {y.shape} {y.dtype} and probabilities {p.shape}. Usually the labels are {other} or class names, or"
            " labels and probabilities are not of the same images"
        )
    return y, p


def _argument_problems(
    shape: tuple[int, ...], class_names: tuple[str, ...], names: tuple[str, ...], pictures: tuple[str, ...],
    metadata: Mapping[str, tuple[str, ...]], thresholds: np.ndarray,
) -> Iterator[str]:  # fmt: skip
    images, classes = shape
    if not len(class_names) == len(set(class_names)) == classes:
        yield f"class_names: expected {classes} different names, in column order; received {class_names}"
    for what, given in (("names", names), ("pictures", pictures)):
        if len(given) not in (0, images):
            yield f"{what}: expected none, or one for each of {images} images; received {len(given)}"
    for column, cells in metadata.items():
        if len(cells) != images:
            yield f"metadata: expected {images} cells in {column}, one per image; received {len(cells)}"
    if thresholds.shape not in ((), (classes,)) or not ((thresholds >= 0) & (thresholds <= 1)).all():
        yield f"thresholds: expected one or {classes} in 0..1; received {thresholds.tolist()}"


def _value_problems(y: np.ndarray, p: np.ndarray, multi_label: bool, names: tuple[str, ...]) -> Iterator[str]:
    last = 1 if multi_label else p.shape[1] - 1
    finite, inside = np.isfinite(p), (p >= -1e-6) & (p <= 1 + 1e-6)
    sums = np.where(inside, p, 0).sum(axis=1, dtype=np.float64)
    uneven = inside.all(axis=1) & (abs(sums - 1) > 1e-3) & (not multi_label)
    for bad, values, expected, cause in (
        (~np.isin(y, range(last + 1)), y, f"whole labels in 0..{last}", "labels of another list of classes"),
        (~finite, p, "finite probabilities", "training that diverged: lower the learning rate"),
        (finite & ~inside, p, "probabilities in 0..1", "logits: apply the softmax or sigmoid first"),
        (uneven, sums, "probabilities that sum to 1 for each image", "sigmoids of a multi-label classifier"),
    ):
        if bad.any():
            first, images = tuple(np.argwhere(bad)[0]), bad.reshape(len(p), -1).any(axis=1).sum()
            received = f"{values[first]} for {image_name(names, first[0])} (in all {images} of {len(p)} images)"
            yield f"expected {expected}; received {received}; the usual cause is {cause}"
