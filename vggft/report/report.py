"""The report: one HTML file that holds all there is to see of a classifier, its pictures included."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ..artifact.explain import Explanation, grad_cam
from ..artifact.record import Record
from ..data.reading import read_image
from ..display import jpeg_url, render
from ..errors import DataError
from ..evaluation.calibration import calibration_text
from ..evaluation.evaluation import Evaluation
from ..evaluation.mistakes import Mistake
from ..network.blocks import BLOCKS
from ..run import versions, write_whole
from . import plots

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..classifier import Classifier

MISTAKES = 12
PAIRS = 10
COLUMNS = 20  # classes in one column of a table
MOST_SLICES = 12  # values of a column, above which it tells images apart rather than kinds of them
PIXELS = 160  # of a side of a small picture


def write_report(classifier: Classifier, path: str | os.PathLike[str]) -> Path:
    """Write all that is known of a classifier as one HTML file, which loads nothing from anywhere."""
    path = Path(path)
    write_whole(path, render("report.html", **contents(classifier)))
    return path


def contents(classifier: Classifier) -> dict[str, Any]:
    """What the template shows, section by section."""
    record, evaluation, description = classifier.record, classifier.evaluation, classifier.description
    network = network_table(classifier)
    values: dict[str, Any] = {
        "title": f"A classifier of {len(description.class_names)} classes",
        "description": description,
        "class_names": description.class_names,
        "evaluation": evaluation,
        "audit": record.audit,
        "splits": record.config.get("splits", {}),
        "counts": class_counts(record.class_counts),
        "network": network,
        "parameters": {
            "total": sum(row["parameters"] for row in network),
            "learned": sum(row["parameters"] for row in network if row["state"] == "learned"),
        },
        "command": record.command,
        "call": record.call,
        "versions": record.environment.get("versions") or description.versions,
        "facts": facts(record),
        "version": versions()["vggft"],
        "sentences": sentences(record, evaluation),
        "search": {},
        "curves": {},
    }
    with plots.style():
        if classifier.history:
            phases = ", then ".join(dict.fromkeys(str(row["phase"]) for row in classifier.history))
            alt = f"Accuracy and loss over {len(classifier.history)} epochs: {phases}"
            values["curves"] = picture(plots.learning_curves(classifier.history), alt)
        if evaluation is not None:
            values |= judged(classifier, evaluation, record)
        if record.search:
            values["search"] = search_section(record)
    sections = {"data": "Data", "network": "Network", "learning": "Learning", "metrics": "Metrics"}
    sections |= {"confusion": "Confusion", "ranking": "ROC", "reliability": "Reliability", "mistakes": "Top losses"}
    sections |= {"search": "Search", "repeat": "To repeat it"}
    missing = {"learning": not values["curves"], "search": not values["search"]}
    if evaluation is None:
        missing |= dict.fromkeys(("metrics", "confusion", "ranking", "reliability", "mistakes"), True)
    return values | {"sections": [each for each in sections.items() if not missing.get(each[0])]}


def judged(classifier: Classifier, evaluation: Evaluation, record: Record) -> dict[str, Any]:
    """What follows from the evaluation."""
    metric = evaluation.headline
    value, interval = evaluation[metric], evaluation.intervals[metric]
    between = "" if interval is None else f" (95 % interval {100 * interval[0]:.1f} to {100 * interval[1]:.1f} %)"
    classes, images = len(evaluation.class_names), len(evaluation.labels)
    error = evaluation["calibration_error"]
    shown = "each class" if classes <= plots.CURVES else f"the {plots.CURVES} classes with the lowest area"
    found: dict[str, Any] = {
        "headline": {
            "metric": metric.replace("_", " "),
            "value": "–" if value is None else f"{value:.1%}",  # noqa: RUF001
            "words": f"{metric.replace('_', ' ')} on {images} {evaluation.split} images{between}",
        },
        "slices": slices(evaluation, metric),
        "lowest": evaluation.lowest_f1(10),
        "confusion": {},
        "decisions": [],
        "confused": [
            (true, predicted, count, evaluation.confused_images(true, predicted))
            for true, predicted, count in evaluation.most_confused(PAIRS)
        ],
        "ranking": [
            picture(plots.ranking(evaluation, "roc"), f"ROC curves of {shown}", f"ROC of {shown}, against all others."),
            picture(
                plots.ranking(evaluation, "precision_recall"),
                f"Precision-recall curves of {shown}",
                f"Precision-recall of {shown}.",
            ),
        ],
        "reliability": picture(plots.reliability(evaluation), "Share that is right against confidence")
        | {
            "words": f"When it says 80 %, is it right 8 times in 10? On average confidence and accuracy are "
            f"{100 * (error or 0):.1f} points apart (the expected calibration error, over 15 bins)."
        },
        "calibration": calibration_text(record.summary.get("calibration"), classifier.description.temperature),
        "mistakes": mistakes(classifier, evaluation, record),
    }
    if evaluation.multi_label:
        rows = evaluation.confusion_matrix.reshape(classes, -1).tolist()
        found["decisions"] = [(name, *row) for name, row in zip(evaluation.class_names, rows, strict=True)]
    else:
        many = classes > plots.DIGITS
        caption = "Rows are true classes, columns what was predicted; all that is not on the diagonal is wrong."
        caption += " Colours are shares of each true class." if many else ""
        alt = f"Confusion matrix of {classes} classes"
        kind = "large" if many else "wide" if classes > 12 else ""
        found["confusion"] = picture(plots.confusion(evaluation), alt, caption) | {"kind": kind}
    return found


def picture(figure: Figure, alt: str, caption: str = "") -> dict[str, str]:
    """A figure as the template takes it."""
    return {"src": plots.svg(figure), "alt": alt, "caption": caption}


def sentences(record: Record, evaluation: Evaluation | None) -> list[str]:
    """What a reader should know before any number."""
    told = []
    if evaluation is not None and evaluation.split == "validation":
        told.append("There was no test part, so nothing here is of images that no choice was made on.")
    gap = record.summary.get("gap", {}).get("accuracy")
    if gap is not None:
        hopeful = "they were too hopeful by that much" if gap > 0 else "they were not too hopeful"
        told.append(f"The validation images, which chose it, gave {gap:+.3f} beside the test images: {hopeful}.")
    return told


def facts(record: Record) -> dict[str, str]:
    """Of the configuration, what tells two runs apart."""
    config = record.config
    named = {"seed": "seed", "precision": "precision", "data_fingerprint": "data", "backbone_digest": "backbone"}
    found = {label: str(config[key])[:16] for key, label in named.items() if key in config}
    started = record.environment.get("started")
    return found | ({"started": str(started)} if started else {})


def class_counts(totals: Mapping[str, int]) -> list[list[tuple[str, int, float]]]:
    """(class, images, share of the largest), in columns that fit beside one another."""
    most = max(totals.values(), default=0) or 1
    rows = [(name, count, count / most) for name, count in totals.items()]
    return [rows[start : start + COLUMNS] for start in range(0, len(rows), COLUMNS)]


def network_table(classifier: Classifier) -> list[dict[str, Any]]:
    """A row for each block and each layer of the head that has parameters."""
    layers, rows = classifier.keras_model.layers, []
    for block in BLOCKS:
        inside = [layer for layer in layers if layer.name.startswith(f"{block}_")]
        rows.append(
            {
                "name": block,
                "layers": f"{sum('_conv' in layer.name for layer in inside)} convolutions, {inside[0].filters} filters",
                "output": shape(inside[-1].output.shape),
                "parameters": sum(layer.count_params() for layer in inside),
                "state": "frozen" if block in classifier.description.frozen else "learned",
            }
        )
    names = [layer.name for layer in layers]
    for layer in layers[names.index("block5_pool") + 1 :]:
        if layer.count_params():
            kind = {"Dense": "dense", "BatchNormalization": "normalisation"}.get(type(layer).__name__, "")
            state = "measured" if layer.name == "standardize" else "learned"
            rows.append(
                {
                    "name": layer.name,
                    "layers": kind,
                    "output": shape(layer.output.shape),
                    "parameters": layer.count_params(),
                    "state": state,
                }
            )
    return rows


def shape(output: Sequence[int | None]) -> str:
    """Without the batch."""
    return "×".join(map(str, output[1:]))  # noqa: RUF001


def slices(evaluation: Evaluation, metric: str) -> dict[str, list[dict[str, Any]]]:
    """By each metadata column that groups images."""
    found = {}
    for column, cells in evaluation.metadata.items():
        if 1 < len(set(cells)) <= MOST_SLICES:
            found[column] = [
                {
                    "name": name or "(empty)",
                    "images": len(each.labels),
                    "value": each[metric],
                    "interval": each.bootstrap(metrics=[metric])[metric],
                }
                for name, each in evaluation.slices(column).items()
            ]
    return found


def mistakes(classifier: Classifier, evaluation: Evaluation, record: Record) -> list[dict[str, Any]]:
    """The top losses, each with its picture and where the classifier saw what it predicted."""
    worst = evaluation.top_losses(MISTAKES)
    found = {each.row: pixels for each in worst if (pixels := _pixels(each, classifier, record)) is not None}
    classes = [int(evaluation.probabilities[row].argmax()) for row in found]
    heat = grad_cam(classifier.keras_model, np.stack(list(found.values())), classes) if found else ()
    overlays = {
        row: Explanation(pixels, each, classifier.class_names[c], 1.0, BLOCKS[-1])
        for (row, pixels), each, c in zip(found.items(), heat, classes, strict=True)
    }
    return [
        {
            "name": each.name,
            "true": " | ".join(each.true) or "nothing",
            "predicted": " | ".join(each.predicted) or "nothing",
            "wrong": each.wrong,
            "probability": each.probability,
            "loss": each.loss,
            "seen": overlays[each.row].label if each.row in overlays else "",
            "picture": jpeg(found[each.row]) if each.row in found else "",
            "overlay": jpeg(overlays[each.row].overlay()) if each.row in overlays else "",
        }
        for each in worst
    ]


def _pixels(mistake: Mistake, classifier: Classifier, record: Record) -> np.ndarray | None:
    """(S, S, 3) uint8 as the network sees it: from the record, or from its file if that is still there."""
    if mistake.row in record.pictures:
        return np.rint(record.pictures[mistake.row]).astype("uint8")
    try:
        return read_image(mistake.name, classifier.description.image_size).pixels
    except DataError:
        return None


def jpeg(pixels: np.ndarray) -> str:
    """Pixels as the `src` of an `<img>`."""
    image = Image.fromarray(pixels)
    scale = max(1, PIXELS // max(image.size))
    image = image.resize((image.width * scale, image.height * scale), Image.Resampling.BICUBIC)
    image.thumbnail((2 * PIXELS, 2 * PIXELS))
    return jpeg_url(image, quality=85)


def search_section(record: Record) -> dict[str, Any]:
    """What a search came to."""
    told, trials = record.search, list(record.trials)
    sign = -1 if told["direction"] == "max" else 1
    ranked = sorted(trials, key=lambda trial: (trial["score"] is None, sign * (trial["score"] or 0)))
    best = told["best"]["trial_id"]
    words = f"{told['trials']} trials, searched for the {told['direction']} of validation {told['objective']}: "
    words += f"{told['validation_score']:.3f}"
    if told["test_score"] is not None:
        words += f", and {told['test_score']:.3f} on test images, which no trial saw"
    label = f"validation {told['objective']}"
    pictures = [
        picture(plots.trials(trials, best, label, name), f"{label} of {len(trials)} trials against {name}", name)
        for name in plots.hyperparameters(trials)
    ]
    return {"words": words + ".", "trials": ranked, "best": best, "pictures": pictures}
