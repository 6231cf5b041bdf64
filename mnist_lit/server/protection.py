"""Protection for the browsers of users: security headers, and a check of the Host header."""

import re
from collections.abc import Collection

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mnist_lit.server.problems import problem

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; "
        "form-action 'self'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class SecurityHeaders:
    """ASGI middleware that adds security headers and a cache policy to every response.

    Args:
        app: The application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                # A file has an ETag, with which browsers ask whether it has changed.
                headers.setdefault("Cache-Control", "no-cache" if "etag" in headers else "no-store")
            await send(message)

        await self.app(scope, receive, send_with_headers)


class TrustedHosts:
    """ASGI middleware that refuses requests to host names that are not the server's.

    Against DNS rebinding: a hostile page can point its own name at this machine, and a browser then
    takes the server for a part of that page. Only the Host header tells the difference. Starlette's
    TrustedHostMiddleware refuses in plain text, without saying what to do.

    Args:
        app: The application.
        hosts: The server's host names, in lower case, without ports.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str]) -> None:
        self.app = app
        self.hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http" or host_name(Headers(scope=scope).get("host", "")) in self.hosts:
            await self.app(scope, receive, send)
        else:
            detail = "This host name is not allowed. Start the server with --allow-host NAME."
            await problem(400, detail)(scope, receive, send)


def host_name(header: str) -> str:
    """The host name in a Host header: in lower case, without port or brackets; empty if invalid."""
    match = re.fullmatch(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9._-]+))(?::[0-9]*)?", header.lower())
    return (match[1] or match[2]) if match else ""
