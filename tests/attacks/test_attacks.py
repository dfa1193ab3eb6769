"""Hostile classifier files and damaged run directories: read or refused in a sentence, without a traceback."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import attack
import h5py
import keras
import leaks
import numpy as np
import pytest
from damaged_runs import damaged_run
from hostile_files import CHANGES, WEIGHTS, hdf5_change, hostile_file, in_hdf5, read, write

import vggft
from vggft.run import RunDirectory
from vggft.training.callbacks import BestEpoch

SEEDS = 12


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("attacks") / "whole"
    return attack.make_run(run, freeze="all", head=vggft.Head(units=()), training=None)


def test_hostile_classifier_files_are_read_or_refused(whole: Path, tmp_path: Path) -> None:
    told = {}
    for seed in range(SEEDS):
        kind = hostile_file(whole / "classifier.keras", target := tmp_path / f"{seed}.keras", seed)
        told[seed, kind] = how, said = attack.outcome_of(lambda target=target: vggft.load(target))
        assert how != "traceback", (seed, kind, said)
        assert how == "read" or (str(target) in said and "\n" not in said), said
    assert {how for how, _ in told.values()} == {"read", "refused"}


@pytest.mark.parametrize("which", set(range(CHANGES)) - {8, 10})
def test_a_weights_file_that_is_not_only_its_own_arrays_is_refused(whole: Path, tmp_path: Path, which: int) -> None:
    """NaN, then values elsewhere, links, sizes that are not there, texts, too many parts: none is in what was made."""
    with h5py.File(tmp_path / "secret", "w") as secret:
        secret["data"] = np.ones((480, 8), "f4")
    parts = read(whole / "classifier.keras")
    changed = in_hdf5(parts[WEIGHTS], lambda tree: hdf5_change(tree, which, tmp_path / "secret"))
    write(tmp_path / "a.keras", parts | {WEIGHTS: changed})
    told = (
        r"NaN or infinity in (fc1|logits)/kernel" if which == 0 else r"a\.keras cannot be read .* model\.weights\.h5 "
    )
    with pytest.raises(vggft.ClassifierFileError, match=told):
        vggft.load(tmp_path / "a.keras")


def test_damaged_run_directories_are_read_or_refused(whole: Path, tmp_path: Path) -> None:
    for seed in range(SEEDS):
        name = damaged_run(whole, target := tmp_path / f"run{seed}", seed)
        how, said = attack.outcome_of(lambda target=target: vggft.load(target).model_card(target / "card.md"))
        assert how != "traceback", (seed, name, said)
        assert how == "read" or (str(target) in said and "\n" not in said), said


def test_what_is_wrong_is_told_with_the_file_and_the_field(whole: Path, tmp_path: Path) -> None:
    run = shutil.copytree(whole, tmp_path / "run")
    told = json.loads((run / "environment.json").read_text())
    (run / "environment.json").write_text(json.dumps(told | {"command": ["vggft", 3]}))
    with pytest.raises(vggft.RunError, match=r"environment\.json has 3 in command\[1\], where a string was expected"):
        _ = vggft.load(run).record


def test_a_resume_point_is_compared_with_what_is_trained(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3, name="fc1")])
    note = {"epoch": 1, "wait": 0, "best": 0.5, "best_epoch": 1, "done": False, "history": []}
    rows = [{"phase": "head", "epoch": 1, "loss": float("nan")}]  # of a training that diverged, which goes on
    good, odd = np.zeros((2, 3), "f4"), np.full((2, 3), np.nan, "f4")
    for arrays, told, expected in (
        ([good, np.zeros(3, "f4")], note, None),
        ([odd, np.zeros(3, "f4")], note | {"history": rows}, None),
        ([odd, np.zeros(3, "f4")], note, "has NaN or infinity in .*fc1/kernel"),
        ([good], note, "has 1 arrays where 2 were expected"),
        ([good, np.zeros(4, "f4")], note, r"has shape \(4,\) for .*fc1/bias, where \(3,\) was expected"),
        ([good, np.zeros(3, "f4")], note | {"wait": "x"}, "has 'x' in wait, where an integer >= 0 was expected"),
    ):
        run = RunDirectory(tmp_path)
        run.save_point("head", arrays, told)
        if expected is None:
            BestEpoch("head", 3, run, model.variables)
            continue
        with pytest.raises(vggft.RunError, match=rf"resume/head\.npz {expected}.* Without this file"):
            BestEpoch("head", 3, run, model.variables)


@pytest.mark.slow
@pytest.mark.parametrize("what", ["files", "runs"])
def test_a_hundred_of_each(what: str) -> None:
    """In a process of its own, whose memory is measured."""
    command = [sys.executable, attack.__file__, what, "--count", "100"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    told = json.loads(done.stdout.splitlines()[-1])
    assert (told["traceback"], told["slow"], told["large"]) == (0, 0, 0), done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "count", "most"), [("finetune", 20, 1.0), ("blocks", 20, 2.0), ("search", 20, 1.5)])
def test_calls_leave_nothing_behind(kind: str, count: int, most: float) -> None:
    """In a process of its own. A graph of one training is 4 to 7 MB; Python's and TensorFlow's heaps grow by less."""
    command = [sys.executable, leaks.__file__, kind, "--count", str(count)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    told = json.loads(done.stdout.splitlines()[-1])
    assert (told["files"], told["graphs"]) == (0, 0) and told["MB_a_call"] < most, done.stdout
