"""Call vggft many times in one process, and say how its memory and open files grow.

    python tests/attacks/leaks.py finetune --count 50     # a head on frozen blocks
    python tests/attacks/leaks.py blocks --count 50       # block 5 learns too
    python tests/attacks/leaks.py search --count 125      # of 4 trials each
    python tests/attacks/leaks.py classify --count 100000

With `--clear`, `keras.backend.clear_session()` follows each call, as it may in a program that has no models of its own:
it empties TensorFlow's cache of kernels, which keeps about a megabyte of each training.

The last line is the summary: `{"calls": 50, "MB": 779.1, "MB_a_call": 0.02, "files": 0, "graphs": 0}`. The slope is of
the second half of the calls, since the first ones load what all of them use. Files are those still open that were not
after the first call; graphs are TensorFlow's that are still there.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2])]

import keras  # noqa: E402
import numpy as np  # noqa: E402
from attack import HOW, data  # noqa: E402

import vggft  # noqa: E402

LOOKS = 20  # at memory


def resident() -> float:
    """Memory of this process that is in use, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def open_files() -> int:
    """Files of this process that are open, or mapped as arrays."""
    mapped = [line for line in Path("/proc/self/maps").read_text().splitlines() if line.endswith(".npy")]
    return len(list(Path("/proc/self/fd").iterdir())) + len(mapped)


def graphs() -> int:
    """TensorFlow's graphs that are alive."""
    return sum(type(each).__name__ == "FuncGraph" for each in gc.get_objects())


def call_of(kind: str) -> Callable[[], object]:
    """Return what is called again and again."""
    images, labels = data()
    classes, training = len(set(labels)), vggft.Training(epochs=3, fine_tune_epochs=2, probe="epochs")
    how: dict[str, Any] = {**HOW, "training": training}
    if kind == "search":
        space = vggft.SearchSpace(units=[8, 16], layers=1, learning_rate=[1e-3, 1e-2])
        return lambda: vggft.search((images, labels), classes, trials=4, space=space, **how)
    freeze = "block4" if kind == "blocks" else "all"
    classifier = vggft.finetune((images, labels), classes, freeze=freeze, **how)
    if kind == "classify":
        return lambda: classifier.classify(images[0])
    return lambda: vggft.finetune((images, labels), classes, freeze=freeze, head=vggft.Head(units=(8,)), **how)


def measure(kind: str, count: int, clear: bool = False, tell: Callable[[str], object] = print) -> dict[str, Any]:
    """Call `count` times, and return the summary."""
    call = call_of(kind)
    call()
    gc.collect()
    files, kept, seen = open_files(), graphs(), list[tuple[int, float]]()
    for done in range(1, count + 1):
        call()
        if clear:
            keras.backend.clear_session()
        if done % max(1, count // LOOKS) == 0:
            gc.collect()
            seen.append((done, resident()))
            tell(
                f"{kind} {done}: {seen[-1][1]:.1f} MB, {open_files() - files} more files, {graphs() - kept} more graphs"
            )
    gc.collect()
    late = np.array(seen[len(seen) // 2 :])
    slope = float(np.polyfit(*late.T, 1)[0])
    found = {"calls": count, "MB": round(seen[-1][1], 1), "MB_a_call": round(slope, 5)}
    return found | {"files": open_files() - files, "graphs": graphs() - kept}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["finetune", "blocks", "search", "classify"])
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--clear", action="store_true")
    asked = parser.parse_args()
    print(json.dumps(measure(asked.kind, asked.count, asked.clear)))
