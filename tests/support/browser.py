"""The page in Chromium, and a hand that writes on it with mouse or finger."""

import math
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from playwright.sync_api import (
    Browser,
    CDPSession,
    ConsoleMessage,
    Error,
    FilePayload,
    FloatRect,
    Page,
    Request,
    expect,
    sync_playwright,
)

ROOT = Path(__file__).parents[2]

NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), "")
QUIET = "--no-sandbox --disable-gpu --disable-background-networking --disable-component-update"
QUIET += " --disable-sync --no-first-run"

DEVICES: dict[str, Any] = {
    "desktop": {"viewport": {"width": 1280, "height": 800}},
    "phone": {
        "viewport": {"width": 390, "height": 844},
        "device_scale_factor": 2,
        "has_touch": True,
        "is_mobile": True,
    },
}

expect.set_options(timeout=20_000)  # milliseconds; the machine may be busy


Points = Sequence[tuple[float, float]]


def arc(
    x: float, y: float, across: float, down: float, start: float, end: float
) -> list[tuple[float, float]]:
    """Points on an ellipse, from one angle to another, in degrees clockwise from the right."""
    angles = np.radians(np.linspace(start, end, 14))
    return [(x + across * np.cos(a), y + down * np.sin(a)) for a in angles]


def dense(points: Points) -> Iterator[tuple[float, float]]:
    """With points between those farther than a fifth from each other, as a quick hand leaves."""
    for (left, top), (right, bottom) in pairwise(points):
        across, down = right - left, bottom - top
        count = max(1, round(5 * math.hypot(across, down)))
        for share in np.arange(count) / count:
            yield left + across * share, top + down * share
    yield points[-1]


# The strokes of each digit: points in a box 0.6 wide and 1 high.
STROKES: dict[str, list[Points]] = {
    "0": [arc(0.3, 0.5, 0.28, 0.48, -90, 270)],
    "1": [[(0.15, 0.25), (0.35, 0.02), (0.35, 1)]],
    "2": [[*arc(0.3, 0.27, 0.26, 0.25, -170, 30), (0.03, 0.97), (0.58, 0.97)]],
    "3": [arc(0.28, 0.26, 0.26, 0.24, -150, 90) + arc(0.28, 0.74, 0.3, 0.25, -90, 150)],
    "4": [[(0.4, 0.02), (0.03, 0.65), (0.6, 0.65)], [(0.42, 0.4), (0.42, 1)]],
    "5": [
        [(0.1, 0.03), (0.08, 0.42), *arc(0.26, 0.69, 0.29, 0.29, -120, 150)],
        [(0.1, 0.03), (0.55, 0.03)],
    ],
    "6": [[(0.45, 0.02), (0.2, 0.3), *arc(0.3, 0.7, 0.27, 0.28, -160, 200)]],
    "7": [[(0.03, 0.04), (0.57, 0.04), (0.22, 1)]],
    "8": [arc(0.3, 0.27, 0.22, 0.24, 90, 450) + arc(0.3, 0.76, 0.27, 0.23, -90, 270)],
    "9": [[*arc(0.3, 0.28, 0.24, 0.26, 0, -360), (0.54, 0.28), (0.5, 0.65), (0.4, 1)]],
    "x": [[(0, 0), (0.6, 1)], [(0.6, 0), (0, 1)]],
}


@dataclass
class Visit:
    """A visit to the page, with mouse or finger; what went wrong in it."""

    page: Page
    origin: str
    finger: CDPSession | None
    errors: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("pageerror", self._fail)
        self.page.on("console", self._hear)
        self.page.on("request", self._follow)

    def end(self) -> None:
        """Leave the browser's tab as a new one, for the next visit."""
        self.page.remove_listener("pageerror", self._fail)
        self.page.remove_listener("console", self._hear)
        self.page.remove_listener("request", self._follow)
        self.page.unroute_all()
        self.page.context.set_offline(False)
        self.page.goto("about:blank")

    def _fail(self, error: Error) -> None:
        self.errors.append(str(error))

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.errors.append(message.text)

    def _follow(self, request: Request) -> None:
        if urlsplit(request.url).netloc != urlsplit(self.origin).netloc:
            self.errors.append(f"asked another host: {request.url}")

    def stroke(self, points: Points) -> None:
        """Draw through points of the page, in pixels."""
        if self.finger:
            for number, (x, y) in enumerate(points):
                self.touch("touchMove" if number else "touchStart", [{"x": x, "y": y}])
            self.touch("touchEnd", [])
            return
        self.page.mouse.move(*points[0])
        self.page.mouse.down()
        for point in points[1:]:
            self.page.mouse.move(*point)
        self.page.mouse.up()

    def touch(self, kind: str, points: list[dict[str, float]]) -> None:
        assert self.finger
        self.finger.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    def tap(self, x: float, y: float) -> None:
        (self.page.touchscreen.tap if self.finger else self.page.mouse.click)(x, y)

    def write(self, text: str, left: float = 20, top: float = 40, size: float = 90) -> None:
        """Write a row of characters; their place on the sheet and their height in pixels."""
        sheet = self.place("#pad")
        x, y = sheet["x"] + left, sheet["y"] + top
        for character in text:
            for points in STROKES[character]:
                self.stroke(
                    [(x + size * across, y + size * down) for across, down in dense(points)]
                )
            x += 0.85 * size

    def show(self, picture: Path | FilePayload) -> None:
        """Choose a picture, by its path."""
        self.page.locator("input[type=file]").first.set_input_files(picture)

    def shows(self, *lines: str) -> None:
        """Wait for lines of digits, doubtful or not, and their boxes, none if there are none."""
        patterns = [re.compile("".join(rf"{digit}\??" for digit in line)) for line in lines]
        expect(self.page.locator("#digits div")).to_have_text(patterns)
        boxes = [re.compile(rf"^{digit}\??$") for digit in "".join(lines)]
        expect(self.page.locator("#boxes b")).to_have_text(boxes)

    def says(self, words: str) -> None:
        expect(self.page.locator("#status")).to_contain_text(words)

    def place(self, selector: str) -> FloatRect:
        """Where an element is, in pixels."""
        box = self.page.locator(selector).first.bounding_box()
        assert box
        return box

    @property
    def boxes(self) -> list[FloatRect]:
        script = "all => all.map((each) => each.getBoundingClientRect().toJSON())"
        boxes = self.page.locator("#boxes > div").evaluate_all(script)
        return [
            {"x": box["x"], "y": box["y"], "width": box["width"], "height": box["height"]}
            for box in boxes
        ]


@contextmanager
def serving(port: int = 0, *options: str) -> Iterator[str]:
    """The real server; gives its address."""
    command = [sys.executable, "-m", "mnist_lit", "serve", f"--port={port}", *options]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            assert process.stdout
            found = re.search(r"http://\S+", process.stdout.readline())
            assert found
            yield found[0]
        finally:
            process.terminate()


@dataclass
class Chromium:
    """A running browser, with a tab for each device and set of options."""

    browser: Browser
    tabs: dict[object, tuple[Page, CDPSession | None]] = field(default_factory=dict)

    @contextmanager
    def visit(
        self, address: str, device: str = "desktop", script: str = "", **options: Any
    ) -> Iterator[Visit]:
        """Visit the page in a tab that an earlier visit may have used: a new one takes a second."""
        key = (device, script, *map(str, sorted(options.items())))
        if key not in self.tabs:
            context = self.browser.new_context(**DEVICES[device], **options)
            context.add_init_script(script)
            page = context.new_page()
            self.tabs[key] = page, context.new_cdp_session(page) if device == "phone" else None
        page, finger = self.tabs[key]
        page.set_viewport_size(DEVICES[device]["viewport"])
        visit = Visit(page, address, finger)
        page.goto(address)
        try:
            yield visit
        finally:
            visit.end()


@contextmanager
def browsing() -> Iterator[Chromium]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET.split())
        yield Chromium(browser)
        browser.close()
