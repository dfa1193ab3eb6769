"""A trial and its outcome, and the files that hold them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from ..config import Head, Training
from ..errors import ConfigError, SearchError
from ..files.archives import check_finite, read_arrays
from ..files.documents import DocumentError, parse_document, read_document
from ..files.schemas import Outcome
from ..files.writing import whole_file, write_whole
from ..heads.resampling import Fitted

PROJECT = "trials"  # the folder of KerasTuner's project in a run directory
OUTCOME, WEIGHTS, RUNG = "outcome.json", "head.npz", "rung.npz"


@dataclass(frozen=True)
class Trial:
    """One trial of a search and its outcome.

    Args:
        trial_id: KerasTuner's number of the trial.
        status: `"completed"` or `"failed"`.
        hyperparameters: the hyperparameters that were drawn.
        frozen: the blocks that were frozen.
        head: the head that was trained.
        training: how it was trained, resolved for the number of images.
        score: the objective on validation images, the mean of `scores`.
        scores: one score for each fold and repeat.
        interval: 95 % interval of the mean by Student's t, if there are several scores; it is too narrow, since folds
            share images.
        metrics: further metrics on the validation images, also means.
        epochs: the best epoch of each phase.
        seconds: training time; for a member of a population, its share.
        way: how it was trained: in a population, or alone and why.
        reason: why it failed.
        history: the history of the first training, one row per epoch.
    """

    trial_id: str
    status: str
    hyperparameters: dict[str, Any]
    frozen: tuple[str, ...]
    head: Head
    training: Training
    score: float | None = None
    scores: tuple[float, ...] = ()
    interval: tuple[float, float] | None = None
    metrics: dict[str, float] | None = None
    epochs: dict[str, int] | None = None
    seconds: float = 0.0
    way: str = ""
    reason: str = ""
    history: tuple[dict[str, Any], ...] = ()

    @property
    def number(self) -> tuple[int, str]:
        """What trials are sorted by: a search that was made longer has numbers of several widths."""
        return int(self.trial_id) if self.trial_id.isdecimal() else 0, self.trial_id

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return asdict(self) | {"head": self.head.to_dict(), "training": self.training.to_dict()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Trial:
        """Make a trial from the output of `to_dict`, also after JSON."""
        known = {field.name for field in fields(cls)}
        read: Any = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items() if name in known}
        return cls(
            **read | {"head": Head.from_dict(values["head"]), "training": Training.from_dict(values["training"])}
        )

    def to_row(self) -> dict[str, Any]:
        """Return a row of a table: hyperparameters, score, and everything else that is a number or a word."""
        low, high = self.interval or (None, None)
        return {
            "trial": self.trial_id,
            "status": self.status,
            **self.hyperparameters,
            "score": self.score,
            "low": low,
            "high": high,
            **(self.metrics or {}),
            "frozen": " ".join(self.frozen),
            "units": " ".join(map(str, self.head.units)),
            "seconds": round(self.seconds, 3),
            "way": self.way,
            "reason": self.reason.strip().splitlines()[-1] if self.reason.strip() else "",
        }


def write_outcome(folder: Path, trial: Trial, weights: Mapping[str, np.ndarray] | None) -> None:
    """Write the outcome of a trial, after its weights, so that a trial with an outcome has its weights."""
    if weights is not None:
        with whole_file(folder / WEIGHTS, overwrite=True) as aside:
            arrays: Any = {name: np.asarray(array) for name, array in weights.items()}
            np.savez(aside, **arrays)
    write_whole(folder / OUTCOME, json.dumps(trial.to_dict(), indent=2), overwrite=True)


def read_outcome(folder: Path, hyperparameters: Mapping[str, Any] | None = None) -> Trial | None:
    """Read the outcome of a trial; None if it did not end, or had other hyperparameters.

    Raises:
        SearchError: the file is damaged; the message names the field.
    """
    if not (path := folder / OUTCOME).exists():
        return None
    try:
        trial = Trial.from_dict(read_document(path, Outcome, SearchError, nan=True))
    except ConfigError as error:
        raise SearchError(f"{path} has settings that cannot be: {error}") from None
    if hyperparameters is not None and trial.hyperparameters != dict(hyperparameters):
        return None
    return trial


def read_outcomes(project: Path) -> list[Trial]:
    """Read the outcomes of all trials that ended, in the order of their numbers."""
    found = [trial for folder in project.glob("trial_*") if (trial := read_outcome(folder))]
    return sorted(found, key=lambda trial: trial.number)


def ranked(trials: Iterable[Trial], direction: str) -> list[Trial]:
    """Sort the completed trials, best first; of equal ones, the one with the lower validation loss first."""
    sign = -1 if direction == "max" else 1
    completed = [trial for trial in trials if trial.status == "completed"]
    return sorted(
        completed,
        key=lambda trial: (sign * (trial.score or 0.0), (trial.metrics or {}).get("val_log_loss", 0.0), trial.number),
    )


def read_weights(folder: Path) -> dict[str, np.ndarray] | None:
    """Read the weights of a trial, if they were kept.

    Raises:
        SearchError: the file is damaged, or has NaN; the message names the weight.
    """
    if not (path := folder / WEIGHTS).exists():
        return None
    found = read_arrays(path, SearchError)
    try:
        for name, array in found.items():
            check_finite(name, array)
    except DocumentError as error:
        raise SearchError(f"{path} {error}.") from None
    return found


def scored(trial: Trial, folder: Path) -> Fitted:
    """Return the weights of a trial that were scored."""
    if (weights := read_weights(folder)) is None:
        told = f"The weights of trial {trial.trial_id} are not in {folder}"
        raise SearchError(f"{told}; use winner='refit' (--winner refit).")
    return Fitted(weights, list(trial.history))


def write_rung(folder: Path, fitted: Mapping[str, Fitted]) -> None:
    """Write what a trial learned on each fold, by the fold's name, for another trial that continues it."""
    arrays: Any = {f"{fold}/{name}": array for fold, each in fitted.items() for name, array in each.weights.items()}
    histories = json.dumps({fold: each.history for fold, each in fitted.items()})
    with whole_file(folder / RUNG, overwrite=True) as aside:
        np.savez(aside, histories=np.array(histories), **arrays)


def read_rung(folder: Path, fold: str) -> Fitted | None:
    """Read what a trial learned on a fold; None if it was not kept.

    Raises:
        SearchError: the file is damaged.
    """
    if not (path := folder / RUNG).exists():
        return None
    stored = read_arrays(path, SearchError, {"histories": ("U", ())})
    try:
        histories = parse_document(str(stored["histories"]), dict[str, list[dict[str, Any]]], nan=True)
    except DocumentError as error:
        raise SearchError(f"{path} {error}.") from None
    if fold not in histories:
        return None
    names = [name for name in stored if name.startswith(f"{fold}/")]
    return Fitted({name.removeprefix(f"{fold}/"): stored[name] for name in names}, histories[fold])
