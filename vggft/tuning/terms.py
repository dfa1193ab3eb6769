"""The terms of a search: its arguments, checked, with defaults that depend on the data."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, Self

import keras_tuner

from ..augment import named
from ..config import Head, Training
from ..errors import ConfigError, VggftError
from ..evaluation.metrics import METRICS
from ..fields import check_count, is_word, shown, unwrapped
from ..splits.pool import Pool
from ..training.phases import Setting
from .oracles import ALGORITHMS, hyperband_first, hyperband_parts
from .space import SearchSpace, declaration
from .workers import is_chief, is_worker

MOST = {"trials": 100_000, "repeats": 1000, "keep_top": 100_000, "folds": 1000, "parallel_trials": 100_000}
MOST_AT_ONCE = 64  # trials of a round: enough for full populations, few enough for timely reports
DISTRIBUTED_AT_ONCE = 4  # so that every worker gets some
BAYESIAN_AT_ONCE = 8  # the Gaussian process learns only between rounds


@dataclass(frozen=True)
class Terms:
    """The arguments of `search` that `finetune` does not have; `search` documents them."""

    space: SearchSpace | Callable[[Any], tuple[Head, Training]]
    trials: int
    algorithm: str
    objective: str | None
    folds: int | None
    repeats: int
    winner: Literal["scored", "refit"] | None
    keep_top: int
    parallel_trials: int | Literal["auto"]

    def __post_init__(self) -> None:
        for field in fields(self):
            object.__setattr__(self, field.name, unwrapped(getattr(self, field.name)))
        if not (isinstance(self.space, SearchSpace) or callable(self.space)):
            raise ConfigError(
                "space must be a vggft.SearchSpace, or a function of keras_tuner.HyperParameters that returns "
                f"(Head, Training); got {shown(self.space)}."
            )
        lowest = {"trials": 1, "repeats": 1, "keep_top": 1, "folds": 2, "parallel_trials": 1}
        for name, low in lowest.items():
            value = getattr(self, name)
            if (name == "folds" and value is None) or (name == "parallel_trials" and is_word(value, ("auto",))):
                continue
            check_count(name, value, low, MOST[name])
        if not is_word(self.algorithm, ALGORITHMS):
            raise ConfigError(f"algorithm must be one of {', '.join(ALGORITHMS)}; got {shown(self.algorithm)}.")
        if not (self.objective is None or (isinstance(self.objective, str) and self.objective)):
            raise ConfigError(
                f"objective must be a metric such as 'val_accuracy', or None; got {shown(self.objective)}."
            )
        if self.algorithm == "grid" and not isinstance(self.space, SearchSpace):
            raise ConfigError("A grid needs a SearchSpace, since a function may add hyperparameters during the search.")
        if not (self.winner is None or is_word(self.winner, ("scored", "refit"))):
            raise ConfigError(f"winner must be 'scored' or 'refit'; got {shown(self.winner)}.")
        if self.winner == "scored" and self.folds is not None:
            raise ConfigError("With folds, no weights are scored on all validation images: winner must be 'refit'.")

    def check(self, freeze: Any, fixed: Setting) -> None:
        """Raise `ConfigError` unless a setting can be drawn from the space, with the rest as in `fixed`."""
        space = self.space
        if isinstance(space, SearchSpace) and space.freeze is not None and freeze != "all":
            raise ConfigError(
                f"freeze={freeze!r} and SearchSpace.freeze={space.freeze!r} were both given: leave one out."
            )
        try:
            declaration(space, fixed)(keras_tuner.HyperParameters())
        except VggftError:
            raise
        except Exception as error:
            raise ConfigError(f"The search space cannot be drawn from ({type(error).__name__}: {error}).") from error

    @property
    def learned(self) -> tuple[str, ...]:
        """The splits that the final classifier learns from."""
        return ("train", "validation") if self.winner == "refit" else ("train",)

    @property
    def metric(self) -> str:
        """The objective as a metric of an evaluation, without `val_`."""
        return (self.objective or "accuracy").removeprefix("val_")

    @property
    def parallel(self) -> int:
        """Number of trials in a round: enough to fill populations, fewer if the oracle learns from each trial."""
        if self.parallel_trials != "auto":
            return int(self.parallel_trials)
        if is_worker() or is_chief():
            return DISTRIBUTED_AT_ONCE
        if self.algorithm == "hyperband":
            return hyperband_first(hyperband_parts(self.trials))
        return min(self.trials, BAYESIAN_AT_ONCE if self.algorithm == "bayesian" else MOST_AT_ONCE)

    def resolve(self, pool: Pool, adjusts: bool) -> Self:
        """Return the terms with an objective that these images define, and with what becomes of the winner.

        Args:
            adjusts: whether the winner is calibrated or has its thresholds tuned, on images that it did not learn from.

        Raises:
            ConfigError: there is no such metric for them.
        """
        refits = self.folds is not None or ("test" in pool.rows and not adjusts)
        resolved = replace(
            self,
            objective=self.objective or ("average_precision" if pool.multi_label else "accuracy"),
            winner=self.winner or ("refit" if refits else "scored"),
        )
        known = [name for name, row in METRICS.items() if row.applies(pool.multi_label, len(pool.class_names))]
        if resolved.metric not in known:
            names = ", ".join(f"val_{name}" for name in known)
            raise ConfigError(f"objective must be one of {names}; got {shown(self.objective)}.")
        return resolved

    def config(self, fixed: Setting) -> dict[str, Any]:
        """Return what determines the result, as JSON."""
        return {
            "search": self.space.to_dict() if isinstance(self.space, SearchSpace) else _told(self.space),
            "frozen": list(fixed.frozen),
            "head": fixed.head.to_dict(),
            "training": fixed.training.to_dict(),
            "trials": self.trials,
            "algorithm": self.algorithm,
            "objective": self.metric,
            "folds": self.folds,
            "repeats": self.repeats,
            "winner": self.winner,
            "parallel_trials": self.parallel,
        }


def _told(function: Callable[..., Any]) -> list[str | None]:
    """Return the name and source of a function, to tell it from another one of that name."""
    try:
        return [named(function), inspect.getsource(function)]
    except (OSError, TypeError):
        return [named(function), None]
