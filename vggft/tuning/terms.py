"""What a search may be asked for: checked, and what is left open settled."""

from __future__ import annotations

import inspect
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import ConfigError, RunError
from ..evaluation.metrics import METRICS
from ..training.experiment import Base
from .oracles import ALGORITHMS, hyperband_first, hyperband_parts
from .space import SearchSpace
from .tuner import is_chief, is_worker

MOST_AT_ONCE = 64  # trials of a round: enough for full populations, few enough to be heard of
PATIENCE_WITH_CHIEF = 1800  # seconds
DISTRIBUTED_AT_ONCE = 4  # so that all workers have some
BAYESIAN_AT_ONCE = 8  # a process that has heard of little says little


def check_terms(
    space: Any,
    trials: int,
    algorithm: str,
    folds: int | None,
    repeats: int,
    winner: str,
    keep_top: int,
    parallel: int | str,
    freeze: Any,
) -> None:
    """Raise `ConfigError` for what cannot be asked of a search."""
    if not (isinstance(space, SearchSpace) or callable(space)):
        raise ConfigError(
            f"space must be a vggft.SearchSpace, or a function of keras_tuner.HyperParameters that gives "
            f"(Head, Training); got {space!r}."
        )
    if isinstance(space, SearchSpace) and space.freeze is not None and freeze != "all":
        raise ConfigError(f"freeze={freeze!r} and SearchSpace.freeze={space.freeze!r} were both given: leave one out.")
    counts = {"trials": (trials, 1), "repeats": (repeats, 1), "keep_top": (keep_top, 1)}
    counts |= {"folds": (folds, 2)} if folds is not None else {}
    counts |= {"parallel_trials": (parallel, 1)} if parallel != "auto" else {}  # type: ignore[dict-item]
    for name, (value, low) in counts.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < low:
            raise ConfigError(f"{name} must be an integer >= {low}; got {value!r}.")
    if algorithm not in ALGORITHMS:
        raise ConfigError(f"algorithm must be one of {', '.join(ALGORITHMS)}; got {algorithm!r}.")
    if algorithm == "grid" and not isinstance(space, SearchSpace):
        raise ConfigError("A grid needs a SearchSpace, since a function may bring new hyperparameters as it goes.")
    if winner not in ("scored", "refit"):
        raise ConfigError(f"winner must be 'scored' or 'refit'; got {winner!r}.")
    if winner == "scored" and folds is not None:
        raise ConfigError("After folds no weights were scored on all validation images: winner must be 'refit'.")


def await_chief(run_dir: str | os.PathLike[str]) -> None:
    """A worker begins when its chief has said what the search is."""
    for _ in range(PATIENCE_WITH_CHIEF):
        if is_chief() or (Path(run_dir) / "config.json").exists():
            return
        time.sleep(1)
    raise RunError(f"No chief has begun a search in {run_dir} within {PATIENCE_WITH_CHIEF // 60} minutes.")


def source_of(function: Callable[..., Any]) -> str | None:
    """What a function says, so that another one of its name is told from it; None where that cannot be read."""
    try:
        return inspect.getsource(function)
    except (OSError, TypeError):
        return None


def objective_of(objective: str | None, base: Base) -> str:
    """The metric without its `val_`."""
    multi_label = base.pool.multi_label
    metric = (objective or ("average_precision" if multi_label else "accuracy")).removeprefix("val_")
    known = [name for name, row in METRICS.items() if row.applies(multi_label, len(base.pool.class_names))]
    if metric not in known:
        raise ConfigError(f"objective must be one of {', '.join(f'val_{n}' for n in known)}; got {objective!r}.")
    return metric


def parallel_of(asked: int | str, algorithm: str, trials: int) -> int:
    """How many trials the oracle hands out at once: as many as fill populations, fewer where it learns from each."""
    if asked != "auto":
        return int(asked)
    if is_worker() or is_chief():
        return DISTRIBUTED_AT_ONCE
    if algorithm == "hyperband":
        return hyperband_first(hyperband_parts(trials))
    return min(trials, BAYESIAN_AT_ONCE if algorithm == "bayesian" else MOST_AT_ONCE)
