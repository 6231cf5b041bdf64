"""Corrections that people make on the page, saved as own digits if the server collects them."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from filelock import FileLock
from pydantic import BaseModel, Field, ValidationError
from starlette.requests import ClientDisconnect

from mnist_lit.errors import InputError
from mnist_lit.own_digits.storage import OwnDigit, content_hash, from_glyph, save, saved
from mnist_lit.server.openapi import problem_responses
from mnist_lit.server.problems import SEE_DOCS, ProblemError
from mnist_lit.server.settings import Settings

MAX_BYTES = 20_000  # of a request; a glyph has at most 784 numbers of 5 characters
MAX_SAVED = 20_000  # digits in the folder

Ink = Annotated[float, Field(ge=0, le=1)]
Row = Annotated[list[Ink], Field(min_length=28, max_length=28)]


class Correction(BaseModel):
    """A digit, as somebody has read it."""

    digit: int | None = Field(
        ge=0, le=9, description="What it is; null takes an earlier correction of the glyph back."
    )
    read_as: int = Field(ge=0, le=9, description="What the model took it for.")
    glyph: list[Row] = Field(
        min_length=28, max_length=28, description="The glyph, as /v1/read gives it."
    )

    model_config = {"extra": "forbid"}


def add_corrections(app: FastAPI, settings: Settings) -> None:
    """Add the routes: one says whether corrections are saved, and if so, another saves them."""
    folder = settings.collect

    @app.get("/v1/corrections", tags=["corrections"], summary="Say whether corrections are saved")
    async def collects() -> dict[str, bool]:
        return {"saved": bool(folder)}

    if not folder:
        return
    schema = Correction.model_json_schema()

    @app.post(
        "/v1/corrections",
        tags=["corrections"],
        summary="Save a corrected digit",
        status_code=201,
        openapi_extra={
            "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}
        },
        responses=problem_responses(
            {
                400: "The Host header is invalid, or the request was interrupted.",
                408: "The request did not arrive in time.",
                413: "The request is too large.",
                415: "The request is not JSON.",
                422: "The correction is invalid.",
                507: "The folder is full, or cannot be written.",
            }
        ),
    )
    async def correct(request: Request) -> JSONResponse:
        """Save the glyph as an own digit, in the folder that `serve --collect` names."""
        correction = await _received(request, settings.max_seconds)
        await asyncio.to_thread(_save, correction, folder)
        return JSONResponse({"digit": correction.digit}, 201)


async def _received(request: Request, max_seconds: float) -> Correction:
    # A page of another site cannot send this type without asking first.
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type != "application/json":
        raise ProblemError(415, f"The correction is not application/json. {SEE_DOCS}")
    body = b""
    try:
        async with asyncio.timeout(max_seconds):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_BYTES:
                    detail = f"The correction is larger than {MAX_BYTES:,} bytes. Send one glyph."
                    raise ProblemError(413, detail, {"Connection": "close"})
    except TimeoutError:
        detail = f"The correction did not arrive within {max_seconds:g} seconds. Try again."
        raise ProblemError(408, detail, {"Connection": "close"}) from None
    except ClientDisconnect:
        raise ProblemError(400, "The request was interrupted. Try again.") from None
    try:
        return Correction.model_validate_json(body)
    except ValidationError as error:
        first: Any = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or "body"
        raise ProblemError(422, f"{place}: {first['msg']}. {SEE_DOCS}") from None


def _save(correction: Correction, folder: Path) -> None:
    """Save a correction; of several of the same glyph, the last one counts."""
    image = from_glyph(np.array(correction.glyph, np.float32))
    name, label = content_hash(image), correction.digit
    today = datetime.now(UTC).date().isoformat()
    origin = {"source": "page", "read_as": correction.read_as, "date": today}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock", timeout=10):
            known = saved(folder)
            if label is not None:
                if len(known) >= MAX_SAVED and name not in known:
                    detail = f"The server has saved {MAX_SAVED:,} corrections. It saves no more."
                    raise ProblemError(507, detail)
                save(OwnDigit(image, label, origin), folder)
            if known.get(name, label) != label:
                for suffix in (".png", ".json"):
                    path = folder / str(known[name]) / f"{name}{suffix}"
                    path.unlink(missing_ok=True)
    except (InputError, OSError):  # its message would name a folder of the server
        detail = "The correction cannot be saved on the server. Tell whoever runs it."
        raise ProblemError(507, detail) from None
