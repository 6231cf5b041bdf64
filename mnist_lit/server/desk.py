"""Where pictures are read: off the event loop, so many at once, so many waiting, and no more."""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from threading import BoundedSemaphore

import cv2
from starlette.requests import Request

from mnist_lit.reader import Reader, document
from mnist_lit.server.problems import ProblemError
from mnist_lit.server.settings import Settings
from mnist_lit.server.uploads import picture_in

RETRY = {"Retry-After": "1"}  # seconds


class Desk:
    """Reads the pictures in requests.

    Args:
        settings: Which model, how many threads, and the limits.

    Raises:
        InputError: If there is no such model.
    """

    def __init__(self, settings: Settings) -> None:
        cv2.setNumThreads(1)  # the threads of this desk have the cores to themselves
        self.reader = Reader(settings.model)
        self._settings = settings
        self._threads = ThreadPoolExecutor(settings.threads, "reader")
        self._places = BoundedSemaphore(settings.threads + settings.most_waiting)

    @property
    def full(self) -> bool:
        """Whether it would take no picture now."""
        free = self._places.acquire(blocking=False)
        if free:
            self._places.release()
        return not free

    async def answer(self, request: Request, glyphs: bool) -> bytes:
        """Read the picture in a request.

        It has a place from its first byte on: what is on its way takes memory, too.

        Args:
            request: With the picture.
            glyphs: Whether each digit comes with what the network saw.

        Returns:
            The reading as JSON.

        Raises:
            ProblemError: If there is no place or no picture, or it takes too long.
            InputError: If it is no sound picture.
        """
        if not self._places.acquire(blocking=False):
            raise ProblemError(
                503, "Too many pictures wait to be read. Send it again later.", RETRY
            )
        deadline = asyncio.get_running_loop().time() + self._settings.most_seconds
        try:
            picture = await self._received(request, deadline)
            reading = self._threads.submit(self._read, picture, glyphs)
        except BaseException:
            self._places.release()
            raise
        # A thread cannot be stopped: a picture that takes too long keeps its place until it is
        # read, though nobody waits for it. One that no thread has taken up gives its place free.
        reading.add_done_callback(lambda _: self._places.release())
        try:
            async with asyncio.timeout_at(deadline):
                return await asyncio.wrap_future(reading)
        except TimeoutError:
            limit = f"{self._settings.most_seconds:g} seconds"
            raise ProblemError(
                503, f"The picture was not read within {limit}. Send it later, or smaller.", RETRY
            ) from None

    def close(self) -> None:
        """Wait for the threads."""
        self._threads.shutdown()

    async def _received(self, request: Request, deadline: float) -> bytes:
        try:
            async with asyncio.timeout_at(deadline):
                return await picture_in(request, self._settings.most_bytes)
        except TimeoutError:
            limit = f"{self._settings.most_seconds:g} seconds"
            raise ProblemError(
                408,
                f"The picture did not arrive within {limit}. Send it faster, or smaller.",
                {"Connection": "close"},
            ) from None

    def _read(self, picture: bytes, glyphs: bool) -> bytes:
        reading = self.reader.read(picture, self._settings.most_pixels)
        return json.dumps(document(reading, glyphs)).encode()
