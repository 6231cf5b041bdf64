"""The FastAPI application: its routes, middleware and lifespan."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import fastapi_offline
from fastapi import FastAPI, Request, Response
from fastapi.staticfiles import StaticFiles

from mnist_lit import __version__
from mnist_lit.reading.models import metadata_value
from mnist_lit.server.corrections import add_corrections
from mnist_lit.server.monitoring import Metrics, Monitoring
from mnist_lit.server.openapi import MODEL_EXAMPLE, PICTURE_BODY, PictureRead, problem_responses
from mnist_lit.server.pool import ReaderPool
from mnist_lit.server.problems import RETRY, ProblemError, add_handlers, busy
from mnist_lit.server.protection import SecurityHeaders, TrustedHosts
from mnist_lit.server.settings import Settings
from mnist_lit.server.uploads import Uploads

HERE = Path(__file__).parent
DESCRIPTION = "Reads handwritten digits in photos, scans and drawings. Pictures are not stored."
COLLECTING = " Digits that people correct on the page are saved."


def create_app(settings: Settings) -> FastAPI:
    """Create the application.

    Args:
        settings: Its model, host names and limits.

    Raises:
        InputError: If the model cannot be used.
    """
    pool, metrics = ReaderPool(settings), Metrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await pool.start()
        yield
        await pool.close()

    app = FastAPI(
        title="mnist_lit",
        version=__version__,
        description=DESCRIPTION + (COLLECTING if settings.collect else ""),
        lifespan=lifespan,
        docs_url=None,  # FastAPI's own pages need other hosts and inline scripts
        redoc_url=None,
        redirect_slashes=False,
    )
    add_handlers(app)
    # The middleware added last is the outermost.
    app.add_middleware(TrustedHosts, hosts=settings.hosts)
    app.add_middleware(Monitoring, metrics=metrics)
    app.add_middleware(SecurityHeaders)
    _add_reading(app, pool, Uploads(settings), settings.max_seconds)
    add_corrections(app, settings)
    _add_model(app, pool)
    _add_health(app, pool, metrics)
    _add_pages(app)
    return app


def _add_reading(app: FastAPI, pool: ReaderPool, uploads: Uploads, max_seconds: float) -> None:
    @app.post(
        "/v1/read",
        tags=["reading"],
        summary="Read the digits in a picture",
        response_model=PictureRead,
        openapi_extra=PICTURE_BODY,
        responses=problem_responses(
            {
                400: "The request, its form or its Host header is invalid.",
                408: "The picture did not arrive in time.",
                413: "The picture has too many bytes, pixels or parts.",
                415: "The file is not a picture in a supported format.",
                422: "The picture is damaged or missing, or a parameter is invalid.",
                503: "The server is busy: try again after Retry-After. Without that header, "
                "reading the picture took too long.",
            }
        ),
    )
    async def read(request: Request, glyphs: bool = False) -> Response:
        """Send the picture as the body, or as the file `picture` of a form.

            curl --data-binary @photo.jpg -H "Content-Type: image/jpeg" localhost:8000/v1/read
            curl --form picture=@photo.jpg "localhost:8000/v1/read?glyphs=true"

        The response has the lines of digits; a picture without digits has none, which is no error.
        With `glyphs=true` it includes the network's input for each digit.
        """
        if pool.is_full:
            raise busy()
        deadline = asyncio.get_running_loop().time() + max_seconds
        with uploads.reservation() as reserve:
            # A picture joins the queue once it has arrived: slow uploads do not block it.
            picture = await uploads.receive(request, reserve, deadline)
            body = await pool.read(picture, glyphs, deadline)
        return Response(body, media_type="application/json")


def _add_model(app: FastAPI, pool: ReaderPool) -> None:
    @app.head("/v1/model", include_in_schema=False)
    @app.get(
        "/v1/model",
        tags=["reading"],
        summary="Describe the model",
        responses={200: {"content": {"application/json": {"example": MODEL_EXAMPLE}}}},
    )
    async def model() -> dict[str, Any]:
        """Its network, training configuration, accuracy, threshold and checkpoint."""
        return {name: metadata_value(text) for name, text in pool.metadata.items()}


def _add_health(app: FastAPI, pool: ReaderPool, metrics: Metrics) -> None:
    @app.head("/healthz", include_in_schema=False)
    @app.get("/healthz", tags=["health"], summary="Check that the server is alive")
    async def healthz() -> dict[str, str]:
        return {"status": "alive"}

    @app.head("/readyz", include_in_schema=False)
    @app.get(
        "/readyz",
        tags=["health"],
        summary="Check that the server can accept a picture",
        responses=problem_responses({503: "The server is busy."}),
    )
    async def readyz() -> dict[str, str]:
        if not pool.is_ready:
            raise ProblemError(503, "The server is busy. Use another server.", RETRY)
        return {"status": "ready"}

    @app.get("/metrics", include_in_schema=False)
    async def all_metrics() -> Response:
        return metrics.response()


def _add_pages(app: FastAPI) -> None:
    """Serve the page and the documentation: each has an index and a folder of static files."""
    swagger_ui = (fastapi_offline.__name__, "static")  # the only part of this package in use
    for path, folder, files in (
        ("/", "/static", StaticFiles(directory=HERE / "static")),
        ("/docs", "/docs", StaticFiles(directory=HERE / "docs", packages=[swagger_ui])),
    ):
        app.add_route(path, partial(_index, files), include_in_schema=False)
        app.mount(folder, files)


async def _index(files: StaticFiles, request: Request) -> Response:
    return await files.get_response("index.html", request.scope)
