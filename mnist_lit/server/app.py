"""The application: what is answered at which address."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import fastapi_offline
from fastapi import FastAPI, Request, Response
from fastapi.staticfiles import StaticFiles

from mnist_lit import __version__
from mnist_lit.server.desk import Desk
from mnist_lit.server.openapi import MODEL_EXAMPLE, PICTURE_BODY, PictureRead, problems
from mnist_lit.server.problems import RETRY, ProblemError, add_handlers
from mnist_lit.server.protection import OwnNames, SecurityHeaders
from mnist_lit.server.settings import Settings
from mnist_lit.server.watching import Metrics, Watching

HERE = Path(__file__).parent
DESCRIPTION = "Reads handwritten digits in photos, scans and drawings. Keeps nothing of them."


def create_app(settings: Settings) -> FastAPI:
    """Make the application, ready to answer.

    Args:
        settings: Its model, names and limits.

    Raises:
        InputError: If there is no such model.
    """
    desk, metrics = Desk(settings), Metrics()

    @asynccontextmanager
    async def closing(app: FastAPI) -> AsyncIterator[None]:
        yield
        desk.close()

    app = FastAPI(
        title="mnist_lit",
        version=__version__,
        description=DESCRIPTION,
        lifespan=closing,
        docs_url=None,  # theirs loads its parts from other hosts
        redoc_url=None,
        redirect_slashes=False,
    )
    add_handlers(app)
    # The last is the outermost.
    app.add_middleware(OwnNames, hosts=settings.hosts)
    app.add_middleware(Watching, metrics=metrics)
    app.add_middleware(SecurityHeaders)
    _add_api(app, desk)
    _add_health(app, desk, metrics)
    _add_pages(app)
    return app


def _add_api(app: FastAPI, desk: Desk) -> None:
    @app.post(
        "/v1/read",
        tags=["reading"],
        summary="Read the digits in a picture",
        response_model=PictureRead,
        openapi_extra=PICTURE_BODY,
        responses=problems(
            {
                400: "The request, its form or its Host header is wrong.",
                408: "The picture did not arrive in time.",
                413: "The picture has too many bytes, pixels or parts.",
                415: "It is no picture of a known format.",
                422: "The picture is damaged, there is none, or a parameter is wrong.",
                503: "The server is busy: send it again after Retry-After. Without that header, "
                "the picture took too long to read.",
            }
        ),
    )
    async def read(request: Request, glyphs: bool = False) -> Response:
        """The picture is the body, or the file `picture` of a form.

            curl --data-binary @photo.jpg -H "Content-Type: image/jpeg" localhost:8000/v1/read
            curl --form picture=@photo.jpg "localhost:8000/v1/read?glyphs=true"

        The answer has its lines of digits; a picture without digits has none, which is no error.
        With `glyphs=true` each digit comes with what the network saw of it.
        """
        return Response(await desk.answer(request, glyphs), media_type="application/json")

    @app.head("/v1/model", include_in_schema=False)
    @app.get(
        "/v1/model",
        tags=["reading"],
        summary="What the model notes of its origin",
        responses={200: {"content": {"application/json": {"example": MODEL_EXAMPLE}}}},
    )
    async def model() -> dict[str, Any]:
        """Its network, the recipe of its training, its accuracy, threshold and checkpoint."""
        return {name: _decoded(note) for name, note in desk.metadata.items()}


def _decoded(note: str) -> Any:
    """What a model notes: text, or what is no text as JSON."""
    try:
        return json.loads(note, parse_constant=str)
    except ValueError:
        return note


def _add_health(app: FastAPI, desk: Desk, metrics: Metrics) -> None:
    @app.head("/healthz", include_in_schema=False)
    @app.get("/healthz", tags=["running"], summary="Whether the server is alive")
    async def healthz() -> dict[str, str]:
        return {"status": "alive"}

    @app.head("/readyz", include_in_schema=False)
    @app.get(
        "/readyz",
        tags=["running"],
        summary="Whether it would read a picture soon",
        responses=problems({503: "Too many pictures wait."}),
    )
    async def readyz() -> dict[str, str]:
        if not desk.ready:
            raise ProblemError(503, "Too many pictures wait to be read. Ask another server.", RETRY)
        return {"status": "ready"}

    @app.get("/metrics", include_in_schema=False)
    async def all_metrics() -> Response:
        return metrics.answer()


def _add_pages(app: FastAPI) -> None:
    """The page and the documentation: each an index, and a folder of what that loads."""
    swagger = (fastapi_offline.__name__, "static")  # nothing else of the package is used
    for path, folder, files in (
        ("/", "/static", StaticFiles(directory=HERE / "static")),
        ("/docs", "/docs", StaticFiles(directory=HERE / "docs", packages=[swagger])),
    ):
        app.add_route(path, partial(_index, files), include_in_schema=False)
        app.mount(folder, files)


async def _index(files: StaticFiles, request: Request) -> Response:
    return await files.get_response("index.html", request.scope)
