"""The first hour of four folders that nobody prepared: `python tests/benchmarks/first_hour.py --data ../shared/data`.

Each command begins with an empty cache. Seconds are from the Return key to the first line, and to the last one.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BEFORE = "`python recipes/voc_labels.py --data bccd --output cells.csv`, then "
FOLDERS = {"sign_digits": "", "flowers17": "", "ants_bees": "", "bccd": BEFORE}
HOW = ["--test", "0.2", "--backbone", "vgg16_mini"]


def run(dataset: Path, folder: Path) -> tuple[str, float, float]:
    """Return what a fine-tuning printed, and the seconds to its first and last line."""
    command = [sys.executable, "-m", "vggft", "finetune", str(dataset), *HOW, "--run-dir", str(folder / "run")]
    environment = {**os.environ, "VGGFT_CACHE_DIR": str(folder / "cache")}
    started, first, lines = time.monotonic(), 0.0, []
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(command, env=environment, **pipes) as process:
        for line in process.stdout:
            first = first or time.monotonic() - started
            lines.append(line)
    return "".join(lines), first, time.monotonic() - started


def row(data: Path, name: str, before: str) -> str:
    """Return a row of the table in docs/first_hour.md."""
    with tempfile.TemporaryDirectory() as folder:
        dataset = data / name
        if before:
            dataset = Path(folder) / "cells.csv"
            recipe = [sys.executable, str(ROOT / "recipes" / "voc_labels.py"), "--data", str(data / name)]
            subprocess.run([*recipe, "--output", str(dataset)], check=True, stdout=sys.stderr)
        told, first, last = run(dataset, Path(folder))
    images = re.search(r"check the files: (\d+)/", told)
    features, training = re.search(r"in one pass, (\d+) s .* at most (\d+) s", told).groups()
    metric, value, interval = re.search(r"Test: (\w+) (0\.\d+) \(95 % interval ([^;]+; [^;]+);", told).groups()
    result = f"{last:.0f} s: {metric.replace('_', ' ')} {value} ({interval})"
    typed = f"{before}`vggft finetune {dataset.name} {' '.join(HOW)}`"
    cells = f"{int(images[1]):,} | {first:.0f} s | {int(features) + int(training)} s | {result}"
    return f"| {typed} | {cells} | {os.getloadavg()[0]:.0f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    data = parser.parse_args().data
    print("| typed | images | first sign of life | estimate | result on test images | load |")
    print("|---|---:|---:|---:|---|---:|")
    for name, before in FOLDERS.items():
        print(row(data, name, before), flush=True)


if __name__ == "__main__":
    main()
