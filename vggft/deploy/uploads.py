"""Read and decode uploads: an image as the body of a request or in a form, in memory only and within limits."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..artifact.explain import shown
from ..errors import DataError
from ..pictures.files import look, read_image
from ..pictures.formats import HEAD, sniff
from ..pictures.reading import Reading

if TYPE_CHECKING:
    from starlette.requests import Request

MEGABYTE = 10**6
MAX_UPLOAD_PIXELS = 48 * 2**20  # 8192 x 6144, the largest of common cameras; in 8-bit colour it takes 0.7 GB to decode
LINGER = 8  # a body that is too large is still read, and dropped, up to this many times the limit


class RefusedError(Exception):
    """A request that is refused with an HTTP status from 400 on and a sentence for the client."""

    def __init__(self, status: int, detail: str):
        super().__init__(detail)
        self.status, self.detail = status, detail


@dataclass(frozen=True)
class Decoded:
    """An image as the network sees it and, if an explanation was requested, as people see it."""

    pixels: np.ndarray  # (height, width, 3) uint8, or float32
    size: tuple[int, int]  # width and height in px, upright
    format: str
    picture: np.ndarray | None  # (H, W, 3) uint8


async def read_body(request: Request, max_bytes: int, take: Callable[[int], Awaitable[None]]) -> bytes:
    """Read the body of a request, an image or a form with one, into memory.

    Args:
        take: waited for before so many bytes are kept.

    Raises:
        RefusedError: 413 if it is too large.
    """
    most = max_bytes + (16 * 1024 if _is_form(request) else 0)  # a form adds headers and boundaries
    body, declared = bytearray(), int(request.headers.get("content-length", 0))
    if declared > most and "expect" in request.headers:  # the client waits for permission before it sends
        raise _too_large(max_bytes)
    received = 0
    async for chunk in request.stream():
        received += len(chunk)
        if max(received, declared) <= most:
            await take(len(chunk))
            body += chunk
        elif received > LINGER * max_bytes:
            break
        else:  # read and drop: a client whose connection is closed while it sends may never see the answer
            body.clear()
    if max(received, declared) > most:
        raise _too_large(max_bytes)
    return bytes(body)


def image_of(request: Request, body: bytes, max_bytes: int) -> tuple[bytes, int]:
    """Return the image in a body, and its number of pixels. Both may take long, so this is called in a thread.

    Raises:
        RefusedError: 400 if there is no image, 413 if it is too large, 415 if it is something else.
    """
    data = asyncio.run(file_of_form(request, body)) if _is_form(request) else body
    if not data:
        raise RefusedError(400, "The request is empty: send the bytes of an image, or a form with one image file.")
    if len(data) > max_bytes:
        raise _too_large(max_bytes)
    return data, pixels_of(data)


def _is_form(request: Request) -> bool:
    return request.headers.get("content-type", "").lower().startswith("multipart/form-data")


def _too_large(max_bytes: int) -> RefusedError:
    return RefusedError(
        413,
        f"The image is larger than {max_bytes / MEGABYTE:.3g} MB, the limit of this server: send a smaller one, or"
        " start the server with a larger --max-megabytes.",
    )


async def file_of_form(request: Request, body: bytes) -> bytes:
    """Return the one file in a form. By default, Starlette would write files from 1 MB on to disk."""
    from python_multipart.exceptions import FormParserError
    from starlette.datastructures import UploadFile
    from starlette.formparsers import MultiPartException, MultiPartParser

    async def whole() -> AsyncGenerator[bytes, None]:
        yield body

    parser = MultiPartParser(request.headers, whole(), max_files=1, max_fields=8)
    parser.spool_max_size = len(body) + 1
    try:
        form = await parser.parse()
    except (MultiPartException, FormParserError, KeyError, UnicodeError) as error:
        raise RefusedError(400, f"The form cannot be read ({error}): send one with one image file.") from error
    try:
        files = [value for value in form.values() if isinstance(value, UploadFile)]
        if not files:
            raise RefusedError(400, "The form contains no file: send one with one image file.")
        return bytes(await files[0].read())
    finally:
        await form.close()
        for unfinished in getattr(parser, "_files_to_close_on_error", ()):  # in a form that ends early
            unfinished.close()


def pixels_of(data: bytes) -> int:
    """Return the number of pixels according to the header; 0 if it is damaged, which decoding reports better.

    Raises:
        RefusedError: 415 if it is not an image.
    """
    if sniff(data[:HEAD]) is None:
        try:
            read_image(data, name="The image")
        except DataError as error:
            raise RefusedError(415, str(error)) from None
    with suppress(DataError):
        return math.prod(look(data, Reading(), "The image").shape)
    return 0


def decode(data: bytes, reading: Reading, explain: bool) -> Decoded:
    """Decode an image as `Classifier.predict` does.

    Raises:
        RefusedError: 422 if it cannot be used.
    """
    try:
        found = read_image(data, reading, "The image", MAX_UPLOAD_PIXELS)
        return Decoded(found.pixels, found.size, found.format, shown(data, reading) if explain else None)
    except DataError as error:
        raise RefusedError(422, str(error)) from None
