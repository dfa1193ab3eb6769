"""Serve a classifier over HTTP: a page to drop images on, and a JSON endpoint."""

from __future__ import annotations

import errno
import ipaddress
import logging
import secrets
import socket
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import numpy as np

from ..artifact.artifact import Artifact
from ..errors import ConfigError
from ..extras import check_extra
from ..telling.display import render
from ..telling.progress import Narrator
from .callers import LOOPBACK, SAFE, Callers, check_hosts
from .service import Service, about
from .uploads import MAX_UPLOAD_PIXELS, MEGABYTE, RefusedError

if TYPE_CHECKING:
    import uvicorn
    from starlette.applications import Starlette
    from starlette.requests import Request


def make_app(
    artifact: Artifact, *, max_bytes: int = 10 * MEGABYTE, hosts: Sequence[str] | None = LOOPBACK
) -> Starlette:
    """Create the ASGI application, for `serve` or any other server.

    `GET /` is the page, `GET /classifier` describes the classifier, `GET /health` says that the server is running.
    `POST /classify` takes an image, as the body or as a file in a form, and in the query `top=N` (number of labels),
    `explain=true` (Grad-CAM) and `label=NAME` (the class to explain). Errors are 4xx with `{"detail": SENTENCE}`: 400
    for no image or an invalid query, 403 for another web page, 408 too slow, 413 too large, 415 not an image, 422 an
    image that is damaged, too small or has too many pixels, and 503 where too many others are being answered.
    In answers of `/classify`, `stranger` says whether the image is probably of none of the classes, and `distance` how
    far it is, above 1 for strangers; both are null where the classifier does not know.

    Args:
        artifact: the classifier.
        max_bytes: size limit of one upload.
        hosts: names by which it may be called, without port: "*.example.org" for all below a name, 0.0.0.0 for any
            numeric address; None for all. Others are refused, so that a malicious web page cannot reach the server
            through its own host name (DNS rebinding).

    Raises:
        ConfigError: a library is missing, `max_bytes` is not positive, or one of `hosts` is no host name.
    """
    _check_installed()
    if max_bytes < 1:
        raise ConfigError(f"max_bytes must be at least 1; got {max_bytes}.")
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.middleware import Middleware
    from starlette.requests import ClientDisconnect
    from starlette.responses import HTMLResponse, JSONResponse, Response
    from starlette.routing import Route

    service, description, told = Service(artifact, max_bytes), artifact.description, about(artifact)
    strangers = artifact.trust.strangers is not None
    mark = secrets.token_urlsafe(16)  # where the nonce of an answer goes
    text = render("serve.html", about=description, told=told, strangers=strangers, max_bytes=max_bytes, nonce=mark)

    async def page(request: Request) -> Response:
        nonce = secrets.token_urlsafe(16)
        policy = (
            f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src data:; "
            "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        return HTMLResponse(text.replace(mark, nonce), headers={"Content-Security-Policy": policy})

    async def classify(request: Request) -> Response:
        query = request.query_params
        try:
            top = int(query.get("top", len(description.class_names)))
        except ValueError:
            top = 0
        if top < 1:
            raise RefusedError(400, f"top must be an integer >= 1; got {query['top']!r}.")
        label = query.get("label")
        explain = label is not None or query.get("explain", "").lower() in ("1", "true", "yes")
        return JSONResponse(await service.answer(request, top, explain, label))

    async def describe(request: Request) -> Response:
        fields = description.to_dict()
        keys = "class_names image_size resize bands integers floats multi_label thresholds backbone versions".split()
        limits = {"max_bytes": max_bytes, "max_pixels": MAX_UPLOAD_PIXELS}
        shown = {"name": told["name"], "evaluation": told["evaluation"]}
        return JSONResponse(shown | {key: fields[key] for key in keys} | limits)

    async def health(request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, (RefusedError, HTTPException))
        status = error.status if isinstance(error, RefusedError) else error.status_code
        headers = dict(getattr(error, "headers", None) or {}) | ({"Retry-After": "2"} if status == 503 else {})
        return JSONResponse({"detail": error.detail}, status, headers=headers)

    async def failed(request: Request, error: Exception) -> Response:  # outside of the middleware
        return JSONResponse({"detail": "The server failed; its log says how."}, 500, headers=SAFE)

    async def gone(request: Request, error: Exception) -> Response:
        return Response(status_code=400)  # the client has gone

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncGenerator[None, None]:
        await service.predict(np.zeros((*description.size, 3), "uint8"))  # compiles the network
        yield
        service.close()

    return Starlette(
        routes=[
            Route("/", page),
            Route("/classify", classify, methods=["POST"]),
            Route("/classifier", describe),
            Route("/health", health),
        ],
        middleware=[Middleware(Callers, hosts=None if hosts is None else check_hosts(hosts))],
        exception_handlers={RefusedError: refused, HTTPException: refused, ClientDisconnect: gone, Exception: failed},
        lifespan=lifespan,
    )


def serve(
    artifact: Artifact,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    max_bytes: int = 10 * MEGABYTE,
    allow_hosts: Sequence[str] = (),
    on_listening: Callable[[], object] = lambda: None,
) -> None:
    """Serve a classifier until SIGINT or SIGTERM; running requests then have 5 s to finish.

    Args:
        artifact: the classifier.
        host: the address to listen on. A warning is printed if it is not a loopback address.
        port: 1..65535.
        max_bytes: size limit of one upload.
        allow_hosts: further names by which it may be called, such as the one of a proxy in front of it, without port.
        on_listening: called when the port is open.

    Raises:
        ConfigError: a library is missing, the address cannot be used, or one of `allow_hosts` is no host name.
    """
    _check_installed()
    import uvicorn

    if not 1 <= port <= 65535:
        raise ConfigError(f"port must be from 1 to 65535; got {port}.")
    app = make_app(artifact, max_bytes=max_bytes, hosts=(*LOOPBACK, host, *allow_hosts))
    if not is_loopback(host):
        Narrator().say(
            f"Warning: {host} is not a loopback address: anyone who can reach this machine can use the classifier,"
            " without password or encryption. Put it behind a proxy that provides both."
            + ("" if allow_hosts else " To be called by a name, it needs --allow-host NAME.")
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
    on_listening()
    try:
        with listening:
            uvicorn.Server(configured(app)).run(sockets=[listening])
    except KeyboardInterrupt as ended:  # uvicorn raises it again after shutting down
        if type(ended) is not KeyboardInterrupt:  # what SIGTERM is in a program of somebody's
            raise


def configured(app: Starlette) -> uvicorn.Config:
    """Return how uvicorn serves an application: by `Connection`, and without a log of what clients send."""
    import uvicorn

    from .connections import CONNECTIONS, Connection

    logging.getLogger("python_multipart").setLevel(logging.ERROR)
    return uvicorn.Config(
        app,
        http=Connection,
        ws="none",
        backlog=2 * CONNECTIONS,  # also the number of connections that are accepted at once, each an open file
        log_config=None,  # Python prints errors to standard error
        log_level="error",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=5,
    )


def is_loopback(host: str) -> bool:
    """Whether an address can be reached from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _check_installed() -> None:
    check_extra("serve", "Serving")
