"""What the benchmarks share: tables, medians, and where a figure was measured.

Imports nothing heavy, for the sake of :func:`run`.
"""

import os
import platform
import re
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
SPREAD = ("median", "min", "max")


class Process(NamedTuple):
    """When a process began and ended, in seconds since the epoch; its peak in MB; what it said."""

    begun: float
    ended: float
    megabytes: float
    output: str


def run(command: Sequence[str], pythonpath: str) -> Process:
    """Run a process in the working directory; end with what it said if it fails.

    This process has to stay small: a child's peak begins with what its parent held.
    """
    output = Path("output.txt")
    files = [
        (os.POSIX_SPAWN_OPEN, fd, output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        for fd in (1, 2)
    ]
    output.unlink(missing_ok=True)
    environment = os.environ | {"PYTHONPATH": pythonpath}
    begun = time.time()
    child = os.posix_spawn(command[0], list(command), environment, file_actions=files)
    _, status, usage = os.wait4(child, 0)
    ended = time.time()
    text = output.read_text()
    if status:
        sys.exit(f"{text}\n{shlex.join(command)} failed, see above")
    return Process(begun, ended, usage.ru_maxrss * 1024 / 1e6, text)


def make_environment(directory: Path, pins: Path) -> None:
    """Install the pinned packages into an environment, unless these very ones are installed."""
    done = directory / "made_of.txt"  # written last: a half-made environment has none
    if done.exists() and done.read_text() == pins.read_text():
        return
    print(f"Making {directory}; this may take minutes.", file=sys.stderr, flush=True)
    install = [f"{directory}/bin/python", "-m", "pip", "install", "--quiet", "--requirement"]
    for command in (
        [sys.executable, "-m", "venv", "--clear", str(directory)],
        [*install, str(pins)],
    ):
        if status := subprocess.run(command).returncode:
            sys.exit(f"{shlex.join(command)} ended with status {status}")
    done.write_text(pins.read_text())


def pinned(pins: Path) -> str:
    """The pinned packages and their versions, as one line."""
    packages = re.findall(r"^(\S+)==(\S+)", pins.read_text(), re.MULTILINE)
    return ", ".join(f"{package} {release}" for package, release in packages)


def table(rows: Sequence[Sequence[str]]) -> str:
    """Lay out rows in columns, the first flush left and the others flush right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for name, *cells in rows:
        right = (f"{cell:>{width}}" for cell, width in zip(cells, widths[1:], strict=True))
        lines.append("  ".join([f"{name:{widths[0]}}", *right]))
    return "\n".join(lines)


def spread(values: Sequence[float], digits: int = 2) -> list[str]:
    """Three cells: median, least and greatest."""
    three = (statistics.median(values), min(values), max(values))
    return [f"{value:.{digits}f}" for value in three]


def ratio_row(
    name: str, above: Sequence[float], below: Sequence[float], bar: float | None
) -> list[str]:
    """A row: the spread of the ratios, each within one round, and the bar for their median."""
    ratios = [a / b for a, b in zip(above, below, strict=True)]
    return [name, *spread(ratios), "" if bar is None else f"{bar:.2f}"]


def bf16() -> str:
    """The processor's bfloat16 instructions, or an empty string."""
    return " ".join(sorted({"avx512_bf16", "amx_bf16"} & set(_cpuinfo("flags").split())))


def machine() -> dict[str, str]:
    """Processor, versions, the state of the source, and the command that is running."""
    packages = ("torch", "torchvision", "lightning")
    return {
        "processor": _cpuinfo("model name") or platform.processor() or platform.machine(),
        "cores": str(os.cpu_count()),
        "threads": os.environ.get("OMP_NUM_THREADS", "as many as cores"),
        "bf16": bf16() or "no",
        "versions": ", ".join(
            [f"python {platform.python_version()}", *(f"{p} {version(p)}" for p in packages)]
        ),
        "commit": answer("git", "-C", str(ROOT), "describe", "--always", "--dirty") or "unknown",
        "command": shlex.join(["python", *sys.orig_argv[1:]]),
    }


def answer(*command: str) -> str:
    """What a program prints; nothing if it fails, or if there is no such program."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def footer() -> str:
    """:func:`machine` as lines, to stand beneath a table."""
    return "\n" + "\n".join(f"{name:9}  {value}" for name, value in machine().items())


def _cpuinfo(field: str) -> str:
    path = Path("/proc/cpuinfo")
    for line in path.read_text().splitlines() if path.exists() else []:
        name, _, value = line.partition(":")
        if name.strip() == field:
            return value.strip()
    return ""
