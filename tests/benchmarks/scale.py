"""The pass and the training of blocks by one and by two processes, each on a processor core of its own.

    python tests/benchmarks/scale.py --work DIRECTORY --data FOLDER [--backbone vgg16_mini] [--size 64] [--images 400]
        [--rounds 3] [--only pass block4 none]

Every process is pinned to its core (`taskset`); two share one cache and one run directory, and sum gradients over
loopback. One and two take turns. A pass is timed from when all have read the images until the last has all features; an
epoch is the median of those after the first. The last lines are a table in Markdown: median seconds, and how many times
as fast two are. Heads alone are not in it: the chief trains them, in seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))
WAIT = 0.02  # seconds


def run_of(settings: dict[str, Any], freeze: str, run_dir: Path) -> dict[str, Any]:
    """The arguments of a run."""
    import vggft

    training = vggft.Training(fine_tune_epochs=4, fine_tune_learning_rate=1e-5, batch_size=32, patience=4, epochs=1)
    head = vggft.Head(units=(16,), dropout=0.0, normalize="l2")
    how = {"backbone": settings["backbone"], "image_size": settings["size"], "precision": "float32", "verbose": 0}
    return how | {"freeze": freeze, "training": training, "head": head, "run_dir": run_dir, "strategy": "multiworker"}


def child(settings: dict[str, Any], what: str, rank: int, count: int, place: Path) -> None:
    """One of the processes: prints the seconds of the pass, or of the epochs."""
    from vggft import finetune

    if what != "pass":
        classifier = finetune(settings["data"], **run_of(settings, what, place / "run"))
        if rank == 0:
            print(json.dumps([row["seconds"] for row in classifier.history if row["phase"] != "head"][1:]))
        return
    from vggft.finetuning import plan_of
    from vggft.machines.strategies import devices_of
    from vggft.pipeline import open_run
    from vggft.run import RunDirectory
    from vggft.training.request import Request

    request = Request(settings["data"], **run_of(settings, "all", place / "run"))
    run = open_run(request, [request.setting()], RunDirectory(None), devices_of("multiworker"))
    planned = run.passes([plan_of(request, run).setting])
    (place / f"ready{rank}").touch()
    while len(list(place.glob("ready*"))) < count:
        time.sleep(WAIT)
    begun = time.perf_counter()
    run.experiment.bank(planned, run.narrator)
    print(json.dumps([time.perf_counter() - begun]))


def measure(settings: dict[str, Any], what: str, count: int, work: Path) -> list[float]:
    """Run so many processes, and return the seconds of the slowest one, or of each epoch."""
    from vggft.machines.cluster import on_this_machine

    place = work / f"{what}-{count}"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    cluster, processes = on_this_machine(count), []
    for rank in range(count):
        asked = [json.dumps(settings), what, str(rank), str(count), str(place)]
        cache = work / "cache" if what != "pass" else place / "cache"  # block4 needs the features, not their pass
        if what == "pass":
            shutil.copytree(work / "cache" / "images", cache / "images", dirs_exist_ok=True)
            shutil.copytree(work / "cache" / "image-facts", cache / "image-facts", dirs_exist_ok=True)
        more = {"VGGFT_CACHE_DIR": str(cache), "TF_CPP_MIN_LOG_LEVEL": "3", "TF_CONFIG": cluster.tf_config(rank)}
        command = ["taskset", "-c", str(rank), sys.executable, __file__, "--child", *asked]
        processes.append(subprocess.Popen(command, env=os.environ | more, stdout=subprocess.PIPE, text=True))
    told = [process.communicate()[0].strip().splitlines() for process in processes]
    found = [json.loads(lines[-1]) for lines in told if lines and lines[-1].startswith("[")]
    return [max(map(max, found))] if what == "pass" else found[0]


def main(work: Path, data: Path, backbone: str, size: int, images: int, rounds: int, only: list[str]) -> None:
    work.mkdir(parents=True, exist_ok=True)
    some = work / "images"
    if not some.exists():
        files = sorted(path for path in data.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
        for path in files[:: max(1, len(files) // images)][:images]:
            (some / path.parent.name).mkdir(parents=True, exist_ok=True)
            shutil.copy(path, some / path.parent.name)
    settings = {"data": str(some), "backbone": backbone, "size": size}
    found: dict[str, dict[int, list[float]]] = {what: {1: [], 2: []} for what in only}
    measure(settings, "block4", 1, work)  # fills the cache, and warms up
    for _ in range(rounds):
        for what in only:
            for count in (1, 2):
                found[what][count] += measure(settings, what, count, work)
                print(what, count, [round(each, 2) for each in found[what][count]], flush=True)
    print("| what | one process | two | times as fast |\n|---|---|---|---|")
    for what, each in found.items():
        one, two = (statistics.median(each[count]) for count in (1, 2))
        print(f"| {what} | {one:.2f} s | {two:.2f} s | {one / two:.2f} |")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        given, what, rank, count, place = sys.argv[2:]
        child(json.loads(given), what, int(rank), int(count), Path(place))
        sys.exit(0)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--backbone", default="vgg16_mini")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", default=["pass", "block4", "none"])
    main(**vars(parser.parse_args()))
