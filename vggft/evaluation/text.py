"""An evaluation in words and tables, for a terminal."""

from __future__ import annotations

from dataclasses import astuple
from textwrap import shorten
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .evaluation import Evaluation
from ..display import number, table

_MAX_ROWS, _MAX_MATRIX, _MAX_NOTE, _MAX_LINE = 30, 12, 300, 110  # what still reads well in a terminal


def summary(evaluation: Evaluation) -> str:
    """Metrics with their intervals, scores of each class, what is confused with what."""
    blocks = ["\n".join([repr(evaluation), *(shorten(f"Note: {note}", _MAX_NOTE) for note in evaluation.notes)])]
    ends = {name: ("", "") if found is None else map(number, found) for name, found in evaluation.intervals.items()}
    metrics = [[name, number(value), *ends[name]] for name, value in evaluation.metrics.items()]
    blocks.append(table([["metric", "", "95 % from", "to"], *metrics]))
    rows, num_classes = evaluation.per_class, len(evaluation.class_names)
    if num_classes > _MAX_ROWS:
        blocks.append(f"The {_MAX_ROWS} of {num_classes} classes with the lowest F1, worst first:")
        rows = evaluation.lowest_f1(_MAX_ROWS)
    cells = [[row.name, *map(number, astuple(row)[1:-1]), str(row.support)] for row in rows]
    blocks.append(table([["class", "precision", "recall", "f1", "roc_auc", "avg_precision", "images"], *cells]))
    if pairs := evaluation.most_confused():
        lines = [
            shorten(f"{a} -> {b}: {n} ({', '.join(evaluation.confused_images(a, b))})", _MAX_LINE) for a, b, n in pairs
        ]
        blocks.append("\n".join(["Most confused:", *(f"  {line}" for line in lines)]))
    if num_classes <= _MAX_MATRIX:
        columns = ["tn", "fp", "fn", "tp"] if evaluation.multi_label else [str(i + 1) for i in range(num_classes)]
        matrix = evaluation.confusion_matrix.reshape(num_classes, -1).astype(str).tolist()
        cells = [[f"{i + 1:>2} {name}", *matrix[i]] for i, name in enumerate(evaluation.class_names)]
        what = "right and wrong, absent and present" if evaluation.multi_label else "rows: true, columns: predicted"
        blocks.append(f"Confusion matrix ({what}):\n{table([['', *columns], *cells])}")
    return "\n\n".join(blocks)
