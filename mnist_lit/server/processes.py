"""Processes that read pictures: unlike a thread, one can be killed whatever it is doing."""

import os
import pickle
import subprocess
import sys
import time
from contextlib import suppress
from threading import Timer
from typing import Any

IDLE = float("inf")


class ReadingError(Exception):
    """A process failed at a picture, or died."""


class ReadingProcess:
    """A process that reads pictures, one at a time; it is replaced when it dies.

    Args:
        model: A file that ``export`` has written; the package's own model if None.
        most_pixels: Of a picture.
    """

    def __init__(self, model: str | None, most_pixels: int) -> None:
        self._arguments = (model, most_pixels)
        self._metadata: dict[str, str] = {}
        self._begun = IDLE
        self._start()

    def metadata(self) -> dict[str, str]:
        """Wait until it has loaded the model; give what that notes of its origin.

        Raises:
            InputError: If there is no such model.
            OSError: If its name cannot be a file's.
            ReadingError: If it died.
        """
        if not self._metadata:
            self._metadata = self._receive()
        return self._metadata

    @property
    def busy_seconds(self) -> float:
        """How long it has been reading its picture; negative if it has none."""
        return time.monotonic() - self._begun

    def read(self, picture: bytes, glyphs: bool, deadline: float) -> bytes:
        """Read a picture.

        Args:
            picture: The contents of an image file.
            glyphs: Whether each digit comes with what the network saw.
            deadline: When to kill the process, on the clock of ``time.monotonic``.

        Returns:
            The reading as JSON.

        Raises:
            TimeoutError: If it was not read by then.
            ReadingError: If the process failed at it.
            InputError: If it is not a sound picture.
        """
        self._begun = time.monotonic()
        timer = Timer(max(deadline - self._begun, 0), self._process.kill)
        timer.start()
        try:
            self.metadata()
            self._send((picture, glyphs))
            answer: bytes = self._receive()
            return answer
        except ReadingError:
            if time.monotonic() < deadline:
                raise
            raise TimeoutError from None
        finally:
            timer.cancel()
            timer.join()
            if time.monotonic() >= deadline or self._process.poll() is not None:
                self.kill()
                self._start()
            self._begun = IDLE

    def kill(self) -> None:
        """End the process at once."""
        self._process.kill()
        # Closes its pipes, in which there may be something left, and waits for its end.
        with suppress(BrokenPipeError), self._process:
            pass

    def _start(self) -> None:
        self._metadata = {}
        # In a session of its own a terminal's Ctrl-C does not reach it.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "mnist_lit.server.reading"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        self._send(self._arguments)

    def _send(self, message: tuple[Any, ...]) -> None:
        assert self._process.stdin
        try:
            pickle.dump(message, self._process.stdin)
            self._process.stdin.flush()
        except OSError:
            raise ReadingError from None

    def _receive(self) -> Any:
        assert self._process.stdout
        try:
            answer = pickle.load(self._process.stdout)
        except (EOFError, pickle.UnpicklingError):  # it has died, before or while it answered
            raise ReadingError from None
        if isinstance(answer, Exception):
            raise answer
        return answer
