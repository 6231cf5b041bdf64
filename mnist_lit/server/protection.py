"""Who is answered, and what a browser may do with the answer."""

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
    """Adds the security headers to every answer, and says how long it may be kept.

    Args:
        app: What answers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, as ASGI has it."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                # A file has an ETag, by which a browser asks whether it still has the newest.
                headers.setdefault("Cache-Control", "no-cache" if "etag" in headers else "no-store")
            await send(message)

        await self.app(scope, receive, send_with_headers)


class OwnNames:
    """Answers only requests for the server's own names.

    A page of a stranger's can give its own name this machine's address (DNS rebinding), and a
    browser then takes the server for a part of that page: only the Host header shows it.

    Args:
        app: What answers.
        hosts: The names, without ports, in lower case.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str]) -> None:
        self.app = app
        self.hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, as ASGI has it."""
        if scope["type"] != "http" or name_in(Headers(scope=scope).get("host", "")) in self.hosts:
            await self.app(scope, receive, send)
        else:
            detail = "The server has no such name. Who runs it can add one: --allow-host NAME."
            await problem(400, detail)(scope, receive, send)


def name_in(host: str) -> str:
    """The name in a Host header, in lower case, without brackets and port; empty if there is none.

    Args:
        host: The header's value.
    """
    match = re.fullmatch(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9._-]+))(?::[0-9]*)?", host.lower())
    return (match[1] or match[2]) if match else ""
