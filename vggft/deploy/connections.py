"""Connections that lock nobody out: clients have to send, and read answers, at a least rate; their number is limited.

uvicorn limits how long a connection may be idle after an answer, but not before the first byte, in a request or in an
answer (its issue 157), and its `limit_concurrency` counts idle connections, so that a few hundred keep everyone out.
Other servers end a connection that sends nothing, but not one that sends a byte now and then. So uvicorn stays, with a
protocol that has patience: `uvicorn.Config(http=Connection)`.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import h11
from uvicorn.protocols.http.h11_impl import STATUS_PHRASES, H11Protocol

from .callers import SAFE

if TYPE_CHECKING:
    from collections.abc import Iterable

CONNECTIONS = 256  # for one more, the one that has been waited for longest is closed
PATIENCE = 10.0  # seconds that a client is waited for: for the head of a request, and at most without progress
RATE = 4000  # bytes a second at which patience does not shrink; 100 kB may take 25 s
TICK = 0.5  # seconds
PIECE = 16 * 1024  # bytes that are parsed at once
FRAMING = 64 * 1024  # bytes around chunks that are always allowed; beyond, an eighth of what is in them


class Connection(H11Protocol):
    """A connection of uvicorn that loses patience.

    Waiting for the client, for its request or for it to read the answer, uses patience up. The bytes of a body and of
    an answer give it back, never more than was there at first, so that a fast beginning buys no long pause. The head of
    a request has to be there before patience ends, however its bytes arrive.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.since, self.patience, self.unsent = self.loop.time(), PATIENCE, 0
        self.framing = 0
        self.clock = self.loop.call_later(TICK, self._tick)
        others = [each for each in self._open() if each is not self]
        if len(others) >= CONNECTIONS and (waited := [each for each in others if each.is_waited_for()]):
            min(waited, key=Connection._priority).give_up()

    def connection_lost(self, exc: Exception | None) -> None:
        self.clock.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        for start in range(0, len(data), PIECE):
            if self.transport.is_closing():
                return
            piece = data[start : start + PIECE]
            if self._is_uploading():
                self._gain(len(piece))
            before = self._kept()
            super().data_received(piece)
            if self.conn.their_state is h11.SEND_BODY and (b"transfer-encoding", b"chunked") in self.headers:
                self._check_chunks(len(piece), max(0, self._kept() - before))

    def on_response_complete(self) -> None:
        self.since, self.patience, self.framing = self.loop.time(), PATIENCE, 0
        if self.conn.their_state is h11.DONE and self.conn.trailing_data[0]:
            self.transport.close()  # no browser sends requests before it has its answer; together, they would crowd out
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        self.refuse(400, "This is not a valid HTTP request: a browser, curl or any HTTP library sends one.")

    def is_waited_for(self) -> bool:
        """Whether it is up to the client that something happens: it has to send, or to read."""
        return self.transport.get_write_buffer_size() > 0 or self.conn.their_state in (h11.IDLE, h11.SEND_BODY)

    def give_up(self) -> None:
        """Close the connection; with an answer, if a request has begun."""
        begun = self.conn.their_state is h11.SEND_BODY or bool(self.conn.trailing_data[0])
        if begun and not self.transport.get_write_buffer_size():
            self.refuse(408, "The request arrived too slowly: send a smaller image, or try again later.")
        else:
            self.transport.abort()

    def refuse(self, status: int, detail: str) -> None:
        """Answer with an error, unless an answer has begun, and close the connection."""
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.abort()
            return
        body = json.dumps({"detail": detail}).encode()
        about = {"Content-Type": "application/json", "Content-Length": str(len(body)), "Connection": "close"}
        head = h11.Response(status_code=status, headers=[*(SAFE | about).items()], reason=STATUS_PHRASES[status])
        events = (head, h11.Data(data=body), h11.EndOfMessage())
        self.transport.write(b"".join(self.conn.send(event) or b"" for event in events))
        if self.cycle:
            self.cycle.disconnected = True  # what the application may still answer is dropped
        self.transport.close()

    def _open(self) -> Iterable[Connection]:
        for each in self.connections:
            if isinstance(each, Connection) and not each.transport.is_closing():
                yield each

    def _is_uploading(self) -> bool:
        return self.conn.their_state is h11.SEND_BODY and self.conn.our_state is h11.SEND_RESPONSE

    def _priority(self) -> tuple[bool, float]:
        """Order connections by which is closed first: those without a request, and then the oldest."""
        return self._is_uploading(), self.since

    def _kept(self) -> int:
        return len(self.cycle.body) if self.cycle else 0

    def _check_chunks(self, received: int, kept: int) -> None:
        """Refuse bodies in tiny chunks: parsing one takes 25 us, so that 10 MB of them would hold up all for 40 s."""
        self.framing += 8 * (received - kept) - kept
        if self.framing > 8 * FRAMING:
            self.refuse(400, "The body is sent in very small chunks: send it in larger ones, or whole.")

    def _gain(self, count: int) -> None:
        self.patience = min(PATIENCE, self.patience + count / RATE)

    def _tick(self) -> None:
        self.clock = self.loop.call_later(TICK, self._tick)
        unsent = self.transport.get_write_buffer_size()
        self._gain(max(0, self.unsent - unsent))
        self.unsent = unsent
        if unsent or (self.is_waited_for() and not self.flow.read_paused):  # what is not read is not waited for
            self.patience -= TICK
            if self.patience <= 0:
                self.give_up()
