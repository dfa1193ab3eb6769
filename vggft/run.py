"""The run directory: configuration, seeds, versions, results; files that appear whole, and resume points."""

from __future__ import annotations

import csv
import importlib.metadata
import io
import json
import os
import platform
import re
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from .errors import RunError

_ASIDE = re.compile(r"\.\d+-")  # the names that `whole_file` writes under

PACKAGES = ("vggft", "tensorflow", "keras", "keras-tuner", "scikit-learn", "numpy", "pillow")


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A place to write beside `path`, renamed to it at the end: the file appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{os.getpid()}-{path.name}")  # keeps the suffix, which Keras looks at
    try:
        yield aside
        with aside.open("r+b") as file:  # Windows can flush only what it may write
            os.fsync(file.fileno())
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def write_whole(path: Path, text: str) -> None:
    """Write a text file, which appears whole or not at all."""
    with whole_file(path) as aside:
        aside.write_text(text, encoding="utf-8")


def versions() -> dict[str, str]:
    """What is installed here, for a result to be repeated by."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def environment(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """What a run stands on besides its configuration, to repeat it by."""
    started = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    return {"versions": versions(), "command": sys.argv, "arguments": dict(arguments), "started": started}


class RunDirectory:
    """All that one run leaves: `config.json`, `environment.json`, `audit.json`, `history.csv`, `evaluation.json`,
    `classifier.keras`, and while it goes on `resume/`.

    Args:
        path: a new or empty directory; None keeps nothing.
        resume: go on in a directory which holds an earlier run.

    Raises:
        RunError: the directory holds other files, or a run and `resume` is not set.
    """

    def __init__(self, path: str | os.PathLike[str] | None, resume: bool = False):
        self.path = None if path is None else Path(path)
        self.earlier: dict[str, Any] = {}  # the configuration of the run that is resumed
        if self.path is None:
            if resume:
                raise RunError("resume=True needs the run_dir of the run to go on with; got run_dir=None.")
            return
        if self.path.is_file():
            raise RunError(f"run_dir must be a directory; {self.path} is a file.")
        if not self.path.exists():
            return
        whole = [file for file in self.path.iterdir() if not _ASIDE.match(file.name)]
        if whole and not resume:
            raise RunError(
                f"run_dir {self.path} is not empty, and a run never overwrites another. "
                "Name a new directory, or pass resume=True (--resume) to go on with the run in it."
            )
        if (self.path / "config.json").exists():
            self.earlier = json.loads((self.path / "config.json").read_text(encoding="utf-8"))
        elif {file.name for file in whole} - {"environment.json"}:
            raise RunError(f"run_dir {self.path} has files but no config.json, so it is not a run of vggft to resume.")

    def start(self, config: Mapping[str, Any], arguments: Mapping[str, Any] | None = None) -> None:
        """Write what makes this run, or check that it is what made the run that is resumed.

        Args:
            config: the resolved configuration as JSON-ready values; two runs of equal ones end equal.
            arguments: what else was asked for, kept beside the versions to repeat the run by.

        Raises:
            RunError: the directory holds a run of another configuration; the differences are named.
        """
        config = json.loads(json.dumps(config))
        if self.earlier:
            self.check_same(config)
        elif self.path is not None:
            self.write_json("environment.json", environment(arguments or {}))
            self.write_json("config.json", config)  # the last, so that what has one can be resumed
        if self.path is not None:
            for file in list(self.path.rglob(".*")):  # what a kill left behind
                if _ASIDE.match(file.name):
                    file.unlink()

    def check_same(self, config: Mapping[str, Any]) -> None:
        """Raise `RunError` unless the directory holds a run of this configuration; the differences are named."""
        config = json.loads(json.dumps(config))
        path, earlier = self.path, self.earlier
        differing = sorted(key for key in {*earlier, *config} if earlier.get(key) != config.get(key))
        if differing:
            changes = "; ".join(f"{key} was {earlier.get(key)!r}, is {config.get(key)!r}" for key in differing)
            raise RunError(f"run_dir {path} holds a run of another configuration, which cannot be resumed: {changes}.")

    def inside(self, name: str) -> RunDirectory:
        """A part of the run with resume points of its own, in a directory of that name."""
        part = RunDirectory(None)
        part.path = None if self.path is None else self.path / name
        return part

    @property
    def classifier_path(self) -> Path | None:
        """Where the finished classifier is or will be."""
        return None if self.path is None else self.path / "classifier.keras"

    @property
    def finished(self) -> bool:
        """Whether a classifier is there; it is the last file that a run writes."""
        return self.classifier_path is not None and self.classifier_path.exists()

    def write_text(self, name: str, text: str) -> None:
        """Write a file of the run, whole or not at all."""
        if self.path is not None:
            write_whole(self.path / name, text)

    def write_json(self, name: str, value: Any) -> None:
        """Write a value as indented JSON."""
        self.write_text(name, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")

    def write_arrays(self, name: str, **arrays: np.ndarray) -> None:
        """Write arrays as a compressed .npz file."""
        if self.path is not None:
            with whole_file(self.path / name) as aside:
                np.savez_compressed(aside, **arrays)  # type: ignore[arg-type]

    def write_table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write rows as CSV; the columns are all keys in order of first appearance."""
        text = io.StringIO()
        writer = csv.DictWriter(text, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        self.write_text(name, text.getvalue())

    # Resume points are named groups of arrays with a note in JSON; one replaces the last of its name.

    def save_point(self, name: str, arrays: Sequence[np.ndarray], note: Mapping[str, Any]) -> None:
        """Keep where a phase stands."""
        if self.path is not None:
            with whole_file(self.path / "resume" / f"{name}.npz") as aside:
                named: dict[str, Any] = {f"a{i}": array for i, array in enumerate(arrays)}
                np.savez(aside, note=np.array(json.dumps(note)), **named)

    def load_point(self, name: str) -> tuple[list[np.ndarray], dict[str, Any]] | None:
        """What `save_point` kept under the name, or None."""
        if self.path is None or not (file := self.path / "resume" / f"{name}.npz").exists():
            return None
        with np.load(file, allow_pickle=False) as stored:
            return [stored[f"a{i}"] for i in range(len(stored.files) - 1)], json.loads(str(stored["note"]))

    def drop_points(self) -> None:
        """Delete the resume points of a finished run."""
        if self.path is not None and (points := self.path / "resume").exists():
            shutil.rmtree(points)
            if not any(self.path.iterdir()):
                self.path.rmdir()
