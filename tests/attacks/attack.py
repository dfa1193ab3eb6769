"""Try many hostile classifier files or damaged run directories, one after another, and say what each did.

    python tests/attacks/attack.py files --count 100 --seed 0
    python tests/attacks/attack.py runs --count 100 --seed 0

Each line is an attempt that was not simply refused or read within 5 seconds and 200 MB above four times its size; the
last line is the summary: `{"tried": 100, "read": 21, "refused": 79, "tracebacks": 0, ...}`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2])]

import numpy as np  # noqa: E402
from damaged_runs import damaged_run  # noqa: E402
from hostile_files import hostile_file  # noqa: E402

import vggft  # noqa: E402
from vggft.network.weights import load_pretrained  # noqa: E402
from vggft.overview import read_runs  # noqa: E402
from vggft.run import RunDirectory  # noqa: E402

SLOW = 5.0  # seconds of this process, which others cannot lengthen
SPARE = 200 * 2**20  # bytes above four times the size of what is read


def data() -> tuple[np.ndarray, np.ndarray]:
    """36 images of three classes, each of one brightness."""
    labels = np.arange(36) % 3
    noise = np.random.default_rng(0).integers(0, 60, (36, 32, 32, 3))
    return (noise + 80 * labels[:, None, None, None]).astype("uint8"), labels


HOW: dict[str, Any] = {"backbone": "vgg16_mini", "image_size": 32, "verbose": 0, "precision": "float32"}


def make_run(run_dir: Path, **how: Any) -> Path:
    """Make a run that was ended just before its classifier was written, with its resume points, and its classifier."""
    head, training = vggft.Head(units=(8,)), vggft.Training(epochs=2, fine_tune_epochs=1, probe="epochs")
    arguments = {**HOW, "head": head, "training": training, "freeze": "block4", "test": 0.2, **how}
    keep, RunDirectory.drop_points = RunDirectory.drop_points, lambda self: None  # type: ignore[method-assign]
    try:
        vggft.finetune(data(), 3, run_dir=run_dir, **arguments)
    finally:
        RunDirectory.drop_points = keep  # type: ignore[method-assign]
    return run_dir


def resume(run_dir: Path) -> None:
    (run_dir / "classifier.keras").unlink(missing_ok=True)
    head, training = vggft.Head(units=(8,)), vggft.Training(epochs=2, fine_tune_epochs=1, probe="epochs")
    how = {**HOW, "head": head, "training": training, "freeze": "block4", "test": 0.2}
    vggft.finetune(data(), 3, run_dir=run_dir, resume=True, **how)


def look(run_dir: Path) -> None:
    """Read all that is in a run directory."""
    str(read_runs(run_dir))
    found = vggft.load(run_dir)
    found.model_card(run_dir / "card.md")
    found.report(run_dir / "page.html")


def outcome_of(work: Callable[[], object]) -> tuple[str, str]:
    """Do something; return "read", "refused" or "traceback", and what was said."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            work()
    except vggft.VggftError as error:
        return "refused", str(error)
    except Exception:
        return "traceback", traceback.format_exc()
    return "read", ""


def high_water() -> int:
    """Return the most memory since `reset`, in bytes."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


def reset() -> int:
    """Begin to measure anew; return the memory of now."""
    Path("/proc/self/clear_refs").write_text("5")
    return high_water()


def size_of(path: Path) -> int:
    return sum(file.stat().st_size for file in (path, *path.rglob("*")) if file.is_file())


def attack(what: str, count: int, seed: int, place: Path) -> dict[str, Any]:
    whole = make_run(place / "whole")
    look(shutil.copytree(whole, place / "warm"))
    resume(place / "warm")
    told: Counter[str] = Counter({"tried": 0, "read": 0, "refused": 0, "traceback": 0, "slow": 0, "large": 0})
    most = {"seconds": 0.0, "bytes above": 0}
    for number in range(seed, seed + count):
        doors: list[tuple[str, Path, Callable[[], object]]] = []
        if what == "files":
            kind = hostile_file(whole / "classifier.keras", target := place / f"{number}.keras", number)
            doors = [(kind, target, lambda target=target: vggft.load(target))]
            doors += [(f"{kind} as backbone", target, lambda target=target: load_pretrained(target))][: number % 3 == 0]
        else:
            target = place / f"run{number}"
            doors = [(damaged_run(whole, target, number), target, lambda target=target: look(target))]
            doors += [(f"{doors[0][0]}, resumed", target, lambda target=target: resume(target))]
        for name, path, work in doors:
            size, before, began = size_of(path), reset(), time.process_time()
            how, said = outcome_of(work)
            seconds, above = time.process_time() - began, high_water() - before
            told.update([how, "tried", *["slow"] * (seconds > SLOW), *["large"] * (above > 4 * size + SPARE)])
            most = {"seconds": max(most["seconds"], seconds), "bytes above": max(most["bytes above"], above)}
            if how == "traceback" or seconds > SLOW or above > 4 * size + SPARE or (how == "refused" and "\n" in said):
                print(
                    number, name, how, f"{seconds:.1f} s", f"{above / 1e6:.0f} MB of {size / 1e6:.1f}", said, flush=True
                )
        shutil.rmtree(target) if target.is_dir() else target.unlink()
    return {**told, "most seconds": round(most["seconds"], 2), "most MB above": round(most["bytes above"] / 1e6)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["files", "runs"])
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(attack(asked.what, asked.count, asked.seed, Path(folder))))
