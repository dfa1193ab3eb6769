"""Work on foreign data in processes of its own, which have limits of memory and time; they are kept between calls.

A process is started with the interpreter's own command line, never forked and never through `__main__`, so that it
works in notebooks, in scripts without a guard, and beside the threads of TensorFlow. It ends when its standard input
does, which also happens when the process that started it is killed.
"""

from __future__ import annotations

import atexit
import importlib
import os
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any

MEGABYTE = 2**20
SMALL = 116 * MEGABYTE  # of memory, that one small work may take, and two at once; more with more cores
MOST = 768 * MEGABYTE  # of memory, that one large work may take; a second waits for it
HEADERS = 64 * MEGABYTE  # of memory, until a work says how much it needs
SECONDS = 3.0  # of the processor
PATIENCE = 10  # times as much by the clock, for what waits for a disk or a busy processor
CORES = os.cpu_count() or 1


class LimitError(Exception):
    """Work that took more memory or time than it may; the text ends a sentence that begins with its name."""


class Budget:
    """Memory that threads share: each waits until there is as much left as it needs."""

    def __init__(self, total: int):
        self.total, self.left, self.changed = total, total, threading.Condition()

    @contextmanager
    def take(self, needed: int) -> Iterator[None]:
        """Wait for memory, at most for all there is, and give it back afterwards."""
        needed = min(needed, self.total)
        with self.changed:
            self.changed.wait_for(lambda: self.left >= needed)
            self.left -= needed
        try:
            yield
        finally:
            with self.changed:
                self.left += needed
                self.changed.notify_all()


class Budgets:
    """The memory of small works in processes, of small ones here, and of large ones, so that none waits for another.

    What is done here is quick; two slow works in processes would hold it up for seconds.
    """

    def __init__(self) -> None:
        small = max(2 * SMALL, 64 * MEGABYTE * CORES)
        self.small, self.here, self.large = Budget(small), Budget(small), Budget(MOST)

    def take(self, needed: int, *, here: bool = False) -> Any:
        """Wait for this much memory, in bytes, for work in a process or here."""
        return (self.large if needed > SMALL else self.here if here else self.small).take(needed)


class Worker:
    """One process that answers requests, one after another."""

    def __init__(self, target: str, seconds: float):
        begin = f"import sys; sys.path[:] = {sys.path!r}; from vggft.files.isolated import serve"
        start = f"{begin}; serve({target!r}, {seconds})"
        self.process = subprocess.Popen(
            [sys.executable, "-c", start],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"},
            start_new_session=True,  # so that Ctrl-C is for the process that started it
        )
        assert self.process.stdin is not None and self.process.stdout is not None
        self.input, self.output = self.process.stdin, self.process.stdout

    def call(self, request: bytes, budgets: Budgets) -> list[bytes]:
        """Return the parts of an answer; raise `EOFError` if the process ended instead."""
        clock = None if hasattr(signal, "setitimer") else threading.Timer(PATIENCE * SECONDS, self.process.kill)
        if clock is not None:  # elsewhere the process ends itself
            clock.start()
        try:
            _send(self.input, b"work", request)
            kind, *parts = _receive(self.output)
            if kind == b"need":
                with budgets.take(int(parts[0])):
                    _send(self.input, b"take")
                    kind, *parts = _receive(self.output)
            return parts
        except (BrokenPipeError, OSError) as error:
            raise EOFError from error
        finally:
            if clock is not None:
                clock.cancel()

    def end(self) -> int:
        """End the process, and return its exit code; negative for the number of a signal."""
        self.process.kill()  # which changes nothing if it has ended
        code = self.process.wait()
        for pipe in (self.input, self.output):
            with suppress(OSError):
                pipe.close()
        return code


class Pool:
    """Processes that answer requests with one function; they are started when they are needed, and kept.

    Args:
        target: `module:function`, of bytes and `Limits` to the parts of an answer. What it raises has to be in that.
        seconds: of the processor, that one request may take; `PATIENCE` times as much by the clock.
    """

    def __init__(self, target: str, seconds: float = SECONDS):
        self.target, self.seconds = target, seconds
        self.most = CORES + 2  # so that slow works do not hold up the others
        self.foreign: list[Worker] = []  # of the process that this one was forked from
        self.idle: list[Worker] = []
        self._renew()
        atexit.register(self.close)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forked)

    def _renew(self) -> None:
        self.budgets, self.slots, self.lock = Budgets(), threading.Semaphore(self.most), threading.Lock()
        self.all: list[Worker] = []

    def _forked(self) -> None:
        for worker in self.all:  # their pipes are copies here, which would keep them alive
            worker.process.returncode = 0
            for pipe in (worker.input, worker.output):
                with suppress(OSError):
                    os.close(pipe.fileno())
        self.foreign += self.all  # never collected, as their pipes would be closed once more
        self.idle = []
        self._renew()

    def call(self, request: bytes) -> list[bytes]:
        """Answer a request.

        Raises:
            LimitError: it took too much memory or time, or the process ended for another reason.
        """
        with self.slots:
            with self.lock:
                worker = self.idle.pop() if self.idle else None
            if worker is None:
                worker = Worker(self.target, self.seconds)
                with self.lock:
                    self.all.append(worker)
            done = False
            try:
                parts = worker.call(request, self.budgets)
                done = True
            except EOFError:
                pass
            finally:
                with self.lock:
                    self.idle.append(worker) if done else self.all.remove(worker)
                code = None if done else worker.end()
        if code is None:
            if not parts:
                raise LimitError(f"needs more than {MOST // MEGABYTE} MB of memory to decode: make it smaller first")
            return parts
        if code in (-getattr(signal, "SIGPROF", 0), -getattr(signal, "SIGALRM", 0)):
            raise LimitError(f"takes more than {self.seconds:g} seconds to decode: save it anew, or leave it out")
        raise LimitError(f"cannot be decoded: the decoder crashed (exit code {code})")

    def close(self) -> None:
        """End all processes."""
        with self.lock:
            ended, self.all, self.idle = self.all, [], []
        for worker in ended:
            worker.end()


# In the process -------------------------------------------------------------------------------------------------------


class Limits:
    """The limits of one work, and what its decoders print.

    Time counts from the beginning; `ready` is called when everything is imported, so that this is not limited.
    """

    def __init__(self, ask: Callable[[int], None], seconds: float):
        self.seconds, self.ask, self.said = seconds, ask, tempfile.TemporaryFile()  # noqa: SIM115, as long as the process lives
        self.base = 0

    def ready(self) -> None:
        """Begin to limit memory."""
        self.base = _address_space()
        _limit(self.base + HEADERS)

    def need(self, size: int) -> None:
        """Wait until the work may take this much memory, in bytes."""
        _clock(real=0)  # waiting is not work
        self.ask(min(size, MOST))
        _clock(real=PATIENCE * self.seconds)
        _limit(self.base + min(size, MOST))

    @contextmanager
    def apply(self) -> Iterator[None]:
        """Limit what happens inside."""
        os.ftruncate(self.said.fileno(), 0)
        self.said.seek(0)
        _clock(self.seconds, PATIENCE * self.seconds)
        try:
            yield
        finally:
            _clock(0, 0)
            _limit(None)

    def told(self) -> list[str]:
        """Return the first lines that decoders in C have printed on standard error."""
        self.said.seek(0)
        return self.said.read(4096).decode("utf-8", "replace").split("\n")


def serve(target: str, seconds: float) -> None:
    """Answer requests from standard input with a function `module:function` until it ends."""
    module, _, name = target.partition(":")
    function = getattr(importlib.import_module(module), name)
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")

    def ask(size: int) -> None:
        _send(answers, b"need", str(size).encode())
        _receive(requests)

    limits = Limits(ask, seconds)
    os.dup2(limits.said.fileno(), 1)  # nothing that a decoder prints is an answer
    os.dup2(limits.said.fileno(), 2)
    with suppress(EOFError, BrokenPipeError):
        while True:
            _, request = _receive(requests)
            with warnings.catch_warnings(record=True):
                try:
                    with limits.apply():
                        parts = function(request, limits)
                except MemoryError:
                    parts = []
            _send(answers, b"done", *parts)


def _address_space() -> int:
    try:
        with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123
            return int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:  # elsewhere than on Linux, where such limits are not kept to either
        return 2**40


def _limit(size: int | None) -> None:
    with suppress(ImportError, ValueError, OSError):
        import resource

        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        wanted = hard if size is None else size if hard == resource.RLIM_INFINITY else min(size, hard)
        resource.setrlimit(resource.RLIMIT_AS, (wanted, hard))


def _clock(processor: float | None = None, real: float | None = None) -> None:
    """Set the clocks whose signals end this process, whatever it does: of processor time, and of time."""
    if hasattr(signal, "setitimer"):
        for kind, seconds in ((signal.ITIMER_PROF, processor), (signal.ITIMER_REAL, real)):
            if seconds is not None:
                signal.setitimer(kind, seconds)


def _send(file: IO[bytes], *parts: bytes) -> None:
    file.write(struct.pack(">B", len(parts)) + b"".join(struct.pack(">Q", len(part)) for part in parts))
    for part in parts:
        file.write(part)
    file.flush()


def _receive(file: IO[bytes]) -> list[bytes]:
    head = file.read(1)
    lengths = file.read(8 * head[0]) if head else b""
    if not head or len(lengths) < 8 * head[0]:
        raise EOFError
    parts = [file.read(length) for length in struct.unpack(f">{head[0]}Q", lengths)]
    if any(len(part) < length for part, length in zip(parts, struct.unpack(f">{head[0]}Q", lengths), strict=True)):
        raise EOFError
    return parts
