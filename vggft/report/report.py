"""The report: one self-contained HTML file with everything that is known about a classifier."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ..artifact.artifact import Artifact
from ..fields import as_path
from ..files.writing import check_free, write_whole
from ..network.blocks import usual_name
from ..run import versions
from ..telling.display import render
from ..telling.figures import style
from .insights import Insights
from .names import Names
from .sections import class_counts, facts, learning, network_table, results, search_section
from .verdict import costs, next_steps, selected_on, sentences

AUDITED = ("errors", "warnings", "left_out")  # sentences of the audit, which may name files


def write_report(artifact: Artifact, path: str | os.PathLike[str], overwrite: bool = False) -> Path:
    """Write everything that is known about a classifier as one self-contained HTML file."""
    check_free(path := as_path(path), overwrite)
    write_whole(path, render("report.html", **contents(artifact)), overwrite)
    return path


def contents(artifact: Artifact) -> dict[str, Any]:
    """Collect the values of the template. Sections whose value is empty are left out."""
    record, evaluation = artifact.record, artifact.evaluation
    names = Names(record)
    about = f"classifier of {len(artifact.class_names)} classes"
    told = {name: [names.inside(each) for each in record.audit.get(name, ())] for name in AUDITED}
    values: dict[str, Any] = {
        "title": f"{names.data}: a {about}" if names.data else f"A {about}",
        "description": artifact.description,
        "evaluation": evaluation,
        "selected_on": selected_on(evaluation.split) if evaluation else "",
        "audit": {**record.audit, **told} if record.audit else {},
        "splits": record.config.get("splits", {}),
        "command": names.repeated,
        "call": names.call(record.call),
        "chosen": "candidates" in record.config,
        "counts": class_counts(record.class_counts),
        "samples": {},
        "matrix": [],
        "augmented": [],
        "network": network_table(artifact),
        "vgg": usual_name(artifact.description.column),
        "versions": record.environment.get("versions") or artifact.description.versions,
        "facts": facts(record),
        "version": versions()["vggft"],
        "sentences": sentences(record, evaluation),
        "steps": next_steps(artifact, evaluation),
        "costs": costs(artifact),
        "search": {},
        "curves": {},
    }
    with style():
        if artifact.history:
            values["curves"] = learning(artifact)
        values |= Insights(artifact).values()
        if evaluation is not None:
            values |= results(artifact, evaluation)
        if record.search:
            values["search"] = search_section(record)
    return values
