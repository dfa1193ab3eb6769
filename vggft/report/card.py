"""The model card, `MODEL_CARD.md`: intended use and results of a classifier, in the format of model hubs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from markupsafe import Markup

from ..artifact.artifact import Artifact
from ..evaluation.calibration import calibration_text
from ..fields import as_path
from ..files.writing import write_whole
from ..foreign import json_text, visible
from ..network.blocks import usual_name
from ..telling.display import render
from ..weightfiles.presets import PRESETS
from .names import Names
from .verdict import baseline, copies, selected_on

# Our name of a metric -> its name on model hubs.
HUB_METRICS = {"accuracy": "accuracy", "macro_f1": "f1", "roc_auc": "roc_auc", "mcc": "matthews_correlation"}


def write_card(artifact: Artifact, path: str | os.PathLike[str], overwrite: bool = False) -> Path:
    """Write the model card of a classifier."""
    path = as_path(path)
    write_whole(path, card(artifact), overwrite)
    return path


def card(artifact: Artifact) -> str:
    """Render the model card: Markdown after a YAML front matter."""
    record, description, evaluation = artifact.record, artifact.description, artifact.evaluation
    preset, names = PRESETS.get(description.backbone), Names(artifact.record)
    name, network = names.data, usual_name(description.column)
    title = f"{network} for {name}" if name else f"{network} of {len(description.class_names)} classes"
    return render(
        "model_card.md",
        front=Markup(front(artifact, title, name or "own images")),
        title=title,
        network=network,
        description=description,
        audit=record.audit,
        splits=record.config.get("splits", {}),
        counts=record.class_counts,
        evaluation=evaluation,
        selected_on=selected_on(evaluation.split) if evaluation else "",
        confused=evaluation.most_confused() if evaluation else (),
        calibration=calibration_text(record.summary.get("calibration"), description.temperature),
        licence=preset.licence if preset else "",
        versions=record.environment.get("versions") or description.versions,
        call=Markup(visible(names.call(record.call), lines=True).replace("```", "'''")),
        thresholds=() if evaluation is None or evaluation.thresholds is None else evaluation.thresholds.tolist(),
        baseline=f"{baseline(evaluation)} {copies(evaluation)}".strip() if evaluation else "",
        search=record.search,
    )


def front(artifact: Artifact, title: str, data: str) -> str:
    """Write the YAML front matter, without a licence, which is its author's to choose.

    Values are JSON, which is valid YAML, so that no name can break out of it.
    """
    evaluation = artifact.evaluation
    fields: dict[str, Any] = {
        "library_name": "keras",
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", usual_name(artifact.description.column).lower(), "vggft", "keras"],
    }
    if evaluation is not None:
        metrics = [
            {"type": hub, "name": name, "value": round(value, 4)}
            for name, hub in HUB_METRICS.items()
            if (value := evaluation.metrics.get(name)) is not None
        ]
        fields["metrics"] = [each["type"] for each in metrics]
        result = {
            "task": {"type": "image-classification"},
            "dataset": {"type": "imagefolder", "name": data, "split": evaluation.split},
            "metrics": metrics,
        }
        fields["model-index"] = [{"name": title, "results": [result]}]
    return "".join(f"{name}: {json_text(value)}\n" for name, value in fields.items())
