"""KerasTuner's promises, as `docs/kerastuner.md` lists them, kept by `vggft.search` with KerasTuner's own objects."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras
import keras_tuner
import numpy as np
import pytest
from keras_tuner.errors import FailedTrialError, FatalError
from keras_tuner.oracles import BayesianOptimizationOracle, GridSearchOracle, HyperbandOracle, RandomSearchOracle

import vggft
from vggft.tuning import rounds
from vggft.tuning.goals import Goal, goal_of
from vggft.tuning.oracles import check_oracle, make_oracle

QUICK = vggft.Training(epochs=4, fine_tune_epochs=2, batch_size=24)
GOAL = Goal(("val_accuracy",))


@pytest.fixture(scope="module")
def common(tiny_weights: Path) -> dict[str, Any]:
    return {"backbone": tiny_weights, "training": QUICK, "image_size": 32, "precision": "float32", "verbose": 0}


def chosen(**choices: list[Any]) -> keras_tuner.HyperParameters:
    hp = keras_tuner.HyperParameters()
    for name, values in choices.items():
        hp.Choice(name, values)
    return hp


def same(a: Any, b: Any) -> None:
    """The trials of two searches are equal to the last bit, and so are their winners."""
    assert [(t.trial_id, t.hyperparameters, t.score) for t in a.trials] == [
        (t.trial_id, t.hyperparameters, t.score) for t in b.trials
    ]
    weights = (result.classifier.keras_model.get_weights() for result in (a, b))
    for one, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_hyperparameters_of_an_oracle_replace_the_space_and_its_best_can_be_asked_for(
    stripes: tuple, common: dict
) -> None:
    """`hyperparameters`, `tune_new_entries`, a `keras_tuner.Objective`, and the best hyperparameters and models."""
    given = chosen(learning_rate=[0.003, 0.01, 0.03], layers=[1])
    oracle = RandomSearchOracle(
        keras_tuner.Objective("val_loss", "min"), max_trials=9, hyperparameters=given, tune_new_entries=False, seed=3
    )
    space = vggft.SearchSpace(units=[8, 16], layers=(0, 2), dropout=(0.1, 0.5), learning_rate=(1e-4, 1e-2, "log"))
    result = vggft.search(stripes, 3, space=space, algorithm=oracle, keep_top=2, **common)
    drawn = [trial.hyperparameters for trial in result.trials]
    assert sorted(values["learning_rate"] for values in drawn) == [0.003, 0.01, 0.03]  # and then the space is exhausted
    assert all((trial.head.units, trial.head.dropout) == ((8,), 0.1) for trial in result.trials)
    assert not oracle.trials  # it is copied
    losses = {trial.trial_id: trial.metrics["val_log_loss"] for trial in result.trials}
    assert result.objective == "log_loss" and result.best.score == min(losses.values()) == losses[result.best.trial_id]
    best = result.get_best_hyperparameters(9)
    order = sorted(result.trials, key=lambda trial: trial.score)
    assert [hp.values for hp in best] == [trial.hyperparameters for trial in order]
    assert best[0].get("learning_rate") in next(hp.values for hp in best[0].space if hp.name == "learning_rate")
    first, second = result.get_best_models(2)
    assert isinstance(second, keras.Model)
    np.testing.assert_array_equal(first.predict(stripes[0][:9], verbose=0), result.classifier.predict(stripes[0][:9]))
    with pytest.raises(vggft.SearchError, match="larger keep_top"):
        result.get_best_models(3)


def test_several_objectives_are_summed_as_keras_tuner_does() -> None:
    parts = [keras_tuner.Objective("val_accuracy", "max"), "val_loss", "val_log_loss"]
    goal, theirs = goal_of(parts[:2]), keras_tuner.Oracle(objective=parts[:2]).objective
    values = {"accuracy": 0.75, "log_loss": 0.5}
    reported = goal.reported(values)
    assert goal.score(values) == reported["multi_objective"] == theirs.get_value(reported) == -0.25
    assert (goal.direction, goal.objective()) == (theirs.direction, theirs) and str(goal) == "log_loss - accuracy"
    assert goal_of(keras_tuner.Oracle().objective) is None
    for wrong in (keras_tuner.Objective("val_accuracy", "min"), [], ["val_loss", 3], ["val_loss", "val_loss"]):
        with pytest.raises(vggft.ConfigError, match="objective"):
            goal_of(wrong)


class Heads(keras_tuner.HyperModel):
    """Heads of which none can be built but the first, which tells the space."""

    def __init__(self, error: type[Exception], calls: list[int]):
        super().__init__()
        self.error, self.calls = error, calls

    def build(self, hp: Any) -> Any:
        number = hp.Int("number", 0, 10**6)
        self.calls.append(number)
        if number:
            raise self.error("no such head")
        return vggft.Head(units=(8,)), vggft.Training(epochs=1)


@pytest.mark.parametrize(("error", "tries"), [(ValueError, 3), (FailedTrialError, 1)])
def test_failures_in_a_round_are_tried_again_and_then_end_it(
    error: type[Exception], tries: int, stripes: tuple, common: dict
) -> None:
    """`max_retries_per_trial`, `FailedTrialError`, `max_consecutive_failed_trials`, a `HyperModel`."""
    calls: list[int] = []
    oracle = RandomSearchOracle(max_trials=8, max_retries_per_trial=2, max_consecutive_failed_trials=4, seed=1)
    with pytest.raises(vggft.SearchError, match="4 trials failed in a row"):
        vggft.search(stripes, 3, space=Heads(error, calls), algorithm=oracle, parallel_trials=8, **common)
    counts = {number: calls.count(number) for number in calls if number}
    assert len(counts) == 8 and set(counts.values()) == {tries}, counts


def test_three_failures_in_the_middle_of_a_round_end_it(stripes: tuple, common: dict) -> None:
    trained: list[str] = []

    class Watch(keras.callbacks.Callback):
        def on_train_begin(self, logs: Any = None) -> None:
            trained.append("")
            if 2 <= len(trained) <= 4:
                raise MemoryError("no room")

    space = vggft.SearchSpace(units=[8], layers=1, learning_rate=(1e-3, 1e-1, "log"))
    more = {"trials": 9, "algorithm": "random", "callbacks": [Watch()], "training": vggft.Training(epochs=1)}
    with pytest.warns(UserWarning, match="3 trials failed in a row, so the search ended early"):
        result = vggft.search(stripes, 3, space=space, **(common | more))
    assert [trial.status for trial in result.trials] == ["completed", "failed", "failed", "failed"]
    assert len(trained) == 4 and all(trial.way == "alone: callbacks" for trial in result.trials)


def test_a_fatal_error_is_not_caught(stripes: tuple, common: dict) -> None:
    with pytest.raises(FatalError, match="no such head"):
        vggft.search(stripes, 3, space=Heads(FatalError, []), trials=3, algorithm="random", **common)


def test_promoted_trials_continue_from_their_weights(stripes: tuple, common: dict, tmp_path: Path) -> None:
    """Hyperband's `max_epochs`, `factor` and iterations; trials that are continued are still trained together."""
    oracle = HyperbandOracle("val_accuracy", max_epochs=4, factor=2, seed=2)
    space = vggft.SearchSpace(units=[8], layers=1, normalize=None, learning_rate=(1e-3, 3e-2, "log"))
    how = {"space": space, "algorithm": oracle, "training": vggft.Training(batch_size=24), "run_dir": tmp_path / "run"}
    result = vggft.search(stripes, 3, **(common | how))
    assert len(result.trials) == check_oracle(oracle, lambda hp: None)
    trials = {trial.trial_id: trial for trial in result.trials}
    promoted = [trial for trial in result.trials if trial.hyperparameters.get("tuner/trial_id")]
    assert {trial.training.epochs for trial in promoted} == {2, 4}
    for trial in promoted:
        past = trials[trial.hyperparameters["tuner/trial_id"]]
        (best,) = past.epochs.values()
        assert trial.history[:best] == past.history[:best]
        epochs = [row["epoch"] for row in trial.history]
        assert epochs == list(range(1, best + trial.training.epochs - past.training.epochs + 1))
        assert (trial.score, -trial.metrics["val_log_loss"]) >= (past.score, -past.metrics["val_log_loss"])
    assert any(trial.way == "population of 2" for trial in promoted)
    assert not list(tmp_path.glob("run/trials/*/rung.npz"))  # what no trial needs any more is deleted


def test_a_finished_search_goes_on_with_more_trials(stripes: tuple, common: dict, tmp_path: Path) -> None:
    space = vggft.SearchSpace(units=[8], layers=1, normalize=None, learning_rate=(1e-3, 1e-1, "log"))
    how = {"space": space, "algorithm": "random", "run_dir": tmp_path / "run", **common}
    short = vggft.search(stripes, 3, trials=2, **how)
    longer = vggft.search(stripes, 3, trials=11, resume=True, **how)
    assert longer.trials[:2] == short.trials and [trial.number[0] for trial in longer.trials] == list(range(11))
    assert len(list(tmp_path.glob("run/tensorboard/*"))) == 11
    earlier = vggft.load(tmp_path / "run" / "classifier-of-2.keras")
    np.testing.assert_array_equal(earlier.predict(stripes[0][:5]), short.classifier.predict(stripes[0][:5]))
    again = vggft.search(stripes, 3, trials=11, resume=True, **how)  # finished
    same(again, longer)
    model, *_ = again.get_best_models()
    np.testing.assert_array_equal(model.predict(stripes[0][:5], verbose=0), longer.classifier.predict(stripes[0][:5]))
    assert again.get_best_hyperparameters()[0].values == longer.best.hyperparameters
    with pytest.raises(vggft.RunError, match="another configuration"):
        vggft.search(stripes, 3, trials=3, resume=True, **how)


@pytest.mark.filterwarnings("ignore:currentThread|getName:DeprecationWarning")
def test_the_oracles_arguments_are_kept(tmp_path: Path) -> None:
    """`num_initial_points`, `alpha`, `beta`; a round has no more random points than were asked for."""
    given = BayesianOptimizationOracle(num_initial_points=3, alpha=0.01, beta=5.0, max_trials=9, seed=1)
    given.hyperparameters.Float("learning_rate", 1e-4, 1e-2)
    oracle = make_oracle(given, GOAL, 9, 0)
    oracle._set_project_dir(str(tmp_path), "trials")
    oracle.verbose, oracle.held = 0, True
    assert (oracle.alpha, oracle.beta, oracle.gpr.alpha) == (0.01, 5.0, 0.01)
    trials = [oracle.create_trial(f"tuner-{n}") for n in range(5)]
    assert [trial.status for trial in trials] == ["RUNNING"] * 3 + ["IDLE"] * 2


def test_a_grid_has_as_many_trials_as_combinations() -> None:
    grid = GridSearchOracle(hyperparameters=chosen(units=[8, 16, 32], pooling=["avg", "max"]))
    assert check_oracle(grid, lambda hp: None) == 6


class Trainer(Heads):
    def fit(self, hp: Any, model: Any, *arguments: Any, **keywords: Any) -> Any:
        return 0.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"algorithm": keras_tuner.oracles.RandomSearchOracle}, "algorithm must be one of"),
        ({"algorithm": RandomSearchOracle("val_loss"), "objective": "val_accuracy"}, "both given"),
        ({"algorithm": RandomSearchOracle(max_trials=4), "trials": 5}, "leave trials out"),
        ({"algorithm": RandomSearchOracle(hyperparameters=chosen(unitz=[8]))}, "no field 'unitz'"),
        ({"algorithm": RandomSearchOracle(hyperparameters=chosen(dropout=[1.5]))}, r"SearchSpace\.dropout"),
        (
            {"algorithm": RandomSearchOracle(hyperparameters=chosen(units=[8]), allow_new_entries=False)},
            "`allow_new_entries` is `False`",
        ),
        ({"space": Trainer(ValueError, [])}, "Trainer.fit would not be called"),
        ({"callbacks": [3]}, "callbacks must be a list"),
    ],
)
def test_what_cannot_be_kept_is_said(stripes: tuple, common: dict, arguments: dict, message: str) -> None:
    with pytest.raises(vggft.ConfigError, match=message):
        vggft.search(stripes, 3, **(common | arguments))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["random", "bayesian", "hyperband", "blocks"])
def test_a_longer_search_that_is_interrupted_ends_as_one_that_was_begun_so(
    kind: str, stripes: tuple, common: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An oracle, made longer, stopped at every third group: bit for bit the search that had all trials at once."""

    def oracle(trials: int) -> Any:
        if kind in ("hyperband", "blocks"):
            epochs = 2 if kind == "blocks" else 4
            return HyperbandOracle(max_epochs=epochs, factor=2, hyperband_iterations=trials, seed=2)
        if kind == "bayesian":
            return BayesianOptimizationOracle(max_trials=4 * trials, num_initial_points=4, seed=2)
        return RandomSearchOracle(max_trials=4 * trials, seed=2)

    space = vggft.SearchSpace(units=[8], layers=1, normalize=None, learning_rate=(1e-3, 3e-2, "log"))
    rounds_of = 4 if kind in ("random", "bayesian") else 5  # which divides the trials before and after
    how = {"space": space, "parallel_trials": rounds_of, **common, "training": vggft.Training(batch_size=24)}
    how |= (
        {"freeze": "block4", "training": vggft.Training(batch_size=24, fine_tune_epochs=2)} if kind == "blocks" else {}
    )
    whole = vggft.search(stripes, 3, algorithm=oracle(2), run_dir=tmp_path / "whole", **how)
    vggft.search(stripes, 3, algorithm=oracle(1), run_dir=tmp_path / "run", **how)
    train, moment = rounds.Rounds.train, [0]

    def stopping(self: Any, jobs: Any, *arguments: Any) -> Any:
        moment[0] += 1
        if moment[0] % 3 == 0:
            raise KeyboardInterrupt
        return train(self, jobs, *arguments)

    monkeypatch.setattr(rounds.Rounds, "train", stopping)
    result = None
    while result is None:
        try:
            result = vggft.search(stripes, 3, algorithm=oracle(2), run_dir=tmp_path / "run", resume=True, **how)
        except KeyboardInterrupt:
            continue
    same(result, whole)
    assert json.loads((tmp_path / "run" / "config.json").read_text())["first_trials"] < len(whole.trials)


@pytest.mark.slow
def test_curves_of_callbacks_are_apart_and_copies_are_fresh(stripes: tuple, common: dict, tmp_path: Path) -> None:
    class Count(keras.callbacks.Callback):
        seen = 0

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.seen += 1
            told.append(self.seen)

    told: list[int] = []
    board = keras.callbacks.TensorBoard(tmp_path / "curves")
    space = vggft.SearchSpace(units=[8], layers=1, learning_rate=[1e-3, 1e-2])
    more = {"trials": 2, "algorithm": "grid", "repeats": 2, "callbacks": [Count(), board]}
    vggft.search(stripes, 3, space=space, **(common | more))
    assert told == [1, 2, 3, 4] * 4
    assert len(list(tmp_path.glob("curves/*/*/train"))) == 4
