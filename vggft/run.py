"""Run directories: configuration, versions, results and resume points."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .errors import RunError
from .fields import as_path, shown
from .files.archives import read_arrays
from .files.documents import DocumentError, parse_document, read_document
from .files.held import HeldFolder
from .files.opening import special
from .files.schemas import Environment, Settings
from .files.writing import UNFINISHED, explained, remove_own, whole_file, write_table, write_whole

OLDER = (
    "config environment audit estimate evaluation choice search search_state outcome classifier history splits trials"
)
_UNFINISHED = re.compile(  # names of what a killed process left unfinished; earlier versions put its number first
    rf"{UNFINISHED.pattern}|\.\d+-(({'|'.join(OLDER.split())})\.(json|keras|csv|png)|[^/]*\.npz|MODEL_CARD\.md)"
)
REMEDY = "Without this file, what it holds is computed anew."
_POINT = re.compile(rf"[^.][^/]*\.npz|{_UNFINISHED.pattern}")  # names of the files in `resume/`

DIGESTS = {"data_fingerprint": "the images, their labels or splits", "backbone_digest": "the weights of the backbone"}
SHORT = 60  # characters of a value that differs

NEEDED = 500_000_000  # bytes: VGG16 and a head, and thrice as much for the moments of the optimizer
PACKAGES = ("vggft", "tensorflow", "keras", "keras-tuner", "scikit-learn", "numpy", "pillow")


def versions() -> dict[str, str]:
    """Return the versions of Python, the platform and the installed packages that results depend on."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for package in PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def environment(arguments: Mapping[str, Any], seconds: float = 0.0) -> dict[str, Any]:
    """Return what is needed to repeat a run, which began so many seconds ago, besides its configuration."""
    started = time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(time.time() - seconds))
    return {"versions": versions(), "command": sys.argv, "arguments": dict(arguments), "started": started}


def _differences(before: Mapping[str, Any], now: Mapping[str, Any], within: str = "") -> Iterator[str]:
    """Say what differs in two configurations, in the innermost fields that do."""
    for key in sorted({*before, *now}):
        if (was := before.get(key)) == (is_ := now.get(key)):
            continue
        if key == "splits" and isinstance(was, dict) and isinstance(is_, dict):
            counts = (", ".join(f"{count} {split}" for split, count in each.items()) for each in (was, is_))
            yield f"there were {' images, and are '.join(counts)}"
        elif key in DIGESTS:
            yield f"{DIGESTS[key]} are others"
        elif isinstance(was, dict) and isinstance(is_, dict):
            yield from _differences(was, is_, f"{within}{key}.")
        else:
            yield f"{shown(within + key)[1:-1]} was {shown(was, SHORT)}, is {shown(is_, SHORT)}"


def _check_room(path: Path) -> None:
    """Raise `RunError` if a directory cannot be made or has too little room, before hours of work."""
    there = next(each for each in (path, *path.absolute().parents) if each.exists())
    if not os.access(there, os.W_OK):
        raise RunError(f"run_dir {path} cannot be written, as {there} may not be changed: name another directory.")
    if (free := shutil.disk_usage(there).free) < NEEDED:
        raise RunError(
            f"run_dir {path} is on a disk with {free / 1e6:.0f} MB free; a run needs up to {NEEDED / 1e6:.0f} MB for "
            "the classifier and to continue after a kill: free some, or name a directory on another disk."
        )


@dataclass
class RunDirectory:
    """The directory of one run: its configuration, its results and, until it is finished, `resume/`.

    `open` checks a directory, `start` begins to write. Two methods delete files: `start` deletes the unfinished files
    of killed processes, and `drop_points` deletes the directory `resume/`. As a context manager, it lets other runs use
    the directory at the end.

    Attributes:
        path: the directory; None for writing nothing.
        earlier: the configuration of the run that is resumed.
        begun: whether there is one.
        held: keeps other runs out of the directory; None for a directory that does not exist yet, and in workers.
    """

    path: Path | None
    earlier: dict[str, Any] = field(default_factory=dict, kw_only=True)
    begun: bool = field(default=False, kw_only=True)
    held: HeldFolder | None = field(default=None, kw_only=True)

    def __enter__(self) -> RunDirectory:
        return self

    def __exit__(self, *ended: object) -> None:
        if self.held is not None:
            self.held.release()

    @classmethod
    def open(cls, path: str | os.PathLike[str] | None, resume: bool = False, worker: bool = False) -> RunDirectory:
        """Check that a run may use a directory, and keep others out of it; nothing is written or deleted.

        Args:
            path: a new or empty directory; None for writing nothing.
            resume: continue the run in a directory that holds one.
            worker: whether this process takes part in a run that another process has begun, and holds.

        Raises:
            RunError: the directory holds other files, or a run and `resume` is not set; another run is in it; or the
                disk has no room.
        """
        if path is None:
            if resume:
                raise RunError("resume=True needs the run_dir of the run to resume; got run_dir=None.")
            return cls(None)
        path = as_path(path, "run_dir")
        if path.is_file():
            raise RunError(f"run_dir must be a directory; {path} is a file.")
        if told := special(path):
            raise RunError(f"run_dir must be a directory; {path} {told}.")
        _check_room(path)
        if not path.exists():
            return cls(path)
        directory = cls(path, held=None if worker else HeldFolder(path))
        try:
            directory._look(resume)
        except BaseException:
            directory.__exit__()  # else whoever keeps the error, as notebooks do, keeps the directory from a resume
            raise
        return directory

    def _look(self, resume: bool) -> None:
        """Look at what is in the directory, and read the configuration of the run that is resumed."""
        assert self.path is not None
        names = {file.name for file in self.path.iterdir() if not _UNFINISHED.fullmatch(file.name)}
        if names and not resume:
            raise RunError(
                f"run_dir {self.path} is not empty, and a run never overwrites another. "
                "Name a new directory, or pass resume=True (--resume) to continue the run in it."
            )
        if "config.json" in names:
            self.earlier, self.begun = read_document(self.path / "config.json", Settings, RunError), True
        elif names - {"environment.json"}:
            raise RunError(f"run_dir {self.path} has files but no config.json, so there is no run of vggft to resume.")

    def start(self, config: Mapping[str, Any], arguments: Mapping[str, Any] | None = None) -> None:
        """Write the configuration and environment of a new run, or check the configuration of a resumed one.

        Files that a killed process left unfinished are deleted from the whole directory.

        Args:
            config: the resolved configuration, ready for JSON; it determines the result of the run.
            arguments: the other arguments, which `environment.json` keeps.

        Raises:
            RunError: the directory holds a run with another configuration; the message lists the differences.
        """
        if self.path is None:
            return
        if self.begun:
            self.check_same(config, arguments)
        else:
            if self.held is None:
                self._hold()
            self.write_json("environment.json", environment(arguments or {}))
            self.write_json("config.json", config)  # last, as a directory that has one can be resumed
        remove_own(self.path, _UNFINISHED)

    def _hold(self) -> None:
        """Make the directory, and keep others out of it; another run may have begun in it since it was looked at."""
        assert self.path is not None
        with explained(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        self.held = HeldFolder(self.path)
        if (self.path / "config.json").exists():
            raise RunError(f"run_dir {self.path} holds another run, which has begun meanwhile: name a new directory.")

    def check_there(self) -> None:
        """Raise `RunError` if the directory is gone: what follows would be written without what was before."""
        if self.held is not None and not self.held.is_there():
            raise RunError(
                f"run_dir {self.held.path} is no longer there: it was removed, renamed or replaced during the run. "
                "Bring it back, or name it as it is called now, and continue with resume=True (--resume)."
            )

    def check_same(self, config: Mapping[str, Any], arguments: Mapping[str, Any] | None = None) -> None:
        """Raise `RunError` unless the directory holds a run with this configuration; the message lists differences.

        Args:
            config, arguments: as for `start`; the arguments are told first, since most differences follow from them.
        """
        assert self.path is not None
        config, arguments = json.loads(json.dumps([config, arguments or {}]))
        if changes := list(_differences(self.earlier, config)):
            before = dict[str, Any]()
            with suppress(RunError):  # without this file, what follows from the arguments says it
                before = read_document(self.path / "environment.json", Environment, RunError).get("arguments", {})
            given = _differences(before, arguments) if before and arguments else ()
            told = "; ".join(dict.fromkeys([*given, *changes]))
            raise RunError(
                f"run_dir {self.path} holds a run with another configuration, which cannot be resumed: {told}."
            )

    def inside(self, name: str) -> RunDirectory:
        """Return a subdirectory for a part of the run that has resume points of its own."""
        return RunDirectory(None if self.path is None else self.path / name, held=self.held)

    @property
    def classifier_path(self) -> Path | None:
        """The file of the finished classifier, which may not exist yet."""
        return None if self.path is None else self.path / "classifier.keras"

    @property
    def finished(self) -> bool:
        """Whether the classifier exists; it is the last file that a run writes."""
        return self.classifier_path is not None and self.classifier_path.exists()

    def write_text(self, name: str, text: str) -> None:
        """Write a text file, whole or not at all."""
        if self.path is not None:
            self.check_there()
            write_whole(self.path / name, text, overwrite=True)

    def write_json(self, name: str, value: Any) -> None:
        """Write a value as indented JSON."""
        self.write_text(name, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")

    def write_arrays(self, name: str, **arrays: np.ndarray) -> None:
        """Write arrays as a compressed .npz file."""
        if self.path is not None:
            self.check_there()
            with whole_file(self.path / name, overwrite=True) as aside:
                np.savez_compressed(aside, **arrays)  # type: ignore[arg-type]

    def write_table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write rows as a CSV file; see `writing.write_table`."""
        if self.path is not None:
            self.check_there()
            write_table(self.path / name, rows, overwrite=True)

    # A resume point is a named group of arrays with a note in JSON; it replaces the earlier one of that name.

    def point(self, name: str) -> Path:
        """Return the file of a resume point."""
        assert self.path is not None
        return self.path / "resume" / f"{name}.npz"

    def save_point(self, name: str, arrays: Sequence[np.ndarray], note: Mapping[str, Any]) -> None:
        """Write the state of a phase of the run."""
        if self.path is not None:
            self.check_there()
            with whole_file(self.point(name), overwrite=True) as aside:
                named: dict[str, Any] = {f"a{i}": array for i, array in enumerate(arrays)}
                np.savez(aside, note=np.array(json.dumps(note)), **named)

    def load_point(self, name: str, schema: Any = dict[str, Any]) -> tuple[list[np.ndarray], dict[str, Any]] | None:
        """Return what `save_point` wrote under this name, or None.

        Args:
            name: of the resume point.
            schema: what is in its note; see `documents`.

        Raises:
            RunError: the file is damaged; the message names the field.
        """
        if self.path is None or not (file := self.point(name)).exists():
            return None
        stored = read_arrays(file, RunError, {"note": ("U", ())})
        try:
            note = parse_document(str(stored.pop("note")), schema, nan=True)
            return [stored[f"a{i}"] for i in range(len(stored))], note
        except (DocumentError, KeyError) as error:
            told = f"lacks the array {error.args[0]}" if isinstance(error, KeyError) else f"{error}"
            raise RunError(f"{file} {told}. {REMEDY}") from error

    def drop_points(self) -> None:
        """Delete the resume points of a finished run, and the directory itself if nothing else is in it."""
        if self.path is not None and (points := self.path / "resume").exists():
            remove_own(points, _POINT, folders=True)
            with suppress(OSError):  # other things are in it
                self.path.rmdir()
