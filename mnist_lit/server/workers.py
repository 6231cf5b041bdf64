"""Several processes behind one address: replaced if they die, stopped by a signal, one metrics."""

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from tempfile import TemporaryDirectory

from uvicorn import Config
from uvicorn.supervisors import Multiprocess

from mnist_lit.server.watching import FOLDER


def run_workers(config: Config, listener: socket.socket) -> None:
    """Run uvicorn's workers until a signal stops them, which is then raised again.

    Args:
        config: With the application's factory and the number of workers.
        listener: Listens; the workers share it.
    """
    handlers = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    with TemporaryDirectory() as folder:
        os.environ[FOLDER] = folder
        workers = _Workers(config, [listener])  # takes all signals
        workers.run()
    for each, handler in handlers.items():
        signal.signal(each, handler)
    for signum in workers.stopped_by[:1]:
        signal.raise_signal(signum)


class _Workers(Multiprocess):
    """uvicorn's supervisor, which remembers what stopped it.

    A terminal sends Ctrl-C to all processes. Only this one heeds it, and stops the others: they
    begin with the signal blocked.
    """

    def __init__(self, config: Config, sockets: list[socket.socket]) -> None:
        super().__init__(config, sockets)
        self.stopped_by: list[signal.Signals] = []

    def init_processes(self) -> None:
        resource_tracker.ensure_running()  # or the first worker starts it, and unblocks signals
        with _interrupts_blocked():
            super().init_processes()

    def keep_subprocess_alive(self) -> None:
        with _interrupts_blocked():
            super().keep_subprocess_alive()

    def handle_int(self) -> None:
        self.stopped_by.append(signal.SIGINT)
        super().handle_int()

    def handle_term(self) -> None:
        self.stopped_by.append(signal.SIGTERM)
        super().handle_term()


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
