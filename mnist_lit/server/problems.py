"""Problem documents (RFC 9457): every error response says what is wrong and what to do."""

from collections.abc import Mapping
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

MEDIA_TYPE = "application/problem+json"
RETRY = {"Retry-After": "1"}  # seconds
SEE_DOCS = "The API is documented at /docs."


class ProblemError(Exception):
    """Ends a request with a problem document.

    Args:
        status: Status of the response, 400 or above.
        detail: What is wrong and what to do, for a person.
        headers: Additional headers of the response.
    """

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers = status, detail, headers


def busy() -> ProblemError:
    """The problem of a server that cannot accept another picture now."""
    return ProblemError(503, "The server is busy. Try again later.", RETRY)


def problem_document(status: int, detail: str) -> dict[str, str | int]:
    """The content of a problem document."""
    return {
        "type": "about:blank",  # the status says it all
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
    }


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """The response with a problem document."""
    return JSONResponse(problem_document(status, detail), status, headers, MEDIA_TYPE)


def add_handlers(app: FastAPI) -> None:
    """Turn every error of the application into a problem document."""

    @app.exception_handler(ProblemError)
    async def on_problem(request: Request, error: ProblemError) -> JSONResponse:
        return problem(error.status, error.detail, error.headers)

    @app.exception_handler(RequestValidationError)
    async def on_invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        plain = {"bool_parsing": "must be true or false"}
        details = "; ".join(
            f"{each['loc'][-1]}: {plain.get(each['type'], each['msg'])}" for each in error.errors()
        )
        return problem(422, f"{details}. {SEE_DOCS}")

    @app.exception_handler(HTTPException)
    async def on_http_error(request: Request, error: HTTPException) -> JSONResponse:
        details = {404: "There is nothing at this path.", 405: "This method is not allowed here."}
        detail = details.get(error.status_code, f"{error.detail}.")
        return problem(error.status_code, f"{detail} {SEE_DOCS}", error.headers)
