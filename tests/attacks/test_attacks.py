"""Hostile classifier files and damaged run directories: read or refused in a sentence, without a traceback."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import attack
import h5py
import numpy as np
import pytest
from damaged_runs import damaged_run
from hostile_files import CHANGES, WEIGHTS, hdf5_change, hostile_file, in_hdf5, read, write

import vggft

SEEDS = 12


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return attack.make_run(tmp_path_factory.mktemp("attacks") / "whole")


def test_hostile_classifier_files_are_read_or_refused(whole: Path, tmp_path: Path) -> None:
    told = {}
    for seed in range(SEEDS):
        kind = hostile_file(whole / "classifier.keras", target := tmp_path / f"{seed}.keras", seed)
        told[seed, kind] = how, said = attack.outcome_of(lambda target=target: vggft.load(target))
        assert how != "traceback", (seed, kind, said)
        assert how == "read" or (str(target) in said and "\n" not in said), said
    assert {how for how, _ in told.values()} == {"read", "refused"}


@pytest.mark.parametrize("which", range(CHANGES))
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
    point = next((run / "resume").glob("*.npz"))
    with np.load(point) as stored:
        arrays = dict(stored)
    np.savez(point, **arrays | {"a0": np.full_like(arrays["a0"], np.nan)})
    with pytest.raises(vggft.RunError, match=r"NaN or infinity in .*kernel.* Without this file"):
        attack.resume(run)


@pytest.mark.slow
@pytest.mark.parametrize("what", ["files", "runs"])
def test_a_hundred_of_each(what: str) -> None:
    """In a process of its own, whose memory is measured."""
    command = [sys.executable, attack.__file__, what, "--count", "100"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    told = json.loads(done.stdout.splitlines()[-1])
    assert (told["traceback"], told["slow"], told["large"]) == (0, 0, 0), done.stdout
