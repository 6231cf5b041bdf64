"""Waiting for something to happen, with an end."""

import subprocess
import time
from collections.abc import Callable

import pytest


def wait_until(
    happened: Callable[[], object],
    process: subprocess.Popen[str] | None = None,
    seconds: float = 120,
) -> None:
    """Return once ``happened()`` is true; fail after some seconds, or if the process ends first."""
    deadline = time.monotonic() + seconds
    while not happened():
        late = time.monotonic() > deadline
        if late and process:
            process.kill()
        if late or (process and process.poll() is not None):
            pytest.fail(str(process.communicate() if process else f"Not within {seconds} seconds"))
        time.sleep(0.02)
