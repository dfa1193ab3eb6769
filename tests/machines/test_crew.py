"""Processes that do a job together: they begin together, again together when one dies, and nobody waits for ever."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vggft.errors import RunError
from vggft.machines import crew as crews
from vggft.machines import helpers
from vggft.machines.cluster import Cluster
from vggft.machines.crew import FOLDER, Crew, Start, follow
from vggft.machines.processes import MARK, Child
from vggft.telling.progress import Narrator

# Counts epochs in a file as a training does in its resume point, in step with the others as collective operations are.
WORKER = f"""
import json, os, sys, time
from pathlib import Path
folder, rank, size, what = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
attempt = len(list(folder.glob(f"begun-{{rank}}-*")))
(folder / f"begun-{{rank}}-{{os.getpid()}}").touch()
point = folder / "epoch"
for epoch in range(int(point.read_text() or 0) if point.exists() else 0, 3):
    if what == f"die {{rank}}":
        os.kill(os.getpid(), 9)
    (folder / f"at-{{epoch}}-{{rank}}-{{attempt}}").touch()
    end = time.monotonic() + 5
    while len({{each.name.split("-")[2] for each in folder.glob(f"at-{{epoch}}-*")}}) < size and what != "alone":
        if time.monotonic() > end:
            print('{MARK}{{"told": "lost another worker", "peer": true, "final": false}}', flush=True)
            sys.exit(1)
        time.sleep(0.01)
    if what == f"raise {{rank}}":
        print('{MARK}{{"told": "failed: ConfigError: no such thing", "peer": false, "final": true}}', flush=True)
        sys.exit(1)
    if what == f"die once {{rank}}" and attempt == 0 and epoch == 1:
        print("about to die")
        sys.stdout.flush()
        os.kill(os.getpid(), 9)
    if rank == 0:
        print('{MARK}{{"done": 1}}', flush=True)
        point.write_text(str(epoch + 1))
    else:
        while int((point.read_text() or 0) if point.exists() else 0) <= epoch:
            time.sleep(0.01)
"""
THREE = Cluster(("here:1", "there:2", "yonder:3"))


def starts(folder: Path, rank: int, what: str) -> Start:
    def start(job: Path, on_told: Callable[[dict[str, Any]], object]) -> Child:
        command = [sys.executable, "-c", WORKER, str(job.parent), str(rank), "3", what]
        return Child(command, THREE.name(rank), folder / f"{rank}.log", {}, on_told)

    return start


def work(folder: Path, what: str, others: tuple[int, ...] = (1, 2)) -> tuple[list[int], list[RunError]]:
    """Do a job with three workers; return what the chief's process told, and the errors of those that follow."""
    told, errors, done = list[int](), list[RunError](), threading.Event()

    def helper(rank: int) -> None:
        try:
            follow(folder, Cluster(THREE.workers, rank), starts(folder, rank, what), done.is_set)
        except RunError as error:
            errors.append(error)

    def epoch() -> int:
        return int((folder / "epoch").read_text() or 0) - 1 if (folder / "epoch").exists() else -1

    threads = [threading.Thread(target=helper, args=(rank,)) for rank in others]
    try:
        with Crew(folder, THREE, starts(folder, 0, what), Narrator(0)) as crew:
            for thread in threads:
                thread.start()
            crew.run(folder / "job.json", epoch, lambda each: told.append(each.get("done", 0)))
            done.set()
    finally:
        for thread in threads:
            thread.join(20)
        assert not any(thread.is_alive() for thread in threads)  # nobody hangs
    return told, errors


def test_all_begin_together_and_the_chief_hears_how_far_they_are(tmp_path: Path) -> None:
    told, errors = work(tmp_path, "")
    assert told == [1, 1, 1] and not errors
    assert not (tmp_path / FOLDER).exists()  # nothing is left


@pytest.mark.parametrize("rank", [0, 2])
def test_when_one_dies_all_begin_again_from_the_last_epoch(tmp_path: Path, rank: int) -> None:
    _, errors = work(tmp_path, f"die once {rank}")
    assert not errors and (tmp_path / "epoch").read_text() == "3"
    assert all(len(list(tmp_path.glob(f"begun-{each}-*"))) == 2 for each in range(3))
    assert "about to die" in (tmp_path / f"{rank}.log").read_text()
    assert (tmp_path / f"{rank}.log").read_text()[19:].startswith(f" {THREE.name(rank)} | ")


def test_what_all_have_printed_is_read_as_one(tmp_path: Path) -> None:
    place = crews.Place(tmp_path)
    (tmp_path / "worker0.log").write_text("2026-11-26 22:00:00 a | one\n2026-11-26 22:00:09 a | three\n")
    (tmp_path / "worker1.log").write_text("2026-11-26 22:00:05 b | two\n2026-11-27 00:00:00 b | four\n")
    place.merge_logs()
    lines = (tmp_path / crews.LOG).read_text().splitlines()
    assert [line.split(" | ")[1] for line in lines] == ["one", "two", "three", "four"]


def test_one_that_dies_again_and_again_is_named_with_its_host(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"worker 1 on there was killed by signal 9, 4 times without an epoch"):
        work(tmp_path, "die 1")


def test_an_error_that_would_come_again_ends_the_run_for_all(tmp_path: Path) -> None:
    begun = time.monotonic()
    with pytest.raises(RunError, match="worker 2 on yonder failed: ConfigError: no such thing"):
        work(tmp_path, "raise 2")
    assert time.monotonic() - begun < 15 and len(list(tmp_path.glob("begun-2-*"))) == 1


def test_a_worker_that_does_not_come_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crews, "PATIENCE", 1.0)
    with pytest.raises(RunError, match=r"worker 2 on yonder did not come within (.|\n)*same, on a disk that all see"):
        work(tmp_path, "", others=(1,))


def test_a_chief_that_is_gone_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crews, "STALE", 1.0)
    monkeypatch.setattr(crews, "LOOK_AT_CHIEF", 0.2)
    crew = Crew(tmp_path, THREE, starts(tmp_path, 0, ""), Narrator(0))
    crew.place.folder.mkdir()
    crew.place.write(crew.order)
    with pytest.raises(RunError, match=r"Nothing was heard of the chief, worker 0 on here, for \d s"):
        follow(tmp_path, Cluster(THREE.workers, 1), starts(tmp_path, 1, ""), lambda: False)


def test_an_order_of_an_earlier_run_is_not_followed(tmp_path: Path) -> None:
    earlier = Crew(tmp_path, THREE, starts(tmp_path, 0, ""), Narrator(0))
    with pytest.raises(RunError, match="no such disk"), earlier:
        raise RunError("no such disk")
    assert "no such disk" in (tmp_path / FOLDER / "order.json").read_text()
    told, errors = work(tmp_path, "")  # the others see the old order first
    assert told == [1, 1, 1] and not errors


def test_the_others_hear_of_the_end_also_where_no_log_can_be_read(tmp_path: Path) -> None:
    with pytest.raises(RunError), Crew(tmp_path, THREE, starts(tmp_path, 0, ""), Narrator(0)):
        (tmp_path / FOLDER / "worker0.log").write_bytes("2026-11-26 22:00:00 a | ü".encode()[:-1])
        (tmp_path / FOLDER / "worker1.log").mkdir()
        raise RunError("no such disk")
    assert "no such disk" in (tmp_path / FOLDER / "order.json").read_text()


def test_a_helper_that_is_killed_at_the_end_is_not_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, asked, ended = list[Any](), threading.Event(), threading.Event()

    class Helper:
        dead = False

        def __init__(self, *arguments: Any):
            made.append(self)

        def code(self) -> int | None:
            asked.set()
            ended.wait(0.2)  # asked before the end, and answered after it
            return -9 if self.dead else None

        def end(self) -> None:
            self.dead = True
            ended.set()

    monkeypatch.setattr(helpers, "Child", Helper)
    monkeypatch.setattr(helpers, "LOOK_EVERY", 0.01)
    found = helpers.Helpers([], {"worker1": {}}, tmp_path / "run")
    asked.wait()
    found.end()
    found.watch.join()
    assert len(made) == 1 and made[0].dead


def test_processes_end_with_the_one_that_started_them(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from vggft.machines.processes import Child, call_of
child = Child([sys.executable, "-c", "from vggft.machines.processes import end_with_parent; import time;"
               "end_with_parent(); time.sleep(60)"], "it", Path(sys.argv[1]), {})
print(child.process.pid, flush=True)
child.process.wait()
"""
    parent = Child([sys.executable, "-c", code, str(tmp_path / "log")], "parent", tmp_path / "parent.log", {})
    end = time.monotonic() + 20
    while not parent.lines and time.monotonic() < end:
        time.sleep(0.05)
    pid = int(parent.lines[0])
    time.sleep(1)
    os.kill(parent.process.pid, signal.SIGKILL)
    parent.end()
    while Path(f"/proc/{pid}").exists() and time.monotonic() < end:
        time.sleep(0.05)
    assert not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text().split()[2]
