"""The server's settings: model, host names and limits."""

from dataclasses import dataclass
from pathlib import Path

LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Settings:
    """Settings of the server.

    Args:
        model: An ONNX file written by ``export``; None for the packaged model.
        hosts: The host names that requests may address, in lower case, without ports.
        max_bytes: Limit on the size of an image file.
        max_pixels: Limit on the number of pixels in a picture.
        max_seconds: Limit on the time from request to response.
        max_waiting: Limit on the number of pictures that wait in the queue.
        processes: Number of processes that read pictures.
        collect: Folder in which digits that people correct are saved; None to save none.
    """

    model: str | None = None
    hosts: tuple[str, ...] = LOOPBACK
    max_bytes: int = 10_000_000
    max_pixels: int = 40_000_000
    max_seconds: float = 30
    max_waiting: int = 32
    processes: int = 1
    collect: Path | None = None
