"""Pictures to send to the server, and what it answers."""

import io
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mnist_lit.reading.models import PACKAGED
from tests.support.hostile import damaged, encoded
from tests.support.pages import page

PHOTO = Path(__file__).parents[2] / "docs" / "photo.jpg"


def png(picture: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()


PAGE = png(page(PACKAGED, "31", "4159"))
BLANK = png(np.full((200, 300, 3), 250, np.uint8))


def refused(response: httpx2.Response, status: int) -> str:
    """The detail of a problem document."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    document = response.json()
    assert document.keys() == {"type", "title", "status", "detail"}
    assert (document["type"], document["status"]) == ("about:blank", status)
    assert document["title"][0].isupper()
    return str(document["detail"])


def uploads(client: httpx2.Client, count: int) -> list[httpx2.Response]:
    """The answers to damaged pictures, each sent raw or in a form."""
    rng = np.random.default_rng(0)
    sources = list(encoded(rng))
    contents = [damaged(sources[i % len(sources)], rng) for i in range(count)]
    ways: list[dict[str, Any]] = [{"content": content} for content in contents]
    ways[::2] = [{"files": {"picture": content}} for content in contents[::2]]
    return [client.post("/v1/read", **way) for way in ways]
