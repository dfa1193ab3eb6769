"""What it costs to look at the data: the share of a run, with its features in the cache.

    python tests/benchmarks/insight.py --data FOLDER [--images 2000] [--backbone vgg16_mini] [--image-size 64]

A run with a run directory is made several times, after one that fills the cache. Seconds are those of the clock: of the
whole run, and of what it does for `insight.json`, `places.npz` and for strangers and prediction sets.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import vggft
import vggft.api
from vggft.pipeline import Run


def timed(name: str, spent: dict[str, float]) -> Any:
    """Return a method of `Run` that adds up its seconds."""
    method = getattr(Run, name)

    def measured(*values: Any) -> Any:
        begun = time.monotonic()
        try:
            return method(*values)
        finally:
            spent[name] = spent.get(name, 0.0) + time.monotonic() - begun

    return measured


def main(data: Path, images: int, backbone: str, image_size: int, runs: int) -> None:
    files = sorted(path for path in data.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    chosen = sorted(random.Random(0).sample(files, min(images, len(files))))
    table = {"image": [str(path) for path in chosen], "label": [path.parent.name for path in chosen]}
    how: dict[str, Any] = {"test": 0.2, "backbone": backbone, "image_size": image_size, "verbose": 0}
    vggft.finetune(vggft.Table(table), **how)
    spent: dict[str, float] = {}
    for name in ("_insight", "_trust"):
        setattr(Run, name, timed(name, spent))
    shares = []
    for _ in range(runs):
        spent.clear()
        folder, begun = Path(tempfile.mkdtemp()), time.monotonic()
        found = vggft.finetune(vggft.Table(table), run_dir=folder / "run", **how)
        whole, part = time.monotonic() - begun, sum(spent.values())
        shares.append(part / (whole - part))
        print(f"{whole:.1f} s, of which {part:.2f} s to look at the data {dict(found.record.insight.seconds)}")
        shutil.rmtree(folder)
    print(f"{len(chosen)} images: it adds {statistics.median(shares):.1%} to a run (median of {runs})")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--backbone", default="vgg16_mini")
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--runs", type=int, default=3)
    main(**vars(parser.parse_args()))
