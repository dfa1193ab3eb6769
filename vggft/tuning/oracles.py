"""KerasTuner's oracles, extended so that a search that was killed continues as if it had not been.

This is the only module that touches KerasTuner's private state; `tests/tuning/test_oracles.py` fails when an extension
is no longer needed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras_tuner
import numpy as np

from ..documents import read_document
from ..errors import SearchError
from ..schemas import State
from ..writing import write_whole

MOST_FAILURES = 3  # in a row, after which a search ends


class _Kept:
    """Keeps the state of the whole search in one file, since a kill may leave one of KerasTuner's many files truncated.

    It also ends the search after three failures in a row. KerasTuner would raise an exception inside its lock, which
    leaves the workers of a chief waiting forever.
    """

    state_file: Path | None = None
    on_end: Callable[[str], object] = staticmethod(lambda trial_id: None)  # called with each trial that has ended
    held = False  # whether a round is running, which is saved as a whole or not at all

    def save(self) -> None:
        super().save()  # type: ignore[misc]
        if self.state_file is not None and not self.held:
            self.keep()

    def keep(self) -> None:
        """Write the state of the whole search."""
        assert self.state_file is not None
        oracle: Any = self
        state = {"oracle": oracle.get_state(), "trials": [trial.get_state() for trial in oracle.trials.values()]}
        write_whole(self.state_file, json.dumps(state), overwrite=True)

    def restore(self, project: Path) -> None:
        """Continue from the state file, and rewrite KerasTuner's own files in `project`.

        Raises:
            SearchError: the file is damaged.
        """
        assert self.state_file is not None
        oracle: Any = self
        if not self.state_file.exists():
            return
        state = read_document(self.state_file, State, SearchError, nan=True)
        known = [each["trial_id"] for each in state["trials"]]
        asked = {name for order in ("start_order", "end_order", "retry_queue") for name in state["oracle"][order]}
        if unknown := sorted(asked - set(known)):
            raise SearchError(
                f"{self.state_file} has {unknown[0]!r} in oracle.start_order, and no such trial in trials."
            )
        try:
            trials = [keras_tuner.engine.trial.Trial.from_state(each) for each in state["trials"]]
            oracle.trials = {trial.trial_id: trial for trial in trials}
            oracle.set_state(state["oracle"])
            # As in KerasTuner's own reload, trials that were running are handed out again.
            oracle._retry_queue += [t.trial_id for t in oracle.ongoing_trials.values() if t.status == "RUNNING"]
            oracle.ongoing_trials = {}
        except Exception as error:  # KerasTuner looks at nothing, and may raise anything
            raise SearchError(f"{self.state_file} cannot be read as the state of a search ({error}).") from error
        for trial in trials:
            folder = project / f"trial_{trial.trial_id}"
            folder.mkdir(parents=True, exist_ok=True)
            trial.save(str(folder / "trial.json"))
        for file in project.glob("trial_*/trial.json"):  # left by an unfinished round
            if file.parent.name.removeprefix("trial_") not in oracle.trials:
                file.unlink()
        super().save()  # type: ignore[misc]

    @property
    def failures(self) -> list[str]:
        """The last trials, if all of `MOST_FAILURES` failed, which ends the search."""
        oracle: Any = self
        last = oracle.end_order[-MOST_FAILURES:]
        failed = len(last) == MOST_FAILURES and all(oracle.trials[each].status == "FAILED" for each in last)
        return last if failed else []

    def end_trial(self, trial: Any) -> None:
        super().end_trial(trial)  # type: ignore[misc]
        self.on_end(trial.trial_id)

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        if self.failures:
            return {"status": "STOPPED"}
        found: dict[str, Any] = super().populate_space(trial_id)  # type: ignore[misc]
        return found


class Random(_Kept, keras_tuner.oracles.RandomSearchOracle):  # type: ignore[misc]
    """Draws uniformly from the space."""


class Bayesian(_Kept, keras_tuner.oracles.BayesianOptimizationOracle):  # type: ignore[misc]
    """Draws where a Gaussian process expects the best scores."""

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        # KerasTuner does not save this random state, so it is derived from the seed and the number of trials.
        self._random_state = np.random.RandomState((self.seed + len(self.trials)) % 2**32)
        return super().populate_space(trial_id)


class Grid(_Kept, keras_tuner.oracles.GridSearchOracle):  # type: ignore[misc]
    """Tries all combinations in order."""

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        if not self.start_order or self.failures:
            return super().populate_space(trial_id)
        # KerasTuner waits for the end of each trial, since it may add hyperparameters, and does not save its queue.
        # Here the space is known, and the next combination follows from the last one.
        values = self._get_next_combination(self.trials[self.start_order[-1]].hyperparameters.values)
        return {"status": "STOPPED"} if values is None else {"status": "RUNNING", "values": values}


class Hyperband(_Kept, keras_tuner.oracles.HyperbandOracle):  # type: ignore[misc]
    """Starts many trials of few epochs and trains the best of them longer."""


ALGORITHMS = ("random", "bayesian", "hyperband", "grid")


def make_oracle(algorithm: str, objective: str, direction: str, trials: int, seed: int) -> Any:
    """Make one of KerasTuner's oracles.

    Args:
        algorithm: one of `ALGORITHMS`.
        objective: the name of the score that trials report, for example `"val_accuracy"`.
        direction: `"max"` or `"min"`.
        trials: maximum number of trials; a grid or a small space may end earlier.
        seed: seed of the draws.
    """
    common = {
        "objective": keras_tuner.Objective(objective, direction),
        "seed": seed + 1,  # KerasTuner takes 0 for no seed
        "max_consecutive_failed_trials": trials + 1,  # see `_Kept`
    }
    if algorithm == "hyperband":
        oracle = Hyperband(max_epochs=hyperband_parts(trials), hyperband_iterations=trials, **common)
        oracle.max_trials = trials
        return oracle
    kinds = {"random": Random, "bayesian": Bayesian, "grid": Grid}
    return kinds[algorithm](max_trials=trials, **common)


def hyperband_parts(trials: int) -> int:
    """Return how many parts Hyperband divides the epochs of a trial into: 3, 9, 27, ..., as `trials` allows."""
    parts = 3
    while hyperband_size(3 * parts) <= trials:
        parts *= 3
    return parts


def hyperband_size(parts: int) -> int:
    """Return the number of trials in one iteration of Hyperband (arXiv:1603.06560, with KerasTuner's rounding)."""
    return sum(sum(rungs) for rungs in _rungs(parts))


def hyperband_first(parts: int) -> int:
    """Return the number of trials in the first rung, all of which can be trained before any score is known."""
    return _rungs(parts)[0][0]


def _rungs(parts: int, factor: int = 3) -> list[list[int]]:
    """Return the sizes of all rungs, bracket by bracket, the largest bracket first."""
    highest = sum(1 for power in range(1, 64) if parts >= factor**power)
    last = 1 + highest  # KerasTuner rounds the logarithm up
    return [
        [math.ceil(last / (bracket + 1) * factor ** (bracket - rung)) for rung in range(bracket + 1)]
        for bracket in reversed(range(highest + 1))
    ]
