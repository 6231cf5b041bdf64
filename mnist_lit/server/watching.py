"""What is noted of each request, in the log and the metrics: its size, time and outcome."""

import logging
import os
import time
import traceback
from http import HTTPMethod
from pathlib import Path
from urllib.parse import quote

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mnist_lit.server.problems import problem

log = logging.getLogger(__name__)

FOLDER = "PROMETHEUS_MULTIPROC_DIR"  # the variable by which processes share their metrics
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
METHODS = {str(method) for method in HTTPMethod}


class Metrics:
    """What Prometheus may ask for; of all workers if they share a folder."""

    def __init__(self) -> None:
        _forget_the_dead()
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self.requests = Counter(
            "http_requests",
            "Requests that were answered.",
            ("method", "path", "status"),
            registry=self._registry,
        )
        self.seconds = Histogram(
            "http_request_duration_seconds",
            "From a request's head to the end of its answer.",
            ("path",),
            registry=self._registry,
            buckets=SECONDS,
        )
        self.open = Gauge(
            "http_requests_open",
            "Requests that are under way.",
            registry=self._registry,
            multiprocess_mode="livesum",
        )

    def answer(self) -> Response:
        """The metrics in Prometheus's text format."""
        registry = self._registry
        if os.environ.get(FOLDER):
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return Response(generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})


def _forget_the_dead() -> None:
    """Drop what is open in workers that are no more, whose place this one may take."""
    for file in Path(os.environ.get(FOLDER) or os.devnull).glob("gauge_live*_*.db"):
        pid = int(file.stem.rpartition("_")[2])
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            mark_process_dead(pid)  # type: ignore[no-untyped-call]


class Watching:
    """Notes each request's size, time and outcome, and answers those at which the program fails.

    Nothing else of a request is noted: no picture, no name of a file, no query, no address.

    Args:
        app: What is watched.
        metrics: Which count.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, as ASGI has it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun, size, status = time.perf_counter(), 0, 0

        async def counting_receive() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            return message

        async def noting_send(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            with self.metrics.open.track_inprogress():
                await self.app(scope, counting_receive, noting_send)
        except Exception as error:
            # Without its message, which may quote the request.
            notes = getattr(error, "__notes__", [])  # ours, of a process that reads
            place = "".join([*traceback.format_tb(error.__traceback__), *notes])
            log.error("%s at\n%s", type(error).__name__, place)
            if not status:
                detail = "The server failed at this request. Its log says where."
                await problem(500, detail)(scope, receive, noting_send)
        finally:
            self._note(scope, status, size, time.perf_counter() - begun)

    def _note(self, scope: Scope, status: int, size: int, seconds: float) -> None:
        line = "%s %s %d %d bytes %.0f ms"
        path = quote(scope["path"])[:100]
        log.info(line, scope["method"], path, status, size, 1000 * seconds)
        # Labels are few, whatever is asked for: each makes a series that is kept.
        route = getattr(scope.get("route"), "path", "other")
        method = scope["method"] if scope["method"] in METHODS else "other"
        self.metrics.requests.labels(method, route, str(status)).inc()
        self.metrics.seconds.labels(route).observe(seconds)
