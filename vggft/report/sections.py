"""The sections of the report, as values for its template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ..artifact.artifact import Artifact
from ..artifact.explain import Explanation, grad_cam, last_seen
from ..artifact.record import Record
from ..display import UNDEFINED, jpeg_url
from ..errors import DataError
from ..evaluation.calibration import calibration_text
from ..evaluation.evaluation import Evaluation
from ..evaluation.mistakes import Mistake
from ..network.blocks import BLOCKS
from ..network.head import STANDARDIZE
from ..pictures.files import read_image
from . import plots

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MISTAKES = 12
PAIRS = 10
COLUMNS = 20  # classes per column of a table
MOST_SLICES = 12  # distinct values of a metadata column; one with more identifies images instead of grouping them
PIXELS = 160  # side of a small image


def image_of(figure: Figure, alt: str, caption: str = "") -> dict[str, str]:
    """Return a figure as the template's macro takes it."""
    return {"src": plots.svg(figure), "alt": alt, "caption": caption}


def results(artifact: Artifact, evaluation: Evaluation) -> dict[str, Any]:
    """Collect all sections that need an evaluation."""
    metric = evaluation.headline
    classes = len(evaluation.class_names)
    shown = "each class" if classes <= plots.CURVES else f"the {plots.CURVES} classes with the lowest area"
    found: dict[str, Any] = {
        "headline": headline(evaluation, metric),
        "slices": slices(evaluation, metric),
        "lowest": evaluation.lowest_f1(10),
        "confusion": {},
        "decisions": [],
        "confused": [(a, b, n, evaluation.confused_images(a, b)) for a, b, n in evaluation.most_confused(PAIRS)],
        "ranking": [
            image_of(
                plots.ranking(evaluation, kind), f"{name} curves of {shown}", f"{name}: {shown} against all others."
            )
            for kind, name in (("roc", "ROC"), ("precision_recall", "Precision-recall"))
        ],
        "reliability": image_of(plots.reliability(evaluation), "Accuracy against confidence")
        | {
            "words": "Of predictions made with a confidence of 80 %, are 8 in 10 right? On average, confidence and "
            f"accuracy differ by {100 * (evaluation['calibration_error'] or 0):.1f} percentage points (the expected "
            "calibration error, over 15 bins)."
        },
        "calibration": calibration_text(artifact.record.summary.get("calibration"), artifact.description.temperature),
        "mistakes": mistakes(artifact, evaluation),
    }
    if evaluation.multi_label:
        rows = evaluation.confusion_matrix.reshape(classes, -1).tolist()
        found["decisions"] = [(name, *row) for name, row in zip(evaluation.class_names, rows, strict=True)]
    else:
        many = classes > plots.DIGITS
        caption = "Rows are true classes, columns are predicted classes; everything off the diagonal is wrong."
        caption += " Colours show the share of each true class." if many else ""
        kind = "large" if many else "wide" if classes > 12 else ""
        found["confusion"] = image_of(plots.confusion(evaluation), f"Confusion matrix of {classes} classes", caption)
        found["confusion"]["kind"] = kind
    return found


def headline(evaluation: Evaluation, metric: str) -> dict[str, str]:
    """Return the most important number, with its interval in words."""
    value, interval, name = evaluation[metric], evaluation.intervals[metric], metric.replace("_", " ")
    between = "" if interval is None else f" (95 % interval {100 * interval[0]:.1f} to {100 * interval[1]:.1f} %)"
    return {
        "metric": name,
        "value": UNDEFINED if value is None else f"{value:.1%}",
        "words": f"{name} on {len(evaluation.labels)} {evaluation.split} images{between}",
    }


def sentences(record: Record, evaluation: Evaluation | None) -> list[str]:
    """Return what a reader should know before any number."""
    told = []
    if evaluation is not None and evaluation.split == "validation":
        told.append("There was no test split: all results are on images that the weights were selected on.")
    name = "accuracy" if evaluation is None else evaluation.headline
    gap = record.summary.get("gap", {}).get(name)
    if gap is not None:
        hopeful = "too optimistic by that much" if gap > 0 else "not too optimistic"
        told.append(
            f"{name.capitalize().replace('_', ' ')} on the validation images, which the weights were selected on, "
            f"differs by {gap:+.3f} from that on the test images: it was {hopeful}."
        )
    return told


def facts(record: Record) -> dict[str, str]:
    """Return the part of the configuration that distinguishes two runs."""
    config = record.config
    named = {"seed": "seed", "precision": "precision", "data_fingerprint": "data", "backbone_digest": "backbone"}
    found = {label: str(config[key])[:16] for key, label in named.items() if key in config}
    started = record.environment.get("started")
    return found | ({"started": str(started)} if started else {})


def class_counts(totals: Mapping[str, int]) -> list[list[tuple[str, int, float]]]:
    """Return (class, number of images, share of the largest class), split into columns."""
    most = max(totals.values(), default=0) or 1
    rows = [(name, count, count / most) for name, count in totals.items()]
    return [rows[start : start + COLUMNS] for start in range(0, len(rows), COLUMNS)]


def network_table(artifact: Artifact) -> list[dict[str, Any]]:
    """Return one row for each block, and for each layer of the head that has parameters."""
    layers = artifact.network.model.layers

    def row(name: str, kind: str, inside: Sequence[Any], state: str) -> dict[str, Any]:
        output = "×".join(map(str, inside[-1].output.shape[1:]))  # noqa: RUF001
        parameters = sum(layer.count_params() for layer in inside)
        return {"name": name, "layers": kind, "output": output, "parameters": parameters, "state": state}

    rows = []
    for block in BLOCKS:
        inside = [layer for layer in layers if layer.name.startswith((f"{block}_conv", f"{block}_pool"))]
        if not inside:  # a head may see only earlier blocks
            continue
        kind = f"{sum('_conv' in layer.name for layer in inside)} convolutions, {inside[0].filters} filters"
        rows.append(row(block, kind, inside, "frozen" if block in artifact.description.frozen else "learned"))
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


def mistakes(artifact: Artifact, evaluation: Evaluation) -> list[dict[str, Any]]:
    """Return the images with the highest losses, each with Grad-CAM of the predicted class."""
    worst = evaluation.top_losses(MISTAKES)
    found = {each.row: pixels for each in worst if (pixels := _pixels(each, artifact)) is not None}
    classes = [int(evaluation.probabilities[row].argmax()) for row in found]
    heat = grad_cam(artifact, np.stack(list(found.values())), classes) if found else ()
    overlays = {
        row: Explanation(pixels, each, artifact.class_names[c], 1.0, last_seen(artifact))
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


def _pixels(mistake: Mistake, artifact: Artifact) -> np.ndarray | None:
    """Return (height, width, 3) uint8 as the network sees it: from the record, or from its file if it still exists."""
    pictures = artifact.record.pictures
    if mistake.row in pictures:
        return np.rint(pictures[mistake.row]).astype("uint8")
    try:
        return np.rint(read_image(mistake.name, artifact.description.reading).pixels).astype("uint8")
    except DataError:
        return None


def jpeg(pixels: np.ndarray) -> str:
    """Convert pixels to the `src` of an `<img>`."""
    image = Image.fromarray(pixels)
    scale = max(1, PIXELS // max(image.size))
    image = image.resize((image.width * scale, image.height * scale), Image.Resampling.BICUBIC)
    image.thumbnail((2 * PIXELS, 2 * PIXELS))
    return jpeg_url(image, quality=85)


def search_section(record: Record) -> dict[str, Any]:
    """Return the outcome of a search and its trials, best first."""
    told, trials = record.search, list(record.trials)
    sign = -1 if told["direction"] == "max" else 1
    ranked = sorted(trials, key=lambda trial: (trial["score"] is None, sign * (trial["score"] or 0)))
    best, label = told["best"]["trial_id"], f"validation {told['objective']}"
    words = f"{told['trials']} trials, searched for the {told['direction']} of {label}: {told['validation_score']:.3f}"
    if told["test_score"] is not None:
        words += f", and {told['test_score']:.3f} on test images, which no trial used"
    pictures = [
        image_of(plots.trials(trials, best, label, name), f"{label} of {len(trials)} trials against {name}", name)
        for name in plots.hyperparameters(trials)
    ]
    return {"words": words + ".", "trials": ranked, "best": best, "pictures": pictures}
