"""What the bounds of decoding cost good pictures: two checkouts read the same files in turns.

    python tests/benchmarks/decoding.py --before ../before --after . --rounds 7 FOLDER ...

Prints for each folder the median seconds of both, and the ratio: its median over the rounds and its range.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from pathlib import Path

WORK = """
import sys, time
from pathlib import Path
from vggft.pictures.arrays import in_threads
from vggft.pictures.files import read_image
files = [path for path in sorted(Path(sys.argv[1]).rglob("*"))
         if path.suffix.lower() in (".jpg", ".jpeg", ".png", ".tif", ".webp")][: int(sys.argv[3])]
read = lambda path: read_image(path, int(sys.argv[2])).pixels.shape
list(in_threads(read, files[:64], 4))
for line in sys.stdin:
    start = time.perf_counter()
    list(in_threads(read, files, 4))
    print(time.perf_counter() - start, flush=True)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", type=Path, required=True)
    parser.add_argument("--after", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("folders", nargs="+", type=Path)
    given = parser.parse_args()
    for folder in given.folders:
        command = [sys.executable, "-c", WORK, str(folder), str(given.size), str(given.images)]
        sides = [
            subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=os.environ | {"PYTHONPATH": str(side.resolve())},
            )
            for side in (given.before, given.after)
        ]
        seconds: list[list[float]] = [[], []]
        for number in range(given.rounds):
            for which in (0, 1) if number % 2 else (1, 0):
                side = sides[which]
                assert side.stdin is not None and side.stdout is not None
                print("go", file=side.stdin, flush=True)
                seconds[which].append(float(side.stdout.readline()))
        for side in sides:
            side.communicate()
        ratios = [after / before for before, after in zip(*seconds, strict=True)]
        before, after = map(statistics.median, seconds)
        told = f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
        print(f"{folder.name}: {before:.2f} s before, {after:.2f} s after, ratio {told}", flush=True)


if __name__ == "__main__":
    main()
