"""Killed is not lost: real runs, killed at random moments, end with the weights of a run that was left alone.

    python tests/benchmarks/kills.py --work DIRECTORY [--kills 20] [standard gradual one_cycle ...]

Each kill is a SIGKILL at a random moment of a run with an empty cache, from reading the images to saving the
classifier; then the run is resumed, to its end. Weights are compared bit for bit, and histories but for their seconds.
What was compared is kept in DIRECTORY/kills.json, from which a second call goes on; the directory of a run that ended
otherwise is kept as well. A kill takes about twenty seconds on two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import numpy as np

PHASES: Any = ({"freeze": "block4", "epochs": 9}, {"freeze": "all", "epochs": 20}, {"freeze": "block3", "epochs": 9})
WEIGHTS = {"0": 1.0, "1": 2.0, "2": 0.5}
SCHEDULES: dict[str, dict[str, Any]] = {
    "standard": {"optimizer": "sgd"},
    "gradual": {"phases": "gradual"},
    "own_phases": {"phases": PHASES, "optimizer": "adamw", "weight_decay": 0.01},
    "one_cycle": {"schedule": "one_cycle", "optimizer": "sgd", "clip_norm": 1.0},
    "plateau": {"schedule": "plateau", "patience": 4},
    "average": {"ema_momentum": 0.9, "optimizer": "sgd"},
    "weighed": {"class_weight": WEIGHTS, "focal_gamma": 2.0, "optimizer": "sgd"},
    "auto": {"fine_tune_learning_rate": 1e-2},
    "balanced": {"sampling": "balanced", "class_weight": WEIGHTS, "schedule": "constant", "optimizer": "sgd"},
}
COMMON: dict[str, Any] = {"epochs": 40, "fine_tune_epochs": 20, "batch_size": 16, "patience": 100}


def striped(count: int = 120) -> tuple[np.ndarray, np.ndarray]:
    """Very noisy 32 x 32 images of three classes of stripes."""
    rng, (y, x) = np.random.default_rng(0), np.mgrid[:32, :32]
    patterns = [np.sin(y * 0.8), np.sin(x * 0.8), np.sin((x + y) * 0.6)]
    labels = np.arange(count) % 3
    images = np.stack([patterns[label] * 60 + 128 + rng.normal(0, 120, (32, 32)) for label in labels])
    return np.repeat(images[..., None].clip(0, 255).astype("uint8"), 3, axis=-1), labels


def begin(name: str, place: Path) -> int:
    """Begin or resume a run in a process of its own; return its number. It writes what it ended with into `place`."""
    if child := os.fork():
        return child
    try:
        os.environ["VGGFT_CACHE_DIR"] = str(place / "cache")
        import vggft
        from vggft import depth
        from vggft.network.freezing import digest_of
        from vggft.training import callbacks

        callbacks.SECONDS_BETWEEN_POINTS, depth.FEWEST = 0, 10  # a resume point after every epoch
        auto = name == "auto"
        classifier = vggft.finetune(
            striped(),
            3,
            backbone="vgg16_mini",
            image_size=32,
            freeze="auto" if auto else "block3",
            precision="float32",
            head=None if auto else vggft.Head(units=(16,)),
            training=vggft.Training(**(COMMON | SCHEDULES[name])),
            run_dir=place / "run",
            resume=True,
            verbose=0,
        )
        rows = [{key: value for key, value in row.items() if key != "seconds"} for row in classifier.history]
        ended = {"weights": digest_of(classifier.keras_model.get_weights()), "history": rows}
        (place / "ended.json").write_text(json.dumps(ended))
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def ending(name: str, place: Path) -> tuple[dict[str, Any], float]:
    """Let a run go on to its end; return what it ended with and its seconds."""
    started = time.monotonic()
    _, status = os.waitpid(begin(name, place), 0)
    if status:
        raise SystemExit(f"the run in {place} failed")
    found: dict[str, Any] = json.loads((place / "ended.json").read_text())
    return found, time.monotonic() - started


def main() -> None:
    """Kill and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("schedules", nargs="*", choices=[*SCHEDULES, []], help="by default all")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--kills", type=int, default=20)
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    log = arguments.work / "kills.json"
    found: dict[str, list[dict[str, Any]]] = json.loads(log.read_text()) if log.exists() else {}
    import vggft.api  # noqa: F401  # once, before all forks: TensorFlow starts no threads before its first operation

    for name in arguments.schedules or SCHEDULES:
        done = found.setdefault(name, [])
        if len(done) >= arguments.kills:
            continue
        alone = arguments.work / f"{name}-alone"
        shutil.rmtree(alone, ignore_errors=True)
        expected, seconds = ending(name, alone)
        for number in range(len(done), arguments.kills):
            place = arguments.work / f"{name}-{number}"
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir()
            moment = float(np.random.default_rng([number, *name.encode()]).uniform(0, seconds))
            child = begin(name, place)
            time.sleep(moment)
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            points = sorted(path.stem for path in (place / "run" / "resume").rglob("[!.]*.npz"))
            ended, _ = ending(name, place)
            same, killed = ended == expected, os.WIFSIGNALED(status)
            done.append({"moment": round(moment, 2), "killed": killed, "points": points, "same": same})
            log.write_text(json.dumps(found, indent=1))
            print(f"{time.strftime('%H:%M:%S')} {name}, kill {number + 1}: {done[-1]}", flush=True)
            if same:
                shutil.rmtree(place)
        shutil.rmtree(alone)
    for name, kills in found.items():
        killed = [kill for kill in kills if kill["killed"]]
        between = sum(bool(kill["points"]) for kill in killed)
        print(
            f"{name}: {len(killed)} kills, {between} with resume points; {sum(k['same'] for k in kills)} ended equally"
        )
    if not all(kill["same"] for kills in found.values() for kill in kills):
        sys.exit("some runs ended otherwise")


if __name__ == "__main__":
    main()
