"""Processes that this one starts on its machine: what they print is kept, and they end with it, however it ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from ..engine import LOG_LINE
from ..errors import VggftError
from ..files.writing import open_to_append
from .cluster import LOOK_EVERY

PARENT = "VGGFT_PARENT"  # the environment variable with the number of the process that a process ends with
MARK = "\x1evggft "  # before a line that tells the parent something, as JSON
KEPT = 40  # last lines that an error shows


def tell_parent(**told: Any) -> None:
    """Tell the process that started this one something, by a line on standard output."""
    print(f"{MARK}{json.dumps(told)}", flush=True)


def end_with_parent() -> None:
    """Make this process exit when the one that started it has ended for any reason."""
    parent = os.environ.get(PARENT)
    if parent is None:
        return

    def watch() -> None:
        while os.getppid() == int(parent):
            time.sleep(LOOK_EVERY)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def document(value: Any) -> str:
    """Return a value as JSON."""
    return json.dumps(value, indent=1) + "\n"


def call_of(function: str, *arguments: str) -> list[str]:
    """Return the command of a process that calls `module:function`, with what this one can import."""
    module, _, name = function.partition(":")
    begin = f"import sys; sys.path[:] = {sys.path!r}; from {module} import {name}; {name}(*sys.argv[1:])"
    return [sys.executable, "-c", begin, *arguments]


class Child:
    """A process whose lines go to a log, each with the time and its name; `MARK`ed ones to a function.

    Args:
        command: what it runs.
        name: such as "worker 1 on node2".
        log: a file to append to.
        environment: beyond that of this process.
        on_told: called with what it tells, in a thread of its own.
    """

    def __init__(
        self,
        command: Sequence[str],
        name: str,
        log: Path,
        environment: Mapping[str, str],
        on_told: Callable[[dict[str, Any]], object] = lambda told: None,
    ):
        self.name, self.log, self.on_told, self.lines = name, log, on_told, list[str]()
        self.error: dict[str, Any] | None = None  # what it said of its end
        everything = os.environ | {PARENT: str(os.getpid()), "PYTHONUNBUFFERED": "1"} | dict(environment)
        self.process = subprocess.Popen(
            list(command), env=everything, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with ExitStack() as stack, self.process.stdout as lines:
            file = None
            for raw in lines:
                if raw[:1] != b"E" and LOG_LINE.match(raw):  # TensorFlow's, of no interest
                    continue
                line = raw.decode("utf-8", "replace").rstrip()
                if line.startswith(MARK):
                    with suppress(ValueError):
                        told = json.loads(line.removeprefix(MARK))
                        self.error = told if "told" in told else self.error
                        self.on_told(told)
                    continue
                self.lines = [*self.lines[1 - KEPT :], line]
                with suppress(OSError, VggftError):  # a log that cannot be written holds up no training
                    file = file or stack.enter_context(open_to_append(self.log))
                    file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {self.name} | {line}\n".encode())
                    file.flush()

    def code(self) -> int | None:
        """Return its exit code, negative for a signal, or None while it runs."""
        return self.process.poll()

    def end(self) -> None:
        """Kill it if it is still running, and wait until all that it printed is in the log."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.reader.join()


def ended(code: int) -> str:
    """Say how a process ended, by its exit code.

    >>> ended(-9)
    'was killed by signal 9'
    """
    return f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
