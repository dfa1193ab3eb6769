"""Who is answered: those who call the server by its name, and no web page but its own. And headers of every answer."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError
from ..fields import shown

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = ("localhost", "127.0.0.1", "::1")
SAFE = {  # of every answer, also of errors: nothing is kept, guessed, passed on, or embedded by other web pages
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
ANY = ("0.0.0.0", "::")  # addresses to listen on that stand for all addresses of a machine
_CALLED = re.compile(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9._-]+))(?::[0-9]{1,5})?")
_NAME = re.compile(r"(\*\.)?[a-z0-9._-]+")


class Callers:
    """ASGI middleware that refuses requests to other names and from other web pages, and completes headers.

    A web page elsewhere can make a browser send requests here. Its own host name may lead to this server (DNS
    rebinding), which the Host header tells, or it sends a form or an image across, which the Origin header tells.

    Args:
        app: the application.
        hosts: names by which the server may be called; "*.example.org" for all below a name, and 0.0.0.0 or :: for any
            numeric address, since those cannot be rebound. None for all.
    """

    def __init__(self, app: ASGIApp, hosts: Sequence[str] | None):
        self.app, self.hosts = app, None if hosts is None else check_hosts(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        from starlette.datastructures import Headers, MutableHeaders
        from starlette.responses import JSONResponse

        async def completed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SAFE.items():
                    headers.setdefault(name, value)
            await send(message)

        headers, app = Headers(scope=scope), self.app
        host, origin = headers.get("host", ""), headers.get("origin")
        if self.hosts is not None and not self.knows(host):
            told = f"{shown(host, 100)} is not a name of this server: if it should be, start it with --allow-host NAME."
            app = JSONResponse({"detail": told}, 400)
        elif origin is not None and not is_same(origin, host):
            told = f"This request comes from a page of {shown(origin, 100)}, not of {shown(host, 100)}"
            app = JSONResponse({"detail": f"{told}: only this server's own page may ask it."}, 403)
        await app(scope, receive, completed)

    def knows(self, host: str) -> bool:
        """Whether a Host header names this server."""
        found = _CALLED.fullmatch(host.lower())
        if found is None or self.hosts is None:
            return self.hosts is None
        name = found[1] or found[2]
        return (
            name in self.hosts
            or any(each.startswith("*.") and name.endswith(each[1:]) for each in self.hosts)
            or (any(each in ANY for each in self.hosts) and address(name) is not None)
        )


def is_same(origin: str, host: str) -> bool:
    """Whether an Origin header names the server that a Host header names. A proxy may add encryption.

    >>> is_same("https://flowers.example", "flowers.example"), is_same("http://127.0.0.1:3000", "127.0.0.1:8000")
    (True, False)
    """
    scheme, _, place = origin.lower().partition("://")
    usual = {"http": ":80", "https": ":443"}
    return scheme in usual and bool(place) and place == host.lower().removesuffix(usual[scheme])


def address(name: str) -> Any:
    """Return a numeric address, or None if it is a name."""
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None


def check_hosts(hosts: Sequence[str]) -> tuple[str, ...]:
    """Return host names in lower case, IPv6 addresses without brackets.

    Raises:
        ConfigError: one is no host name.
    """
    names = tuple(each.lower().strip("[]") for each in hosts)
    for name in names:
        if not _NAME.fullmatch(name) and address(name) is None:
            raise ConfigError(
                f"A host that may be called must be a name such as flowers.example or *.flowers.example, without port"
                f" or https://; got {shown(name)}."
            )
    return names
