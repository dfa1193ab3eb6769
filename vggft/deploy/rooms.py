"""Memory that requests share, so that it is bounded whatever their number."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager


class Room:
    """A number of bytes that requests may hold together.

    Who needs more than is left waits for it; others who need less may pass meanwhile.

    Args:
        size: bytes in all. Nobody waits for more than this.
        on_shortage: called when somebody has to wait.

    >>> import asyncio
    >>> async def held() -> int:
    ...     async with (room := Room(10)).taken(7):
    ...         return room.left
    >>> asyncio.run(held())
    3
    """

    def __init__(self, size: int, on_shortage: Callable[[], object] = lambda: None):
        self.size, self.left, self.on_shortage = size, size, on_shortage
        self.waiting: dict[asyncio.Future[None], int] = {}

    async def take(self, size: int) -> None:
        """Take some of the bytes, once they are there; `give` them back."""
        size = min(size, self.size)
        if size <= self.left:
            self.left -= size
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiting[turn] = size
        self.on_shortage()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # it was given the bytes at the same moment
                self.give(size)
            raise
        finally:
            self.waiting.pop(turn, None)

    def give(self, size: int) -> None:
        """Give bytes back, and let those pass who now have enough, the longest waiting first."""
        self.left += min(size, self.size)
        for turn, wanted in self.waiting.items():
            if wanted <= self.left and not turn.done():
                self.left -= wanted
                turn.set_result(None)

    @asynccontextmanager
    async def taken(self, size: int) -> AsyncGenerator[None, None]:
        """Hold some of the bytes for a while."""
        await self.take(size)
        try:
            yield
        finally:
            self.give(size)
