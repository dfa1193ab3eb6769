"""Disks that fill, and data and caches that are gone in the middle of a run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import full_disks
import numpy as np
import pytest
from PIL import Image

import vggft
from vggft.training.selection import train_chosen

HOW: dict[str, Any] = {"image_size": 32, "precision": "float32", "verbose": 0, "test": 0.2}


@pytest.fixture
def disks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    if why := full_disks.no_disks():
        pytest.skip(why)
    monkeypatch.setattr("vggft.run.NEEDED", 0)  # or else such small disks are refused before anything is written
    monkeypatch.setattr("vggft.caching.cache.SPARE", 0)
    return tmp_path


@pytest.fixture(scope="module")
def work(stripes: tuple[np.ndarray, np.ndarray], tiny_weights: Path) -> Callable[[Path | None], vggft.Classifier]:
    def work(run_dir: Path | None) -> vggft.Classifier:
        resume = {} if run_dir is None else {"run_dir": run_dir, "resume": run_dir.exists()}
        given = stripes[0][:60], stripes[1][:60]
        return vggft.finetune(given, 3, backbone=str(tiny_weights), head=vggft.Head(units=()), **HOW, **resume)

    return work


@pytest.fixture(scope="module")
def expected(work: Callable[[Path | None], vggft.Classifier]) -> vggft.Classifier:
    return work(None)


def test_a_run_on_a_disk_that_fills_says_so_and_goes_on_with_room(disks: Path, work: Any, expected: Any) -> None:
    how, said = full_disks.attempt(disks / "a", 40_000, work, lambda found: full_disks.equal(found, expected))
    assert how == "refused" and "cannot be written: the disk of " in said, said


def test_a_cache_on_a_disk_that_is_full_is_done_without(disks: Path, work: Any, expected: Any) -> None:
    def with_cache(cache: Path) -> vggft.Classifier:
        with pytest.warns(UserWarning, match="keeps in memory what the cache cannot take"):
            return full_disks.with_cache(cache, lambda: work(None))

    with full_disks.disk(disks / "a", 2 * full_disks.PAGE):
        assert full_disks.equal(with_cache(disks / "a" / "cache"), expected)


def test_what_was_there_stays_where_a_disk_is_full(disks: Path, expected: vggft.Classifier) -> None:
    kept = b"precious"
    for name, save in (
        ("a.keras", expected.save),
        ("a.csv", expected.predictions(np.zeros((200, 32, 32, 3), np.uint8)).to_csv),
    ):
        target = disks / name / name
        with full_disks.disk(target.parent, 2 * full_disks.PAGE):
            target.write_bytes(kept)
            with pytest.raises(vggft.WriteError, match=rf"{name} cannot be written: the disk of .* is full: make room"):
                save(target, overwrite=True)
            assert target.read_bytes() == kept and list(target.parent.iterdir()) == [target]


def test_data_and_cache_that_are_gone_once_they_are_read_change_nothing(
    tmp_path: Path, stripes: tuple[np.ndarray, np.ndarray], tiny_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for row in range(48):
        (file := tmp_path / "data" / "abc"[stripes[1][row]] / f"{row}.png").parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(stripes[0][row]).save(file)

    def work() -> vggft.Classifier:
        how = {"backbone": str(tiny_weights), "head": vggft.Head(units=()), **HOW}
        return full_disks.with_cache(tmp_path / "cache", lambda: vggft.finetune(tmp_path / "data", 3, **how))

    def remove_first(*arguments: Any, **keywords: Any) -> Any:
        shutil.rmtree(tmp_path / "data")
        shutil.rmtree(tmp_path / "cache")
        return train_chosen(*arguments, **keywords)

    expected = work()
    monkeypatch.setattr("vggft.finetuning.train_chosen", remove_first)
    assert full_disks.equal(work(), expected) and not (tmp_path / "data").exists()


@pytest.mark.slow
def test_disks_of_many_sizes() -> None:
    """Run directories, caches, searches, files, tables, reports and exports."""
    if why := full_disks.no_disks():
        pytest.skip(why)
    command = [sys.executable, full_disks.__file__, "--count", "24"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ})
    assert json.loads(done.stdout.splitlines()[-1])["wrong"] == 0, done.stdout
