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

SETTINGS = {
    "eurosat": [],
    "eurosat --test 0.2": ["--test", "0.2"],
    "flowers17 --test 0.2": ["--test", "0.2"],
    "sign_digits --units 256": ["--units", "256"],
    "sign_digits --units 256 --test 0.2 --refit": ["--units", "256", "--test", "0.2", "--refit"],
    "ants_bees --freeze block4": ["--freeze", "block4"],
    "ants_bees --image-size 224": ["--image-size", "224"],
}


def run(data: Path, arguments: list[str], cache: str) -> dict[str, tuple[float, float]]:
    """Return the seconds that were said and taken, for features and for training."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        fixed = ["--backbone", "vgg16_mini", "--run-dir", str(out)]
        command = [sys.executable, "-m", "vggft", "finetune", str(data), *fixed, *arguments]
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
    for name, arguments in SETTINGS.items():
        if given.only not in name:
            continue
        with tempfile.TemporaryDirectory() as cache:
            for state in ("empty", "full"):
                found = run(given.data / name.split()[0], arguments, cache)
                (a, b), (c, d) = found["features"], found["training"]
                cells = [a, b, c, d, a + c, b + d, os.getloadavg()[0]]
                print(f"| {name} | {state} | {' | '.join(f'{cell:.1f}' for cell in cells)} |", flush=True)


if __name__ == "__main__":
    main()
