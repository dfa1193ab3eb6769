"""What a run says that it will take, and what it takes: `python tests/benchmarks/estimates.py --data ../shared/data`.

Each setting runs twice in a process of its own, with an empty cache and with a full one. `features` is the time from
the estimate to the frozen features, and `training` from there to the result, both as seen in the terminal.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SETTINGS = (
    "finetune eurosat",
    "finetune eurosat --test 0.2",
    "finetune flowers17 --test 0.2",
    "finetune sign_digits --units 256",
    "finetune sign_digits --units 256 --test 0.2 --refit",
    "finetune ants_bees --freeze block4",
    "finetune ants_bees --image-size 224",
    "search ants_bees --test 0.2 --trials 100 --algorithm random",
    "search ants_bees --test 0.2",
)


def run(data: Path, setting: str, cache: str) -> dict[str, tuple[float, float]]:
    """Return the seconds that were said and taken, for features and for training."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        fixed = ["--backbone", "vgg16_mini", "--run-dir", str(out)]
        verb, name, *arguments = setting.split()
        command = [sys.executable, "-m", "vggft", verb, str(data / name), *fixed, *arguments]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        with subprocess.Popen(command, env={**os.environ, "VGGFT_CACHE_DIR": cache}, **pipes) as process:
            at = {line.split(":")[0]: time.monotonic() for line in process.stderr}
            process.stdout.read()
        ended = time.monotonic()
        said = json.loads((out / "estimate.json").read_text())
    begun, computed = at["Estimate"], at["frozen features"]
    return {
        "features": (said["feature_seconds"], computed - begun),
        "training": (said["training_seconds"], ended - computed),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--only", default="")
    given = parser.parse_args()
    print("| run | cache | features: said | took | training: said | took | all: said | took | load |")
    print("|---|---|---:|---:|---:|---:|---:|---:|---:|")
    for setting in SETTINGS:
        if given.only not in setting:
            continue
        with tempfile.TemporaryDirectory() as cache:
            for state in ("empty", "full"):
                found = run(given.data, setting, cache)
                (a, b), (c, d) = found["features"], found["training"]
                cells = [a, b, c, d, a + c, b + d, os.getloadavg()[0]]
                print(f"| {setting} | {state} | {' | '.join(f'{cell:.1f}' for cell in cells)} |", flush=True)


if __name__ == "__main__":
    main()
