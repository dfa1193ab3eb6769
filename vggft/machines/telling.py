"""Progress of a process that another one has started, which shows it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..telling.progress import Narrator
from .processes import tell_parent

EVERY = 0.5  # seconds between two messages


class ToParent(Narrator):
    """A narrator whose bars move in the process that started this one."""

    def __init__(self) -> None:
        super().__init__(0)

    @contextmanager
    def bar(self, description: str, total: int | None, brief: bool = False) -> Iterator[Callable[..., None]]:
        """Tell the parent how far it is, a few times a second."""
        waiting, told = 0, time.monotonic()

        def move(done: int = 1, description: str | None = None, total: int | None = None) -> None:
            nonlocal waiting, told
            waiting += done
            if description is not None or time.monotonic() - told > EVERY:
                tell_parent(done=waiting, description=description)
                waiting, told = 0, time.monotonic()

        yield move
        tell_parent(done=waiting, description=None)
