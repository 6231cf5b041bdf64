"""A pool of processes that read pictures, and the queue in front of it.

Unlike a thread, a process can be killed whatever it is doing.
"""

import asyncio
import os
import sys
import time
from asyncio.subprocess import PIPE, Process
from contextlib import suppress
from http import HTTPStatus

from mnist_lit.reading.reader import Reader
from mnist_lit.server.child import REQUEST, RESPONSE
from mnist_lit.server.problems import RETRY, ProblemError, busy
from mnist_lit.server.settings import Settings

STUCK_SECONDS = 5  # even the largest pictures take less


class ReadingError(Exception):
    """A child process failed to read a picture."""


class ReaderProcess:
    """A child process that reads one picture at a time and is replaced if it dies.

    Args:
        settings: The model, and the limit on pixels.
    """

    def __init__(self, settings: Settings) -> None:
        self._arguments = [str(settings.max_pixels), settings.model or ""]
        self._process: Process | None = None
        self._started_at = float("inf")

    @property
    def busy_seconds(self) -> float:
        """How long it has been reading the current picture; negative if it is idle."""
        return time.monotonic() - self._started_at

    async def start(self) -> Process:
        """Start the process unless it is running."""
        if not self._process or self._process.returncode is not None:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "mnist_lit.server.child", *self._arguments),
                stdin=PIPE,
                stdout=PIPE,
                start_new_session=True,  # out of reach of the terminal's Ctrl-C
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            )
        return self._process

    async def read(self, picture: bytes, glyphs: bool) -> bytes:
        """Read a picture; a process that is cancelled or fails at it is killed.

        Args:
            picture: The contents of an image file.
            glyphs: Whether to include the network's input for each digit.

        Returns:
            The reading as JSON.

        Raises:
            ProblemError: If the picture is refused.
            ReadingError: If reading failed.
            IncompleteReadError, ConnectionError: If the process died.
        """
        self._started_at = time.monotonic()
        try:
            process = await self.start()
            assert process.stdin
            assert process.stdout
            process.stdin.write(REQUEST.pack(glyphs, len(picture)) + picture)
            await process.stdin.drain()
            head = await process.stdout.readexactly(RESPONSE.size)
            status, length = RESPONSE.unpack(head)
            body = await process.stdout.readexactly(length)
        except BaseException:
            await self.kill()
            raise
        finally:
            self._started_at = float("inf")
        if status == HTTPStatus.INTERNAL_SERVER_ERROR:
            raise ReadingError(body.decode())
        if status != HTTPStatus.OK:
            raise ProblemError(status, body.decode())
        return body

    async def kill(self) -> None:
        """Kill the process and wait until it has ended."""
        if self._process:
            with suppress(ProcessLookupError):
                self._process.kill()
            await self._process.communicate()


class ReaderPool:
    """Reads pictures in parallel; a limited number of others wait in a queue.

    Args:
        settings: The model, the number of processes and the limits.

    Attributes:
        metadata: Metadata of the model, as ``export`` wrote it.

    Raises:
        InputError: If the model cannot be used.
    """

    def __init__(self, settings: Settings) -> None:
        self.metadata = Reader(settings.model).metadata
        self._max_seconds = settings.max_seconds
        self._processes = [ReaderProcess(settings) for _ in range(settings.processes)]
        self._idle: asyncio.LifoQueue[ReaderProcess] = asyncio.LifoQueue()
        for process in self._processes:
            self._idle.put_nowait(process)
        self._free_places = settings.processes + settings.max_waiting

    @property
    def is_full(self) -> bool:
        """Whether all processes are busy and the queue is full."""
        return self._free_places == 0

    @property
    def is_ready(self) -> bool:
        """Whether a picture would be accepted now and read soon."""
        is_stuck = all(process.busy_seconds > STUCK_SECONDS for process in self._processes)
        return not (self.is_full or is_stuck)

    async def start(self) -> None:
        """Start the processes, so that the first picture need not wait for them."""
        await asyncio.gather(*(process.start() for process in self._processes))

    async def close(self) -> None:
        """Kill the processes."""
        await asyncio.gather(*(process.kill() for process in self._processes))

    async def read(self, picture: bytes, glyphs: bool, deadline: float) -> bytes:
        """Read a picture in one of the processes.

        Args:
            picture: The contents of an image file.
            glyphs: Whether to include the network's input for each digit.
            deadline: When to give up, by the event loop's clock.

        Returns:
            The reading as JSON.

        Raises:
            ProblemError: If the queue is full, the picture is refused or takes too long.
            ReadingError: If reading failed.
            IncompleteReadError, ConnectionError: If the process died.
        """
        if self.is_full:
            raise busy()
        self._free_places -= 1
        process, start = None, deadline
        try:
            async with asyncio.timeout_at(deadline):
                process = await self._idle.get()
                start = asyncio.get_running_loop().time()
                return await process.read(picture, glyphs)
        except TimeoutError:
            # A picture that mostly waited may fare better next time; one that was read would not.
            is_slow = deadline - start > self._max_seconds / 2
            advice, headers = ("Send a smaller one.", None) if is_slow else ("Try again.", RETRY)
            detail = f"The picture was not read within {self._max_seconds:g} seconds. {advice}"
            raise ProblemError(503, detail, headers) from None
        finally:
            self._free_places += 1
            if process:
                self._idle.put_nowait(process)
