"""Real workers of TensorFlow on this machine: equal to one process, also when some of them are killed."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import vggft

# Without dropout, and without a square root, whose gradient near 0 makes much of the last bit.
HOW = "--backbone vgg16_mini --image-size 32 --test 0.2 --batch-size 8 --units 8 --dropout 0 --normalize l2 --seed 1"
HOW += " --precision float32 --epochs 6 --fine-tune-epochs 3 --fine-tune-learning-rate 1e-5"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """61 images of three classes, so that no batch is divided evenly."""
    path, rng = tmp_path_factory.mktemp("data") / "pictures", np.random.default_rng(0)
    for n in range(61):
        pixels = np.clip(rng.normal(100, 50, (32, 32, 3)) + 12 * (n % 3), 0, 255).astype("uint8")
        (path / "abc"[n % 3]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path / "abc"[n % 3] / f"{n}.png")
    return path


class Workers:
    """`vggft finetune --workers 2` in a process of its own."""

    def __init__(self, folder: Path, run: Path, *options: str):
        self.run = run
        command = [sys.executable, "-m", "vggft", "finetune", str(folder), *HOW.split(), *options]
        environment = os.environ | {"VGGFT_CACHE_DIR": str(run.parent / f"{run.name}-cache")}
        self.process = subprocess.Popen(
            [*command, "--workers", "2", "--run-dir", str(run)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def find(self, what: str, rank: int, parent: int) -> int | None:
        """Return the number of a process among the children, and theirs, of another."""
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError, IndexError):
                of = int((process / "stat").read_text().rpartition(")")[2].split()[1])
                command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                place = f'"index": {rank}}}' in (process / "environ").read_bytes().decode()
                if of == parent and what in command and place:
                    return int(process.name)
        return None

    def kill(self, what: str, rank: int = 1, *, when: Callable[[], bool] = lambda: True) -> None:
        """Kill the helper of a rank (`-m vggft`), or the process that trains for it, once it is there."""
        end = time.monotonic() + 240  # processes start slowly on a busy machine
        while time.monotonic() < end and self.process.poll() is None:
            parent: int | None = self.process.pid  # the chief, whose own process of training is its child
            if "worker" in what and rank:
                parent = self.find("-m vggft", rank, self.process.pid)
            if when() and (found := parent and self.find(what, rank, parent)):
                os.kill(found, signal.SIGKILL)
                return
            time.sleep(0.02)
        raise AssertionError(f"no {what} of rank {rank}: {self.end()}")

    def end(self) -> str:
        """Return what was printed, when the run has ended."""
        told = self.process.communicate(timeout=300)[0]
        return str(told)


def same(one: Path, other: Path) -> None:
    """Two runs have learned the same weights, and the validation images judged each epoch alike."""
    weights = [vggft.load(path).keras_model.get_weights() for path in (one, other)]
    for mine, theirs in zip(*weights, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-6)


PHASES = """[[training.phases]]
freeze = "all"
[[training.phases]]
freeze = "none"
"""


def alone(folder: Path, run: Path, freeze: str, phases: Any = "standard") -> Path:
    """The same by one process."""
    how: dict[str, Any] = {"epochs": 6, "batch_size": 8, "fine_tune_epochs": 3, "fine_tune_learning_rate": 1e-5}
    head = vggft.Head(units=(8,), dropout=0.0, normalize="l2")
    more: dict[str, Any] = {"backbone": "vgg16_mini", "image_size": 32, "test": 0.2, "seed": 1, "verbose": 0}
    more |= {"head": head, "training": vggft.Training(**how, phases=phases), "precision": "float32"}
    vggft.finetune(folder, freeze=freeze, run_dir=run, **more)
    return run


def test_two_workers_equal_one_also_when_they_are_killed(folder: Path, tmp_path: Path) -> None:
    """One kill in the pass, which costs what the worker had in hand, and one while all blocks learn."""
    (tmp_path / "phases.toml").write_text(PHASES)
    run = tmp_path / "run"
    workers = Workers(folder, run, "--freeze", "none", "--config", str(tmp_path / "phases.toml"))
    workers.kill("-m vggft", when=(run / "splits.csv").exists)
    job, order = run / "workers" / "job" / "job.json", run / "workers" / "order.json"

    def all_blocks_learn() -> bool:
        """All have come to the order that followed the job."""
        if not (job.exists() and order.exists()):
            return False
        late = "block1 to block5 and head" in job.read_text() and order.stat().st_mtime > job.stat().st_mtime
        return late and bool(json.loads(order.read_text()).get("go"))

    workers.kill("vggft.training.worker", when=all_blocks_learn)
    told = workers.end()
    assert workers.process.returncode == 0, told
    assert told.count("worker 1 on 127.0.0.1 was killed by signal 9; all workers begin again") == 1, told
    assert len(re.findall(r"frozen features: \d+/\d+", told)) == 1  # the progress of all is one
    phases = (vggft.Phase("all"), vggft.Phase("none"))
    same(alone(folder, tmp_path / "alone", "none", phases), run)


@pytest.mark.slow
@pytest.mark.parametrize("freeze", ["block4", "none"])
def test_two_workers_equal_one_whatever_is_frozen(freeze: str, folder: Path, tmp_path: Path) -> None:
    workers = Workers(folder, tmp_path / "run", "--freeze", freeze)
    workers.kill("vggft.training.worker", rank=0)
    told = workers.end()
    assert workers.process.returncode == 0 and "worker 0 on 127.0.0.1 was killed" in told, told
    same(alone(folder, tmp_path / "alone", freeze), tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_all_of_them_and_says_how_to_go_on(number: signal.Signals, folder: Path, tmp_path: Path) -> None:
    workers = Workers(folder, tmp_path / "run", "--freeze", "block4", "--fine-tune-epochs", "400", "--patience", "400")
    end = time.monotonic() + 90
    while not (tmp_path / "run" / "resume").exists() and time.monotonic() < end:  # the first epochs have been trained
        time.sleep(0.1)
    helper = workers.find("-m vggft", 1, workers.process.pid)
    trainers = [workers.find("vggft.training.worker", n, pid) for n, pid in ((0, workers.process.pid), (1, helper))]
    begun = time.monotonic()
    workers.process.send_signal(number)
    told = workers.end()
    assert time.monotonic() - begun < 5 and workers.process.returncode == 128 + number, told
    assert "To continue: vggft finetune" in told and "Traceback" not in told
    assert all(trainers) and helper
    time.sleep(1.5)  # they look every half second
    assert not [pid for pid in (helper, *trainers) if Path(f"/proc/{pid}").exists()]
