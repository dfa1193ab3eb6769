"""Probes on growing shares of the images, each judged by images that it has not seen: where a `Growth` comes from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.model_selection import StratifiedKFold
from threadpoolctl import threadpool_limits

from ..errors import DataError
from ..evaluation.bootstrap import resampled
from ..evaluation.checks import score
from ..features.vectors import embeddings
from ..heads.batches import FeatureBank
from ..splits.groups import together
from ..splits.pool import Pool
from ..splits.splitting import folds_of
from .growth import LEVEL, Growth, power_laws
from .probes import QuickProbe, Rotation

SIZES, DRAWS = 6, 200  # sizes of the training part, and draws of the bootstrap
FEWEST_FOLDS, FEWEST_SIZES = 3, 4  # with fewer there is no curve
SMALLEST = 0.1  # share of a training part that the curve begins with
THOROUGH, QUICK = (5, 1500), (3, 700)  # folds, and images that judge: with more, some folds are left out


def growth_of(
    vectors: np.ndarray,
    targets: np.ndarray,
    *,
    digests: Sequence[str] = (),
    groups: Sequence[str] = (),
    class_names: Sequence[str] = (),
    multi_label: bool = False,
    seed: int = 0,
    repeats: int = 1,
    quick: bool = False,
) -> Growth:
    """Measure how the score grows with the number of images, and fit a power law.

    Images are put into folds, as for cross-validation: at every size, each image is judged by a probe that has not seen
    it, nor a copy of it, nor others of its group. So all sizes are judged by the same images. The probes are the mean
    of a logistic regression and linear discriminant analysis, as those of `finetune`, but of fixed strengths.

    Args:
        vectors: (N, C) float32, as `features.vectors.embeddings` gives them.
        targets: (N, num_classes), one-hot or multi-hot.
        digests: one for each image, equal for copies; empty if there are none.
        groups: the group of each image, as of a `Pool`; empty if there are none.
        class_names: to name classes that are too small.
        multi_label: whether images have several labels, or none.
        seed: of folds and draws.
        repeats: number of times that the images are put into other folds.
        quick: fewer folds, which take a third of the time; for what is told beside something else.

    >>> rng, labels = np.random.default_rng(0), np.arange(200) % 2
    >>> found = growth_of(rng.normal(size=(200, 8)).astype("float32") + labels[:, None], np.eye(2)[labels])
    >>> found.known, found.sizes[-1], 0.8 < found.predict(400)[0] < 1.0
    (True, np.int64(160), np.True_)
    """
    targets, (most, judges) = np.asarray(targets, "float32"), QUICK if quick else THOROUGH
    names = class_names or [str(n) for n in range(targets.shape[1])]
    digests = digests or [str(n) for n in range(len(targets))]
    metric = "average_precision" if multi_label else "accuracy"
    units = together(digests, groups) if groups else np.unique(np.asarray(digests), return_inverse=True)[1]
    owners = np.array([len(np.unique(units[column > 0])) for column in targets.T])
    if (fewest := int(owners.min())) < FEWEST_FOLDS:
        what = "groups" if groups else "distinct images"
        told = f"{names[int(owners.argmin())]!r} has only {fewest}"
        return Growth(len(targets), metric, why=f"A learning curve needs {FEWEST_FOLDS} {what} of every class: {told}.")
    try:
        several = [
            _folds(targets, digests, min(most, fewest), seed + n, names, units if groups else None)
            for n in range(repeats)
        ]
    except DataError as error:
        return Growth(len(targets), metric, why=f"There is no learning curve: {error}")
    least = min(len(outside) for folds in several for outside, _ in folds)
    first = max(2 * targets.shape[1], round(SMALLEST * least))
    sizes = np.unique(np.geomspace(min(first, least), least, SIZES).astype(np.int64))
    if len(sizes) < FEWEST_SIZES or least < 3 * first:
        told = f"{len(targets)} images of {targets.shape[1]} classes are too few"
        return Growth(len(targets), metric, why=f"There is no learning curve: {told}.")
    scores, drawn = list[np.ndarray](), list[np.ndarray]()
    with threadpool_limits(1):
        for number, folds in enumerate(several):
            rng = np.random.default_rng((seed, number))
            judged, predicted = _out_of_fold(vectors, targets, units, _enough(folds, judges), sizes, multi_label, rng)
            labels = targets[judged].astype("uint8") if multi_label else targets[judged].argmax(axis=1)
            scores.append(np.array([score(metric, labels, each, multi_label) for each in predicted]))
            choices = [(each >= 0.5).astype("uint8") if multi_label else each.argmax(axis=1) for each in predicted]
            same: dict[str, Any] = {"resamples": DRAWS, "seed": seed + number}  # the same images for all sizes
            pairs = zip(predicted, choices, strict=True)
            drawn.append(np.stack([resampled([metric], labels, *pair, **same)[metric] for pair in pairs], axis=1))
    middle, draws = np.mean(scores, axis=0), np.asarray(np.mean(drawn, axis=0))
    draws = np.where(np.isfinite(draws), draws, middle)
    ends = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0).T
    laws = power_laws(sizes, 1 - np.concatenate([middle[None], draws]), np.maximum(draws.std(axis=0), 1e-3), seed)
    return Growth(len(targets), metric, sizes, middle, ends, laws)


def growth_in(bank: FeatureBank, cut: str, pool: Pool, *, seed: int, repeats: int = 1, quick: bool = False) -> Growth:
    """Measure it on the images of a run that may be learned from: train and validation, never test.

    Args:
        bank: with features at `cut`.
        cut: a pooled cut, such as `block3_block4_block5_avg_pool`.
        pool: the images.
        seed, repeats, quick: as for `growth_of`.
    """
    rows = np.concatenate([pool.rows["train"], pool.rows["validation"]])
    return growth_of(
        embeddings(bank.inputs(cut)[rows], cut, bank.width),
        pool.targets[rows],
        digests=[pool.digests[row] for row in rows],
        groups=[pool.groups[row] for row in rows] if pool.groups else (),
        class_names=pool.class_names,
        multi_label=pool.multi_label,
        seed=seed,
        repeats=repeats,
        quick=quick,
    )


def _folds(
    targets: np.ndarray, digests: Sequence[str], folds: int, seed: int, names: Sequence[str], units: np.ndarray | None
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return folds as `folds_of` does, where no images belong together in a tenth of its time."""
    alone = units is None and len(set(digests)) == len(digests) and (targets.sum(axis=1) == 1).all()
    if not alone:
        return folds_of(targets, digests, folds, seed, names, units)
    return list(StratifiedKFold(folds, shuffle=True, random_state=seed).split(targets, targets.argmax(axis=1)))


def _enough(folds: Sequence[tuple[np.ndarray, np.ndarray]], judges: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the first folds that have enough images to judge; all folds of few images."""
    before = np.cumsum([0, *(len(inside) for _, inside in folds)])
    return [fold for fold, so_far in zip(folds, before[:-1], strict=True) if so_far < judges]


def _out_of_fold(
    vectors: np.ndarray,
    targets: np.ndarray,
    units: np.ndarray,
    folds: Sequence[tuple[np.ndarray, np.ndarray]],
    sizes: np.ndarray,
    multi_label: bool,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the (n,) rows that judge, and their (S, n, num_classes) probabilities by probes on so many images."""
    judged = np.concatenate([inside for _, inside in folds])
    found = np.zeros((len(sizes), len(judged), targets.shape[1]), "float32")
    at = 0
    for outside, inside in folds:
        rotation = Rotation.of(vectors[outside])
        x, unseen = rotation(vectors[outside]), rotation(vectors[inside])
        order = _growing(targets[outside], units[outside], rng)
        for n, size in enumerate(sizes):
            probe = QuickProbe.of(x[order[:size]], targets[outside[order[:size]]], multi_label)
            found[n, at : at + len(inside)] = probe(unseen)
        at += len(inside)
    return judged, found


def _growing(targets: np.ndarray, units: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return an order of n images whose beginnings have all classes in proportion, and whole units."""
    rarest = np.where(targets > 0, targets.sum(axis=0), np.inf).argmin(axis=1)
    _, first, unit = np.unique(units, return_index=True, return_inverse=True)
    stratum, place = rarest[first], np.empty(len(first))
    for each in np.unique(stratum):
        where = np.flatnonzero(stratum == each)
        place[rng.permutation(where)] = (np.arange(len(where)) + rng.random()) / len(where)
    return np.argsort(place[unit], kind="stable")
