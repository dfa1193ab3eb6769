"""An evaluation as text, for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple
from textwrap import shorten

import numpy as np
from rich.cells import cell_len

from ..errors import counted, some
from ..foreign import visible
from ..telling.display import ends, score, table
from .bootstrap import Interval
from .metrics import ClassScores, lowest_f1

FEW, FEWEST = 3, 10  # images of a class, and of all, from which something is said of what was learned
_MAX_ROWS, _MAX_MATRIX, _MAX_NOTE, _MAX_COLUMNS = 30, 12, 300, 80  # readable in a terminal
_MAX_LINE, _LEAST_LINE = 80, 30  # characters of images that are confused, and of their names beside long classes


def headline(
    split: str, metric: str, value: float | None, interval: Interval, guess: str, counts: tuple[int, int],
    without_copies: tuple[int, float | None] | None = None,
) -> str:  # fmt: skip
    """Return one line with the most important metric, what guessing would give, and what copies of images change.

    Args:
        guess: what is answered without looking, and what that is worth.
        counts: number of images, and of classes.
        without_copies: number of images that are no copies of others, and the metric on these.

    >>> headline("test", "accuracy", 0.5, (0.25, 0.75), "most frequent class 0.500", (1, 2))
    'Test: accuracy 0.500 (95 % interval 0.250 to 0.750; most frequent class 0.500; 1 image, 2 classes)'
    """
    images, classes = counts
    told = [] if interval is None else [f"95 % interval {ends(interval)}"]
    told += [guess, f"{counted(images, 'image')}, {counted(classes, 'class')}"]
    if without_copies is not None:
        copies = images - without_copies[0]
        told.append(f"{score(without_copies[1])} without {copies} cop{'y' if copies == 1 else 'ies'} of others")
    return f"{split[:1].upper()}{split[1:]}: {metric} {score(value)} ({'; '.join(told)})"


def notes(
    split: str, per_class: Sequence[ClassScores], confusion_matrix: np.ndarray, guess: float, interval: Interval
) -> tuple[str, ...]:
    """Say which classes macro averages leave out, which metrics are undefined, and whether anything was learned.

    Args:
        confusion_matrix: (C, C) int; multi-label: (C, 2, 2).
        guess: the headline metric of answers that look at no image.
        interval: 95 % interval of the headline metric.

    >>> counts = np.array([[0, 9], [0, 30]])
    >>> rows = [ClassScores("cat", 0, 0, 0, 0.5, 0.2, 9), ClassScores("dog", 0.8, 1, 0.9, 0.5, 0.8, 30)]
    >>> notes("test", rows, counts, 30 / 39, (0.6, 0.9))[0]
    'every image was predicted as dog, though 9 of 39 are something else'
    """
    several, counts = confusion_matrix.ndim == 3, confusion_matrix
    images = int(counts[0].sum() if several else counts.sum())
    given = counts[:, :, 1].sum(axis=1) if several else counts.sum(axis=0)  # how often each class was predicted
    absent, full = (", ".join(visible(row.name) for row in per_class if row.support == n) for n in (0, images))
    found = [f"no {split} images of {absent}: left out of macro averages"] if absent else []
    if full:
        return (*found, f"all {split} images are of {full}: {'ROC AUC' if several else 'ROC AUC and MCC'} undefined")
    if images < FEWEST:
        return tuple(found)
    names, supports = [row.name for row in per_class], [row.support for row in per_class]
    most = int(given.argmax())
    if not several and given[most] == images:
        others = f"{images - supports[most]} of {images}"
        found.append(f"every image was predicted as {visible(names[most])}, though {others} are something else")
    elif never := [n for n in range(len(names)) if not given[n] and supports[n] >= FEW]:
        found.append(f"never predicted: {some([f'{names[n]} ({supports[n]} images)' for n in never], limit=5)}")
    if interval is not None and interval[0] <= guess:
        found.append(f"the result cannot be told from answers that look at no image, which would have {score(guess)}")
    return tuple(found)


def summary(
    title: str, notes: Sequence[str], metrics: Mapping[str, float | None], intervals: Mapping[str, Interval],
    per_class: Sequence[ClassScores], confused: Mapping[tuple[str, str], Sequence[str]], confusion_matrix: np.ndarray,
) -> str:  # fmt: skip
    """Format metrics with their intervals, scores of each class, confused classes and the confusion matrix.

    Args:
        confused: (true class, predicted class) -> names of the images.
        confusion_matrix: (C, C) int; multi-label: (C, 2, 2).
    """
    blocks = ["\n".join([title, *(shorten(visible(f"Note: {note}"), _MAX_NOTE) for note in notes)])]
    rows = [[name, score(value), *map(score, intervals[name] or ())] for name, value in metrics.items()]
    rows = [[*row, *[""] * (4 - len(row))] for row in rows]  # without an interval
    blocks.append(table([["metric", "", "95 % from", "to"], *rows]))

    shown, num_classes = per_class, len(per_class)
    if num_classes > _MAX_ROWS:
        blocks.append(f"The {_MAX_ROWS} of {num_classes} classes with the lowest F1, worst first:")
        shown = lowest_f1(per_class, _MAX_ROWS)
    rows = [[row.name, *map(score, astuple(row)[1:-1]), str(row.support)] for row in shown]
    blocks.append(table([["class", "precision", "recall", "f1", "roc_auc", "avg_prec", "images"], *rows]))

    if confused:
        lines = ["Most confused:"]
        for (a, b), images in confused.items():
            line = visible(f"  {a} -> {b}: {len(images)}")
            room = max(_LEAST_LINE, _MAX_LINE - len(line) - len(" ()"))
            lines.append(f"{line} ({shorten(visible(', '.join(images)), room, placeholder=' ...')})")
        blocks.append("\n".join(lines))
    if num_classes <= _MAX_MATRIX:
        names = [row.name for row in per_class]
        what = "right and wrong, absent and present" if confusion_matrix.ndim == 3 else "rows: true, columns: predicted"
        blocks.append(f"Confusion matrix ({what}):\n{matrix(confusion_matrix, names)}")
    return "\n\n".join(blocks)


def matrix(counts: np.ndarray, names: Sequence[str]) -> str:
    """Format a confusion matrix. Columns bear the names of the classes if they fit, else the numbers of the rows.

    Args:
        counts: (C, C) int, true class by predicted class; multi-label: (C, 2, 2).
        names: C names.

    >>> print(matrix(np.array([[2, 0], [1, 3]]), ["cat", "dog"]))
           cat  dog
      cat    2    0
      dog    1    3
    """
    cells = counts.reshape(len(names), -1).astype(str).tolist()
    if counts.ndim == 3:
        columns, rows = ["tn", "fp", "fn", "tp"], list(names)
    else:
        columns, rows = list(names), list(names)
        if (1 + len(names)) * (2 + max(map(cell_len, names))) > _MAX_COLUMNS:
            columns = [str(i + 1) for i in range(len(names))]
            rows = [f"{i + 1:>2} {name}" for i, name in enumerate(names)]
    return table([["", *columns], *([name, *row] for name, row in zip(rows, cells, strict=True))])
