"""The report: one self-contained HTML file with everything that is known about a classifier."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ..artifact.artifact import Artifact
from ..display import render
from ..run import versions, write_whole
from . import plots
from .sections import class_counts, facts, image_of, network_table, results, search_section, sentences

NEED_EVALUATION = ("metrics", "confusion", "ranking", "reliability", "mistakes")
SECTIONS = {
    "data": "Data",
    "network": "Network",
    "learning": "Learning",
    "metrics": "Metrics",
    "confusion": "Confusion",
    "ranking": "ROC",
    "reliability": "Reliability",
    "mistakes": "Top losses",
    "search": "Search",
    "repeat": "How to repeat it",
}


def write_report(artifact: Artifact, path: str | os.PathLike[str]) -> Path:
    """Write everything that is known about a classifier as one HTML file, which loads nothing from anywhere."""
    path = Path(path)
    write_whole(path, render("report.html", **contents(artifact)))
    return path


def contents(artifact: Artifact) -> dict[str, Any]:
    """The values of the template, section by section."""
    record, evaluation, description = artifact.record, artifact.evaluation, artifact.description
    network = network_table(artifact)
    values: dict[str, Any] = {
        "title": f"A classifier of {len(description.class_names)} classes",
        "description": description,
        "evaluation": evaluation,
        "audit": record.audit,
        "splits": record.config.get("splits", {}),
        "counts": class_counts(record.class_counts),
        "network": network,
        "parameters": sum(row["parameters"] for row in network),
        "learned": sum(row["parameters"] for row in network if row["state"] == "learned"),
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
        if artifact.history:
            phases = ", then ".join(dict.fromkeys(str(row["phase"]) for row in artifact.history))
            alt = f"Accuracy and loss over {len(artifact.history)} epochs: {phases}"
            values["curves"] = image_of(plots.learning_curves(artifact.history), alt)
        if evaluation is not None:
            values |= results(artifact, evaluation)
        if record.search:
            values["search"] = search_section(record)
    there = {"learning": values["curves"], "search": values["search"]} | dict.fromkeys(NEED_EVALUATION, evaluation)
    return values | {"sections": [each for each in SECTIONS.items() if there.get(each[0], True)]}
