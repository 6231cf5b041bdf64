"""Monitoring: a log line and metrics for each request."""

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

from mnist_lit.server.pool import ReadingError
from mnist_lit.server.problems import problem

log = logging.getLogger(__name__)

METRICS_DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"  # environment variable of prometheus_client
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)  # seconds
METHODS = {str(method) for method in HTTPMethod}


class Metrics:
    """Metrics for Prometheus; workers that share a directory report their total."""

    def __init__(self) -> None:
        _remove_dead_workers()
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self.requests = Counter(
            "http_requests",
            "Requests completed.",
            ("method", "path", "status"),
            registry=self._registry,
        )
        self.seconds = Histogram(
            "http_request_duration_seconds",
            "Time from the request's headers to the end of the response.",
            ("path",),
            registry=self._registry,
            buckets=BUCKETS,
        )
        self.open = Gauge(
            "http_requests_open",
            "Requests in progress.",
            registry=self._registry,
            multiprocess_mode="livesum",
        )

    def response(self) -> Response:
        """The metrics in Prometheus's text format."""
        registry = self._registry
        if os.environ.get(METRICS_DIRECTORY):
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return Response(generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})


def _remove_dead_workers() -> None:
    """Remove the open requests of workers that have died, one of which this one may replace."""
    directory = Path(os.environ.get(METRICS_DIRECTORY) or os.devnull)
    for file in directory.glob("gauge_live*_*.db"):
        pid = int(file.stem.rpartition("_")[2])
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            mark_process_dead(pid)  # type: ignore[no-untyped-call]


class Monitoring:
    """ASGI middleware that logs and counts requests, and responds when the application fails.

    Only method, path, status, size and duration are recorded: no picture, file name, query or
    client address.

    Args:
        app: The application.
        metrics: The metrics to update.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start, size, status = time.perf_counter(), 0, 0

        async def counting_receive() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            return message

        async def recording_send(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            with self.metrics.open.track_inprogress():
                await self.app(scope, counting_receive, recording_send)
        except Exception as error:  # logged without its message, which may quote the request
            place = "".join(traceback.format_tb(error.__traceback__))
            if isinstance(error, ReadingError):
                place += f"in the child process: {error}"
            log.error("%s at\n%s", type(error).__name__, place)
            if not status:
                detail = "The server failed to process this request. See its log."
                await problem(500, detail)(scope, receive, recording_send)
        finally:
            self._record(scope, status, size, time.perf_counter() - start)

    def _record(self, scope: Scope, status: int, size: int, seconds: float) -> None:
        path = quote(scope["path"])[:100]
        line = "%s %s %d %d bytes %.0f ms"
        log.info(line, scope["method"], path, status, size, 1000 * seconds)
        # Each combination of labels is a series that is kept: clients must not make up new ones.
        route = getattr(scope.get("route"), "path", "other")
        method = scope["method"] if scope["method"] in METHODS else "other"
        self.metrics.requests.labels(method, route, str(status)).inc()
        self.metrics.seconds.labels(route).observe(seconds)
