"""KerasTuner's oracles, extended so that a search that was killed continues as if it had not been.

This is the only module that touches KerasTuner's private state; `tests/tuning/test_oracles.py` fails when an extension
is no longer needed.
"""

from __future__ import annotations

import copy
import inspect
import json
import math
from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import keras_tuner
import numpy as np
from threadpoolctl import threadpool_limits

from ..errors import ConfigError, SearchError
from ..files.documents import read_document
from ..files.schemas import State
from ..files.writing import write_whole
from .goals import Goal

STATE = "search_state.json"


class Oracle(Protocol):
    """An oracle of KerasTuner, which has no types of its own."""

    def create_trial(self, tuner_id: str) -> Any: ...


class _Kept:
    """Keeps the state of the whole search in one file, since a kill may leave one of KerasTuner's many files truncated.

    It also ends the search after several failures in a row. KerasTuner would raise an exception inside its lock, which
    leaves the workers of a chief waiting forever. A trial that crashed is tried again by the tuner, in the same round.
    """

    most_failures = 3  # in a row, after which the search ends
    tries = 1  # of each trial that crashes
    epochs: int | None = None  # of the longest trial, if KerasTuner's arguments say it
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
        known = {each["trial_id"] for each in state["trials"]}
        for order in ("start_order", "end_order", "retry_queue"):
            if unknown := sorted(set(state["oracle"][order]) - known):
                raise SearchError(
                    f"{self.state_file} has {unknown[0]!r} in oracle.{order}, and no such trial in trials."
                )
        try:
            trials = [keras_tuner.engine.trial.Trial.from_state(each) for each in state["trials"]]
            oracle.trials = {trial.trial_id: trial for trial in trials}
            iterations = getattr(oracle, "hyperband_iterations", None)
            oracle.set_state(state["oracle"])
            if iterations is not None:  # a search that is made longer has more
                oracle.hyperband_iterations = iterations
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
        """The first trials in a row that failed, if they are as many as end the search."""
        oracle: Any = self
        ended = ((each, oracle.trials[each].status == "FAILED") for each in oracle.end_order)
        return in_a_row(ended, self.most_failures)

    @property
    def candidates(self) -> set[str]:
        """The trials that Hyperband may still continue."""
        oracle: Any = self
        rungs = [pair for bracket in getattr(oracle, "_brackets", ()) for pair in pairwise(bracket["rounds"])]
        continued = {each["past_id"] for _, high in rungs for each in high}
        return {each["id"] for low, _ in rungs for each in low} - continued

    def _record_values(self, trial: Any) -> None:
        # KerasTuner forgets what it proposed once a trial adds values, and would propose it again.
        oracle: Any = self
        proposed = set(oracle._tried_so_far)
        super()._record_values(trial)  # type: ignore[misc]
        oracle._tried_so_far |= proposed

    def end_trial(self, trial: Any) -> None:
        super().end_trial(trial)  # type: ignore[misc]
        self.on_end(trial.trial_id)

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        if self.failures:
            return {"status": "STOPPED"}
        found: dict[str, Any] = super().populate_space(trial_id)  # type: ignore[misc]
        return found


class _Bayesian(_Kept):
    def populate_space(self, trial_id: str) -> dict[str, Any]:
        oracle: Any = self
        # KerasTuner does not save this random state, so it is derived from the seed and the number of trials.
        oracle._random_state = np.random.RandomState((oracle.seed + len(oracle.trials)) % 2**32)
        if oracle.num_initial_points and oracle.ongoing_trials:
            completed = sum(trial.status == "COMPLETED" for trial in oracle.trials.values())
            if completed < oracle.num_initial_points <= completed + len(oracle.ongoing_trials):
                return {"status": "IDLE"}  # else a round would begin with more points at random than were asked for
        with threadpool_limits(1):  # the matrices are tiny: several threads of BLAS take twice as long
            return super().populate_space(trial_id)


class _Grid(_Kept):
    def populate_space(self, trial_id: str) -> dict[str, Any]:
        oracle: Any = self
        if not oracle.start_order or self.failures:
            return super().populate_space(trial_id)
        # KerasTuner waits for the end of each trial, since it may add hyperparameters, and does not save its queue.
        # Here the space is known, and the next combination follows from the last one.
        values = oracle._get_next_combination(oracle.trials[oracle.start_order[-1]].hyperparameters.values)
        return {"status": "STOPPED"} if values is None else {"status": "RUNNING", "values": values}


KINDS: dict[type[Any], type[_Kept]] = {
    keras_tuner.oracles.BayesianOptimizationOracle: _Bayesian,
    keras_tuner.oracles.GridSearchOracle: _Grid,
    keras_tuner.Oracle: _Kept,
}
ALGORITHMS = ("random", "bayesian", "hyperband", "grid")
MOST_COMBINATIONS = 10_000  # of a grid, which are counted in seconds


def make_oracle(algorithm: str | Oracle, goal: Goal, trials: int, seed: int, first: int | None = None) -> Any:
    """Make an oracle that keeps its state.

    Args:
        algorithm: one of `ALGORITHMS`, or an oracle of KerasTuner, which is copied.
        goal: what trials are scored by.
        trials: maximum number of trials; a grid or a small space may end earlier.
        seed: seed of the draws; an oracle has its own.
        first: number of trials that the search had before it was made longer.
    """
    given: Any = plain_oracle(algorithm, first or trials, seed) if isinstance(algorithm, str) else algorithm
    kind = next(kind for theirs, kind in KINDS.items() if isinstance(given, theirs))
    oracle = copy.deepcopy(given)
    oracle.__class__ = type(f"Kept{type(given).__name__}", (kind, type(given)), {})
    oracle.objective, oracle.max_trials = goal.objective(), trials
    oracle.most_failures, oracle.tries = oracle.max_consecutive_failed_trials, oracle.max_retries_per_trial + 1
    oracle.max_consecutive_failed_trials = -1  # see `_Kept`, which also counts the tries
    oracle.max_retries_per_trial = 0
    if not isinstance(algorithm, str):
        oracle.epochs = getattr(oracle, "max_epochs", None)
    if size := _iteration(oracle):
        oracle.hyperband_iterations = max(oracle.hyperband_iterations, math.ceil(trials / size))
    return oracle


def plain_oracle(algorithm: str, trials: int, seed: int) -> Any:
    """Make one of KerasTuner's oracles by its name."""
    seed += 1  # KerasTuner takes 0 for no seed
    if algorithm == "hyperband":
        parts = hyperband_parts(trials)
        return keras_tuner.oracles.HyperbandOracle(max_epochs=parts, hyperband_iterations=trials, seed=seed)
    kinds = {
        "random": keras_tuner.oracles.RandomSearchOracle,
        "bayesian": keras_tuner.oracles.BayesianOptimizationOracle,
        "grid": keras_tuner.oracles.GridSearchOracle,
    }
    return kinds[algorithm](max_trials=trials, seed=seed)


def check_oracle(oracle: Any, declare: Callable[[Any], Any]) -> int | None:
    """Return the number of trials that an oracle has by its arguments, or by its space; None if it has no end.

    Args:
        declare: a function of hyperparameters.

    Raises:
        ConfigError: it has been used already.
        Exception: it does not take these hyperparameters, or they cannot be declared.
    """
    if oracle.trials:
        raise ConfigError(f"The oracle has {len(oracle.trials)} trials of another search already: make a new one.")
    probe = copy.deepcopy(oracle)
    declare(hp := probe.get_space())
    probe.update_space(hp)
    if oracle.max_trials:
        return int(oracle.max_trials)
    if size := _iteration(oracle):
        return None if oracle.hyperband_iterations == math.inf else int(oracle.hyperband_iterations * size)
    if not isinstance(oracle, keras_tuner.oracles.GridSearchOracle):
        return None
    size, values = 0, dict(probe.get_space().values)
    while values is not None and size < MOST_COMBINATIONS:
        size, values = size + 1, probe._get_next_combination(values)
    return size if values is None else None


def _iteration(oracle: Any) -> int:
    """Return the number of trials in one iteration of Hyperband; 0 for another oracle."""
    if not isinstance(oracle, keras_tuner.oracles.HyperbandOracle):
        return 0
    brackets = range(oracle._get_num_brackets())
    return sum(oracle._get_size(bracket, rung) for bracket in brackets for rung in range(bracket + 1))


def first_round(oracle: Any) -> int | None:
    """Return the number of trials that Hyperband proposes before it needs a score; None for another oracle."""
    if not isinstance(oracle, keras_tuner.oracles.HyperbandOracle):
        return None
    return int(oracle._get_size(oracle._get_num_brackets() - 1, 0))


def told(oracle: Any) -> dict[str, Any]:
    """Return the kind of an oracle and its arguments, for JSON, without the seed, which it may have drawn itself."""
    elsewhere = {"self", "objective", "max_trials", "hyperband_iterations", "seed", "hyperparameters"}
    names = [name for name in inspect.signature(type(oracle)).parameters if name not in elsewhere]
    found = {name: getattr(oracle, name) for name in names if hasattr(oracle, name)}
    plain = {
        name: value for name, value in found.items() if value is None or isinstance(value, (bool, int, float, str))
    }
    return {"kind": type(oracle).__name__, **plain, "space": oracle.hyperparameters.get_config()["space"]}


def space_of(directory: Path) -> list[Any]:
    """Return the hyperparameters of the search in a directory, as KerasTuner configures them."""
    if not (file := directory / STATE).exists():
        return []
    return list(read_document(file, State, SearchError)["oracle"]["hyperparameters"]["space"])


def in_a_row(ended: Iterable[tuple[str, bool]], limit: int) -> list[str]:
    """Return the first `limit` trials in a row that failed; none if there are not so many.

    >>> in_a_row([("0", True), ("1", False), ("2", True), ("3", True), ("4", False)], 2)
    ['2', '3']
    """
    row: list[str] = []
    for trial, failed in ended:
        row = [*row, trial] if failed else []
        if len(row) == limit:
            return row
    return []


def hyperband_parts(trials: int) -> int:
    """Return how many parts Hyperband divides the epochs of a trial into: 3, 9, 27, ..., as `trials` allows."""
    parts = 3
    while hyperband_size(3 * parts) <= trials:
        parts *= 3
    return parts


def hyperband_size(parts: int) -> int:
    """Return the number of trials in one iteration of Hyperband (arXiv:1603.06560, with KerasTuner's rounding)."""
    return sum(sum(rungs) for rungs in _rungs(parts))


def _rungs(parts: int, factor: int = 3) -> list[list[int]]:
    """Return the sizes of all rungs, bracket by bracket, the largest bracket first."""
    highest = sum(1 for power in range(1, 64) if parts >= factor**power)
    last = 1 + highest  # KerasTuner rounds the logarithm up
    return [
        [math.ceil(last / (bracket + 1) * factor ** (bracket - rung)) for rung in range(bracket + 1)]
        for bracket in reversed(range(highest + 1))
    ]
