"""Receiving pictures: raw or in a form, in memory only, within limits."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager

from python_multipart.exceptions import FormParserError
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from mnist_lit.server.problems import ProblemError, busy
from mnist_lit.server.settings import Settings

MAX_FORM_BYTES = 10_000  # of a form, besides the picture
BAD_FORM = "The form is damaged or has more than one part. Send a single file, named picture."

Reserve = Callable[[int], None]


class Uploads:
    """Receives pictures; together they never take more memory than a full queue of the largest.

    Args:
        settings: The limits.
    """

    def __init__(self, settings: Settings) -> None:
        self._max_bytes = settings.max_bytes
        self._max_seconds = settings.max_seconds
        most = settings.processes + settings.max_waiting
        self._free_bytes = most * (settings.max_bytes + MAX_FORM_BYTES)

    @contextmanager
    def reservation(self) -> Iterator[Reserve]:
        """Give a function that reserves bytes of memory until the context ends.

        It raises a ProblemError if there are not enough left.
        """
        reserved = 0

        def reserve(size: int) -> None:
            nonlocal reserved
            if size > self._free_bytes:
                raise busy()
            self._free_bytes -= size
            reserved += size

        try:
            yield reserve
        finally:
            self._free_bytes += reserved

    async def receive(self, request: Request, reserve: Reserve, deadline: float) -> bytes:
        """Receive the picture in a request.

        Args:
            request: Its body is the picture, or a form with the picture as the file ``picture``.
            reserve: Called with the size of each part that arrives.
            deadline: When to give up, by the event loop's clock.

        Raises:
            ProblemError: If there is no picture, it is too large or late, or memory is short.
        """
        try:
            async with asyncio.timeout_at(deadline):
                return await self._picture(request, reserve)
        except TimeoutError:
            detail = f"The picture did not arrive within {self._max_seconds:g} seconds."
            headers = {"Connection": "close"}
            raise ProblemError(408, f"{detail} Send a smaller one.", headers) from None
        except ClientDisconnect:
            raise ProblemError(400, "The upload was interrupted. Try again.") from None

    async def _picture(self, request: Request, reserve: Reserve) -> bytes:
        content_type = request.headers.get("content-type", "application/octet-stream")
        content_type = content_type.partition(";")[0].strip().lower()
        if content_type == "multipart/form-data":
            picture = await self._in_form(request, reserve)
        elif content_type == "application/octet-stream" or content_type.startswith("image/"):
            picture = b"".join([chunk async for chunk in self._body(request, reserve)])
        else:
            raise ProblemError(
                415,
                "The Content-Type is not that of a picture. Send image/png or the like, "
                "application/octet-stream, or multipart/form-data with the file picture.",
            )
        if len(picture) > self._max_bytes:
            raise self._too_large(request)
        if not picture:
            raise ProblemError(422, "The request has no picture, or an empty one. Send one.")
        return picture

    async def _in_form(self, request: Request, reserve: Reserve) -> bytes:
        body = self._body(request, reserve, MAX_FORM_BYTES)
        try:
            form = await _InMemory(request.headers, body, max_files=1, max_fields=1).parse()
        except (MultiPartException, FormParserError):  # some versions of Starlette leak the latter
            raise ProblemError(400, BAD_FORM) from None
        picture = form.get("picture")
        try:
            if len(form) > 1:
                raise ProblemError(400, BAD_FORM)
            if picture is None:
                raise ProblemError(422, "The form has no file named picture. Send only that.")
            if isinstance(picture, str):
                detail = "The picture is text, not a file. With curl, write --form picture=@FILE."
                raise ProblemError(422, detail)
            return await picture.read()
        finally:
            await form.close()

    async def _body(
        self, request: Request, reserve: Reserve, overhead: int = 0
    ) -> AsyncGenerator[bytes, None]:
        """The body in chunks, up to the limit on the picture plus some overhead."""
        length = request.headers.get("content-length", "")
        if length.isdecimal() and int(length) > self._max_bytes + overhead:
            raise self._too_large(request)
        received = 0
        async for chunk in request.stream():
            received += len(chunk)
            if received > self._max_bytes + overhead:
                raise self._too_large(request)
            reserve(len(chunk))
            yield chunk

    def _too_large(self, request: Request) -> ProblemError:
        # A browser reads the response only after it has sent the body that it announced, which
        # uvicorn discards. A chunked body has no announced length, and may never end.
        headers = {"Connection": "close"} if "transfer-encoding" in request.headers else None
        detail = f"The picture is larger than {self._max_bytes / 1e6:g} MB. Send a smaller one."
        return ProblemError(413, detail, headers)


class _InMemory(MultiPartParser):
    spool_max_size = 0  # no limit: files are never written to disk, as the body is limited anyway
