"""The picture in a request: raw or in a form, in memory, and no larger than allowed."""

from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager

from python_multipart.exceptions import FormParserError
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from mnist_lit.server.problems import ProblemError, busy

FORM_BYTES = 10_000  # that a form may have beside its picture


Take = Callable[[int], None]


class Budget:
    """How many bytes of pictures may be in memory at once, whoever sends them, however slowly.

    Args:
        most_bytes: Of all requests that are under way.
    """

    def __init__(self, most_bytes: int) -> None:
        self._free = most_bytes

    @contextmanager
    def share(self) -> Iterator[Take]:
        """Give a request what takes bytes out of the budget; they are free again at its end."""
        taken = 0

        def take(size: int) -> None:
            nonlocal taken
            if size > self._free:
                raise busy()
            self._free -= size
            taken += size

        try:
            yield take
        finally:
            self._free += taken


class _InMemory(MultiPartParser):
    spool_max_size = 0  # without end: nothing goes to the disk, and the body is limited as it is


async def picture_in(request: Request, most_bytes: int, take: Take) -> bytes:
    """Receive a picture.

    Args:
        request: Its body is the picture, or a form with the picture as the file ``picture``.
        most_bytes: Of the picture.
        take: Takes what arrives out of the budget.

    Raises:
        ProblemError: If there is no picture, it is too large, or there is no room for it.
    """
    kind = request.headers.get("content-type", "application/octet-stream")
    kind = kind.partition(";")[0].strip().lower()
    try:
        if kind == "multipart/form-data":
            picture = await _in_form(request, most_bytes, take)
        elif kind == "application/octet-stream" or kind.startswith("image/"):
            picture = b"".join([chunk async for chunk in _limited(request, take, most_bytes)])
        else:
            raise ProblemError(
                415,
                "The Content-Type is none of a picture. Send image/png or the like, "
                "application/octet-stream, or multipart/form-data with the file picture.",
            )
    except ClientDisconnect:
        raise ProblemError(400, "The picture did not arrive whole. Send it again.") from None
    if len(picture) > most_bytes:
        raise _too_large(request, most_bytes)
    if not picture:
        raise ProblemError(422, "There is no picture in the request, or it is empty. Send one.")
    return picture


async def _in_form(request: Request, most_bytes: int, take: Take) -> bytes:
    stream = _limited(request, take, most_bytes, FORM_BYTES)
    try:
        form = await _InMemory(request.headers, stream, max_files=1, max_fields=1).parse()
    except (MultiPartException, FormParserError):  # older starlettes let it by
        raise _bad_form() from None
    picture = form.get("picture")
    try:
        if len(form) > 1:
            raise _bad_form()
        if isinstance(picture, str):
            raise ProblemError(
                422, "The picture is text, no file. With curl: --form picture=@FILE, with the @."
            )
        if picture is None:
            raise ProblemError(422, "The form has no file named picture. Send one, only that.")
        return await picture.read()
    finally:
        await form.close()


def _bad_form() -> ProblemError:
    return ProblemError(
        400, "The form is damaged, or has more than one part. Send one file, named picture."
    )


async def _limited(
    request: Request, take: Take, most_bytes: int, beside: int = 0
) -> AsyncGenerator[bytes, None]:
    """The body in pieces, no further than it may go with what is beside the picture."""
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > most_bytes + beside:
        raise _too_large(request, most_bytes)
    received = 0
    async for chunk in request.stream():
        received += len(chunk)
        if received > most_bytes + beside:
            raise _too_large(request, most_bytes)
        take(len(chunk))
        yield chunk


def _too_large(request: Request, most_bytes: int) -> ProblemError:
    # A browser hears the answer only once it has sent all that it announced, which uvicorn throws
    # away. A body in chunks has no announced end, and may never end.
    headers = {"Connection": "close"} if "transfer-encoding" in request.headers else None
    detail = f"The picture has more than {most_bytes / 1e6:g} MB. Send a smaller one."
    return ProblemError(413, detail, headers)
