"""The report: one self-contained HTML file with everything that is known about a classifier."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ..artifact.artifact import Artifact
from ..display import render
from ..fields import as_path
from ..run import versions, write_whole
from . import plots
from .sections import class_counts, facts, image_of, network_table, results, search_section, sentences


def write_report(artifact: Artifact, path: str | os.PathLike[str]) -> Path:
    """Write everything that is known about a classifier as one self-contained HTML file."""
    path = as_path(path)
    write_whole(path, render("report.html", **contents(artifact)))
    return path


def contents(artifact: Artifact) -> dict[str, Any]:
    """Collect the values of the template. Sections whose value is empty are left out."""
    record, evaluation, history = artifact.record, artifact.evaluation, artifact.history
    values: dict[str, Any] = {
        "title": f"A classifier of {len(artifact.class_names)} classes",
        "description": artifact.description,
        "evaluation": evaluation,
        "record": record,
        "counts": class_counts(record.class_counts),
        "network": network_table(artifact),
        "versions": record.environment.get("versions") or artifact.description.versions,
        "facts": facts(record),
        "version": versions()["vggft"],
        "sentences": sentences(record, evaluation),
        "search": {},
        "curves": {},
    }
    with plots.style():
        if history:
            phases = ", then ".join(dict.fromkeys(str(row["phase"]) for row in history))
            alt = f"Accuracy and loss over {len(history)} epochs: {phases}"
            values["curves"] = image_of(plots.learning_curves(history), alt)
        if evaluation is not None:
            values |= results(artifact, evaluation)
        if record.search:
            values["search"] = search_section(record)
    return values
