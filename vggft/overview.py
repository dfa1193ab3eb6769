"""The runs below a folder as one table, read from what each has left; neither TensorFlow nor a classifier is loaded."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from rich.cells import cell_len

from .errors import ConfigError, RunError, counted, short_traceback
from .extras import data_frame
from .fields import as_path
from .files.documents import read_document
from .files.schemas import Candidate, Environment, Found, Settings, Summary
from .files.writing import write_table
from .telling.display import UNDEFINED, score, table

COLUMNS = (
    *("run", "what", "started", "data", "images", "backbone", "freeze", "head", "metric"),
    *("validation", "validation_low", "validation_high", "test", "test_low", "test_high"),
    *("baseline", "seconds"),
)
HEADLINES = ("accuracy", "average_precision")  # the latter for several labels per image


@short_traceback
@dataclass(frozen=True)
class RunTable:
    """A table of runs; `str` describes it.

    Attributes:
        folder: where they were looked for.
        rows: a dict of `COLUMNS` for each run; None is unknown or undefined.
        problems: what is wrong with runs that cannot be read, which are not among them.
    """

    folder: str
    rows: Sequence[dict[str, Any]]
    problems: Sequence[str] = ()

    def sorted_by(self, column: str) -> RunTable:
        """Return the table in another order: best first for scores, else ascending; what is unknown comes last.

        Raises:
            ConfigError: there is no such column.
        """
        if column not in COLUMNS:
            raise ConfigError(f"Runs can be sorted by {', '.join(COLUMNS)}; got {column!r}.")
        known = [row for row in self.rows if row[column] is not None]
        falling = column.startswith(("validation", "test"))
        rest = [row for row in self.rows if row[column] is None]
        rows = [*sorted(known, key=lambda row: row[column], reverse=falling), *rest]
        return RunTable(self.folder, rows, self.problems)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {"folder": self.folder, "runs": list(self.rows), "problems": list(self.problems)}

    def to_csv(self, path: str | os.PathLike[str], overwrite: bool = False) -> Path:
        """Write the table as a CSV file."""
        write_table(path := as_path(path), self.rows, COLUMNS, overwrite)
        return path

    def to_frame(self) -> Any:
        """Return the table as a `pandas.DataFrame`; it needs pandas."""
        return data_frame(self.rows, COLUMNS, "to_csv")

    def __str__(self) -> str:
        return self.text()

    def text(self, width: int | None = None) -> str:
        """Describe the runs in lines of at most `width` characters; the last columns are left out for that."""
        if not self.rows:
            return "\n".join([f"There are no runs in {self.folder}.", *self.problems])
        head = ["run", "validation", "test", "baseline", "seconds", "freeze", "head", "data"]
        lines = [
            [
                str(row["run"]),
                *(_score(row, split) for split in ("validation", "test")),
                score(row["baseline"]),
                UNDEFINED if row["seconds"] is None else f"{row['seconds']:.0f}",
                *(str(row[name] or UNDEFINED) for name in ("freeze", "head")),
                PurePath(row["data"]).name if row["data"] else UNDEFINED,
            ]
            for row in self.rows
        ]
        metrics = ", ".join(dict.fromkeys(str(row["metric"]) for row in self.rows if row["metric"]))
        count, rows = counted(len(self.rows), "run"), [head, *lines]
        while width and len(rows[0]) > 3 and max(map(cell_len, table(rows).splitlines())) > width:
            rows = [row[:-1] for row in rows]
        told = f"{count} in {self.folder}; {metrics or 'nothing judged'} with 95 % intervals\n\n{table(rows)}"
        told = "\n".join([told, *(f"Left out: {each}" for each in self.problems)])
        left = ", ".join(head[len(rows[0]) :])
        return told + (f"\n\nThere is no room for {left}: --output runs.csv has all columns." if left else "")


@short_traceback
def read_runs(folder: str | os.PathLike[str] = "runs") -> RunTable:
    """Read all runs below a folder, finished or not, in the order of their beginning.

    Raises:
        RunError: the folder does not exist.
    """
    path = as_path(folder, "folder")
    if not path.is_dir():
        raise RunError(f"There is no folder {path} to look for runs in.")
    rows, problems = list[dict[str, Any]](), list[str]()
    for found in _run_directories(path):
        try:
            rows.append(_row(found, path))
        except RunError as error:
            problems.append(str(error))
    return RunTable(str(path), sorted(rows, key=lambda row: (row["started"] or "", row["run"])), problems)


def _run_directories(folder: Path) -> Iterator[Path]:
    for here, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in ("trials", "resume"))
        if {"config.json", "environment.json"} <= set(files):
            yield Path(here)


def _row(run: Path, folder: Path) -> dict[str, Any]:
    config, about = _read(run / "config.json", Settings), _read(run / "environment.json", Environment)
    judged = _read(run / "evaluation.json", Summary)
    judged = {"validation": judged} if "folds" in config and "search" not in config else judged
    row: dict[str, Any] = dict.fromkeys(COLUMNS)
    row |= {"run": str(run.relative_to(folder)) if run != folder else run.resolve().name}
    row |= {"what": "search" if "search" in config else "cross-validation" if "folds" in config else "finetune"}
    row |= {"started": about.get("started"), "data": (about.get("arguments") or {}).get("dataset")}
    row |= {"images": sum((config.get("splits") or {}).values()) or None, "backbone": config.get("backbone")}
    row |= {"freeze": _frozen(config.get("frozen")), "head": _head(run, config)}
    row |= {"seconds": about.get("seconds")}
    for split in ("validation", "test"):
        found = judged.get(split)
        if not isinstance(found, dict) and split == "validation":
            found = judged.get("cross-validation")
        if isinstance(found, dict) and (metric := next((name for name in HEADLINES if name in found), None)):
            low, high = (found.get("intervals") or {}).get(metric) or (None, None)
            row |= {"metric": metric, split: found[metric], f"{split}_low": low, f"{split}_high": high}
            row |= {"baseline": found.get("baseline")}  # of an answer that looks at no image
    return row


def _read(file: Path, schema: Any) -> dict[str, Any]:
    """Return the content of a JSON file; empty if there is none."""
    found: dict[str, Any] = read_document(file, schema, RunError) if file.exists() else {}
    return found


def _frozen(blocks: Any) -> str | None:
    """Write frozen blocks as the argument `freeze`."""
    if not isinstance(blocks, list):
        return None
    if blocks and blocks == [f"block{n}" for n in range(1, len(blocks) + 1)]:
        return "all" if len(blocks) == 5 else str(blocks[-1])
    return "+".join(blocks) or "none"


def _head(run: Path, config: dict[str, Any]) -> str | None:
    """Describe the head that was taken, such as "probe l2" or "256-64"."""
    head = config.get("head")
    if "search" in config:
        head = _read(run / "search.json", Found).get("best", {}).get("head", head)
    if head is None and (run / "choice.json").exists():
        told = read_document(run / "choice.json", list[Candidate], RunError)
        return next((f"probe {row['normalize']}" for row in told if row["worse"] == 0), None)
    if not isinstance(head, dict):
        return None
    units = "-".join(map(str, head.get("units", ())))
    return units or f"probe {head.get('normalize', '')}".strip()


def _score(row: dict[str, Any], split: str) -> str:
    if row[split] is None:
        return UNDEFINED
    low, high = row[f"{split}_low"], row[f"{split}_high"]
    return score(row[split]) + ("" if low is None else f" ({score(low)}-{score(high)})")
