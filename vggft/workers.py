"""A chief and its workers on this machine: KerasTuner's own, one process each, a worker that dies started again."""

from __future__ import annotations

import _thread
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import keras

from .errors import SearchError

HOST = "127.0.0.1"
MOST_STARTS = 4  # of one worker: what kills it so often is not an accident
LOOK_EVERY = 0.5  # seconds


@contextmanager
def with_workers(count: int, run_dir: Path, command: Sequence[str] | None = None) -> Iterator[None]:
    """Make this process the chief of a search, and start workers that do what it was told to do.

    A worker that was killed gets its trials back, for KerasTuner knows it by its id: none is lost or counted twice.

    Args:
        count: how many workers. Where there are GPUs each sees one of them.
        run_dir: where each writes `worker0.log` and so on.
        command: what a worker runs; None: `vggft` with the arguments of this process.

    Raises:
        SearchError: every worker died again and again.
    """
    command = command or [sys.executable, "-m", "vggft.cli", *_without_workers(sys.argv[1:]), "--run-dir", str(run_dir)]
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port = probe.getsockname()[1]
    common = {"KERASTUNER_ORACLE_IP": HOST, "KERASTUNER_ORACLE_PORT": str(port), "TF_FORCE_GPU_ALLOW_GROWTH": "true"}
    before = {name: os.environ.get(name) for name in (*common, "KERASTUNER_TUNER_ID")}
    gpus = len(keras.distribution.list_devices("gpu"))
    os.environ.update(common | {"KERASTUNER_TUNER_ID": "chief"})
    crew = _Crew(command, count, gpus, run_dir)
    try:
        yield
        crew.finish()
    except KeyboardInterrupt:
        if crew.lost:
            raise SearchError(
                f"Every worker died {MOST_STARTS} times; see worker0.log and so on in {run_dir}."
            ) from None
        raise
    finally:
        crew.end()
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


class _Crew:
    """The worker processes, and a thread that looks after them."""

    def __init__(self, command: Sequence[str], count: int, gpus: int, run_dir: Path):
        self.command, self.gpus, self.run_dir = list(command), gpus, run_dir
        self.starts, self.lost, self.over = [0] * count, False, threading.Event()
        self.processes = [self._start(number) for number in range(count)]
        self.watch = threading.Thread(target=self._watch, daemon=True)
        self.watch.start()

    def _start(self, number: int) -> subprocess.Popen[bytes]:
        self.starts[number] += 1
        environment = os.environ | {"KERASTUNER_TUNER_ID": f"worker{number}"}
        if self.gpus:
            environment["CUDA_VISIBLE_DEVICES"] = str(number % self.gpus)
        # Beside the run directory, which has to be empty when the chief begins.
        log = self.run_dir.with_name(f"{self.run_dir.name}.worker{number}.log")
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as file:
            return subprocess.Popen(self.command, env=environment, stdout=file, stderr=subprocess.STDOUT)

    def _watch(self) -> None:
        while not self.over.wait(LOOK_EVERY):
            codes = [process.poll() for process in self.processes]
            for number, code in enumerate(codes):
                if code and self.starts[number] < MOST_STARTS:
                    self.processes[number] = self._start(number)
            if all(code for code in codes) and min(self.starts) >= MOST_STARTS:
                self.lost = True
                _thread.interrupt_main()
                return

    def finish(self) -> None:
        """Let the workers end by themselves."""
        self.over.set()
        self.watch.join()
        for process in self.processes:
            process.wait()

    def end(self) -> None:
        """No worker outlives its chief."""
        self.over.set()
        for process in self.processes:
            if process.poll() is None:
                process.kill()
                process.wait()


def _without_workers(arguments: Sequence[str]) -> list[str]:
    """The arguments of a command without `--workers N`."""
    kept: list[str] = []
    skip = False
    for argument in arguments:
        if not skip and argument != "--workers" and not argument.startswith("--workers="):
            kept.append(argument)
        skip = argument == "--workers"
    return kept
