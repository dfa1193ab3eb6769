"""Progress in a notebook: one area below the cell, drawn anew as things go on, whose lines break between words."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from .bars import Count
from .display import render

SECONDS = 0.2  # between two drawings
LINES = 200  # the last ones are kept


class Area:
    """What one call tells, in one place that stays: sentences, what moves at the moment, what has been done.

    It is HTML that is displayed once and then updated, so that any notebook can show it, without widgets.
    """

    def __init__(self) -> None:
        self.lines: list[tuple[str, bool]] = []  # and whether it is a bar that has ended
        self.works: list[tuple[Callable[[], Sequence[str]], Callable[[], float | None]]] = []
        self.handle: Any = None
        self.drawn = 0.0

    def add(self, sentence: str, done: bool = False) -> None:
        """Add a line; `done` says that it is about a bar that has ended."""
        self.lines = [*self.lines, (sentence, done)][-LINES:]
        self.draw()

    @contextmanager
    def moving(
        self, told: Callable[[], Sequence[str]], share: Callable[[], float | None]
    ) -> Iterator[Callable[[], None]]:
        """Show something that moves.

        Args:
            told: returns what is to be shown now, the last line beside the bar.
            share: returns how much of it is done, 0..1, or None if that is unknown.

        Yields a function that draws it again, if the last time is long enough ago.
        """
        work = told, share
        self.works.append(work)
        self.draw()

        def redraw() -> None:
            if time.monotonic() - self.drawn >= SECONDS:
                self.draw()

        try:
            yield redraw
        finally:
            self.works.remove(work)
            for line in told():
                self.add(line, done=True)

    @contextmanager
    def bar(self, description: str, total: int | None) -> Iterator[Callable[..., None]]:
        """Show a progress bar over images; yields `advance`, as `Narrator.bar` does."""
        count = Count(description, total)
        with self.moving(lambda: [count.state], lambda: count.share) as redraw:

            def advance(done: int = 1, description: str | None = None, total: int | None = None) -> None:
                count.advance(done, description, total)
                redraw()

            yield advance

    def draw(self) -> None:
        """Display the area, or update it where it is."""
        from IPython.display import display

        self.drawn = time.monotonic()
        works = [(told(), share()) for told, share in self.works]
        plain = [line for line, _ in self.lines] + [line for lines, _ in works for line in lines]
        shown = {"text/html": render("progress.html", lines=self.lines, works=works), "text/plain": "\n".join(plain)}
        if self.handle is None:
            self.handle = display(shown, raw=True, display_id=True)
        else:
            self.handle.update(shown, raw=True)
