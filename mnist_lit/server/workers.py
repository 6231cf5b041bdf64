"""Running uvicorn in one process or several, until a signal stops it."""

import os
import signal
import socket
import sys
from concurrent.futures import ThreadPoolExecutor, wait
from multiprocessing import resource_tracker
from tempfile import TemporaryDirectory
from threading import Event, Thread
from types import FrameType

from uvicorn import Config, Server
from uvicorn.supervisors import Multiprocess

from mnist_lit.server.monitoring import METRICS_DIRECTORY


def run_server(config: Config, listener: socket.socket) -> None:
    """Run a server in this process.

    It runs in a thread, so that signals reach the program's own handlers in the main thread. An
    exception that they raise stops the server, which completes the requests in progress.

    Args:
        config: The server's configuration.
        listener: A listening socket.
    """
    server = Server(config)
    with ThreadPoolExecutor(1) as thread:
        running = thread.submit(server.run, [listener])
        try:
            running.result()
        finally:
            server.should_exit = True
            wait([running], timeout=0.5)  # requests that are almost complete need no message
            if count := len(server.server_state.tasks):
                requests = "one request" if count == 1 else f"{count} requests"
                print(f"Waiting for {requests}; press Ctrl-C to stop at once.", file=sys.stderr)


def run_workers(config: Config, listener: socket.socket) -> None:
    """Run several worker processes; a signal stops them and is then raised again.

    Args:
        config: The configuration, with a factory of the application and the number of workers.
        listener: A listening socket, which the workers share.
    """
    handlers = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    received: list[int] = []

    def stop(signum: int, frame: FrameType | None) -> None:
        received.append(signum)
        supervisor.should_exit.set()

    with TemporaryDirectory() as directory:
        os.environ[METRICS_DIRECTORY] = directory
        supervisor = Multiprocess(config, [listener])  # installs handlers for all signals
        for signum in handlers:
            signal.signal(signum, stop)
        # A terminal sends Ctrl-C to all processes. The workers inherit that this thread blocks it,
        # so that it does not interrupt their imports; another thread receives it for this process.
        Thread(target=Event().wait, daemon=True).start()
        resource_tracker.ensure_running()  # its start would unblock signals
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        supervisor.run()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    for signum, handler in handlers.items():
        signal.signal(signum, handler)
    for received_signal in received[:1]:
        signal.raise_signal(received_signal)
