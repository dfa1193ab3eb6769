"""Serve a classifier over HTTP: a page to drop images on, and a JSON endpoint.

Images are held in memory only, and dropped after the answer. Memory is bounded whatever the number of clients: at most
`BODIES` uploads are in memory, the others wait in their sockets, and large images are decoded one at a time.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import os
import secrets
import socket
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from PIL import Image

from ..artifact.artifact import Artifact
from ..artifact.explain import Explanation, grad_cam, last_seen, over_shown
from ..display import jpeg_url, render
from ..errors import ConfigError
from ..extras import check_extra
from ..pictures.arrays import PixelImage
from ..progress import Narrator
from .uploads import MAX_UPLOAD_PIXELS, MEGABYTE, Decoded, RefusedError, decode, pixels_of, read_picture

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request

LARGE = 4 * 2**20  # pixels; larger images are decoded one at a time
BODIES = 16  # maximum number of uploads in memory
BATCH = 16  # maximum number of images per pass through the network
SECONDS = 60  # time limit for an upload
CONNECTIONS = 256  # further ones are answered with 503
LOOPBACK = ("localhost", "127.0.0.1", "::1", "[::1]")

Result = TypeVar("Result")


class Service:
    """Answers requests: images are decoded in several threads, and the network runs in a separate thread.

    Args:
        artifact: the classifier.
        max_bytes: size limit of one upload.
    """

    def __init__(self, artifact: Artifact, max_bytes: int):
        self.artifact, self.max_bytes = artifact, max_bytes
        self.bodies = asyncio.Semaphore(BODIES)
        self.small, self.large = ThreadPoolExecutor(os.cpu_count()), ThreadPoolExecutor(1)
        self.network = ThreadPoolExecutor(1)
        self.waiting: list[tuple[np.ndarray, asyncio.Future[np.ndarray]]] = []
        self.turn = asyncio.Lock()

    async def receive(self, request: Request, explain: bool) -> Decoded:
        """Read and decode the image in a request.

        Raises:
            RefusedError: there is no image, or it is too large, arrives too slowly, or cannot be used.
        """
        async with self.bodies:
            try:
                async with asyncio.timeout(SECONDS):
                    data = await read_picture(request, self.max_bytes)
            except TimeoutError:
                raise RefusedError(408, f"The image did not arrive within {SECONDS} s: send a smaller one.") from None
            pixels = await in_thread(self.small, pixels_of, data)
            threads = self.large if pixels > LARGE else self.small
            return await in_thread(threads, decode, data, self.artifact.description.reading, explain)

    async def predict(self, pixels: np.ndarray) -> np.ndarray:
        """Predict (num_classes,) probabilities of an image, (height, width, 3), in one pass with others that wait.

        On two cores with 30 clients (vgg16_mini at 64 px), passes of up to 16 images answer 1.3 to 1.7 times as many
        requests as passes of one.
        """
        answer: asyncio.Future[np.ndarray] = asyncio.get_running_loop().create_future()
        self.waiting.append((pixels, answer))
        async with self.turn:  # the first in the queue runs a pass for all
            if not answer.done():
                batch = self.waiting[:BATCH]
                try:
                    read = [PixelImage(each) for each, _ in batch]
                    rows = await in_thread(self.network, self.artifact.predict, read)
                    for (_, future), row in zip(batch, rows, strict=True):
                        future.set_result(row)
                except Exception as error:  # reported to all whose images were in this pass
                    for _, future in batch:
                        future.set_exception(error)
                del self.waiting[: len(batch)]
        return await answer

    def close(self) -> None:
        """Wait for running work and end the threads."""
        for threads in (self.small, self.large, self.network):
            threads.shutdown()

    async def answer(self, request: Request, top: int, explain: bool, label: str | None) -> dict[str, Any]:
        """Answer one request with JSON-ready values."""
        names = self.artifact.class_names
        if label is not None and label not in names:
            raise RefusedError(400, f"label: {label!r} is not a class of this classifier; known: {', '.join(names)}.")
        seen = await self.receive(request, explain)
        row = await self.predict(seen.pixels)
        found = self.artifact.describe(row)
        pairs = list(zip(found.labels, found.probabilities, strict=True))[:top]
        answer: dict[str, Any] = {
            "label": found.label,
            "present": list(found.present),
            "labels": [{"label": name, "probability": probability} for name, probability in pairs],
            "image": {"width": seen.size[0], "height": seen.size[1], "format": seen.format},
        }
        if seen.picture is not None:
            index = names.index(label or found.label)
            heat = await in_thread(self.network, grad_cam, self.artifact, seen.pixels[None], [index])
            shown = over_shown(heat[0], seen.picture, self.artifact.description.reading)
            explanation = Explanation(seen.picture, shown, names[index], float(row[index]), last_seen(self.artifact))
            answer["explanation"] = await in_thread(self.small, drawn, explanation)
        return answer


async def in_thread(threads: ThreadPoolExecutor, work: Callable[..., Result], *arguments: Any) -> Result:
    """Run work in a thread without blocking other requests."""
    return await asyncio.get_running_loop().run_in_executor(threads, work, *arguments)


def drawn(explanation: Explanation) -> dict[str, Any]:
    """Convert an explanation to JSON-ready values, its images to data URLs."""
    return {
        "label": explanation.label,
        "probability": explanation.probability,
        "picture": jpeg_url(Image.fromarray(explanation.picture)),
        "overlay": jpeg_url(Image.fromarray(explanation.overlay())),
    }


def make_app(
    artifact: Artifact, *, max_bytes: int = 10 * MEGABYTE, hosts: Sequence[str] | None = LOOPBACK
) -> Starlette:
    """Create the ASGI application, for `serve` or any other server.

    `GET /` is the page, `GET /classifier` describes the classifier, `GET /health` says that the server is running.
    `POST /classify` takes an image, as the body or as a file in a form, and in the query `top=N` (number of labels),
    `explain=true` (Grad-CAM) and `label=NAME` (the class to explain). Errors are 4xx with `{"detail": SENTENCE}`: 400
    for no image or an invalid query, 408 too slow, 413 too large, 415 not an image, 422 an image that is damaged, too
    small or has too many pixels.

    Args:
        artifact: the classifier.
        max_bytes: size limit of one upload.
        hosts: accepted host names; None for all. Others are refused, so that a malicious web page cannot reach the
            server through its own host name (DNS rebinding).

    Raises:
        ConfigError: a library is missing, or `max_bytes` is not positive.
    """
    _check_installed()
    if max_bytes < 1:
        raise ConfigError(f"max_bytes must be at least 1; got {max_bytes}.")
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware
    from starlette.requests import ClientDisconnect
    from starlette.responses import HTMLResponse, JSONResponse, Response
    from starlette.routing import Route

    service, about = Service(artifact, max_bytes), artifact.description
    no_store = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}

    async def page(request: Request) -> Response:
        nonce = secrets.token_urlsafe(16)
        policy = (
            f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src data:; "
            "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        text = render("serve.html", about=about, max_bytes=max_bytes, nonce=nonce)
        return HTMLResponse(text, headers={**no_store, "Content-Security-Policy": policy})

    async def classify(request: Request) -> Response:
        query = request.query_params
        try:
            top = int(query.get("top", len(about.class_names)))
        except ValueError:
            top = 0
        if top < 1:
            raise RefusedError(400, f"top must be an integer >= 1; got {query['top']!r}.")
        label = query.get("label")
        explain = label is not None or query.get("explain", "").lower() in ("1", "true", "yes")
        return JSONResponse(await service.answer(request, top, explain, label), headers=no_store)

    async def describe(request: Request) -> Response:
        told = about.to_dict()
        keys = "class_names image_size resize bands integers floats multi_label thresholds backbone versions".split()
        limits = {"max_bytes": max_bytes, "max_pixels": MAX_UPLOAD_PIXELS}
        return JSONResponse({key: told[key] for key in keys} | limits)

    async def health(request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, (RefusedError, HTTPException))
        status = error.status if isinstance(error, RefusedError) else error.status_code
        return JSONResponse({"detail": error.detail}, status, headers=no_store)

    async def gone(request: Request, error: Exception) -> Response:
        return Response(status_code=400)  # the client has gone

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncGenerator[None, None]:
        await service.predict(np.zeros((*about.size, 3), "uint8"))  # compiles the network
        yield
        service.close()

    return Starlette(
        routes=[
            Route("/", page),
            Route("/classify", classify, methods=["POST"]),
            Route("/classifier", describe),
            Route("/health", health),
        ],
        middleware=[] if hosts is None else [Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))],
        exception_handlers={RefusedError: refused, HTTPException: refused, ClientDisconnect: gone},
        lifespan=lifespan,
    )


def serve(
    artifact: Artifact,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    max_bytes: int = 10 * MEGABYTE,
    on_listening: Callable[[], object] = lambda: None,
) -> None:
    """Serve a classifier until SIGINT or SIGTERM; running requests then have 5 s to finish.

    Args:
        artifact: the classifier.
        host: the address to listen on. A warning is printed if it is not a loopback address.
        port: 1..65535.
        max_bytes: size limit of one upload.
        on_listening: called when the port is open.

    Raises:
        ConfigError: a library is missing, or the address cannot be used.
    """
    _check_installed()
    import uvicorn

    if not 1 <= port <= 65535:
        raise ConfigError(f"port must be from 1 to 65535; got {port}.")
    is_open = not is_loopback(host)
    app = make_app(artifact, max_bytes=max_bytes, hosts=None if is_open else (*LOOPBACK, host))
    if is_open:
        Narrator().say(
            f"Warning: {host} is not a loopback address: anyone who can reach this machine can use the classifier,"
            " without password or encryption. Put it behind a proxy that provides both."
        )
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        raise ConfigError(
            f"Port {port} of {host} cannot be used ({error})"
            + (": another program listens there; stop it or choose" if error.errno == errno.EADDRINUSE else ": choose")
            + " another port."
        ) from error
    config = uvicorn.Config(
        app,
        log_config=None,  # by default, Python prints warnings and errors to standard error
        access_log=False,
        server_header=False,
        limit_concurrency=CONNECTIONS,
        timeout_graceful_shutdown=5,
    )
    on_listening()
    with listening, suppress(KeyboardInterrupt):  # uvicorn raises it again after shutting down
        uvicorn.Server(config).run(sockets=[listening])


def is_loopback(host: str) -> bool:
    """Whether an address can be reached from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _check_installed() -> None:
    check_extra("serve", "Serving")
