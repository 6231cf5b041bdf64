"""What the HTTP service costs beside reading itself, and how it bears many clients at once.

The server is ``python -m mnist_lit serve`` in a process of its own, on loopback; the clients are
threads of this one. A lone client makes a connection for each request, one of many keeps its own.

- A lone client, milliseconds: ``Reader.read`` here and a request to the server, each in turn, with
  the contents of the same file: ``docs/photo.jpg``, that at a quarter of its size, and a digit of
  it, 28x28. The bar is for the median: twice the time of reading, and 3 ms.
- Load: requests with the digit from 32 clients. None may fail. MB are 10^6 bytes of the memory
  of the server's processes, before it, after as many requests of the lone client, and after it.
- Overload: the same at a server that lets two pictures wait. What it answers is 200 or 503.

What this does not show: a network, a proxy, TLS, several workers, or pictures that differ.
"""

import argparse
import http.client
import io
import re
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
from PIL import Image

from benchmarks.common import ROOT, footer, table
from mnist_lit.reading.reader import Reader

PHOTO = ROOT / "docs" / "photo.jpg"
FACTOR, MORE = 2.0, 3.0  # the bar: times, and milliseconds
MEMORY_BAR = 50  # MB
MOST_SECONDS = 600  # that a load may take


@contextmanager
def server(*options: str) -> Iterator[tuple[str, int]]:
    """Run a server; give its address, and its process id."""
    command = [sys.executable, "-m", "mnist_lit", "serve", "--port", "0", *options]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            assert process.stdout
            found = re.search(r"http://\S+", process.stdout.readline())
            assert found
            yield urlsplit(found[0]).netloc, process.pid
        finally:
            process.terminate()


def ask(connection: http.client.HTTPConnection, picture: bytes) -> int:
    """Have a picture read by a server; give the status."""
    headers = {"Content-Type": "application/octet-stream"}
    connection.request("POST", "/v1/read", picture, headers)
    with connection.getresponse() as response:
        response.read()
        return response.status


def pictures() -> dict[str, bytes]:
    """The contents of the files, by name."""
    photo = Image.open(PHOTO)
    quarter = photo.resize((photo.width // 2, photo.height // 2))
    glyph = Reader().read(photo).digits[0].glyph
    digit = Image.fromarray((255 * (1 - glyph)).round().astype(np.uint8))
    contents = {"photo": PHOTO.read_bytes()}
    for name, image in (("a quarter", quarter), ("a digit", digit)):
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        contents[name] = buffer.getvalue()
    return contents


def in_turn(address: str, picture: bytes, repeats: int) -> tuple[list[float], list[float]]:
    """Milliseconds of reading here and of requests, each in turn."""
    reader = Reader()

    def request(picture: bytes) -> None:
        with closing(http.client.HTTPConnection(address, timeout=60)) as connection:
            ask(connection, picture)

    times: tuple[list[float], list[float]] = ([], [])
    for number in range(repeats + 3):
        calls: tuple[Callable[[bytes], object], ...] = (reader.read, request)
        for call, taken in zip(calls, times, strict=True):
            start = time.perf_counter()
            call(picture)
            if number >= 3:  # those before are not counted
                taken.append(1000 * (time.perf_counter() - start))
    return times


def load(
    address: str, picture: bytes, requests: int, clients: int
) -> tuple[Counter[int], list[float], float]:
    """Statuses, milliseconds of each request, and seconds of all."""
    numbers, begun = count(), time.perf_counter()

    def work() -> list[tuple[int, float]]:
        done = []
        with closing(http.client.HTTPConnection(address, timeout=60)) as connection:
            while next(numbers) < requests and time.perf_counter() - begun < MOST_SECONDS:
                start = time.perf_counter()
                status = ask(connection, picture)
                done.append((status, 1000 * (time.perf_counter() - start)))
        return done

    with ThreadPoolExecutor(clients) as threads:
        futures = [threads.submit(work) for _ in range(clients)]
        answers = [each for future in futures for each in future.result()]
    seconds = time.perf_counter() - begun
    return Counter(status for status, _ in answers), [taken for _, taken in answers], seconds


def middle_and_most(milliseconds: list[float]) -> list[str]:
    """Two cells: the median and the 99th percentile."""
    percentiles = statistics.quantiles(milliseconds, n=100, method="inclusive")
    return [f"{percentiles[n - 1]:.1f}" for n in (50, 99)]


def memory(pid: int) -> float:
    """MB of a process and those below it, from the kernel; what they share counts once."""
    usage = Path(f"/proc/{pid}/smaps_rollup").read_text()
    [kilobytes] = re.findall(r"^Pss:\s+(\d+) kB", usage, re.MULTILINE)
    own = int(kilobytes) * 1024 / 1e6
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return own + sum(memory(int(child)) for task in tasks for child in task.read_text().split())


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=5000, help="of the load (default: 5000)")
    parser.add_argument("--clients", type=int, default=32, help="of the load (default: 32)")
    parser.add_argument("--repeats", type=int, default=50, help="rounds (default: 50)")
    options = parser.parse_args()
    contents = pictures()
    digit = contents["a digit"]

    rows = [["", "Reader", "p99", "server", "p99", "bar"]]
    with server() as (address, pid):
        fresh = memory(pid)
        for name, picture in contents.items():
            here, there = in_turn(address, picture, options.repeats)
            bar = FACTOR * statistics.median(here) + MORE
            rows.append([name, *middle_and_most(here), *middle_and_most(there), f"{bar:.1f}"])
        before = memory(pid)
        answers, taken, seconds = load(address, digit, options.requests, options.clients)
        after = memory(pid)
    with server("--max-waiting", "2") as (address, _):
        over, _, _ = load(address, digit, options.requests // 10, options.clients)

    print(f"A lone client, milliseconds over {options.repeats} rounds\n\n{table(rows)}")
    print(f"\nLoad, {options.clients} clients with a digit\n")
    median, most = middle_and_most(taken)
    head = ["answers", "others than 200", "a second", "median ms", "p99 ms"]
    failed = answers.total() - answers[200]
    cells = [f"{answers.total():,}", f"{failed}", f"{answers.total() / seconds:.0f}", median, most]
    print(table([head, cells]))
    print(
        f"\nMB: {fresh:.0f} at the start, {before:.0f} before the load, {after:.0f} after it; ",
        end="",
    )
    print(f"{after - before:+.0f}, bar +{MEMORY_BAR}")
    print(f"\nOverload: {', '.join(f'{each} x {over[each]:,}' for each in sorted(over))}")
    print(footer())


if __name__ == "__main__":
    main()
