"""The sections of the report, as values for its template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..artifact.artifact import Artifact
from ..artifact.record import Record
from ..drawing.curves import HistoryDisplay, TrialsDisplay, candidate, hyperparameters
from ..drawing.display import Display
from ..drawing.results import (
    CURVES,
    ConfusionMatrixDisplay,
    PrecisionRecallDisplay,
    ReliabilityDisplay,
    RocCurveDisplay,
)
from ..evaluation.calibration import calibration_text
from ..evaluation.evaluation import Evaluation
from ..network.blocks import BLOCKS
from ..network.head import STANDARDIZE
from ..telling.display import measure
from ..telling.figures import svg
from .gallery import Gallery
from .verdict import headline

MATRIX = 30  # largest number of classes whose confusion matrix is a table
MOST_SLICES = 12  # distinct values of a metadata column; one with more identifies images instead of grouping them


def image_of(display: Display, alt: str, caption: str = "") -> dict[str, str]:
    """Return a plot as the template's macro takes it."""
    return {"src": svg(display.figure()), "alt": alt, "caption": caption}


def results(artifact: Artifact, evaluation: Evaluation) -> dict[str, Any]:
    """Collect all sections that need an evaluation."""
    classes = len(evaluation.class_names)
    shown = "each class" if classes <= CURVES else f"the {CURVES} classes with the lowest area"
    gallery = Gallery(artifact, evaluation)
    found: dict[str, Any] = {
        "headline": headline(evaluation),
        "slices": slices(evaluation, evaluation.headline),
        "lowest": evaluation.lowest_f1(10),
        "confusion": {},
        "matrix": [],
        "decisions": [],
        "confused": gallery.of_pairs(),
        "samples": gallery.of_classes(),
        "augmented": gallery.augmented(),
        "ranking": [
            image_of(kind(evaluation), f"{name} curves of {shown}", f"{name}: {shown} against all others.")
            for kind, name in ((RocCurveDisplay, "ROC"), (PrecisionRecallDisplay, "Precision-recall"))
        ],
        "reliability": reliability(artifact, evaluation),
        "mistakes": gallery.mistakes(),
        "cells": gallery.cells(),
    }
    if evaluation.multi_label:
        rows = evaluation.confusion_matrix.reshape(classes, -1).tolist()
        found["decisions"] = [(name, *row) for name, row in zip(evaluation.class_names, rows, strict=True)]
    elif classes <= MATRIX:
        found["matrix"] = matrix(evaluation)
    else:
        caption = "Rows are true classes, columns are predicted classes; everything off the diagonal is wrong. "
        caption += "Colours show the share of each true class."
        found["confusion"] = image_of(
            ConfusionMatrixDisplay(evaluation), f"Confusion matrix of {classes} classes", caption
        )
    return found


def matrix(evaluation: Evaluation) -> list[list[dict[str, Any]]]:
    """Return the confusion matrix as rows of cells: a count, its share of the true class, and whether it is right."""
    counts = evaluation.confusion_matrix
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return [
        [{"count": int(count), "share": float(shares[i, j]), "right": i == j} for j, count in enumerate(row)]
        for i, row in enumerate(counts)
    ]


def reliability(artifact: Artifact, evaluation: Evaluation) -> dict[str, str]:
    """Return how far the probabilities can be believed, in words and as a figure."""
    apart = 100 * (evaluation["calibration_error"] or 0)
    saved = artifact.record.summary.get("calibration")
    words = [
        f"Of predictions made with a confidence of 80\u00a0%, are 8 in 10 right? On average, confidence and accuracy "
        f"differ by {apart:.1f} percentage points (the expected calibration error, over 15 bins)."
    ]
    if saved is None or saved["temperature"] == 1:
        words.append(calibration_text(saved, artifact.description.temperature))
    else:
        words.append(f"Calibrated by a temperature of {saved['temperature']:.3f}, fitted on {saved['images']} images.")
        for split, (before, after) in saved["calibration_error"].items():
            words.append(f"On {split} images the difference was {100 * before:.1f} points and is {100 * after:.1f}.")
    caption = "Bars are 95 % intervals; the numbers below count predictions. For calibrated probabilities the line "
    caption += "follows the diagonal; below it the classifier is too sure of itself."
    return image_of(ReliabilityDisplay(evaluation), "Accuracy against confidence", caption) | {"words": " ".join(words)}


def learning(artifact: Artifact) -> dict[str, str]:
    """Return accuracy and loss over the epochs, or over the linear probes of a head that was solved exactly."""
    history, splits = artifact.history, artifact.record.config.get("splits", {})
    solved = [row for row in history if candidate(row)]
    on_validation = "the validation images, so that their accuracy is slightly optimistic."
    if len(solved) == len(history):
        alt = f"Accuracy and loss of {len(history)} linear probes"
        words = ["Linear probes, which were solved exactly, without epochs. Dots mark the one that was kept."]
        probes, chosen = "C is that of scikit-learn's logistic regression", "C was"
        if any("shrinkage" in row for row in solved):
            probes += ", LDA the shrinkage of a linear discriminant analysis, and mean the mean of both"
            chosen = "C and shrinkage were"
        words.append(f"{probes}.")
        if not artifact.description.head.l2:  # which says what C is
            folds = "cross-validation" in artifact.record.summary
            by = "folds of the training and validation images." if folds else on_validation
            words.append(f"{chosen} chosen by {by}")
    else:
        phases = ", then ".join(dict.fromkeys(str(row["phase"]) for row in history))
        alt = f"Accuracy and loss over {len(history)} epochs: {phases}"
        words = [f"Dots mark the epoch of each phase whose weights were kept. It was selected on {on_validation}"]
        if solved:
            words.append("The head was solved exactly: its points are linear probes instead of epochs.")
    if "validation" in splits and artifact.seen and "validation" not in artifact.seen.values():
        words.append("The final classifier then learned from the validation images too, with the same settings.")
    return image_of(HistoryDisplay(history), alt, " ".join(words))


def facts(record: Record) -> dict[str, str]:
    """Return the part of the configuration that distinguishes two runs."""
    config = record.config
    named = {"seed": "seed", "precision": "precision", "data_fingerprint": "data", "backbone_digest": "backbone"}
    found = {label: str(config[key])[:16] for key, label in named.items() if key in config}
    started = record.environment.get("started")
    return found | ({"started": str(started)} if started else {})


def class_counts(totals: Mapping[str, int]) -> list[tuple[str, int, float]]:
    """Return (class, number of images, share of the largest class)."""
    most = max(totals.values(), default=0) or 1
    return [(name, count, count / most) for name, count in totals.items()]


def network_table(artifact: Artifact) -> list[dict[str, Any]]:
    """Return one row for each block, and for each layer of the head that has parameters."""
    layers, held_back = artifact.network.model.layers, {*artifact.description.frozen}

    def frozen(layer: str) -> bool:
        return bool({layer, layer.split("_")[0]} & held_back)

    def row(name: str, kind: str, inside: Sequence[Any], state: str) -> dict[str, Any]:
        output = "×".join(map(str, inside[-1].output.shape[1:]))  # noqa: RUF001
        told = {"name": name, "layers": kind, "output": output, "state": state}
        told["parameters"] = sum(layer.count_params() for layer in inside)
        told["learned"] = sum(
            layer.count_params() for layer in inside if state != "measured" and not frozen(layer.name)
        )
        return told

    rows = []
    for block in BLOCKS:
        inside = [layer for layer in layers if layer.name.startswith((f"{block}_conv", f"{block}_pool"))]
        if not inside:  # a head may see only earlier blocks
            continue
        kind = f"{sum('_conv' in layer.name for layer in inside)} convolutions, {inside[0].filters} filters"
        held = [name.split("_")[1] for name in artifact.description.frozen if name.startswith(f"{block}_")]
        state = f"learned, but for {', '.join(held)}" if held else "learned"
        rows.append(row(block, kind, inside, "frozen" if block in artifact.description.frozen else state))
    for layer in layers:
        if layer.count_params() and not layer.name.startswith(BLOCKS):
            kind = {"Dense": "dense", "BatchNormalization": "normalisation"}.get(type(layer).__name__, "")
            rows.append(row(layer.name, kind, [layer], "measured" if layer.name == STANDARDIZE else "learned"))
    return rows


def slices(evaluation: Evaluation, metric: str) -> dict[str, list[dict[str, Any]]]:
    """Return the metric for each value of each metadata column that groups images."""
    return {
        column: [
            {
                "name": name or "(empty)",
                "images": len(each.labels),
                "value": each[metric],
                "interval": each.bootstrap(metrics=[metric])[metric],
            }
            for name, each in evaluation.slices(column).items()
        ]
        for column, cells in evaluation.metadata.items()
        if 1 < len(set(cells)) <= MOST_SLICES
    }


def search_section(record: Record) -> dict[str, Any]:
    """Return the outcome of a search and its trials, best first."""
    told, trials = record.search, list(record.trials)
    sign = -1 if told["direction"] == "max" else 1
    ranked = sorted(trials, key=lambda trial: (trial["score"] is None, sign * (trial["score"] or 0)))
    best, label = told["best"]["trial_id"], f"validation {told['objective']}"
    best_score = measure(told["validation_score"], told["objective"])
    words = f"{told['trials']} trials, searched for the {told['direction']} of {label}: {best_score}"
    if told["test_score"] is not None:
        words += f", and {measure(told['test_score'], told['objective'])} on test images, which no trial used"
    pictures = [
        image_of(TrialsDisplay(trials, best, label, name), f"{label} of {len(trials)} trials against {name}")
        for name in hyperparameters(trials)
    ]
    return {"words": words + ".", "trials": ranked, "best": best, "objective": told["objective"], "pictures": pictures}
