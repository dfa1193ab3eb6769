"""`vggft.search`: honest, resumable, and with the same results whichever way a trial is trained."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import keras_tuner
import numpy as np
import pytest

import vggft
from vggft.pipeline import Run
from vggft.tuning import rounds
from vggft.tuning.terms import Terms
from vggft.tuning.trial import read_outcome
from vggft.tuning.tuner import share

TINY = {"image_size": 32, "precision": "float32", "verbose": 0}
QUICK = vggft.Training(epochs=4, fine_tune_epochs=2, batch_size=24)
SPACE = vggft.SearchSpace(units=[8, 16], layers=1, learning_rate=(1e-3, 1e-1, "log"))


@pytest.fixture(scope="module")
def common(tiny_weights: Path) -> dict[str, Any]:
    return {**TINY, "backbone": tiny_weights, "training": QUICK}


@pytest.fixture(scope="module")
def searched(stripes: tuple, common: dict, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """Heads in populations, and trials in which block 5 learns, from one pass."""
    run_dir = tmp_path_factory.mktemp("search") / "run"
    space = vggft.SearchSpace(
        units=[8, 16], layers=[0, 1], dropout=(0.0, 0.5), learning_rate=(1e-3, 1e-1, "log"), freeze=["block4", "all"]
    )
    result = vggft.search(
        stripes,
        3,
        space=space,
        trials=10,
        algorithm="random",
        test=0.2,
        keep_top=3,
        winner="scored",
        run_dir=run_dir,
        **common,
    )
    return result, run_dir


def test_what_a_search_gives(searched: tuple) -> None:
    result, _ = searched
    assert [trial.trial_id for trial in result.trials] == [f"{n:02}" for n in range(10)]
    assert all(trial.status == "completed" and 0 <= trial.score <= 1 for trial in result.trials)
    assert result.best.score == max(trial.score for trial in result.trials)
    ways = {trial.frozen[-1]: set() for trial in result.trials}
    for trial in result.trials:
        ways[trial.frozen[-1]].add(trial.way.split(" of ")[0])
    assert ways == {"block4": {"alone: blocks learn"}, "block5": {"population", "alone: solved exactly"}}
    drawn = [trial.hyperparameters for trial in result.trials]
    assert all(("units" in values) == (values["layers"] > 0) for values in drawn)
    assert len({values["learning_rate"] for values in drawn}) == 10
    assert result.evaluation.split == "test" and result.test_score == result.evaluation["accuracy"]
    assert result.gap == pytest.approx(result.best.score - result.test_score)
    assert result.top[0] <= result.top[1] == result.best.score
    assert "Test images were used once" in str(result) and result.best.trial_id in str(result)


def test_the_winner_has_the_very_weights_that_were_scored(searched: tuple) -> None:
    result, run_dir = searched
    judged = json.loads((run_dir / "evaluation.json").read_text())
    assert judged["validation"]["accuracy"] == pytest.approx(result.best.score, abs=1e-9)
    again = vggft.load(run_dir / "classifier.keras")
    assert again.evaluation["accuracy"] == result.test_score


def test_what_is_on_the_disk(searched: tuple) -> None:
    result, run_dir = searched
    heads = list(run_dir.glob("trials/trial_*/head.npz"))
    assert len(heads) == 3
    for head in heads:
        names = set(np.load(head).files)
        assert not any(name.startswith(("block1", "block2", "block3", "block4")) for name in names), names
    with (run_dir / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["trial"] for row in rows] == [trial.trial_id for trial in result.trials]
    assert [float(row["score"]) for row in rows] == pytest.approx([trial.score for trial in result.trials])
    assert (run_dir / "trials.png").read_bytes().startswith(b"\x89PNG")
    assert len(list(run_dir.glob("tensorboard/*/events*"))) == 10
    summary = json.loads((run_dir / "search.json").read_text())
    assert summary["best"]["trial_id"] == result.best.trial_id and summary["winner"] == "scored"


def test_keras_tuner_reads_the_directory_itself(searched: tuple, capsys: pytest.CaptureFixture[str]) -> None:
    result, run_dir = searched
    tuner = keras_tuner.RandomSearch(
        lambda hp: None,
        objective=keras_tuner.Objective("val_accuracy", "max"),
        directory=run_dir,
        project_name="trials",
    )
    tuner.results_summary(1)
    said = capsys.readouterr().out
    assert f"Trial {result.best.trial_id} summary" in said or f"Score: {result.best.score}" in said


def test_finetune_with_the_settings_of_a_trial_gives_that_trial(searched: tuple, stripes: tuple, common: dict) -> None:
    result, _ = searched
    trial = next(trial for trial in result.trials if trial.way.startswith("population") and trial.head.units)
    same = vggft.finetune(
        stripes, 3, test=0.2, head=trial.head, freeze=trial.frozen, **(common | {"training": trial.training})
    )
    best = max(row["val_accuracy"] for row in same.history)
    assert best == pytest.approx(trial.score, abs=1e-6)


def test_the_test_part_is_not_seen_by_any_trial(stripes: tuple, common: dict) -> None:
    images, labels = stripes
    space = vggft.SearchSpace(units=[8], layers=1, learning_rate=[1e-3, 3e-3, 1e-2])

    def run(test: tuple) -> Any:
        kinds = {"space": space, "trials": 3, "algorithm": "grid", "test": test}
        return vggft.search((images[:90], labels[:90]), 3, **kinds, **common)

    honest = run((images[90:], labels[90:]))
    fooled = run((images[90:], (labels[90:] + 1) % 3))
    assert [trial.score for trial in honest.trials] == [trial.score for trial in fooled.trials]
    assert honest.test_score != fooled.test_score


@pytest.mark.parametrize(
    ("space", "training"),
    [
        (vggft.SearchSpace(layers=1, units=[8], optimizer=["sgd", "adamw"], learning_rate=0.01), QUICK),
        pytest.param(
            vggft.SearchSpace(layers=1, units=[8], batch_norm=True, learning_rate=[1e-2, 2e-2]),
            QUICK,
            marks=pytest.mark.slow,
        ),
    ],
)
@pytest.mark.slow
def test_what_cannot_be_stacked_runs_alone(stripes: tuple, common: dict, space: Any, training: Any) -> None:
    result = vggft.search(stripes, 3, space=space, trials=2, algorithm="grid", **common)
    assert len(result.trials) == 2
    assert all(trial.way.startswith("alone: ") and trial.score is not None for trial in result.trials)


@pytest.mark.parametrize(
    ("space", "count"),
    [
        (vggft.SearchSpace(units=(8, 32, "log"), layers=(1, 2), normalize=None, learning_rate=1e-2), 6),
        (vggft.SearchSpace(units=(8, 12), layers=1, dropout=[0, 0.5], normalize=None, learning_rate=1e-2), 4),
        pytest.param(
            vggft.SearchSpace(units=8, layers=1, batch_norm=[True, False], normalize=None, learning_rate=1e-2),
            2,
            marks=pytest.mark.slow,
        ),
        pytest.param(
            vggft.SearchSpace(
                units=None, layers=[1, 2], learning_rate=1e-2, normalize=None, freeze=[("block4",), "all"]
            ),
            4,
            marks=pytest.mark.slow,
        ),
        pytest.param(
            vggft.SearchSpace(
                layers=1,
                units=8,
                learning_rate=0.01,
                blocks=["block5", ("block3", "block5")],
                normalize=["l2", "scale"],
            ),
            4,
            marks=pytest.mark.slow,
        ),
    ],
)
def test_every_combination_of_a_grid_can_be_trained(stripes: tuple, common: dict, space: Any, count: int) -> None:
    quick = common | {"training": vggft.Training(epochs=1, fine_tune_epochs=1, batch_size=48)}
    result = vggft.search(stripes, 3, space=space, trials=20, algorithm="grid", head=vggft.Head(units=(8,)), **quick)
    assert {trial.status for trial in result.trials} == {"completed"}
    assert len({(trial.frozen, trial.head) for trial in result.trials}) == len(result.trials) == count
    if space.freeze is not None:
        assert {len(trial.frozen) for trial in result.trials} == {1, 5}


def test_hyperband_trains_the_best_for_all_epochs(stripes: tuple, common: dict) -> None:
    result = vggft.search(stripes, 3, space=SPACE, trials=6, algorithm="hyperband", **common)
    assert sorted(trial.training.epochs for trial in result.trials) == [2, 2, 2, 4, 4, 4]
    (promoted,) = [trial for trial in result.trials if trial.hyperparameters.get("tuner/trial_id")]
    assert promoted.training.epochs == 4


def test_folds_and_repeats_give_a_mean_and_an_interval(
    stripes: tuple, common: dict, capsys: pytest.CaptureFixture[str]
) -> None:
    result = vggft.search(
        stripes,
        3,
        space=vggft.SearchSpace(units=[8, 16], layers=1, learning_rate=1e-2),
        trials=2,
        algorithm="grid",
        objective="val_balanced_accuracy",
        folds=3,
        repeats=2,
        test=0.2,
        **common | {"verbose": 1},
    )
    for trial in result.trials:
        assert len(trial.scores) == 6 and trial.score == pytest.approx(np.mean(trial.scores))
        assert trial.interval[0] <= trial.score <= trial.interval[1]
    assert result.winner == "refit" and result.evaluation.split == "test"
    assert "retrained" in str(result) and result.objective == "balanced_accuracy"
    assert "chance" not in capsys.readouterr().err
    with pytest.raises(vggft.ConfigError, match="give a test split"):
        vggft.search(stripes, 3, folds=3, **common)


@pytest.mark.slow
def test_a_refit_learns_from_validation_images_too(stripes: tuple, common: dict, tmp_path: Path) -> None:
    space = vggft.SearchSpace(units=[16], layers=1, learning_rate=[1e-2], freeze=["block4"])
    run_dir = tmp_path / "run"
    result = vggft.search(stripes, 3, space=space, trials=1, test=0.2, winner="refit", run_dir=run_dir, **common)
    assert result.winner == "refit" and set(json.loads((run_dir / "evaluation.json").read_text())) == {
        "test",
        "agreement",
        "caveats",
    }
    phases = {
        phase: [row for row in result.classifier.history if row["phase"] == phase] for phase in result.best.epochs
    }
    assert {phase: len(rows) for phase, rows in phases.items()} == result.best.epochs


def test_views_are_drawn_from_in_a_search(stripes: tuple, common: dict) -> None:
    kinds = {"space": vggft.SearchSpace(units=[16], layers=1, learning_rate=1e-2), "trials": 1, "algorithm": "grid"}
    plain = vggft.search(stripes, 3, **kinds, **common)
    viewed = vggft.search(stripes, 3, augment=vggft.Augment(views=2), **kinds, **common)
    log_loss = [result.best.metrics["val_log_loss"] for result in (plain, viewed)]
    assert log_loss[0] != log_loss[1]
    with pytest.raises(vggft.ConfigError, match="trains on frozen features"):
        vggft.search(stripes, 3, augment=vggft.Augment(views=None), **common)


def test_a_space_that_is_a_function(stripes: tuple, common: dict, capsys: pytest.CaptureFixture[str]) -> None:
    def space(hp: Any) -> tuple[vggft.Head, vggft.Training]:
        units = tuple(hp.Choice(f"units{n}", [8, 16]) for n in range(hp.Choice("depth", [1, 2])))
        print("as I printed it")
        return vggft.Head(units=units), vggft.Training(epochs=2, learning_rate=hp.Float("rate", 1e-3, 1e-2))

    result = vggft.search(stripes, 3, space=space, trials=4, algorithm="random", **common | {"verbose": 1})
    assert len(result.trials) == 4 and {trial.training.epochs for trial in result.trials} == {2}
    printed = capsys.readouterr()
    assert "validation images choose among 4 trials, and chance with them" in printed.err
    assert {*printed.out.splitlines()} == {"as I printed it"}  # and nothing of KerasTuner's
    with pytest.raises(vggft.ConfigError, match=r"must return \(Head, Training\)"):
        vggft.search(stripes, 3, space=lambda hp: hp.Choice("units", [8]), trials=3, **common)


def test_a_trial_that_fails_says_why_and_the_search_goes_on(stripes: tuple, common: dict) -> None:
    def space(hp: Any) -> tuple[vggft.Head, vggft.Training]:
        units = hp.Choice("units", [8, 0, 16])
        return vggft.Head(units=(units,)), QUICK

    result = vggft.search(stripes, 3, space=space, trials=3, algorithm="random", **common)
    assert sorted(trial.status for trial in result.trials) == ["completed", "completed", "failed"]
    (failed,) = [trial for trial in result.trials if trial.status == "failed"]
    assert failed.hyperparameters == {"units": 0}
    assert "Head.units must be" in failed.reason and "Head.units must be" in failed.to_row()["reason"]


def test_three_failures_in_a_row_end_the_search_with_the_reason(
    stripes: tuple, common: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: Any, **keywords: Any) -> None:
        raise MemoryError("no room for this head")

    monkeypatch.setattr(rounds, "train_population", broken)
    monkeypatch.setattr(rounds, "train", broken)
    with pytest.raises(vggft.SearchError, match=r"3 trials failed in a row(.|\n)*no room for this head"):
        vggft.search(stripes, 3, trials=9, algorithm="random", parallel_trials=1, **common)


def test_three_failures_after_some_that_were_completed_end_it_with_a_warning(stripes: tuple, common: dict) -> None:
    def space(hp: Any) -> tuple[vggft.Head, vggft.Training]:
        number = hp.Int("number", 0, 10**6)
        calls.append(number)
        return vggft.Head(units=(8,) if len(calls) < 5 else (0,)), QUICK

    calls: list[int] = []
    with pytest.warns(
        UserWarning, match=r"3 trials failed in a row, so the search ended early(.|\n)*Head.units"
    ) as told:
        result = vggft.search(stripes, 3, space=space, trials=30, algorithm="random", parallel_trials=1, **common)
    assert [trial.status for trial in result.trials][-3:] == ["failed"] * 3 and len(result.trials) < 10
    assert result.best.status == "completed" and "ended early" in str(result)
    assert [each.filename for each in told if "ended early" in str(each.message)] == [__file__]  # the line that asked


def test_without_a_run_directory_nothing_is_left(
    stripes: tuple, common: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    space = vggft.SearchSpace(units=[8], layers=1, learning_rate=1e-2)
    vggft.search(stripes, 3, space=space, trials=1, **common)
    assert not list(tmp_path.iterdir()) and capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"algorithm": "magic"}, "algorithm must be one of random, bayesian, hyperband, grid"),
        ({"objective": "val_beauty"}, "objective must be one of val_accuracy"),
        ({"trials": 0}, "trials must be an integer >= 1"),
        ({"folds": 1}, "folds must be an integer >= 2"),
        ({"space": lambda hp: (vggft.Head(), QUICK), "algorithm": "grid"}, "A grid needs a SearchSpace"),
        ({"space": lambda hp: 1 / 0}, r"cannot be drawn from \(ZeroDivisionError"),
        ({"space": vggft.SearchSpace(layers=[1, 2], units=None), "head": vggft.Head(units=())}, "layers needs widths"),
        ({"winner": "luck"}, "winner must be 'scored' or 'refit'"),
        ({"folds": 3, "winner": "scored"}, "winner must be 'refit'"),
        ({"freeze": "auto"}, "freeze='auto' .--freeze auto. is for finetune; here SearchSpace"),
        ({"space": 3}, "space must be a vggft.SearchSpace"),
        ({"space": vggft.SearchSpace(freeze=["all"]), "freeze": "block3"}, "leave one out"),
    ],
)
def test_what_cannot_be_asked_for(stripes: tuple, common: dict, arguments: dict, message: str) -> None:
    with pytest.raises(vggft.ConfigError, match=message):
        vggft.search(stripes, 3, **(common | arguments))


def test_a_space_is_checked_when_it_is_made() -> None:
    with pytest.raises(vggft.ConfigError, match=r"SearchSpace\.freeze: freeze must be"):
        vggft.SearchSpace(freeze=["block9"])


def run_search(stripes: tuple, common: dict, run_dir: Path, algorithm: str, resume: bool) -> Any:
    kinds = {"space": SPACE, "trials": 11, "parallel_trials": 4, "algorithm": algorithm}
    return vggft.search(stripes, 3, run_dir=run_dir, resume=resume, **kinds, **common)


@pytest.mark.parametrize(
    "algorithm", ["random", *(pytest.param(each, marks=pytest.mark.slow) for each in ("hyperband", "bayesian", "grid"))]
)
def test_interrupted_again_and_again_it_ends_as_if_it_had_not_been(
    algorithm: str, stripes: tuple, common: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run_search(stripes, common, tmp_path / "whole", algorithm, False)
    trained: list[str] = []
    train, moment = rounds.Rounds.train, [0]

    def counted(self: Any, jobs: Any, *arguments: Any) -> Any:
        moment[0] += 1
        if moment[0] % 3 == 0:  # every third group
            raise KeyboardInterrupt
        trained.extend(job.trial_id for job in jobs)
        return train(self, jobs, *arguments)

    monkeypatch.setattr(rounds.Rounds, "train", counted)
    result, stops = None, 0
    while result is None:
        try:
            result = run_search(stripes, common, tmp_path / "stopped", algorithm, stops > 0)
        except KeyboardInterrupt:
            stops += 1
    assert stops and len(trained) == len(set(trained)) == 11
    assert [t.hyperparameters for t in result.trials] == [t.hyperparameters for t in whole.trials]
    assert [t.score for t in result.trials] == [t.score for t in whole.trials]
    assert result.best.trial_id == whole.best.trial_id
    for a, b in zip(
        result.classifier.keras_model.get_weights(), whole.classifier.keras_model.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(a, b)


def test_another_search_in_the_same_directory_is_refused(searched: tuple, stripes: tuple, common: dict) -> None:
    _, run_dir = searched
    with pytest.raises(vggft.RunError, match="not empty"):
        vggft.search(stripes, 3, run_dir=run_dir, **common)
    with pytest.raises(vggft.RunError, match=r"another configuration(.|\n)*search\.units was"):
        vggft.search(stripes, 3, trials=10, algorithm="random", test=0.2, run_dir=run_dir, resume=True, **common)


def command(folder: Path, weights: Path, run_dir: Path, *more: str) -> list[str]:
    asked = "--num-classes 3 --trials 8 --algorithm random --units 8,16 --layers 1 --epochs 3 --batch-size 24"
    fixed = f"--image-size 32 --precision float32 --quiet --backbone {weights} --run-dir {run_dir}"
    return [sys.executable, "-m", "vggft", "search", str(folder), *asked.split(), *fixed.split(), *more]


@pytest.fixture(scope="module")
def stripes_folder(stripes: tuple, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from PIL import Image

    folder = tmp_path_factory.mktemp("stripes")
    for row, (image, label) in enumerate(zip(*stripes, strict=True)):
        path = folder / "abc"[label] / f"{row}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(image).save(path)
    return folder


def test_two_workers_search_as_one_does(stripes_folder: Path, tiny_weights: Path, tmp_path: Path) -> None:
    asked = command(stripes_folder, tiny_weights, tmp_path / "two", "--workers", "2", "--trials", "4")
    subprocess.run(asked, check=True, timeout=240)
    space = vggft.SearchSpace(units=[8, 16], layers=1)
    training = vggft.Training(epochs=3, batch_size=24)
    how: dict[str, Any] = {"backbone": tiny_weights, "image_size": 32, "precision": "float32", "verbose": 0}
    one = vggft.search(stripes_folder, 3, space=space, training=training, trials=4, algorithm="random", **how)
    two = list(csv.DictReader((tmp_path / "two" / "trials.csv").read_text().splitlines()))
    assert len(two) == 4 and {float(row["score"]) for row in two} == {trial.score for trial in one.trials}


def test_a_search_of_workers_can_be_continued_by_one_process() -> None:
    earlier = {"trials": 8, "parallel_trials": 4}
    how: dict[str, Any] = {"algorithm": "random", "objective": None, "folds": None, "repeats": 1, "winner": None}
    terms = Terms(vggft.SearchSpace(), trials=8, keep_top=5, parallel_trials="auto", **how)
    assert terms.longer_than({}).parallel == 8 and terms.longer_than(earlier).parallel == 4
    assert dataclasses.replace(terms, parallel_trials=2).longer_than(earlier).parallel == 2


@pytest.mark.slow
def test_a_killed_refit_is_not_that_of_a_later_winner(
    stripes: tuple, common: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = vggft.SearchSpace(units=[8], layers=1, learning_rate=[1e-4, 1e-2])
    how = {"space": space, "algorithm": "grid", "freeze": "block4", "test": 0.2, "parallel_trials": 1, **common}
    whole = vggft.search(stripes, 3, trials=2, **how)
    assert whole.winner == "refit" and whole.best.trial_id != "0000"
    finish = Run.finish

    def killed(*arguments: Any, **keywords: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Run, "finish", killed)
    with pytest.raises(KeyboardInterrupt):
        vggft.search(stripes, 3, trials=1, run_dir=tmp_path / "run", **how)
    monkeypatch.setattr(Run, "finish", finish)
    longer = vggft.search(stripes, 3, trials=2, run_dir=tmp_path / "run", resume=True, **how)
    assert longer.best.trial_id == whole.best.trial_id
    np.testing.assert_array_equal(longer.classifier.predict(stripes[0]), whole.classifier.predict(stripes[0]))


@pytest.mark.slow
def test_a_chief_and_two_workers_one_of_which_is_killed(
    stripes_folder: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    """KerasTuner's own chief over gRPC, on loopback: no trial is lost or counted twice."""
    run_dir = tmp_path / "run"
    search = [*command(stripes_folder, tiny_weights, run_dir, "--workers", "2"), "--freeze", "block4"]
    chief = subprocess.Popen(search, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        killed = None
        while chief.poll() is None and killed is None:
            time.sleep(0.1)
            done = [folder for folder in run_dir.glob("trials/trial_*") if read_outcome(folder)]
            if done:
                killed = worker_of(chief.pid, "worker1")
                if killed:
                    os.kill(killed, signal.SIGKILL)
        said, _ = chief.communicate(timeout=240)
    finally:
        chief.kill()
    logs = "\n".join(path.read_text()[-2000:] for path in tmp_path.glob("*.log"))
    assert chief.returncode == 0 and killed, said + logs
    outcomes = [read_outcome(folder) for folder in sorted(run_dir.glob("trials/trial_*"))]
    assert [trial.trial_id for trial in outcomes] == [f"{n}" for n in range(8)]
    assert all(trial.status == "completed" for trial in outcomes)
    state = json.loads((run_dir / "search_state.json").read_text())
    assert sorted(state["oracle"]["end_order"]) == [f"{n}" for n in range(8)]
    assert vggft.load(run_dir / "classifier.keras").evaluation is not None


def worker_of(parent: int, name: str) -> int | None:
    """The process of a worker, by its environment."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            status = (process / "status").read_text()
            environment = (process / "environ").read_bytes()
        except OSError:
            continue
        if f"PPid:\t{parent}\n" in status and f"KERASTUNER_TUNER_ID={name}".encode() in environment:
            return int(process.name)
    return None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("algorithm", "most", "trials"), [("random", 20, 60), ("bayesian", 5, 20), ("hyperband", 5, 20), ("grid", 5, 12)]
)
def test_many_kills_in_one_search(
    algorithm: str, most: int, trials: int, stripes_folder: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    """SIGKILL at random moments: the same trials, each once, and the same winner."""
    more = ["--algorithm", algorithm, "--trials", str(trials), "--freeze", "block4", "--fine-tune-epochs", "1"]
    subprocess.run(command(stripes_folder, tiny_weights, tmp_path / "whole", *more), check=True, timeout=900)
    rng, kills, run_dir = np.random.default_rng(0), 0, tmp_path / "killed"
    while kills < most:
        process = subprocess.Popen(command(stripes_folder, tiny_weights, run_dir, "--resume", *more))
        before = len(list(run_dir.glob("trials/trial_*/outcome.json")))
        while process.poll() is None and len(list(run_dir.glob("trials/trial_*/outcome.json"))) < before + 2:
            time.sleep(0.05)
        time.sleep(rng.uniform(0, 1.5))
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
    subprocess.run(command(stripes_folder, tiny_weights, run_dir, "--resume", *more), check=True, timeout=900)
    found = [json.loads((path / "search.json").read_text()) for path in (tmp_path / "whole", run_dir)]
    assert kills >= 0.6 * most and found[0]["best"]["trial_id"] == found[1]["best"]["trial_id"]
    tables = [
        list(csv.DictReader((path / "trials.csv").read_text().splitlines())) for path in (tmp_path / "whole", run_dir)
    ]
    assert len(tables[0]) == len({row["trial"] for row in tables[0]}) <= trials
    assert [[row["trial"], row["learning_rate"], row["score"]] for row in tables[0]] == [
        [row["trial"], row["learning_rate"], row["score"]] for row in tables[1]
    ]


@pytest.mark.slow
def test_a_refit_of_gradual_phases_lasts_as_long_as_was_best(stripes: tuple, common: dict) -> None:
    training = vggft.Training(phases="gradual", epochs=4, fine_tune_epochs=3, batch_size=16)
    settings = common | {"training": training, "freeze": "block3", "trials": 1, "test": 0.2}
    result = vggft.search(stripes, 3, space=SPACE, winner="refit", **settings)
    lasted = Counter(row["phase"] for row in result.classifier.history)
    assert set(result.best.epochs) == {"head", "block5 and head", "block4, block5 and head"}
    assert lasted == {phase: epochs for phase, epochs in result.best.epochs.items() if epochs}


def test_fewer_epochs_of_a_rung_are_fewer_in_every_phase() -> None:
    phases = (vggft.Phase("all", epochs=9), vggft.Phase("block4"))
    less = share(vggft.Training(epochs=6, fine_tune_epochs=4, phases=phases), 1 / 3)
    assert (less.epochs, less.fine_tune_epochs) == (2, 2)
    assert [phase.epochs for phase in less.phases] == [3, None]


def test_a_refit_of_an_exact_probe_is_as_strong_as_the_one_that_won(stripes: tuple, common: dict) -> None:
    space = vggft.SearchSpace(units=None, layers=[0], learning_rate=[1e-3, 1e-2])
    settings = {**common, "trials": 2, "algorithm": "grid", "test": 0.2, "head": vggft.Head(units=(), normalize="l2")}
    result = vggft.search(stripes, 3, space=space, winner="refit", **settings)
    (kept,) = [row for row in result.best.history if row["kept"]]
    (refit,) = [row for row in result.classifier.history if row["kept"]]
    for name in ("strength", "shrinkage", "factor"):
        assert refit[name] == pytest.approx(kept[name])
    assert result.best.way == "alone: solved exactly"
