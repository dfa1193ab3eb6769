"""What moves on a terminal: progress bars by rich, on whatever standard error is; and how far some work is."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from datetime import timedelta
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column, Table
from rich.text import Text

from .display import printable

IN_NO_TIME = 20_000  # images per second, of work that is not worth a rate


class RateColumn(ProgressColumn):
    """Images per second, such as "412 images/s"; the columns of rich count steps or bytes."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.{0 if speed >= 10 else 1}f} images/s" if speed and speed < IN_NO_TIME else "")


class Stderr:
    """Standard error as it is at the moment; what its encoding lacks is written as an escape, such as \\xe9.

    Where it cannot be written, as a log on a disk that is full, nothing is told: no run ends for that.
    """

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
            with suppress(OSError):
                self.stream.write(printable(text, self.encoding))
        return len(text)

    def flush(self) -> None:
        """Pass on what is buffered."""
        if self.stream is not None:
            with suppress(OSError):
                self.stream.flush()

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return self.stream is not None and bool(self.stream.isatty())


class Count:
    """How far some work is that counts images.

    Args:
        description: what is being done.
        total: number of images, if it is known.
    """

    def __init__(self, description: str, total: int | None):
        self.description, self.total = description, total
        self.done, self.started = 0, time.monotonic()

    def advance(self, done: int = 1, description: str | None = None, total: int | None = None) -> None:
        """Count images; None changes nothing."""
        self.done += done
        self.description, self.total = description or self.description, total or self.total

    @property
    def share(self) -> float | None:
        """How much of it is done, 0..1; None if that is unknown."""
        return min(1.0, self.done / self.total) if self.total else None

    @property
    def state(self) -> str:
        """How far it is, such as "read images: 150/400, 5.0 images/s, 0:00:50 left"."""
        speed = self.done / max(time.monotonic() - self.started, 1e-9)
        of = "" if self.total is None else f"/{self.total}"
        left = f", {clock((self.total - self.done) / speed)} left" if self.total and 0 < self.done < self.total else ""
        rate = f", {speed:.{0 if speed >= 10 else 1}f} images/s" if self.done else ""
        return f"{self.description}: {self.done}{of}{rate}{left}"


def clock(seconds: float) -> str:
    """Write seconds as hours, minutes and seconds.

    >>> clock(75)
    '0:01:15'
    """
    return str(timedelta(seconds=round(seconds)))


class Bars(Progress):
    """Progress bars that leave out what does not fit into the width of the terminal, so that nothing is cut."""

    def __init__(self, console: Console, disable: bool):
        self.screen = console  # of which rich draws before its own attribute exists
        super().__init__(console=console, disable=disable)

    def make_tasks_table(self, tasks: Iterable[Task]) -> Table:
        """Choose the columns by the longest description; rich does the rest."""
        tasks = list(tasks)
        taken = max((len(task.description) for task in tasks), default=0)
        counted = max((2 * len(str(task.total or 0)) + 1 for task in tasks), default=0)
        # Rates are at most "1234 images/s", and times at most "0:59:59".
        pieces: list[tuple[int, ProgressColumn]] = [  # the most useful first
            (7, left := TimeRemainingColumn(compact=True)),
            (10, bar := BarColumn(bar_width=10)),
            (counted, count := MofNCompleteColumn()),
            (13, rate := RateColumn()),
        ]
        room, kept = self.screen.width - taken, list[ProgressColumn]()
        for width, column in pieces:
            if (room := room - width - 1) >= 0:
                kept.append(column)
        ordered = [column for column in (bar, count, rate, left) if column in kept]
        how = Column(no_wrap=True, overflow="ellipsis")
        self.columns = (TextColumn("{task.description}", markup=False, table_column=how), *ordered)
        return super().make_tasks_table(tasks)
