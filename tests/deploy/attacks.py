"""Attacks on a server over real sockets, seeded, and what has to hold while they last: others are answered.

Used by `test_server.py`, with few sockets by default and with many in the slow form. A `Crowd` holds sockets that keep
the server waiting; `odd_requests` are single requests of which each has to be answered or closed.
"""

from __future__ import annotations

import io
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from PIL import Image

Address = tuple[str, int]
HEAD = b"POST /classify%s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\nX-Padding: " + b"x" * 200 + b"\r\n\r\n"


def slow_picture(width: int = 8000, height: int = 1500) -> bytes:
    """A BMP of some kB whose rows are one pixel and an end of row each, which Pillow fills up one by one."""
    size = 14 + 40 + 1024 + 4 * height
    head = b"BM" + size.to_bytes(4, "little") + bytes(4) + (14 + 40 + 1024).to_bytes(4, "little")
    fields = (
        (40, 4),
        (width, 4),
        (height, 4),
        (1, 2),
        (8, 2),
        (1, 4),
        (4 * height, 4),
        (0, 4),
        (0, 4),
        (256, 4),
        (0, 4),
    )
    return (
        head + b"".join(value.to_bytes(count, "little") for value, count in fields) + bytes(1024) + b"\1\7\0\0" * height
    )


def small_picture(size: int = 48) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (size, size), (200, 80, 20)).save(file, "PNG")
    return file.getvalue()


class Crowd:
    """Sockets that all do the same: send `first` at once, and then leave, or send `drip` byte by byte."""

    def __init__(
        self,
        address: Address,
        count: int,
        first: Callable[[int], bytes],
        drip: bytes = b"",
        every: float = 0.5,
        leaves: bool = False,
    ):
        self.address, self.count, self.first, self.drip, self.every, self.leaves = (
            address,
            count,
            first,
            drip,
            every,
            leaves,
        )
        self.sockets: list[socket.socket] = []
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._drip)

    def __enter__(self) -> Crowd:
        for number in range(self.count):
            each = socket.socket()
            each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)  # what is not read fills it soon
            each.settimeout(10)
            each.connect(self.address)
            each.setblocking(False)
            self.sockets.append(each)
            left = memoryview(self.first(number))
            until = time.monotonic() + 2
            with suppress(ConnectionError):
                while left and time.monotonic() < until:
                    try:
                        left = left[each.send(left) :]
                    except BlockingIOError:
                        time.sleep(0.001)
            if self.leaves:
                each.close()
        self.thread.start()
        return self

    def _drip(self) -> None:
        at = 0
        while self.drip and not self.over.wait(self.every):
            byte = self.drip[at % len(self.drip) :][:1]
            at += 1
            for each in self.sockets:
                with suppress(OSError):
                    each.send(byte)

    def closed(self) -> int:
        """How many of them the server has closed."""
        count = 0
        for each in self.sockets:
            try:
                while each.recv(65536):
                    pass
                count += 1
            except BlockingIOError:
                pass
            except OSError:
                count += 1
        return count

    def answered(self) -> int:
        """How many of them have got an answer, or been closed."""
        count = 0
        for each in self.sockets:
            with suppress(BlockingIOError):
                each.recv(1, socket.MSG_PEEK)
                count += 1
        return count

    def __exit__(self, *error: Any) -> None:
        self.over.set()
        self.thread.join()
        for each in self.sockets:
            each.close()


def crowds(address: Address, count: int, seed: int, limit: int) -> dict[str, Crowd]:
    """One crowd of each kind; `limit` is the size of an upload that is allowed, in bytes."""
    rng = random.Random(seed)
    head, body = HEAD % (b"", limit - 1000), rng.randbytes(limit - 2000)
    explained = HEAD % (b"?explain=1", len(small_picture(600))) + small_picture(600)

    def part(text: bytes) -> bytes:
        return text[: rng.randrange(1, len(text) - 1)]

    return {
        "idle": Crowd(address, count, lambda _: b""),
        "half a head": Crowd(address, count, lambda _: part(head[:-4])),
        "a head byte by byte": Crowd(address, count, lambda _: b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ", b"slow"),
        "header after header": Crowd(address, count, lambda _: b"GET / HTTP/1.1\r\n", b"A: b\r\n", 0.05),
        "a body byte by byte": Crowd(address, count, lambda _: head, b"\x89PNG"),
        "chunk by chunk": Crowd(
            address,
            count,
            lambda _: b"POST /classify HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"1\r\nx\r\n",
            0.05,
        ),
        "nearly all of a body": Crowd(address, count, lambda _: head + body),
        "a form byte by byte": Crowd(
            address,
            count,
            lambda _: head.replace(b"X-Padding", b"Content-Type: multipart/form-data; boundary=b\r\nX-P"),
            b"--b\r\n",
        ),
        "many requests at once": Crowd(address, count, lambda _: b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 150),
        "a body for a page": Crowd(address, count, lambda _: head.replace(b"POST /classify", b"GET /"), b"x"),
        "requests that are kept alive": Crowd(
            address, count, lambda _: b"", b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n", 0.02
        ),
        "gone at once": Crowd(address, count, lambda _: explained, leaves=True),
    }


def odd_requests(seed: int, count: int) -> Iterator[tuple[str, bytes]]:
    """Requests that no browser sends: of every known kind, and `count` with random changes."""
    image = small_picture()
    post = b"POST /classify HTTP/1.1\r\nHost: localhost\r\n"
    form = b"Content-Type: multipart/form-data; boundary=b\r\n"
    known = {
        "huge header": post + b"X: " + b"x" * 10**6 + b"\r\n\r\n",
        "many headers": post + b"".join(b"X%d: y\r\n" % n for n in range(20_000)) + b"\r\n",
        "huge target": b"GET /" + b"a" * 10**6 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "huge query": b"GET /classifier?" + b"a=b&" * 2000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "length below zero": post + b"Content-Length: -1\r\n\r\n",
        "length of words": post + b"Content-Length: many\r\n\r\n",
        "endless length": post + b"Content-Length: " + b"9" * 400 + b"\r\n\r\n" + image,
        "length too large": post + b"Content-Length: 999999999999\r\nExpect: 100-continue\r\n\r\n",
        "two lengths": post + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        "length too small": post + b"Content-Length: 5\r\n\r\n" + image,
        "length and chunks": post + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "chunk of no number": post + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n",
        "chunk below zero": post + b"Transfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n0\r\n\r\n",
        "huge chunk": post + b"Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFF\r\n" + image,
        "chunk with a long extension": post + b"Transfer-Encoding: chunked\r\n\r\n5;" + b"x" * 10**6 + b"\r\nhello\r\n",
        "unknown encoding": post + b"Transfer-Encoding: gzip\r\n\r\n" + image,
        "long trailers": post + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"X: y\r\n" * 10_000 + b"\r\n",
        "no host": b"GET / HTTP/1.1\r\n\r\n",
        "two hosts": b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
        "an old version": b"GET / HTTP/1.0\r\n\r\n",
        "the oldest version": b"GET /\r\n",
        "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
        "WebSocket": b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
        "CONNECT": b"CONNECT evil.example:443 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "absolute target": b"GET http://evil.example/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "control characters": b"GET /\x00\x1b[2J HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "folded header": post + b"X: a\r\n b\r\nContent-Length: 0\r\n\r\n",
        "empty part": post + form + b"Content-Length: 14\r\n\r\n--b\r\n\r\n\r\n--b--",
        "expectation": post + b"Expect: the-unexpected\r\nContent-Length: 5\r\n\r\nhello",
        **{
            f"method {each.decode()}": each + post[4:] + b"Content-Length: 0\r\n\r\n"
            for each in (b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE", b"PATCH", b"BREW")
        },
        **{
            f"path {each.decode()}": b"GET " + each + b" HTTP/1.1\r\nHost: localhost\r\n\r\n"
            for each in (
                b"/../../etc/passwd",
                b"/%2e%2e/%2e%2e/etc/passwd",
                b"//etc/passwd",
                b"/..%5c..",
                b"*",
                b"/%00",
                b"/%ff",
            )
        },
        **{
            f"query {each.decode()[:20]}": b"POST /classify?" + each + b" HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Length: %d\r\n\r\n" % len(image) + image
            for each in (
                b"top=" + b"9" * 5000,
                b"top=-1",
                b"top=1e3",
                b"label=%00",
                b"label=" + b"x" * 9000,
                b"explain=%ff",
            )
        },
    }
    bodies = {
        "deep JSON": b"[" * 900_000,
        "long JSON": b'{"a": ' + b'"' + b"x" * 900_000,
        "form of many parts": b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\nx\r\n' * 15_000 + b"--b--",
        "form of near boundaries": b'--b\r\nContent-Disposition: form-data; name="a"; filename="a"\r\n\r\n'
        + b"\r\n-" * 300_000,
        "form of one header": b"--b\r\n" + b"X" * 900_000,
        "form of many headers": b"--b\r\n" + b"A: b\r\n" * 150_000,
        "form of no end": b'--b\r\nContent-Disposition: form-data; name="a"; filename="../../a"\r\n\r\n' + image,
        "form in a form": b"--b\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n--c\r\n" * 1000,
    }
    yield from known.items()
    for name, body in bodies.items():
        for kind, about in (("", form), (" as an image", b"")):
            yield f"{name}{kind}", post + about + b"Content-Length: %d\r\n\r\n" % len(body) + body
    tiny = b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 160_000 + b"0\r\n\r\n"
    yield "tiny chunks", post + tiny
    yield "tiny chunks for a page", b"GET / HTTP/1.1\r\nHost: localhost\r\n" + tiny
    rng, good = random.Random(seed), post + b"Content-Length: %d\r\n\r\n" % len(image) + image
    for number in range(count):
        text = bytearray(good)
        for _ in range(rng.randint(1, 6)):
            at, kind = rng.randrange(len(text)), rng.randrange(4)
            if kind == 0:
                text[at] = rng.randrange(256)
            elif kind == 1:
                del text[at : at + rng.randint(1, 20)]
            elif kind == 2:
                text[at:at] = rng.randbytes(rng.randint(1, 20))
            else:
                text[at:at] = text[at : at + rng.randint(1, 60)]
        yield f"change {number}", bytes(text)


def answer_of(address: Address, sent: bytes, seconds: float) -> bytes:
    """Send bytes and return the beginning of what is answered; b"" if the connection is closed instead.

    Raises:
        TimeoutError: neither has happened in time.
    """
    with socket.create_connection(address, timeout=seconds) as connection:
        with suppress(ConnectionError, TimeoutError):  # what is refused early need not be read to its end
            connection.sendall(sent)
        try:
            return connection.recv(65536)
        except ConnectionError:
            return b""
