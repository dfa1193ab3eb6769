"""A classifier over HTTP: a page that a person drops a picture on, and a JSON endpoint; nothing outlives its answer.

Pictures are held in memory only, never written to a file: a body is read up to a limit, decoded in a thread, answered,
and forgotten. So that many clients at once cost no more memory than some: `BODIES` are held at a time, the others wait
in their sockets; large pictures are decoded one after another; and what waits for the network goes through it together.
"""

from __future__ import annotations

import asyncio
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

from ..artifact.explain import Explanation, grad_cam
from ..classifier import Classifier
from ..display import jpeg_url, render
from ..errors import ConfigError
from ..progress import Narrator
from .uploads import MAX_PIXELS, MEGABYTE, Decoded, RefusedError, decode, pixels_of, read_picture

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request

LARGE = 4 * 2**20  # pixels above which a picture is decoded while no other of its kind is
BODIES = 16  # in memory at a time
BATCH = 16  # pictures through the network at a time
SECONDS = 60  # that a client may take to send its picture
CONNECTIONS = 256  # beyond which the answer is 503
LOOPBACK = ("localhost", "127.0.0.1", "::1", "[::1]")

Result = TypeVar("Result")


class Desk:
    """Where pictures wait for the classifier, which answers one batch at a time.

    Args:
        classifier: answers.
        max_bytes: of one picture.
    """

    def __init__(self, classifier: Classifier, max_bytes: int):
        self.classifier, self.max_bytes = classifier, max_bytes
        self.bodies = asyncio.Semaphore(BODIES)
        self.small, self.large = ThreadPoolExecutor(os.cpu_count()), ThreadPoolExecutor(1)
        self.network = ThreadPoolExecutor(1)
        self.waiting: list[tuple[np.ndarray, asyncio.Future[np.ndarray]]] = []
        self.worker: asyncio.Task[None] | None = None

    async def receive(self, request: Request, explain: bool) -> Decoded:
        """Read and decode the picture in a request.

        Raises:
            RefusedError: there is none, it is too large, it is no image, or it cannot be used.
        """
        async with self.bodies:
            try:
                async with asyncio.timeout(SECONDS):
                    data = await read_picture(request, self.max_bytes)
            except TimeoutError:
                raise RefusedError(408, f"The picture did not arrive within {SECONDS} s; send a smaller one.") from None
            pixels = await in_thread(self.small, pixels_of, data)
            threads = self.large if pixels > LARGE else self.small
            return await in_thread(threads, decode, data, self.classifier.description.image_size, explain)

    async def predict(self, pixels: np.ndarray) -> np.ndarray:
        """(S, S, 3) -> (num_classes,), together with whatever else waits."""
        answer: asyncio.Future[np.ndarray] = asyncio.get_running_loop().create_future()
        self.waiting.append((pixels, answer))
        if self.worker is None or self.worker.done():
            self.worker = asyncio.create_task(self._work())
        return await answer

    async def _work(self) -> None:
        while self.waiting:
            batch, self.waiting = self.waiting[:BATCH], self.waiting[BATCH:]
            rows: Any
            try:
                rows = await in_thread(self.network, self.classifier.predict, np.stack([pixels for pixels, _ in batch]))
            except Exception as error:  # whatever it is, it belongs to those who asked
                rows = [error] * len(batch)
            for (_, answer), row in zip(batch, rows, strict=True):
                if answer.done():  # the client has gone
                    continue
                if isinstance(row, Exception):
                    answer.set_exception(row)
                else:
                    answer.set_result(row)

    def close(self) -> None:
        """End the threads when their work is done."""
        for threads in (self.small, self.large, self.network):
            threads.shutdown()

    async def answer(self, request: Request, top: int, explain: bool, label: str | None) -> dict[str, Any]:
        """The answer to one request, JSON-ready."""
        names = self.classifier.class_names
        if label is not None and label not in names:
            raise RefusedError(400, f"label: {label!r} is no class of this classifier; it knows {', '.join(names)}.")
        seen = await self.receive(request, explain)
        row = await self.predict(seen.pixels)
        found = self.classifier.describe(row)
        pairs = list(zip(found.labels, found.probabilities, strict=True))[:top]
        answer: dict[str, Any] = {
            "label": found.label,
            "present": list(found.present),
            "labels": [{"label": name, "probability": probability} for name, probability in pairs],
            "image": {"width": seen.size[0], "height": seen.size[1], "format": seen.format},
        }
        if seen.picture is not None:
            index = names.index(label or found.label)
            heat = await in_thread(
                self.network, grad_cam, self.classifier.keras_model, seen.pixels[None], np.array([index])
            )
            explanation = Explanation(seen.picture, heat[0], names[index], float(row[index]), "block5")
            answer["explanation"] = await in_thread(self.small, drawn, explanation)
        return answer


async def in_thread(threads: ThreadPoolExecutor, work: Callable[..., Result], *arguments: Any) -> Result:
    """Wait for work in a thread without holding up other requests."""
    return await asyncio.get_running_loop().run_in_executor(threads, work, *arguments)


def drawn(explanation: Explanation) -> dict[str, Any]:
    """An explanation, JSON-ready, with its pictures as data URLs."""
    return {
        "label": explanation.label,
        "probability": explanation.probability,
        "picture": jpeg_url(Image.fromarray(explanation.picture)),
        "overlay": jpeg_url(Image.fromarray(explanation.overlay())),
    }


def make_app(
    classifier: Classifier, *, max_bytes: int = 10 * MEGABYTE, hosts: Sequence[str] | None = LOOPBACK
) -> Starlette:
    """The ASGI application, for `serve` or any other server.

    `GET /` is the page, `GET /classifier` what the classifier is, `GET /health` says that it runs. `POST /classify`
    takes a picture, as the body or as a form's file, and in the query `top=N` (how many labels), `explain=true`
    (Grad-CAM) and `label=NAME` (of which class). Errors are 4xx with `{"detail": SENTENCE}`: 400 no picture or a wrong
    query, 408 too slow, 413 too large, 415 no image, 422 an image that is damaged, too small or has too many pixels.

    Args:
        classifier: answers.
        max_bytes: of one picture.
        hosts: names by which it may be called; others are refused, so that no web page can reach it under a name of
            its own. None allows all.

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

    desk, about = Desk(classifier, max_bytes), classifier.description
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
            raise RefusedError(400, f"top must be a whole number from 1; got {query['top']!r}.")
        label = query.get("label")
        explain = label is not None or query.get("explain", "").lower() in ("1", "true", "yes")
        return JSONResponse(await desk.answer(request, top, explain, label), headers=no_store)

    async def describe(request: Request) -> Response:
        told = about.to_dict()
        keys = ("class_names", "image_size", "multi_label", "thresholds", "backbone", "versions")
        return JSONResponse({key: told[key] for key in keys} | {"max_bytes": max_bytes, "max_pixels": MAX_PIXELS})

    async def health(request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, (RefusedError, HTTPException))
        status = error.status if isinstance(error, RefusedError) else error.status_code
        return JSONResponse({"detail": error.detail}, status, headers=no_store)

    async def gone(request: Request, error: Exception) -> Response:
        return Response(status_code=400)  # which nobody reads

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncGenerator[None, None]:
        await desk.predict(np.zeros((about.image_size, about.image_size, 3), "uint8"))  # the first is slow
        yield
        desk.close()

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
    classifier: Classifier,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    max_bytes: int = 10 * MEGABYTE,
    on_listening: Callable[[], object] = lambda: None,
) -> None:
    """Serve a classifier until SIGINT or SIGTERM; requests under way are then answered for up to 5 s.

    Args:
        host: the address to listen on; one that is not loopback is said to be open to others.
        port: 1..65535.
        max_bytes: of one picture.
        on_listening: called when the address is had.

    Raises:
        ConfigError: a library is missing, or the address cannot be had.
    """
    _check_installed()
    import uvicorn

    if not 1 <= port <= 65535:
        raise ConfigError(f"port must be from 1 to 65535; got {port}.")
    is_open = not is_loopback(host)
    app = make_app(classifier, max_bytes=max_bytes, hosts=None if is_open else (*LOOPBACK, host))
    if is_open:
        Narrator().say(
            f"Warning: {host} is not loopback: anyone who can reach this machine may use the classifier, without a"
            " password and without encryption. Put it behind a proxy that asks for them."
        )
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        raise ConfigError(
            f"Port {port} of {host} cannot be had ({error}). This usually occurs when another program, often an earlier"
            " server, listens there: end it or choose another port."
        ) from error
    config = uvicorn.Config(
        app,
        log_config=None,  # Python prints warnings and errors to standard error as it is
        access_log=False,
        server_header=False,
        limit_concurrency=CONNECTIONS,
        timeout_graceful_shutdown=5,
    )
    on_listening()
    with listening, suppress(KeyboardInterrupt):  # which uvicorn raises again after it has ended
        uvicorn.Server(config).run(sockets=[listening])


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _check_installed() -> None:
    try:
        import python_multipart  # noqa: F401
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f"Serving needs starlette, uvicorn and python-multipart ({error}): pip install 'vggft[serve]'."
        ) from error
