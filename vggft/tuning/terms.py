"""The terms of a search: its arguments, checked, with defaults that depend on the data."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, Self

import keras_tuner
from keras_tuner.errors import FatalError

from ..augment import named
from ..classifier import Classifier, load
from ..errors import ConfigError, SearchError, VggftError
from ..evaluation.metrics import METRICS
from ..fields import check_count, is_word, shown, unwrapped
from ..files.documents import read_document
from ..files.schemas import Found
from ..finetuning import check_keras
from ..pipeline import Run
from ..splits.pool import Pool
from ..training.phases import Setting
from .goals import Goal, goal_of
from .oracles import ALGORITHMS, check_oracle, first_round, plain_oracle, told
from .result import SearchResult, result_of
from .space import SearchSpace, adopted, declaration
from .trial import PROJECT, read_outcomes
from .workers import is_chief, is_worker

MOST = {"trials": 100_000, "repeats": 1000, "keep_top": 100_000, "folds": 1000, "parallel_trials": 100_000}
MOST_AT_ONCE = 64  # trials of a round: enough for full populations, few enough for timely reports
DISTRIBUTED_AT_ONCE = 4  # so that every worker gets some
BAYESIAN_AT_ONCE = 8  # the Gaussian process learns only between rounds
USUAL_TRIALS = 30
DRAWN = 50  # trials whose cost is estimated


@dataclass(frozen=True)
class Terms:
    """The arguments of `search` that `finetune` does not have; `search` documents them."""

    space: Any
    trials: int | None
    algorithm: Any
    objective: Any
    folds: int | None
    repeats: int
    winner: Literal["scored", "refit"] | None
    keep_top: int
    parallel_trials: int | Literal["auto"]
    callbacks: Sequence[Any] = ()
    first: int | None = None  # number of trials that the search had before it was made longer

    def __post_init__(self) -> None:
        for field in fields(self):
            object.__setattr__(self, field.name, unwrapped(getattr(self, field.name)))
        is_model = isinstance(self.space, keras_tuner.HyperModel)
        if not (isinstance(self.space, SearchSpace) or callable(self.space) or is_model):
            raise ConfigError(
                "space must be a vggft.SearchSpace, or a function of keras_tuner.HyperParameters that returns "
                f"(Head, Training), or a keras_tuner.HyperModel with such a build; got {shown(self.space)}."
            )
        if is_model and type(self.space).fit is not keras_tuner.HyperModel.fit:
            raise ConfigError(
                f"{type(self.space).__name__}.fit would not be called, since vggft trains heads together, on frozen "
                "features: leave it out, and return a Training from build."
            )
        lowest = {"trials": 1, "repeats": 1, "keep_top": 1, "folds": 2, "parallel_trials": 1}
        for name, low in lowest.items():
            value = getattr(self, name)
            if (name in ("folds", "trials") and value is None) or (
                name == "parallel_trials" and is_word(value, ("auto",))
            ):
                continue
            check_count(name, value, low, MOST[name])
        if not (is_word(self.algorithm, ALGORITHMS) or isinstance(self.algorithm, keras_tuner.Oracle)):
            raise ConfigError(
                f"algorithm must be one of {', '.join(ALGORITHMS)}, or an oracle such as "
                f"keras_tuner.oracles.RandomSearchOracle(max_trials=30); got {shown(self.algorithm)}."
            )
        if not isinstance(self.objective, Goal):
            object.__setattr__(self, "objective", self._goal())
        if self._is(keras_tuner.oracles.GridSearchOracle) and not isinstance(self.space, SearchSpace):
            raise ConfigError("A grid needs a SearchSpace, since a function may add hyperparameters during the search.")
        if not (self.winner is None or is_word(self.winner, ("scored", "refit"))):
            raise ConfigError(f"winner must be 'scored' or 'refit'; got {shown(self.winner)}.")
        if self.winner == "scored" and self.folds is not None:
            raise ConfigError(
                "With folds, no weights are scored on all validation images: winner must be 'refit' (--winner refit)."
            )
        check_keras(self.callbacks)
        try:
            copy.deepcopy(list(self.callbacks))
        except Exception as error:
            raise ConfigError(f"callbacks must be such that every trial can have copies of them: {error}.") from error
        if isinstance(self.algorithm, keras_tuner.Oracle) and isinstance(self.space, SearchSpace):
            object.__setattr__(self, "space", adopted(self.space, self.algorithm.hyperparameters))

    def _goal(self) -> Goal | None:
        """Return the goal by the objective, or by that of the oracle."""
        own = goal_of(getattr(self.algorithm, "objective", None))
        goal = goal_of(self.objective) or own
        if own is not None and goal != own:
            raise ConfigError(f"objective={goal} and {own} of the oracle were both given: leave one out.")
        return goal

    def _is(self, kind: type[Any]) -> bool:
        """Whether the oracle is of a kind."""
        return isinstance(self.oracle, kind)

    @property
    def oracle(self) -> Any:
        """The oracle as KerasTuner makes it."""
        if isinstance(self.algorithm, keras_tuner.Oracle):
            return self.algorithm
        return plain_oracle(self.algorithm, self.first or self.trials or USUAL_TRIALS, 0)

    @property
    def name(self) -> str:
        """The name of the algorithm."""
        return self.algorithm if isinstance(self.algorithm, str) else type(self.algorithm).__name__

    def check(self, freeze: Any, fixed: Setting) -> Self:
        """Return the terms with the number of trials.

        Raises:
            ConfigError: no setting can be drawn from the space, with the rest as in `fixed`, or the search has no end.
        """
        space = self.space
        if isinstance(space, SearchSpace) and space.freeze is not None and freeze != "all":
            raise ConfigError(
                f"freeze={freeze!r} and SearchSpace.freeze={space.freeze!r} were both given: leave one out."
            )
        try:
            most = check_oracle(self.oracle, declaration(space, fixed))
        except (VggftError, FatalError):
            raise
        except Exception as error:
            raise ConfigError(f"The search space cannot be drawn from ({type(error).__name__}: {error}).") from error
        if isinstance(self.algorithm, str):
            return replace(self, trials=self.trials or USUAL_TRIALS)
        if self.trials and self.algorithm.max_trials and self.trials != self.algorithm.max_trials:
            raise ConfigError(
                f"trials={self.trials} and max_trials={self.algorithm.max_trials} of the oracle were both given: leave "
                "trials out (an oracle that is made without max_trials may have 10)."
            )
        if (trials := self.trials or most) is None:
            raise ConfigError(f"{self.name} has no end, or a later one than can be counted: give trials=.")
        return replace(self, trials=min(trials, MOST["trials"]))

    def epochs(self, fixed: Setting, images: int) -> int:
        """Return the number of epochs of the longest trial whose training says nothing else."""
        own = getattr(self.algorithm, "max_epochs", None) if fixed.training.epochs is None else None
        return own or fixed.training.resolve(images).epochs or 1

    def drawn(self, fixed: Setting) -> tuple[list[Setting], int]:
        """Draw trials at random, as their cost follows from their settings; of the usual space for a function.

        Returns:
            The settings, and the number of trials that a Gaussian process proposes, times hyperparameters.
        """
        known = self.space if isinstance(self.space, SearchSpace) else SearchSpace()  # a function may count its calls
        declare, probe, found = declaration(known, fixed), keras_tuner.HyperParameters(), list[Setting]()
        declare(probe)
        space = probe.space
        for number in range(DRAWN if space else 1):
            hp = keras_tuner.HyperParameters()
            for n, each in enumerate(space):
                hp.merge([each])
                if hp.is_active(each):
                    hp.values[each.name] = each.random_sample(number * len(space) + n)
            with suppress(ConfigError):  # of values that are not possible together, as the trial will tell
                found.append(declare(hp))
        learns = self._is(keras_tuner.oracles.BayesianOptimizationOracle)
        first = getattr(self.oracle, "num_initial_points", None) or 3 * len(space)
        return found or [fixed], len(space) * max(0, (self.trials or 0) - first) if learns else 0

    def longer_than(self, earlier: Mapping[str, Any]) -> Self:
        """Return the terms of a search that goes on, maybe with more trials, whose rounds stay as they were.

        Args:
            earlier: the configuration in the run directory, if there is one.
        """
        first, trials = earlier.get("first_trials", earlier.get("trials")), self.trials or 0
        at_once = earlier.get("parallel_trials") if self.parallel_trials == "auto" else None
        terms = self if at_once is None else replace(self, parallel_trials=at_once)  # with workers or without
        return replace(terms, first=first) if isinstance(first, int) and first < trials else terms

    @property
    def learned(self) -> tuple[str, ...]:
        """The splits that the final classifier learns from."""
        return ("train", "validation") if self.winner == "refit" else ("train",)

    @property
    def parallel(self) -> int:
        """Number of trials in a round: enough to fill populations, fewer if the oracle learns from each trial."""
        if self.parallel_trials != "auto":
            return int(self.parallel_trials)
        if is_worker() or is_chief():
            return DISTRIBUTED_AT_ONCE
        if (rung := first_round(self.oracle)) is not None:
            return min(rung, MOST_AT_ONCE)
        learns = self._is(keras_tuner.oracles.BayesianOptimizationOracle)
        return min(self.first or self.trials or USUAL_TRIALS, BAYESIAN_AT_ONCE if learns else MOST_AT_ONCE)

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
            objective=self.objective or Goal(("val_average_precision" if pool.multi_label else "val_accuracy",)),
            winner=self.winner or ("refit" if refits else "scored"),
        )
        goal = resolved.objective
        known = [name for name, row in METRICS.items() if row.applies(pool.multi_label, len(pool.class_names))]
        if unknown := [asked for asked, name in zip(goal.asked, goal.metrics, strict=True) if name not in known]:
            names = ", ".join(f"val_{name}" for name in known)
            raise ConfigError(f"objective must be one of {names}, or several of them; got {', '.join(unknown)}.")
        return resolved

    def config(self, fixed: Setting) -> dict[str, Any]:
        """Return what determines the result, as JSON."""
        return {
            "search": self.space.to_dict() if isinstance(self.space, SearchSpace) else _told(self.space),
            "frozen": list(fixed.frozen),
            "head": fixed.head.to_dict(),
            "training": fixed.training.to_dict(),
            "trials": self.trials,
            "algorithm": self.name,
            "objective": str(self.objective),
            "folds": self.folds,
            "repeats": self.repeats,
            "winner": self.winner,
            "parallel_trials": self.parallel,
            **({} if isinstance(self.algorithm, str) else {"oracle": told(self.algorithm)}),
            **({"callbacks": [named(each) for each in self.callbacks]} if self.callbacks else {}),
            **({"first_trials": self.first} if self.first else {}),
        }

    def start(self, run: Run, fixed: Setting) -> bool:
        """Begin or continue a run; return whether the search in its directory had fewer trials.

        The classifier of that one is kept under another name, which it has before the configuration says that there are
        more trials, so that a kill in between loses nothing.

        Raises:
            RunError: the directory holds another run.
        """
        directory, config, trials = run.directory, self.config(fixed), self.trials or 0
        begun = directory.earlier.get("trials", trials)
        if longer := begun < trials:
            directory.earlier |= {name: config[name] for name in ("trials", "first_trials")}
        run.start(config, worker=is_worker())
        if longer and directory.path is not None and not is_worker():
            if directory.finished:
                (directory.path / "classifier.keras").rename(directory.path / f"classifier-of-{begun}.keras")
            directory.write_json("config.json", directory.earlier)
            seen = "; its winner was judged by the test images, too" if "test" in run.experiment.pool.rows else ""
            run.narrator.say(f"The search of {begun} trials goes on{seen}.")
        return longer

    def finished(self, run: Run, path: Path) -> SearchResult:
        """Return the result of a search that has already ended."""
        classifier: Classifier = load(path / "classifier.keras")
        run.narrator.say(f"The search in {path} is finished; its classifier is {path / 'classifier.keras'}.")
        outcomes = read_outcomes(path / PROJECT)
        found = read_document(path / "search.json", Found, SearchError)
        name = found["best"]["trial_id"]
        if not (best := [trial for trial in outcomes if trial.trial_id == name]):
            raise SearchError(f"{path / 'search.json'} has {name!r} in best.trial_id, and there is no such trial.")
        how = (self.objective, str(self.winner), outcomes, best[0], classifier, found["stopped"], path)
        return result_of(run.experiment, *how)


def _told(space: Any) -> list[Any]:
    """Return the name and source of a function or HyperModel, to tell it from another one of that name."""
    model = isinstance(space, keras_tuner.HyperModel)
    named_so = [type(space).__qualname__, *_plain(space)] if model else [named(space)]
    try:
        return [*named_so, inspect.getsource(type(space) if model else space)]
    except (OSError, TypeError):
        return [*named_so, None]


def _plain(model: Any) -> list[Any]:
    """Return the attributes of a HyperModel that are numbers, words or lists of these."""
    return [{name: repr(value) for name, value in vars(model).items() if not callable(value)}]
