"""Disks that are full at every moment of a run, one size after another, and what became of what was on them.

    python tests/attacks/full_disks.py --count 24 --seed 0

A disk is a tmpfs of a few kB to a few MB, for which this needs root on Linux. Work is done on it, which ends well or in
one sentence that names the disk; then there is room, and the same is done again. Each line is an attempt that went
otherwise, the last one the summary: `{"tried": 96, "done": 40, "refused": 56, "wrong": 0}`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2])]

import numpy as np  # noqa: E402
from attack import HOW, data, outcome_of  # noqa: E402

import vggft  # noqa: E402
import vggft.caching.cache  # noqa: E402
import vggft.run  # noqa: E402

MANY = 64 * 2**20  # bytes, of a disk that has room
PAGE = 4096  # bytes, by which a tmpfs counts
UNREAD = {"tensorboard", "trial.json", "oracle.json", "tuner0.json"}  # of TensorBoard and KerasTuner; vggft reads none

Work = Callable[[Path], Any]


def no_disks() -> str:
    """Say why disks of a chosen size cannot be made here; "" if they can."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        return "needs root on Linux, to mount a tmpfs"
    with tempfile.TemporaryDirectory() as folder:
        try:
            with disk(Path(folder), PAGE):
                return ""
        except (OSError, subprocess.CalledProcessError):
            return "needs to mount a tmpfs, which is not allowed here"


@contextmanager
def disk(place: Path, size: int) -> Iterator[Callable[[int], object]]:
    """Mount a disk of some bytes; yields a function that gives it another size."""

    def mount(options: str) -> None:
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", place], check=True, capture_output=True)

    place.mkdir(parents=True, exist_ok=True)
    mount(f"size={size}")
    try:
        yield lambda more: mount(f"remount,size={more}")
    finally:
        subprocess.run(["umount", "-l", place], check=True, capture_output=True)


def faults_in(folder: Path) -> list[str]:
    """List what is half-written in a folder: unfinished files, and JSON or arrays that cannot be read."""
    found = []
    for file in (each for each in folder.rglob("*") if each.is_file() and not UNREAD & {*each.parts}):
        try:
            if file.name.startswith(".vggft-"):
                found.append(f"{file} is unfinished")
            elif file.suffix == ".json":
                json.loads(file.read_text(encoding="utf-8"))
            elif file.suffix in (".npz", ".npy"):
                loaded = np.load(file)
                _ = [loaded[name] for name in loaded] if file.suffix == ".npz" else loaded
        except Exception as error:
            found.append(f"{file}: {error!r}")
    return found


def attempt(place: Path, size: int, work: Work, same: Callable[[Any], bool], kept: bytes = b"") -> tuple[str, str]:
    """Do something on a disk of some bytes, and again when it has room.

    Args:
        place: an empty folder.
        size: bytes besides those of `kept`.
        work: what is done with a path on the disk; called again with that path.
        same: whether what it returned is right.
        kept: what is in the file of this path before, which has to stay unless it is replaced as a whole.

    Returns:
        "done" or "refused", or else "wrong"; and what was said, or what is wrong.
    """
    with disk(place, size + 2 * PAGE + -(-len(kept) // PAGE) * PAGE) as resize:
        target = place / "it"
        if kept:
            target.write_bytes(kept)
        results: list[Any] = []
        how, said = outcome_of(lambda: results.append(work(target)))
        wrong = faults_in(place)
        if how == "traceback" or "\n" in said or (how == "refused" and "disk" not in said):
            wrong.append(said)
        if how == "read" and not same(results[0]):
            wrong.append("another result")
        if how == "refused" and kept and (not target.is_file() or target.read_bytes() != kept):
            wrong.append("what was there is lost")
        resize(MANY)
        again, said_again = outcome_of(lambda: results.append(work(target)))
        if again != "read" or not same(results[-1]):
            wrong.append(f"with room: {again}, {said_again or 'another result'}")
        return ("wrong", "; ".join(wrong)) if wrong else ("done" if how == "read" else how, said)


# What is done ---------------------------------------------------------------------------------------------------------


def weights_of(classifier: vggft.Classifier) -> list[np.ndarray]:
    return [np.asarray(weight) for weight in classifier.keras_model.weights]


def equal(found: vggft.Classifier, expected: vggft.Classifier) -> bool:
    pairs = zip(weights_of(found), weights_of(expected), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


def finetune(run_dir: Path | None, **how: Any) -> vggft.Classifier:
    """Two phases by epochs, so that there are resume points; continued if it had begun."""
    settings = {"head": vggft.Head(units=(8,)), "training": vggft.Training(epochs=2, fine_tune_epochs=1), **HOW, **how}
    resume = {"run_dir": run_dir, "resume": run_dir.exists()} if run_dir else {}
    return vggft.finetune(
        data(), 3, **{"freeze": "block4", "test": 0.2, **settings, **resume}, tensorboard=bool(run_dir)
    )


def search(run_dir: Path) -> vggft.SearchResult:
    space = vggft.SearchSpace(units=[4, 8], learning_rate=[1e-3, 1e-2])
    how: dict[str, Any] = {"space": space, "trials": 4, "algorithm": "random", "training": vggft.Training(epochs=2)}
    found = vggft.search(data(), 3, run_dir=run_dir, resume=run_dir.exists(), **how, **HOW)
    assert found is not None
    return found


def with_cache(cache: Path, work: Callable[[], Any]) -> Any:
    before = os.environ.get("VGGFT_CACHE_DIR")
    os.environ["VGGFT_CACHE_DIR"] = str(cache)
    try:
        return work()
    finally:
        os.environ.pop("VGGFT_CACHE_DIR") if before is None else os.environ.update(VGGFT_CACHE_DIR=before)


def works(expected: vggft.Classifier, scratch: Path) -> dict[str, tuple[int, Work, Callable[[Any], bool], bytes]]:
    """Name -> bytes up to which disks are tried, what is done, whether that is right, and what was there before."""
    report = expected.report(scratch / "kept.html").read_bytes()
    trials = search(scratch / "search").to_dict()["best"]

    def is_it(found: Any) -> bool:
        return equal(found, expected)

    def saved(path: Path) -> bool:
        return is_it(vggft.load(expected.save(path.with_suffix(".keras"), overwrite=True)))

    def table(path: Path) -> Path:
        return expected.predictions(np.tile(data()[0], (20, 1, 1, 1))).to_csv(path, overwrite=True)

    found: dict[str, tuple[int, Work, Callable[[Any], bool], bytes]] = {
        "run": (20_000_000, finetune, is_it, b""),
        "cache": (400_000, lambda path: with_cache(path, lambda: finetune(None)), is_it, b""),
        "search": (8_000_000, search, lambda result: bool(result.to_dict()["best"]["score"] == trials["score"]), b""),
        "save": (5_000_000, saved, bool, b""),
        "table": (30_000, table, Path.is_file, b""),
        "report": (len(report) + 100_000, lambda path: expected.report(path, overwrite=True), Path.is_file, report),
    }
    for suffix in (".onnx", ".tflite", ""):

        def export(path: Path, suffix: str = suffix) -> bool:
            return expected.export(path.with_suffix(suffix), dataset=data(), overwrite=True).same_label == 1

        found[f"export {suffix}".strip()] = (16_000_000, export, bool, b"")
    return found


def attack(count: int, seed: int, scratch: Path, only: str = "") -> dict[str, Any]:
    vggft.run.NEEDED = vggft.caching.cache.SPARE = 0  # or else these disks are refused before anything is written
    warnings.simplefilter("ignore")
    expected = finetune(None)
    rng, told = np.random.default_rng(seed), Counter[str]({"tried": 0, "done": 0, "refused": 0, "wrong": 0})
    for name, (most, work, same, kept) in works(expected, scratch).items():
        if only not in name:
            continue
        each: Counter[str] = Counter()
        for step, share in enumerate(np.geomspace(PAGE / most, 1, count)):
            size = int(most * share * rng.uniform(0.9, 1.1))
            place = scratch / f"{name.replace(' ', '')}{step}"
            how, said = attempt(place, size, work, same, kept)
            each.update([how])
            told.update(["tried", how])
            if how == "wrong" or how not in told:
                print(name, size, how, said, flush=True)
        print(name, dict(each), flush=True)
    return dict(told)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="part of the name of what is done")
    asked = parser.parse_args()
    if why := no_disks():
        sys.exit(why)
    with tempfile.TemporaryDirectory() as folder:
        os.environ.setdefault("VGGFT_CACHE_DIR", str(Path(folder) / "cache"))
        print(json.dumps(attack(asked.count, asked.seed, Path(folder), asked.only)))
