"""How well a backbone transfers: vggft's default, a linear probe, on the folders that developers have.

    python tests/benchmarks/backbones.py --data ../shared/data --out found.json BACKBONE [BACKBONE ...]

A backbone is a preset or a file of weights. Every folder is split at random, a quarter of it for testing, once for each
seed; all backbones see the same splits, at the size given. Results are kept in the file, from which a second call
resumes; it prints a table.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import numpy as np

import vggft

FOLDERS = ("sign_digits", "eurosat", "flowers17", "ants_bees", "dtd10")


def accuracy(folder: Path, backbone: str, image_size: int, seed: int) -> float:
    classes = sum(each.is_dir() for each in folder.iterdir())
    how = {"test": 0.25, "image_size": image_size, "precision": "float32", "verbose": 0}
    return float(vggft.finetune(folder, classes, backbone=backbone, seed=seed, **how).evaluation["accuracy"])


def main(data: Path, out: Path, backbones: list[str], image_size: int, seeds: int) -> None:
    found: dict[str, dict[str, list[float]]] = json.loads(out.read_text()) if out.exists() else {}
    for backbone in backbones:
        rows = found.setdefault(Path(backbone).stem, {})
        for name in FOLDERS:
            for seed in range(len(rows.get(name, [])), seeds):
                rows.setdefault(name, []).append(round(accuracy(data / name, backbone, image_size, seed), 4))
                out.write_text(json.dumps(found, indent=1))
    print(table(found))


def table(found: dict[str, dict[str, list[float]]]) -> str:
    """Mean test accuracy of each folder, and each seed's, in Markdown."""
    lines = [f"| backbone | {' | '.join(FOLDERS)} | mean |", "|---" * (len(FOLDERS) + 2) + "|"]
    for backbone, rows in found.items():
        each = [f"{np.mean(rows[name]):.3f} ({' '.join(f'{one:.3f}' for one in rows[name])})" for name in FOLDERS]
        mean = np.mean([np.mean(rows[name]) for name in FOLDERS])
        lines.append(f"| {backbone} | {' | '.join(each)} | {mean:.3f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds " + ", ".join(FOLDERS))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("backbones", nargs="+")
    main(**vars(parser.parse_args()))
