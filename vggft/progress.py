"""Progress on standard error: sentences, progress bars, and the table of a running search; nothing at `verbose=0`.

Sentences also go to the logger `vggft`, at any `verbose`.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import IO, Any, cast

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from .display import printable

SHOWN_TRIALS = 8

LOGGER = logging.getLogger("vggft")
LOGGER.addHandler(logging.NullHandler())  # what is done with them is decided by the program


class RateColumn(ProgressColumn):
    """Images per second, such as "412 images/s"; the columns of rich count steps or bytes."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.{0 if speed >= 10 else 1}f} images/s" if speed else "")


class Stderr:
    """Standard error as it is at the moment; what its encoding lacks is written as an escape, such as \\xe9."""

    @property
    def stream(self) -> Any:
        """What `sys.stderr` is, also while rich has put a stream of its own in its place."""
        return getattr(sys.stderr, "rich_proxied_file", sys.stderr)

    @property
    def encoding(self) -> str:
        """The encoding, by which rich chooses the characters of its bars."""
        return getattr(self.stream, "encoding", None) or "utf-8"

    def write(self, text: str) -> int:
        """Write text; without a standard error, as under pythonw, nothing."""
        if self.stream is not None:
            self.stream.write(printable(text, self.encoding))
        return len(text)

    def flush(self) -> None:
        """Pass on what is buffered."""
        if self.stream is not None:
            self.stream.flush()

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return self.stream is not None and bool(self.stream.isatty())


class Narrator:
    """Reports progress on standard error, so that standard output holds only what a command prints."""

    def __init__(self, verbose: int = 1):
        self.verbose = verbose
        self.console = Console(file=cast("IO[str]", Stderr()), quiet=not verbose, highlight=False)

    def say(self, sentence: str) -> None:
        """Print and log one sentence; square brackets in it are not markup, as file names may contain them."""
        LOGGER.info("%s", sentence)
        if not _is_shown():
            self.console.print(sentence, markup=False, soft_wrap=True)

    def waiting(self, path: Path) -> None:
        """Say that another process is writing an entry of the cache."""
        self.say(f"Another process is writing {path}; waiting for it.")

    @contextmanager
    def bar(self, description: str, total: int | None) -> Iterator[Callable[..., None]]:
        """Show a progress bar over images, whose number may be unknown.

        Yields `advance(done=1, description=None, total=None)`; None changes nothing.
        """
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            RateColumn(),
            TimeRemainingColumn(compact=True),
        )
        with Progress(*columns, console=self.console, disable=not self.verbose) as progress:
            task = progress.add_task(description, total=total)

            def advance(done: int = 1, description: str | None = None, total: int | None = None) -> None:
                progress.update(task, advance=done, description=description, total=total)

            yield advance

    @contextmanager
    def board(self, trials: int, epochs: int, direction: str) -> Iterator[Board]:
        """Show a live table of trials, with the best so far and the time left."""
        board = Board(trials, epochs, direction)
        if not self.verbose:
            yield board
            return
        with Live(get_renderable=board.render, console=self.console, refresh_per_second=4):
            yield board
        if not self.console.is_terminal:  # there rich leaves the last line without an end
            self.console.line()


def _is_shown() -> bool:
    """Whether a handler of the program writes sentences to the terminal, so that they are not to be printed as well."""
    logger: logging.Logger | None = LOGGER if LOGGER.isEnabledFor(logging.INFO) else None
    while logger is not None:
        for handler in logger.handlers:
            of_rich = getattr(getattr(handler, "console", None), "file", None)
            stream = getattr(handler, "stream", of_rich)
            if handler.level <= logging.INFO and stream in (sys.stderr, sys.stdout, sys.__stderr__, sys.__stdout__):
                return True
        logger = logger.parent if logger.propagate else None
    return False


class Board:
    """The live table of a running search.

    Args:
        trials: number of trials.
        epochs: number of epochs of all trials together.
        direction: "max" if a higher score is better, else "min".
    """

    def __init__(self, trials: int, epochs: int, direction: str):
        self.trials, self.epochs, self.sign = trials, epochs, -1 if direction == "max" else 1
        self.lines: list[str] = []
        self.best: tuple[float, str] | None = None
        self.done, self.started = 0, time.monotonic()

    def add(self, line: str, score: float | None) -> None:
        """Add a finished trial, in one line; the score of a failed one is None."""
        self.lines.append(line)
        if score is not None and (self.best is None or self.sign * score < self.best[0]):
            self.best = self.sign * score, line

    def advance(self, epochs: int) -> None:
        """Count epochs that trials have finished or, through early stopping, do not need."""
        self.done += epochs

    @property
    def seconds_left(self) -> float | None:
        """The estimated time left, from the epochs so far; None before the first."""
        spent = time.monotonic() - self.started
        return spent * max(0, self.epochs - self.done) / self.done if self.done else None

    def render(self) -> Table:
        """Draw the last trials, the best so far, and the time left."""
        table = Table.grid()
        for line in self.lines[-SHOWN_TRIALS:]:
            table.add_row(Text(line, overflow="ellipsis", no_wrap=True))
        left = self.seconds_left
        told = "" if left is None else f", about {timedelta(seconds=round(left))} left"
        table.add_row(Text(f"{len(self.lines)} of {self.trials} trials{told}", style="bold"))
        if self.best is not None:
            table.add_row(Text(f"best so far: {self.best[1]}", style="green", overflow="ellipsis", no_wrap=True))
        return table
