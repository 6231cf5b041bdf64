"""The command ``serve``: runs the application at an address, in one process or several."""

import math
import os
import socket
import webbrowser
from argparse import ArgumentTypeError, Namespace
from collections.abc import Callable
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from tempfile import TemporaryFile
from threading import Thread
from typing import TYPE_CHECKING

from mnist_lit.errors import InputError
from mnist_lit.files import write_errors
from mnist_lit.options import CommandParser
from mnist_lit.server.settings import LOOPBACK, Settings

if TYPE_CHECKING:
    from uvicorn import Config

NOTES = """\
The page is at /, the API at /v1/read, its documentation at /docs and Prometheus metrics at
/metrics. Ctrl-C and SIGTERM stop the server once the requests in progress are complete. Pictures
are not stored, and corrected digits only with --collect. The log on standard error has one line per
request: method, path, status, bytes received, milliseconds."""

MEGA = 1_000_000
MAX_PROCESSES = 4  # that read pictures, per worker: each may need a gigabyte

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"level": "CRITICAL"},  # libraries quote the pictures that they complain about
    "loggers": {
        "mnist_lit.server": {"handlers": ["stderr"], "level": "INFO"},
        "uvicorn": {"handlers": ["stderr"], "level": "ERROR"},
    },
}


def main(args: list[str]) -> int:
    """Run ``serve`` until a signal stops it.

    Args:
        args: The command and its options.

    Returns:
        Exit status 1: the server could not start.

    Raises:
        InputError: If an option, the address or the model is invalid.
    """
    options = _options(args[1:])
    with _listener(options) as listener:
        config = _config(options, listener)
        from mnist_lit.server.workers import run_server, run_workers

        if options.workers > 1:
            from mnist_lit.reading.reader import Reader

            Reader(options.model)  # reports a bad model once, not once per worker
        else:
            config.load()
        _announce(options, listener)
        (run_workers if options.workers > 1 else run_server)(config, listener)
    return 1


def _config(options: Namespace, listener: socket.socket) -> "Config":
    try:
        from uvicorn import Config

        from mnist_lit.server.app import create_app
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        raise InputError(
            f"The server needs {package}, which is not installed.",
            "In the project's directory, run: pip install '.[serve]'",
        ) from error
    return Config(
        partial(create_app, _settings(options, listener)),
        factory=True,
        workers=options.workers,
        log_config=LOGGING,
        access_log=False,  # the application has its own
        ws="none",
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=math.ceil(options.max_seconds) + 1,
        timeout_worker_healthcheck=30,  # a new worker responds only after its imports
    )


def _announce(options: Namespace, listener: socket.socket) -> None:
    address, port = listener.getsockname()[:2]
    host = options.allow_host[0] if ip_address(address).is_unspecified else options.host
    url = f"http://{_bracketed(host)}:{port}"
    print(f"Serving at {url}  (press Ctrl-C to stop)", flush=True)
    if options.open:  # in a thread: some browsers return only when they are closed
        Thread(target=webbrowser.open, args=[url], daemon=True).start()


def _listener(options: Namespace) -> socket.socket:
    """Listen at the address: from now on, clients that connect wait for the server to start."""
    try:
        found = socket.getaddrinfo(options.host, options.port, type=socket.SOCK_STREAM)
        family, _, _, _, address = found[0]
        if not (ip_address(address[0]).is_loopback or options.allow_host):
            raise InputError(
                f"At {options.host}, other machines can reach the server; it must know its names.",
                "Add an option for each of its host names: --allow-host NAME",
            )
        listener = socket.create_server(address, family=family, backlog=2048)
        # Inherited by connections. asyncio sets it only for sockets with an explicit protocol;
        # without it each response, sent in two parts, would wait 40 ms for an acknowledgement.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listener
    except (OSError, UnicodeError) as error:  # the latter for a name with an empty or long label
        reason = str(getattr(error, "strerror", "Invalid host name")).partition(" (while")[0]
        raise InputError(
            f"Cannot listen at {options.host or 'an empty host'}, port {options.port}: {reason}.",
            "Choose another --port, or another --host.",
        ) from error


def _settings(options: Namespace, listener: socket.socket) -> Settings:
    from mnist_lit.server.protection import host_name

    if options.collect:
        with write_errors(options.collect):  # fails now, not at the first correction
            options.collect.mkdir(parents=True, exist_ok=True)
            TemporaryFile(dir=options.collect).close()
    own = [*LOOPBACK, options.host, listener.getsockname()[0]]
    hosts = {name: host_name(_bracketed(name)) for name in [*own, *options.allow_host]}
    for name, host in hosts.items():
        if not host:
            raise InputError(
                f"{name!r} is not a valid host name.",
                "Give only the name, such as digits.example.org.",
            )
    affinity = getattr(os, "sched_getaffinity", None)  # only on Linux
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return Settings(
        model=options.model,
        hosts=tuple(hosts.values()),
        max_bytes=int(options.max_megabytes * MEGA),
        max_pixels=int(options.max_megapixels * MEGA),
        max_seconds=options.max_seconds,
        max_waiting=options.max_waiting,
        collect=options.collect,
        processes=min(max(cores // options.workers, 1), MAX_PROCESSES),
    )


def _bracketed(host: str) -> str:
    """A host as it stands in a URL: IPv6 addresses in brackets."""
    return f"[{host}]" if ":" in host and "[" not in host else host


def _options(args: list[str]) -> Namespace:
    parser = CommandParser("serve", "Serve a page and an HTTP API that read digits.")
    parser.epilog = NOTES
    add = parser.add_argument
    host_help = "Host name or address to listen at. Default: 127.0.0.1, this machine only."
    add("--host", default="127.0.0.1", help=host_help)
    port_help = "Port to listen at; 0 picks a free one. Default: 8000."
    add("--port", type=_number(int, 0, 65535), default=8000, help=port_help)
    model_help = "ONNX file written by export. Default: the packaged model."
    add("--model", metavar="FILE", help=model_help)
    workers_help = "Number of server processes; one that dies is replaced. Default: 1."
    add("--workers", type=_number(int, 1, 1000), default=1, metavar="N", help=workers_help)
    allow_help = (
        "Another host name of the server, besides localhost and --host; may be repeated. "
        "Required if other machines can reach the server."
    )
    add("--allow-host", action="append", default=[], metavar="NAME", help=allow_help)
    megabytes, megapixels = Settings.max_bytes / MEGA, Settings.max_pixels / MEGA
    for name, kind, low, high, default, help_text in (
        ("megabytes", float, 0.001, 1000, megabytes, "Limit on the size of a picture"),
        ("megapixels", float, 0.001, 100, megapixels, "Limit per picture; 40 need up to 1 GB"),
        ("seconds", float, 0.001, 3600, Settings.max_seconds, "Limit from request to response"),
        ("waiting", int, 0, 10_000, Settings.max_waiting, "Limit on each worker's queue"),
    ):
        number, help_text = _number(kind, low, high), f"{help_text}. Default: {default:g}."
        add(f"--max-{name}", type=number, default=default, metavar="N", help=help_text)
    collect_help = (
        "Save the digits that people correct on the page in this folder, as collect does. The page "
        "says so. Default: corrections stay in the browser."
    )
    add("--collect", type=Path, metavar="FOLDER", help=collect_help)
    add("--open", action="store_true", help="Open the page in a browser.")
    return parser.parse_args(args)


def _number(kind: type[float], low: float, high: float) -> Callable[[str], float]:
    def number(text: str) -> float:
        value = kind(text)
        if not low <= value <= high:
            raise ArgumentTypeError(f"{text} is not between {low:g} and {high:g}")
        return value

    return number
