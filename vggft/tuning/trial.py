"""What a trial is: drawn from a search space by KerasTuner's hyperparameters, and what it came to, on the disk."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from ..config import Head, Training
from ..run import whole_file

OUTCOME, WEIGHTS = "outcome.json", "head.npz"


@dataclass(frozen=True)
class Trial:
    """One trial of a search and what it came to.

    Args:
        trial_id: as KerasTuner calls it.
        status: `"completed"` or `"failed"`.
        hyperparameters: as they were drawn.
        frozen: the blocks that were frozen.
        head: what was trained.
        training: how, resolved for the number of images.
        score: the objective on validation images, the mean where there are several scores.
        scores: one for every fold or repeat.
        interval: of the mean, 95 % by Student's t, where there are several; folds share images, so it is too narrow.
        metrics: further ones on the validation images, means as well.
        epochs: the best of each phase.
        seconds: that it took; of a population, its share.
        way: how it was trained: in a population of so many, or alone and why.
        reason: why it failed.
        history: one row an epoch, of the first training.
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

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self) | {"head": self.head.to_dict(), "training": self.training.to_dict()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Trial:
        """The inverse of `to_dict` after a trip through JSON."""
        known = {field.name for field in fields(cls)}
        read: Any = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items() if name in known}
        return cls(
            **read | {"head": Head.from_dict(values["head"]), "training": Training.from_dict(values["training"])}
        )

    def to_row(self) -> dict[str, Any]:
        """As a row of a table: hyperparameters, score, and the rest that is a number or a word."""
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
    """Keep what a trial came to; the words come last, so that what has them has its weights."""
    if weights is not None:
        with whole_file(folder / WEIGHTS) as aside:
            arrays: Any = {name: np.asarray(array) for name, array in weights.items()}
            np.savez(aside, **arrays)
    with whole_file(folder / OUTCOME) as aside:
        aside.write_text(json.dumps(trial.to_dict(), indent=2), encoding="utf-8")


def read_outcome(folder: Path, hyperparameters: Mapping[str, Any] | None = None) -> Trial | None:
    """What a trial came to; None if it did not end, or had other hyperparameters."""
    try:
        trial = Trial.from_dict(json.loads((folder / OUTCOME).read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if hyperparameters is not None and trial.hyperparameters != dict(hyperparameters):
        return None
    return trial


def read_outcomes(project: Path) -> list[Trial]:
    """What all trials came to that ended, in the order of their numbers."""
    return [trial for folder in sorted(project.glob("trial_*")) if (trial := read_outcome(folder))]


def ranked(trials: Iterable[Trial], direction: str) -> list[Trial]:
    """The completed ones, the best first; of equal ones that with the lower loss."""
    sign = -1 if direction == "max" else 1
    completed = [trial for trial in trials if trial.status == "completed"]
    return sorted(
        completed,
        key=lambda trial: (sign * (trial.score or 0.0), (trial.metrics or {}).get("val_log_loss", 0.0), trial.trial_id),
    )


def read_weights(folder: Path) -> dict[str, np.ndarray] | None:
    """What a trial learned, if it is kept."""
    try:
        with np.load(folder / WEIGHTS, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except OSError:
        return None
