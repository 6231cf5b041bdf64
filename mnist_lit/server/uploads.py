"""The picture in a request: raw or in a form, in memory, and no larger than allowed."""

from collections.abc import AsyncGenerator

from python_multipart.exceptions import FormParserError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from mnist_lit.server.problems import ProblemError

FORM_BYTES = 10_000  # that a form may have beside its picture


class _InMemory(MultiPartParser):
    spool_max_size = 0  # without end: nothing goes to the disk, and the body is limited as it is


async def picture_in(request: Request, most_bytes: int) -> bytes:
    """Receive a picture.

    Args:
        request: Its body is the picture, or a form with the picture as the file ``picture``.
        most_bytes: Of the picture.

    Raises:
        ProblemError: If there is no picture, or it is too large.
    """
    kind = request.headers.get("content-type", "application/octet-stream")
    kind = kind.partition(";")[0].strip().lower()
    try:
        if kind == "multipart/form-data":
            picture = await _in_form(request, most_bytes)
        elif kind == "application/octet-stream" or kind.startswith("image/"):
            picture = b"".join([chunk async for chunk in _limited(request, most_bytes)])
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
        raise ProblemError(422, "There is no picture in the request. Send one as its body.")
    return picture


async def _in_form(request: Request, most_bytes: int) -> bytes:
    stream = _limited(request, most_bytes + FORM_BYTES)
    try:
        form = await _InMemory(request.headers, stream, max_files=1, max_fields=0).parse()
    except (MultiPartException, FormParserError):  # older starlettes let it by
        raise ProblemError(
            400, "The form is damaged, or has more than one part. Send one file, named picture."
        ) from None
    picture = form.get("picture")
    try:
        if not isinstance(picture, UploadFile):
            raise ProblemError(422, "The form has no file named picture. Send one, only that.")
        return await picture.read()
    finally:
        await form.close()


async def _limited(request: Request, most_bytes: int) -> AsyncGenerator[bytes, None]:
    """The body in pieces, no further than it may go."""
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > most_bytes:
        raise _too_large(request, most_bytes)
    received = 0
    async for chunk in request.stream():
        received += len(chunk)
        if received > most_bytes:
            raise _too_large(request, most_bytes)
        yield chunk


def _too_large(request: Request, most_bytes: int) -> ProblemError:
    # A browser hears the answer only once it has sent all that it announced, which uvicorn throws
    # away. A body in chunks has no announced end, and may never end.
    headers = {"Connection": "close"} if "transfer-encoding" in request.headers else None
    detail = f"The picture has more than {most_bytes / 1e6:g} MB. Send a smaller one."
    return ProblemError(413, detail, headers)
