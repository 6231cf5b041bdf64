"""The command serve: the application at an address, in one process or several."""

import math
import os
import socket
import webbrowser
from argparse import ArgumentTypeError, Namespace
from collections.abc import Callable
from functools import partial
from ipaddress import ip_address
from threading import Thread

from mnist_lit.errors import InputError
from mnist_lit.options import CommandParser
from mnist_lit.server.settings import LOOPBACK, Settings

NOTES = """\
The page is at /, the API at /v1/read, its documentation at /docs, metrics for Prometheus at
/metrics. Ctrl-C and SIGTERM stop the server after what is under way. It keeps nothing of a picture;
its log, on standard error, has a line for each request: method, path, status, bytes received,
milliseconds."""

MEGA = 1_000_000
MOST_PROCESSES = 4  # that read for a worker: each may need a gigabyte

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"level": "CRITICAL"},  # libraries quote what they find wrong in a picture
    "loggers": {
        "mnist_lit.server": {"handlers": ["stderr"], "level": "INFO"},
        "uvicorn": {"handlers": ["stderr"], "level": "ERROR"},
    },
}


def main(args: list[str]) -> int:
    """Run ``serve`` until a signal ends it.

    Args:
        args: The command and its options.

    Returns:
        The exit status, 1: the workers could not start.

    Raises:
        InputError: If something is wrong with the options, the address or the model.
    """
    options = _options(args[1:])
    try:
        import uvicorn

        from mnist_lit.server.app import create_app
        from mnist_lit.server.workers import OneProcess, run_workers
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        raise InputError(
            f"The server needs {package}, which is not installed.",
            "In the project's directory: pip install '.[serve]'",
        ) from error
    with _listener(options) as listener:
        config = uvicorn.Config(
            partial(create_app, _settings(options, listener)),
            factory=True,
            workers=options.workers,
            log_config=LOGGING,
            access_log=False,  # the application has its own
            ws="none",
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=math.ceil(options.max_seconds) + 1,
            timeout_worker_healthcheck=30,  # they are asked while they still import
        )
        if options.workers > 1:
            from mnist_lit.reading.reader import Reader

            Reader(options.model)  # what is wrong with it is said here, not by each worker
        else:
            config.load()
        host, port = listener.getsockname()[:2]
        reached = options.allow_host[0] if ip_address(host).is_unspecified else options.host
        url = f"http://{_in_url(reached)}:{port}"
        print(f"Serving at {url}  (Ctrl-C stops it)", flush=True)
        if options.open:
            Thread(target=webbrowser.open, args=[url], daemon=True).start()  # some wait for its end
        if options.workers > 1:
            run_workers(config, listener)
        else:
            OneProcess(config).run([listener])
    return 1


def _listener(options: Namespace) -> socket.socket:
    """A socket that listens: whoever connects from now on is answered, if later."""
    try:
        found = socket.getaddrinfo(options.host, options.port, type=socket.SOCK_STREAM)
        family, _, _, _, address = found[0]
        if not (ip_address(address[0]).is_loopback or options.allow_host):
            raise InputError(
                f"At {options.host} the server can be reached by others, by names it must know.",
                "Give each name that it is called by: --allow-host NAME",
            )
        listener = socket.create_server(address, family=family, backlog=2048)
        # Whom it accepts inherits this. asyncio does it only for sockets with a protocol, and each
        # answer, sent in two parts, would wait 40 ms for the client's acknowledgement.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listener
    except OSError as error:
        reason = str(error.strerror).partition(" (while")[0]
        raise InputError(
            f"{options.host or 'No host'}, port {options.port}, cannot be served: {reason}.",
            "Choose another --port, or another --host.",
        ) from error


def _settings(options: Namespace, listener: socket.socket) -> Settings:
    from mnist_lit.server.protection import name_in

    own = [*LOOPBACK, options.host, listener.getsockname()[0]]
    hosts = {name: name_in(_in_url(name)) for name in [*own, *options.allow_host]}
    for name, host in hosts.items():
        if not host:
            raise InputError(
                f"{name!r} is no name of a host.",
                "Give the name alone, such as digits.example.org.",
            )
    affinity = getattr(os, "sched_getaffinity", None)  # Linux has it
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return Settings(
        model=options.model,
        hosts=tuple(hosts.values()),
        most_bytes=int(options.max_megabytes * MEGA),
        most_pixels=int(options.max_megapixels * MEGA),
        most_seconds=options.max_seconds,
        most_waiting=options.max_waiting,
        processes=min(max(cores // options.workers, 1), MOST_PROCESSES),
    )


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host and "[" not in host else host


def _options(args: list[str]) -> Namespace:
    parser = CommandParser("serve", "Serve a page and an API that read the digits in pictures.")
    parser.epilog = NOTES
    add = parser.add_argument
    host_help = "Name or address to listen at. Default: 127.0.0.1, for this machine only."
    add("--host", default="127.0.0.1", help=host_help)
    port_help = "Default: 8000; 0 is any that is free."
    add("--port", type=_number(int, 0, 65535), default=8000, help=port_help)
    add("--model", metavar="FILE", help="Written by export. Default: the one of the package.")
    workers_help = "Processes that share the work; one that dies is replaced. Default: 1."
    add("--workers", type=_number(int, 1, 1000), default=1, metavar="N", help=workers_help)
    allow_help = (
        "A name that the server is called by, beside localhost and --host; may be repeated. "
        "Needed where others can reach it."
    )
    add("--allow-host", action="append", default=[], metavar="NAME", help=allow_help)
    megabytes, megapixels = Settings.most_bytes / MEGA, Settings.most_pixels / MEGA
    for name, kind, least, most, default, what in (
        ("megabytes", float, 0.001, 1000, megabytes, "Of a picture"),
        ("megapixels", float, 0.001, 100, megapixels, "Of a picture; 40 take up to a gigabyte"),
        ("seconds", float, 0.001, 3600, Settings.most_seconds, "From request to answer"),
        ("waiting", int, 0, 10_000, Settings.most_waiting, "Pictures in a worker's queue"),
    ):
        number = _number(kind, least, most)
        help_text = f"{what}. Default: {default:g}."
        add(f"--max-{name}", type=number, default=default, metavar="N", help=help_text)
    add("--open", action="store_true", help="Open the page in a browser.")
    return parser.parse_args(args)


def _number(kind: type[float], least: float, most: float) -> Callable[[str], float]:
    def number(text: str) -> float:
        value = kind(text)
        if not least <= value <= most:
            raise ArgumentTypeError(f"{text} is not between {least:g} and {most:g}")
        return value

    return number
