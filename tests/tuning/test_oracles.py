"""Oracles: proposals depend only on the seed and the reported scores, also after a restart."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras_tuner
import pytest

from vggft.errors import SearchError
from vggft.tuning.goals import Goal
from vggft.tuning.oracles import ALGORITHMS, first_round, hyperband_parts, hyperband_size, make_oracle


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """KerasTuner calls `threading.currentThread`, and a Gaussian process of few points is worth a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def space() -> keras_tuner.HyperParameters:
    hp = keras_tuner.HyperParameters()
    hp.Choice("units", [8, 16, 32])
    hp.Float("learning_rate", 1e-4, 1e-2, sampling="log")
    return hp


def begun(algorithm: str, folder: Path, trials: int = 14) -> Any:
    oracle = make_oracle(algorithm, Goal(("val_accuracy",)), trials, seed=0)
    oracle._set_project_dir(str(folder), "trials")
    oracle.state_file = folder / "state.json"
    oracle.verbose = 0
    oracle.restore(folder / "trials")
    oracle.update_space(space())
    return oracle


def score(values: dict[str, Any]) -> float:
    return values["units"] / 100 + values["learning_rate"] * 10 + values.get("tuner/epochs", 0) / 1000


def run(oracle: Any, rounds: int, at_once: int = 4) -> list[dict[str, Any]]:
    """So many rounds, each reported as a whole; what was proposed."""
    seen = []
    for _ in range(rounds):
        oracle.held = True
        trials = [oracle.create_trial(f"tuner-{n}") for n in range(at_once)]
        running = [trial for trial in trials if trial.status == "RUNNING"]
        for trial in running:
            seen.append(dict(trial.hyperparameters.values))
            oracle.update_trial(trial.trial_id, {"val_accuracy": score(seen[-1])})
            trial.status = "COMPLETED"
            oracle.end_trial(trial)
        oracle.keep()
    return seen


@pytest.mark.parametrize(
    "algorithm", [pytest.param(each, marks=pytest.mark.slow) if each == "bayesian" else each for each in ALGORITHMS]
)
def test_a_restart_changes_nothing(algorithm: str, tmp_path: Path) -> None:
    whole = run(begun(algorithm, tmp_path / "whole"), 5)
    pieces: list[dict[str, Any]] = []
    for _ in range(5):
        oracle = begun(algorithm, tmp_path / "pieces")
        pieces += run(oracle, 1)
        kept = (tmp_path / "pieces" / "state.json").read_bytes()
        oracle.held = True  # killed with a round half done
        oracle.create_trial("tuner-0")
        assert (tmp_path / "pieces" / "state.json").read_bytes() == kept
    assert pieces == whole and len(whole) == 14
    if algorithm == "grid":
        assert len({tuple(values.items()) for values in whole}) == 14


@pytest.mark.parametrize("order", ["start_order", "end_order"])
def test_a_state_that_names_a_trial_it_does_not_have_says_where(order: str, tmp_path: Path) -> None:
    run(begun("random", tmp_path), 1)
    state = json.loads((tmp_path / "state.json").read_text())
    state["oracle"][order].append("99")
    (tmp_path / "state.json").write_text(json.dumps(state))
    with pytest.raises(SearchError, match=rf"state.json has '99' in oracle.{order}, and no such trial"):
        begun("random", tmp_path)


def test_the_grid_is_all_combinations_in_parallel(tmp_path: Path) -> None:
    oracle = begun("grid", tmp_path, trials=100)
    seen = run(oracle, 10, at_once=5)
    assert (
        len(seen)
        == len({tuple(values.items()) for values in seen})
        == 3 * len({values["learning_rate"] for values in seen})
    )


def test_hyperband_trains_its_best_longer(tmp_path: Path) -> None:
    assert [hyperband_size(parts) for parts in (3, 9)] == [6, 23]
    assert [hyperband_parts(trials) for trials in (1, 22, 23)] == [3, 3, 9]
    seen = run(begun("hyperband", tmp_path, trials=23), 10, at_once=9)
    longest = [values for values in seen if values["tuner/epochs"] == 9]
    assert len(seen) == 23 and longest
    assert any(values.get("tuner/trial_id") for values in longest)


def test_the_sizes_of_hyperband_are_keras_tuners(tmp_path: Path) -> None:
    for parts in (3, 9, 27, 81):
        theirs = keras_tuner.oracles.HyperbandOracle(objective="val_accuracy", max_epochs=parts)
        brackets = range(theirs._get_num_brackets())
        assert hyperband_size(parts) == sum(theirs._get_size(b, r) for b in brackets for r in range(b + 1))
        assert first_round(theirs) == theirs._get_size(brackets[-1], 0)


def test_what_was_going_on_is_handed_out_again(tmp_path: Path) -> None:
    """A chief that is started again, and workers of other names than before."""
    oracle = begun("random", tmp_path)
    first, second = oracle.create_trial("worker0"), oracle.create_trial("worker1")
    oracle.update_trial(first.trial_id, {"val_accuracy": 0.5})
    first.status = "COMPLETED"
    oracle.end_trial(first)
    again = begun("random", tmp_path)
    given = again.create_trial("worker7")
    assert given.trial_id == second.trial_id and given.hyperparameters.values == second.hyperparameters.values
    assert again.create_trial("worker8").trial_id not in (first.trial_id, second.trial_id)


def test_three_failures_in_a_row_end_it_without_an_exception(tmp_path: Path) -> None:
    oracle = begun("random", tmp_path)
    for number in range(3):
        trial = oracle.create_trial("tuner-0")
        assert trial.status == "RUNNING", number
        trial.status, trial.message = "FAILED", "for want of luck"
        oracle.end_trial(trial)
    assert oracle.create_trial("tuner-0").status == "STOPPED" and len(oracle.failures) == 3


# When one of these fails, KerasTuner can do without what `vggft.oracles` adds there.


def test_keras_tuner_forgets_where_its_grid_stands() -> None:
    oracle = keras_tuner.oracles.GridSearchOracle(objective="val_accuracy", hyperparameters=space())
    assert not {"ordered_ids", "populate_next"} & {key.strip("_") for key in oracle.get_state()}


def test_keras_tuner_does_not_save_the_random_state_of_its_process() -> None:
    oracle = keras_tuner.oracles.BayesianOptimizationOracle(objective="val_accuracy", max_trials=3)
    assert oracle._random_state and not any("random" in key for key in oracle.get_state())
