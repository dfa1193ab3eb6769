"""What a person sees while it works: sentences, and bars with rate and time left. Silent at `verbose=0`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text


class RateColumn(ProgressColumn):
    """Units a second, "412 images/s"."""

    def __init__(self, unit: str):
        super().__init__()
        self.unit = unit

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if not speed else f"{speed:.0f} {self.unit}/s" if speed >= 10 else f"{speed:.1f} {self.unit}/s")


class Narrator:
    """Says what is going on, on standard error, so that what a command prints stays clean."""

    def __init__(self, verbose: int = 1):
        self.verbose = verbose
        self.console = Console(stderr=True, quiet=not verbose, highlight=False)

    def say(self, sentence: str) -> None:
        """Print one sentence. Square brackets in it are text, as file names may hold them."""
        self.console.print(sentence, markup=False, soft_wrap=True)

    def waiting(self, path: Path) -> None:
        """Say that another process is busy with an entry of the cache."""
        self.say(f"Another process is writing {path}; waiting for it.")

    @contextmanager
    def bar(self, description: str, total: int, unit: str = "images") -> Iterator[Callable[..., None]]:
        """A progress bar; call what it gives with the number done, and a new description if there is one."""
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            RateColumn(unit),
            TimeRemainingColumn(compact=True),
        )
        with Progress(*columns, console=self.console, disable=not self.verbose) as progress:
            task = progress.add_task(description, total=total)

            def advance(done: int = 1, description: str | None = None) -> None:
                progress.update(task, advance=done, description=description)

            yield advance
