"""Several processes that train together, on one machine or on several: they begin together, and again together.

TensorFlow's collective operations need the same processes from beginning to end: if one dies, the others fail. So the
training itself is done by processes of their own, one for each worker, which may die. The runs that the user started
lead them: the chief's gives orders, by files in the run directory that all of them share, and the others' follow. An
order is one attempt at a job. When a process dies, the chief gives the next order, and all begin again from the last
resume point.
"""

from __future__ import annotations

import heapq
import re
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, TypedDict

from ..caching.pulse import STALE, Pulse, age_of
from ..errors import RunError
from ..files.documents import DocumentError, parse_document
from ..files.writing import remove_own, write_whole
from ..telling.progress import Narrator
from .cluster import LOOK_EVERY, PATIENCE, Cluster
from .processes import document, ended

FOLDER, LOG = "workers", "all.log"  # in the run directory, and in that
TIME = len("2026-11-26 22:08:00")
SOON = 10.0  # seconds after which it is said who is missing
LOOK_AT_CHIEF = 3.0  # seconds between looks for the chief's signs of life
GRACE = 5.0  # seconds in which a process that failed for another one's sake lets this one be named
MOST_FAILURES = 4  # in a row, without an epoch between them
_OURS = re.compile(r"order\.json|(here|failed)-[0-9a-f]+-\d+(\.json)?|job\.(json|npz)|\w+_inputs\d+_\.npy")


class Process(Protocol):
    """What trains a job: a `Child`, or this process itself."""

    lines: list[str]
    error: dict[str, Any] | None

    def code(self) -> int | None: ...
    def end(self) -> None: ...


Start = Callable[[Path, Callable[[dict[str, Any]], object]], Process]  # of a job, and what hears what it tells


class Order(TypedDict, total=False):
    """What the chief wants done: `order.json`."""

    chief: str  # a word of its own for each run, so that orders of an earlier one are not followed
    number: int
    job: str  # file of the job; "" for none
    go: bool  # whether all are there
    over: bool
    error: str


class Failure(TypedDict):
    """How a process of a worker ended."""

    told: str
    own: bool  # whether it failed by itself, rather than for another one's sake
    final: bool  # whether it would fail again


@dataclass(frozen=True)
class Place:
    """The files by which the workers of a run agree.

    Args:
        folder: in the run directory.
    """

    folder: Path

    def write(self, order: Order) -> None:
        """Give an order."""
        write_whole(self.folder / "order.json", document(order), overwrite=True)

    def read(self) -> Order | None:
        """Return the order of now, or None."""
        with suppress(OSError, DocumentError):
            found: Order = parse_document((self.folder / "order.json").read_bytes(), Order)
            return found
        return None

    def here(self, order: Order, rank: int) -> Path:
        """Return the file by which a worker says that it has come to an order."""
        return self.folder / f"here-{order['chief']}{order['number']:04x}-{rank}"

    def failed(self, order: Order, rank: int) -> Path:
        """Return the file by which a worker says how its process failed."""
        return self.folder / f"failed-{order['chief']}{order['number']:04x}-{rank}.json"

    def merge_logs(self) -> None:
        """Write what all workers have printed into one file, in the order of time; each line has its own."""
        files = self.folder.glob("worker*.log")  # of which others may have written half a letter
        logs = [file.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True) for file in files]
        if any(logs):
            write_whole(self.folder / LOG, "".join(heapq.merge(*logs, key=lambda line: line[:TIME])), overwrite=True)

    def failures(self, order: Order, size: int) -> dict[int, Failure]:
        """Return the failures of all workers under an order."""
        found: dict[int, Failure] = {}
        for rank in range(size):
            with suppress(OSError, DocumentError):
                found[rank] = parse_document(self.failed(order, rank).read_bytes(), Failure)
        return found


def failure_of(child: Process) -> Failure:
    """Tell how a process failed, from its exit code and from what it said."""
    code = child.code() or 0
    if child.error is not None:
        return {"told": child.error["told"], "own": not child.error["peer"], "final": child.error["final"]}
    last = next((line for line in reversed(child.lines) if line.strip()), "")
    # TensorFlow ends a process by SIGABRT when it hears that another one is gone
    return {"told": f"{ended(code)}{f' ({last})' if code > 0 and last else ''}", "own": code != -6, "final": False}


class Crew:
    """The chief's side of it: gives orders, and trains as one of the workers.

    Args:
        folder: the run directory.
        cluster: all workers; this process is the chief.
        start: starts this worker's own process for a job.
    """

    def __init__(self, folder: Path, cluster: Cluster, start: Start, narrator: Narrator):
        self.place, self.cluster, self.start, self.narrator = Place(folder / FOLDER), cluster, start, narrator
        self.order: Order = {"chief": uuid.uuid4().hex[:12], "number": 0, "job": "", "over": False}
        self.pulse = Pulse(lambda: [self.place.folder / "order.json"])

    def __enter__(self) -> Crew:
        self.place.folder.mkdir(parents=True, exist_ok=True)
        remove_own(self.place.folder, _OURS)
        self.place.write(self.order)
        self.pulse.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.pulse.stop()
        with suppress(OSError):
            self.place.merge_logs()
        with suppress(OSError):
            if error is None:  # the others see that the result is there
                remove_own(self.place.folder, _OURS, folders=True)
            else:
                self._give(job="", over=True, error=f"{error}" or type(error).__name__)

    def _give(self, **changes: Any) -> Order:
        self.order = {**self.order, "number": self.order["number"] + 1, "go": False, **changes}  # type: ignore[typeddict-item]
        self.place.write(self.order)
        return self.order

    def run(self, job: Path, epoch: Callable[[], int], on_told: Callable[[dict[str, Any]], object]) -> None:
        """Do a job, and again if a worker dies, until it is done.

        Args:
            job: its file, which all workers can read.
            epoch: the number of the last epoch that has a resume point; -1 for none.
            on_told: called with what the chief's own process tells.

        Raises:
            RunError: a worker died again and again, raised an error of its own, or did not come; the message says
                which, on which host, and why.
        """
        failures, reached = 0, epoch()
        while True:
            order = self._give(job=str(job.absolute()))
            self._gather(order)
            found = self._try(order, job, on_told)
            if found is None:
                return
            rank, failure = found
            told = f"{self.cluster.name(rank)} {failure['told']}"
            failures = failures + 1 if epoch() == reached else 1
            reached = epoch()
            if failure["final"] or failures == MOST_FAILURES:
                again = "" if failure["final"] else f", {failures} times without an epoch in between"
                raise RunError(f"{told}{again}. {self.place.folder / LOG} has what all workers printed.")
            self.narrator.say(f"{told}; all workers begin again from the last resume point.")

    def _gather(self, order: Order) -> None:
        """Wait until all workers have come to an order, and let them go."""
        began, told = time.monotonic(), False
        while missing := [n for n in range(1, self.cluster.size) if not self.place.here(order, n).exists()]:
            names = ", ".join(map(self.cluster.name, missing))
            waited = time.monotonic() - began
            if waited > SOON and not told:
                self.narrator.say(f"Waiting for {names}.")
                told = True
            if waited > PATIENCE:
                raise RunError(
                    f"{names} did not come within {PATIENCE / 60:.0f} minutes. The usual cause is a process that was "
                    "not started, or that has another run_dir: all of them need the same, on a disk that all see."
                )
            time.sleep(LOOK_EVERY / 5)
        self.order = {**order, "go": True}
        self.place.write(self.order)

    def _try(self, order: Order, job: Path, on_told: Callable[[dict[str, Any]], object]) -> tuple[int, Failure] | None:
        """Do a job under an order; return which worker failed and how, or None if it is done."""
        child, failed_at = self.start(job, on_told), None
        try:
            while True:
                found, code = self.place.failures(order, self.cluster.size), child.code()
                if code == 0 and not found:
                    return None
                if code:
                    child.end()
                    found[0] = failure_of(child)
                guilty = [rank for rank in found if found[rank]["own"]]
                if found:
                    failed_at = failed_at or time.monotonic()
                    if guilty or time.monotonic() - failed_at > GRACE:
                        rank = min(guilty or found)
                        return rank, found[rank]
                time.sleep(LOOK_EVERY / 5)
        finally:
            child.end()


def follow(folder: Path, cluster: Cluster, start: Start, done: Callable[[], bool]) -> None:
    """Follow the chief's orders, in another process than its own, until the run is done.

    Args:
        folder: the run directory.
        cluster: all workers, and the rank of this one.
        start: starts this worker's own process for a job.
        done: whether the result of the run is there.

    Raises:
        RunError: the chief has failed, with what it said, or is gone.
    """
    place, child, last = Place(folder / FOLDER), None, None
    leading, heard, looked = "", time.monotonic(), -LOOK_AT_CHIEF  # whose orders are followed
    try:
        while not done():
            order = place.read()
            if order is not None and order["chief"] == leading and order["over"]:
                if order.get("error"):
                    raise RunError(f"The chief, {cluster.name(0)}, has ended: {order['error']}")
                return
            if time.monotonic() - looked > LOOK_AT_CHIEF:
                looked = time.monotonic()
                if order is not None and not order["over"] and age_of(place.folder / "order.json") < STALE:
                    leading, heard = order["chief"], looked
                elif looked - heard > (STALE if leading else PATIENCE):
                    raise RunError(f"Nothing was heard of the chief, {cluster.name(0)}, for {looked - heard:.0f} s.")
            if order is None or order["chief"] != leading:
                time.sleep(LOOK_EVERY)
                continue
            if order["number"] != last:
                if child is not None:
                    child.end()
                child, last = None, order["number"]
                if order["job"]:
                    place.here(order, cluster.rank).touch()
            if order["job"] and order.get("go") and child is None and not place.failed(order, cluster.rank).exists():
                child = start(Path(order["job"]), lambda told: None)
            if child is not None and child.code():
                child.end()
                write_whole(place.failed(order, cluster.rank), document(failure_of(child)), overwrite=True)
                child = None
            time.sleep(LOOK_EVERY / 5)
    finally:
        if child is not None:
            child.end()
