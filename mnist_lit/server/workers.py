"""Several processes behind one address: replaced if they die, stopped by a signal, one metrics."""

import os
import signal
import socket
from tempfile import TemporaryDirectory
from types import FrameType

from uvicorn import Config
from uvicorn.supervisors import Multiprocess

from mnist_lit.server.watching import FOLDER


def run_workers(config: Config, listener: socket.socket) -> None:
    """Run uvicorn's workers until a signal stops them, which is then raised again.

    Args:
        config: With the application's factory and the number of workers.
        listener: Listens; the workers share it.
    """
    stopped_by: list[int] = []
    handlers = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    with TemporaryDirectory() as folder:
        os.environ[FOLDER] = folder
        workers = Multiprocess(config, [listener])  # takes all signals

        def stop(signum: int, frame: FrameType | None) -> None:
            stopped_by.append(signum)
            workers.signal_queue.append(signum)

        for each in handlers:
            signal.signal(each, stop)
        workers.run()
    for each, handler in handlers.items():
        signal.signal(each, handler)
    for signum in stopped_by[:1]:
        signal.raise_signal(signum)
