"""Problem documents (RFC 9457): how the server says what is wrong, and what to do."""

from collections.abc import Mapping
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from mnist_lit.errors import InputError, TooLargeError, UnknownFormatError

MEDIA_TYPE = "application/problem+json"
RETRY = {"Retry-After": "1"}  # seconds


class ProblemError(Exception):
    """Ends a request with a problem document.

    Args:
        status: Of the answer, 400 or above.
        detail: What is wrong, and what to do, for a person.
        headers: Of the answer.
    """

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers = status, detail, headers


def busy() -> ProblemError:
    """The problem of a server that has enough to do."""
    return ProblemError(503, "Too many pictures wait to be read. Send it again later.", RETRY)


def document(status: int, detail: str) -> dict[str, str | int]:
    """A problem document."""
    return {
        "type": "about:blank",  # nothing beyond what the status says
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
    }


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """The answer that a :class:`ProblemError` becomes."""
    return JSONResponse(document(status, detail), status, headers, MEDIA_TYPE)


def add_handlers(app: FastAPI) -> None:
    """Have every error of the application answered with a problem document."""

    @app.exception_handler(ProblemError)
    async def raised(request: Request, error: ProblemError) -> JSONResponse:
        return problem(error.status, error.detail, error.headers)

    @app.exception_handler(InputError)
    async def refused(request: Request, error: InputError) -> JSONResponse:
        kinds = {TooLargeError: 413, UnknownFormatError: 415}
        return problem(kinds.get(type(error), 422), " ".join(str(error).splitlines()))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        plain = {"bool_parsing": "must be true or false"}
        wrong = "; ".join(
            f"{each['loc'][-1]}: {plain.get(each['type'], each['msg'])}" for each in error.errors()
        )
        return problem(422, f"{wrong}. The API is described at /docs.")

    @app.exception_handler(HTTPException)
    async def failed(request: Request, error: HTTPException) -> JSONResponse:
        details = {404: "There is nothing here.", 405: "This address has other methods."}
        detail = details.get(error.status_code, f"{error.detail}.")
        return problem(error.status_code, f"{detail} The API is described at /docs.", error.headers)
