"""Progress on standard error: sentences, progress bars, and the table of a running search; nothing at `verbose=0`.

On a terminal bars move, and lines break between words; a notebook has one area for each call, in which everything is
drawn anew; into a pipe or a file go plain lines, one every half minute. Sentences also go to the logger `vggft`, at any
`verbose`.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import IO, cast

from rich.console import Console
from rich.live import Live
from rich.progress import TaskID
from rich.table import Table
from rich.text import Text

from ..foreign import visible
from .bars import Bars, Count, Stderr, clock
from .notebook import Area

SHOWN_TRIALS = 8
SECONDS_A_LINE = 30.0  # between the lines of a bar or a board where nothing can move

LOGGER = logging.getLogger("vggft")
LOGGER.addHandler(logging.NullHandler())  # what is done with them is decided by the program


_prints_results: ContextVar[bool] = ContextVar("prints_results", default=False)


@contextmanager
def results_printed() -> Iterator[None]:
    """Say that the caller prints the results itself, so that they are not said as well; they are still logged."""
    before = _prints_results.set(True)
    try:
        yield
    finally:
        _prints_results.reset(before)


class Lines(Count):
    """What a bar is where nothing can move: a line every half minute, and one at the end."""

    def __init__(self, description: str, total: int | None, tell: Callable[[str], object]):
        super().__init__(description, total)
        self.tell, self.told = tell, self.started

    def advance(self, done: int = 1, description: str | None = None, total: int | None = None) -> None:
        """Count images, and print a line if the last one is half a minute old."""
        super().advance(done, description, total)
        if time.monotonic() - self.told >= SECONDS_A_LINE:
            self.told = time.monotonic()
            self.tell(self.state)


class Narrator:
    """Reports progress on standard error, so that standard output holds only what a command prints.

    Args:
        verbose: 0 prints nothing, 1 what happens, 2 also each epoch, and everything that is left out.
    """

    def __init__(self, verbose: int = 1):
        self.verbose = verbose
        self.console = Console(file=cast("IO[str]", Stderr()), quiet=not verbose, highlight=False)
        self.area = Area() if verbose and self.console.is_jupyter else None

    @property
    def moves(self) -> bool:
        """Whether what was printed can be drawn over: on a terminal, unless TERM is dumb."""
        return self.console.is_terminal and not self.console.is_dumb_terminal

    def line(self, sentence: str) -> None:
        """Print a sentence; square brackets in it are not markup, as file names may contain them."""
        sentence = visible(sentence, lines=True)
        if self.area is not None:
            self.area.add(sentence)
        else:
            self.console.print(sentence, markup=False, soft_wrap=not self.console.is_terminal)

    def say(self, sentence: str) -> None:
        """Print and log one sentence."""
        LOGGER.info("%s", visible(sentence, lines=True))
        if not _is_shown():
            self.line(sentence)

    def detail(self, sentence: str) -> None:
        """Say what only `verbose=2` shows."""
        if self.verbose > 1:
            self.say(sentence)

    def conclude(self, sentence: str) -> None:
        """Say a result, unless the caller prints it."""
        if _prints_results.get():
            LOGGER.info("%s", visible(sentence, lines=True))
        else:
            self.say(sentence)

    def waiting(self, path: Path) -> None:
        """Say that another process is writing an entry of the cache."""
        self.say(f"Another process is writing {path}; waiting for it.")

    @contextmanager
    def bar(self, description: str, total: int | None, brief: bool = False) -> Iterator[Callable[..., None]]:
        """Show a progress bar over images, whose number may be unknown.

        Args:
            brief: whether it is not worth a line where nothing can move, unless it takes half a minute.

        Yields `advance(done=1, description=None, total=None)`; None changes nothing.
        """
        if self.area is not None:
            with self.area.bar(description, total) as advance:
                yield advance
            return
        if not self.moves:
            lines = Lines(description, total, self.line)
            yield lines.advance
            if self.verbose and not (brief and lines.told == lines.started):
                self.line(lines.state)
            return
        with Bars(self.console, not self.verbose) as progress:
            task: TaskID = progress.add_task(visible(description), total=total)

            def move(done: int = 1, description: str | None = None, total: int | None = None) -> None:
                told = None if description is None else visible(description)
                progress.update(task, advance=done, description=told, total=total)

            yield move

    @contextmanager
    def board(self, trials: int, epochs: int, direction: str) -> Iterator[Board]:
        """Show a live table of trials, with the best so far and the time left."""
        board = Board(trials, epochs, direction)
        if not self.verbose:
            yield board
        elif self.area is not None:
            with self.area.moving(board.rows, lambda: board.done / max(1, board.epochs)) as board.redraw:
                yield board
        elif self.moves:
            with Live(get_renderable=board.render, console=self.console, refresh_per_second=4):
                yield board
        else:
            board.tell = self.line
            yield board
            self.console.print(board.render())


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
        self.tell: Callable[[str], object] | None = None  # where the table cannot move, lines are told
        self.redraw: Callable[[], object] | None = None  # where it is drawn only when asked to
        self.told = self.started

    def add(self, line: str, score: float | None) -> None:
        """Add a finished trial, in one line; the score of a failed one is None."""
        self.lines.append(line := visible(line))
        if score is not None and (self.best is None or self.sign * score < self.best[0]):
            self.best = self.sign * score, line
        self._tell()

    def advance(self, epochs: int) -> None:
        """Count epochs that trials have finished or, through early stopping, do not need."""
        self.done += epochs
        self._tell()

    def _tell(self) -> None:
        if self.tell is not None and time.monotonic() - self.told >= SECONDS_A_LINE:
            self.told = time.monotonic()
            self.tell(self.state + ("" if self.best is None else f"; best so far: {self.best[1]}"))
        if self.redraw is not None:
            self.redraw()

    @property
    def state(self) -> str:
        """How many trials are done, and the time left."""
        left = self.seconds_left
        return f"{len(self.lines)} of {self.trials} trials" + ("" if left is None else f", about {clock(left)} left")

    @property
    def seconds_left(self) -> float | None:
        """The estimated time left, from the epochs so far; None before the first."""
        spent = time.monotonic() - self.started
        return spent * max(0, self.epochs - self.done) / self.done if self.done else None

    def rows(self) -> list[str]:
        """Return the last trials, the best so far, and the time left."""
        best = [] if self.best is None else [f"best so far: {self.best[1]}"]
        return [*self.lines[-SHOWN_TRIALS:], *best, self.state]

    def render(self) -> Table:
        """Draw the last trials, the best so far, and the time left."""
        table = Table.grid()
        for line in self.lines[-SHOWN_TRIALS:]:
            table.add_row(Text(line, overflow="ellipsis", no_wrap=True))
        table.add_row(Text(self.state, style="bold"))
        if self.best is not None:
            table.add_row(Text(f"best so far: {self.best[1]}", style="green", overflow="ellipsis", no_wrap=True))
        return table
