"""Where pictures are read: so many at once, so many waiting, and no more."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from threading import BoundedSemaphore

from starlette.requests import Request

from mnist_lit.server.problems import RETRY, ProblemError, busy
from mnist_lit.server.processes import ReadingProcess
from mnist_lit.server.settings import Settings
from mnist_lit.server.uploads import FORM_BYTES, Budget, Take, picture_in

STUCK_SECONDS = 5  # the largest pictures take less


class Desk:
    """Reads the pictures in requests.

    Args:
        settings: Which model, how many pictures at once, and the limits.

    Attributes:
        metadata: What the model notes of its origin.

    Raises:
        InputError: If there is no such model.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._processes = [
            ReadingProcess(settings.model, settings.most_pixels) for _ in range(settings.processes)
        ]
        try:
            self.metadata = self._processes[0].metadata()
        except BaseException:
            self._kill_processes()
            raise
        self._idle: SimpleQueue[ReadingProcess] = SimpleQueue()
        for process in self._processes:
            self._idle.put(process)
        self._threads = ThreadPoolExecutor(settings.processes, "reader")  # each waits for a process
        most_taken = settings.processes + settings.most_waiting
        self._places = BoundedSemaphore(most_taken)
        self._budget = Budget(most_taken * (settings.most_bytes + FORM_BYTES))

    @property
    def ready(self) -> bool:
        """Whether it would take a picture now, and read it soon."""
        stuck = all(process.busy_seconds > STUCK_SECONDS for process in self._processes)
        return not (self._full or stuck)

    @property
    def _full(self) -> bool:
        free = self._places.acquire(blocking=False)
        if free:
            self._places.release()
        return not free

    async def answer(self, request: Request, glyphs: bool) -> bytes:
        """Read the picture in a request.

        It takes a place in the queue once it has arrived, so that those who send slowly keep
        nobody out.

        Args:
            request: With the picture.
            glyphs: Whether each digit comes with what the network saw.

        Returns:
            The reading as JSON.

        Raises:
            ProblemError: If there is no place or no picture, or it takes too long.
            InputError: If it is no sound picture.
            ReadingError: If the process that reads failed at it.
        """
        if self._full:
            raise busy()
        deadline = time.monotonic() + self._settings.most_seconds
        with self._budget.share() as take:
            picture = await self._received(request, take, deadline)
            return await self._read(picture, glyphs, deadline)

    async def _read(self, picture: bytes, glyphs: bool, deadline: float) -> bytes:
        if not self._places.acquire(blocking=False):
            raise busy()
        reading = self._threads.submit(self._read_in_process, picture, glyphs, deadline)
        reading.add_done_callback(lambda _: self._places.release())
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                return await asyncio.wrap_future(reading)
        except TimeoutError:
            limit = f"{self._settings.most_seconds:g} seconds"
            # One that waited in vain may do better; one that was begun would take as long again.
            todo, headers = ("later", RETRY) if reading.cancelled() else ("smaller", None)
            detail = f"The picture was not read within {limit}. Send it {todo}."
            raise ProblemError(503, detail, headers) from None

    def _read_in_process(self, picture: bytes, glyphs: bool, deadline: float) -> bytes:
        process = self._idle.get()
        try:
            return process.read(picture, glyphs, deadline)
        finally:
            self._idle.put(process)

    def close(self) -> None:
        """End all that is under way; by now everybody has been answered."""
        self._threads.shutdown()
        self._kill_processes()

    def _kill_processes(self) -> None:
        for process in self._processes:
            process.kill()

    async def _received(self, request: Request, take: Take, deadline: float) -> bytes:
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                return await picture_in(request, self._settings.most_bytes, take)
        except TimeoutError:
            limit = f"{self._settings.most_seconds:g} seconds"
            raise ProblemError(
                408,
                f"The picture did not arrive within {limit}. Send it faster, or smaller.",
                {"Connection": "close"},
            ) from None
