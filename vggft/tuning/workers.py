"""KerasTuner's chief and workers on this machine, one process each; a worker that dies is restarted."""

from __future__ import annotations

import _thread
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import keras

from ..errors import RunError, SearchError
from ..files.writing import open_to_append

HOST = "127.0.0.1"
MOST_STARTS = 4  # of one worker, before the search is given up
LOOK_EVERY = 0.5  # seconds
PATIENCE = 10.0  # seconds until a worker that does not end is killed
PATIENCE_WITH_CHIEF = 1800  # seconds
PARENT = "VGGFT_CHIEF"


def is_chief() -> bool:
    """Whether this process only hands out trials to workers, by KerasTuner's environment variables."""
    return _has_chief() and "chief" in os.environ["KERASTUNER_TUNER_ID"]


def is_worker() -> bool:
    """Whether this process gets its trials from a chief."""
    return _has_chief() and not is_chief()


def _has_chief() -> bool:
    return "KERASTUNER_ORACLE_IP" in os.environ and "KERASTUNER_TUNER_ID" in os.environ


def await_chief(run_dir: str | os.PathLike[str]) -> None:
    """Wait, in a worker, until the chief has written the configuration of the search.

    Raises:
        RunError: no chief began within half an hour.
    """
    for _ in range(PATIENCE_WITH_CHIEF):
        if is_chief() or (Path(run_dir) / "config.json").exists():
            return
        time.sleep(1)
    raise RunError(f"No chief has begun a search in {run_dir} within {PATIENCE_WITH_CHIEF // 60} minutes.")


@contextmanager
def with_workers(count: int, run_dir: Path, command: Sequence[str] | None = None) -> Iterator[None]:
    """Make this process the chief of a search, and start workers that run the same command.

    A restarted worker gets its trials back, since KerasTuner knows it by its id: none is lost or counted twice.

    Args:
        count: number of workers. If there are GPUs, each worker sees one of them.
        run_dir: the run directory; beside it each worker writes `<run_dir>.worker0.log` and so on.
        command: what a worker runs; None for `vggft` with the arguments of this process.

    Raises:
        SearchError: a worker died several times in a row.
    """
    command = command or [sys.executable, "-m", "vggft", *_without_workers(sys.argv[1:]), "--run-dir", str(run_dir)]
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
        if crew.lost is not None:
            raise SearchError(
                f"worker{crew.lost} died {MOST_STARTS} times; {crew.log(crew.lost)} says why. --resume continues the "
                "search."
            ) from None
        raise
    finally:
        crew.end()
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def end_with_chief() -> None:
    """Make a worker that a chief on this machine started exit when that chief has ended for any reason."""
    chief = os.environ.get(PARENT)
    if chief is None:
        return

    def watch() -> None:
        while os.getppid() == int(chief):
            time.sleep(LOOK_EVERY)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


class _Crew:
    """The worker processes, and a thread that restarts them."""

    def __init__(self, command: Sequence[str], count: int, gpus: int, run_dir: Path):
        self.command, self.gpus, self.run_dir = list(command), gpus, run_dir
        self.starts, self.over = [0] * count, threading.Event()
        self.lost: int | None = None  # a worker that died too often
        self.processes = [self._start(number) for number in range(count)]
        self.watch = threading.Thread(target=self._watch, daemon=True)
        self.watch.start()

    def _start(self, number: int) -> subprocess.Popen[bytes]:
        self.starts[number] += 1
        environment = os.environ | {"KERASTUNER_TUNER_ID": f"worker{number}", PARENT: str(os.getpid())}
        if self.gpus:
            visible = [part for part in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if part]
            mine = number % self.gpus
            environment["CUDA_VISIBLE_DEVICES"] = visible[mine] if mine < len(visible) else str(mine)
        with open_to_append(self.log(number)) as file:
            return subprocess.Popen(self.command, env=environment, stdout=file, stderr=subprocess.STDOUT)

    def log(self, number: int) -> Path:
        """Return a worker's log file, beside the run directory, which must be empty when the chief begins."""
        return self.run_dir.with_name(f"{self.run_dir.name}.worker{number}.log")

    def _watch(self) -> None:
        while not self.over.wait(LOOK_EVERY):
            codes = [process.poll() for process in self.processes]
            for number, code in enumerate(codes):
                if code and self.starts[number] < MOST_STARTS:
                    self.processes[number] = self._start(number)
                elif code:
                    self.lost = number
                    _thread.interrupt_main()
                    return

    def finish(self) -> None:
        """Wait for the workers to end; `end` kills those that started too late to hear of the end."""
        self.over.set()
        self.watch.join()
        deadline = time.monotonic() + PATIENCE
        for process in self.processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))

    def end(self) -> None:
        """Kill the workers that are still running."""
        self.over.set()
        for process in self.processes:
            if process.poll() is None:
                process.kill()
                process.wait()


def _without_workers(arguments: Sequence[str]) -> list[str]:
    """Return command-line arguments without `--workers N`."""
    kept: list[str] = []
    skip = False
    for argument in arguments:
        if not skip and argument != "--workers" and not argument.startswith("--workers="):
            kept.append(argument)
        skip = argument == "--workers"
    return kept
