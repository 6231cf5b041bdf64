"""What a server is told: its model, its names, its limits."""

from dataclasses import dataclass

LOOPBACK = ("localhost", "127.0.0.1", "::1")  # names of the own machine


@dataclass(frozen=True)
class Settings:
    """What a server is told.

    Args:
        model: A file that ``export`` has written; the package's own model if None.
        hosts: The names in the Host header that it answers to, without ports, in lower case.
        most_bytes: Of a picture.
        most_pixels: Of a picture.
        most_seconds: From a request to its answer.
        most_waiting: Pictures that may wait while others are read.
        processes: Which read pictures, each one at a time.
    """

    model: str | None = None
    hosts: tuple[str, ...] = LOOPBACK
    most_bytes: int = 10_000_000
    most_pixels: int = 40_000_000
    most_seconds: float = 30
    most_waiting: int = 32
    processes: int = 1
