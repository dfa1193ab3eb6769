"""The model card, `MODEL_CARD.md`: what a classifier is for and how it does, in the form that model hubs read."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..display import render
from ..evaluation.calibration import calibration_text
from ..network.weights import PRESETS
from ..run import write_whole

if TYPE_CHECKING:
    from ..classifier import Classifier

# A metric -> what hubs call it.
HUB_METRICS = {"accuracy": "accuracy", "macro_f1": "f1", "roc_auc": "roc_auc", "mcc": "matthews_correlation"}


def write_card(classifier: Classifier, path: str | os.PathLike[str]) -> Path:
    """Write the model card of a classifier."""
    path = Path(path)
    write_whole(path, card(classifier))
    return path


def card(classifier: Classifier) -> str:
    """The model card as Markdown, its data in front as YAML."""
    record, description, evaluation = classifier.record, classifier.description, classifier.evaluation
    preset = PRESETS.get(description.backbone)
    arguments = record.environment.get("arguments", {})
    name = data_name(arguments)
    call = record.call  # where things lie here is nobody's business
    for given in (arguments.get(each) for each in ("dataset", "validation", "test", "backbone")):
        if isinstance(given, str):
            call = call.replace(repr(given), repr(Path(given).name))
    title = f"VGG16 for {name}" if name else f"VGG16 of {len(description.class_names)} classes"
    return render(
        "model_card.md",
        front=front(classifier, title, name or "own images"),
        title=plain(title),
        about=f"An image classifier, fine-tuned from {plain(description.backbone)} by vggft.",
        classes=[plain(each) for each in description.class_names],
        description=description,
        audit=record.audit,
        splits=record.config.get("splits", {}),
        counts=[(plain(each), count) for each, count in record.class_counts.items()],
        evaluation=evaluation,
        rows=() if evaluation is None else [{**vars(row), "name": plain(row.name)} for row in evaluation.per_class],
        confused=()
        if evaluation is None
        else [(plain(a), plain(b), count) for a, b, count in evaluation.most_confused()],
        calibration=calibration_text(record.summary.get("calibration"), description.temperature),
        licence=preset.licence if preset else "",
        versions=record.environment.get("versions") or description.versions,
        call=call,
        search=record.search,
    )


def front(classifier: Classifier, title: str, data: str) -> str:
    """The YAML in front; values are written as JSON, which is YAML too, so that no name can break out of it."""
    evaluation, preset = classifier.evaluation, PRESETS.get(classifier.description.backbone)
    fields: dict[str, Any] = {
        "library_name": "keras",
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "vgg16", "vggft", "keras"],
    }
    if preset is not None:  # what is made of it stays under it
        fields["license"] = preset.spdx.lower()
    if evaluation is not None:
        found = evaluation.metrics
        metrics = [
            {"type": hub, "name": name, "value": round(value, 4)}
            for name, hub in HUB_METRICS.items()
            if (value := found.get(name)) is not None
        ]
        fields["metrics"] = [each["type"] for each in metrics]
        fields["model-index"] = [
            {
                "name": title,
                "results": [
                    {
                        "task": {"type": "image-classification"},
                        "dataset": {"type": "imagefolder", "name": data, "split": evaluation.split},
                        "metrics": metrics,
                    }
                ],
            }
        ]
    return "".join(f"{name}: {json.dumps(value, ensure_ascii=False)}\n" for name, value in fields.items())


def data_name(arguments: Mapping[str, Any]) -> str:
    """What the images are called: the last part of their path."""
    given = arguments.get("dataset")
    return Path(given).stem if isinstance(given, str) and len(Path(given).parts) > 1 else ""


def plain(text: str) -> str:
    """A name as text in Markdown, also inside of a table."""
    for mark in "\\`*_{}[]<>#|":
        text = text.replace(mark, f"\\{mark}" if mark not in "<>" else {"<": "&lt;", ">": "&gt;"}[mark])
    return " ".join(text.split())
