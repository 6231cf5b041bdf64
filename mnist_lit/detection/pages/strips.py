"""Strips: numbers, words and marks, each drawn level and ready to be placed on a page."""

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from mnist_lit.detection.pages.glyphs import (
    FONTS,
    SIDE,
    WRITTEN_FONTS,
    Bytes,
    Floats,
    center_line,
    letter_line,
    printed,
    regional,
)
from mnist_lit.detection.pages.pens import Hand, write

LETTERS = "abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRTUVWXYZ"  # no o, l, I and the like
TEXT = LETTERS + "aeinrstaeinrstolIOS"
PRINT = LETTERS + "aeinorstaeinorstlIOS.,:;-/()&%"
UNITS = (
    "kg",
    "cm",
    "km",
    "EUR",
    "Fr",
    "Kr",
    "m",
    "h",
    "%",
    "€",
    "$",
    "=",
    "+",
    "x",
    "No",
    "(",
    ")",
)


Part = tuple[Floats, int, float, float]  # ink, its digit or -1, x, y


class DigitImages:
    """Digits to write with; remembers their center lines.

    Args:
        images: ``uint8 (n, 28, 28)``, ink 255 on 0.
        labels: ``(n,)`` in 0..9.
    """

    def __init__(self, images: Bytes, labels: NDArray[np.int64]) -> None:
        self.images = images
        self.labels = labels
        self._zeros = np.nonzero(labels == 0)[0]
        self._lines: dict[int, Bytes] = {}  # one bit a pixel

    def choose(self, rng: Generator, *, zero: bool = False) -> int:
        """Return the index of a random digit, or of a random zero."""
        return int(rng.choice(self._zeros) if zero else rng.integers(len(self.labels)))

    def line(self, index: int) -> Bytes:
        """Return the center lines of a digit, 1 on 0 ``(56, 56)``."""
        if index not in self._lines:
            self._lines[index] = np.packbits(center_line(self.images[index]))
        return np.unpackbits(self._lines[index]).reshape(SIDE, SIDE)


@dataclass(frozen=True)
class Outline:
    """Corners of a digit's ink, ``float32 (k, 2)`` of (x, y), and which digit it is."""

    points: Floats
    label: int


@dataclass(frozen=True)
class Strip:
    """Ink in [0, 1] ``(h, w)``, and the digits in it."""

    ink: Floats
    digits: list[Outline] = field(default_factory=list)


def number(rng: Generator, source: DigitImages, hand: Hand, height: float, count: int) -> Strip:
    """Write a number, with what belongs to it.

    Args:
        rng: Source of everything random.
        source: The digits.
        hand: Who writes.
        height: Of a digit in pixels.
        count: How many digits.
    """
    parts: list[Part] = []  # ink, label or -1, x, y
    x = 0.0
    if rng.random() < 0.08:
        parts.append((_character(rng, rng.choice(UNITS), hand, height), -1, x, 0.0))
        x += parts[-1][0].shape[1] + 0.3 * height
    zeros = int(rng.integers(1, 4)) if rng.random() < 0.12 else 0  # a round number
    for index in range(count):
        tall, zero = height * np.exp(rng.normal(0, hand.wobble)), 0 < count - index <= zeros
        ink, label = digit(rng, source, hand, tall, zero=zero)
        y = height - ink.shape[0] + rng.normal(0, hand.wobble) * height
        parts.append((ink, label, x, y))
        gap = max((hand.gap + rng.normal(0, 0.06)) * height, -0.3 * ink.shape[1])
        if index < count - 1 and rng.random() < 0.05:  # a decimal or thousands mark, or a space
            parts += _mark(rng, hand, height, x + ink.shape[1] + 0.1 * height)
            gap = height * rng.uniform(0.25, 1.0)
        x += ink.shape[1] + gap
    if rng.random() < 0.22:  # a full stop
        parts.append((_dot(height, rng), -1, x, height * rng.uniform(0.85, 1.0)))
    if rng.random() < 0.08:
        unit = _character(rng, rng.choice(UNITS), hand, height * rng.uniform(0.5, 1))
        parts.append((unit, -1, x + 0.3 * height, height - unit.shape[0]))
    return _decorated(rng, _joined(parts), height, hand)


def digit(
    rng: Generator, source: DigitImages, hand: Hand, height: float, *, zero: bool = False
) -> tuple[Floats, int]:
    """Write one digit of the source, or a zero; return its ink and label."""
    index = source.choose(rng, zero=zero)
    image, label = source.images[index], int(source.labels[index])
    line = source.line(index)
    if label in (1, 7) and rng.random() < hand.regional:
        line = regional(rng, line, label)
    return write(rng, line, height, hand, image), label


def printed_number(rng: Generator, height: float, count: int) -> Strip:
    """Set a number in type."""
    text = "".join(str(each) for each in rng.integers(0, 10, count))
    ink, starts = printed(text, str(rng.choice(FONTS)), height)
    digits = []
    for index, character in enumerate(text):
        left, right = round(starts[index]), round(starts[index + 1])
        outline = _outline(ink[:, left:right], int(character), left, 0)
        digits += [outline] if outline else []
    return Strip(ink, digits)


def word(rng: Generator, hand: Hand, height: float, length: int) -> Strip:
    """Write a word of letters."""
    font, x, parts = str(rng.choice(WRITTEN_FONTS)), 0.0, []
    letters = TEXT if length > 2 else LETTERS
    for _ in range(length):
        ink = _character(rng, rng.choice(list(letters)), hand, height, font)
        parts.append((ink, -1, x, 0.8 * height - 0.7 * ink.shape[0]))
        x += ink.shape[1] + max(0.1, hand.gap) * height * 0.6
    return _joined(parts)


def cursive(rng: Generator, hand: Hand, height: float, length: float) -> Strip:
    """Write a line of loops that look like joined letters from afar.

    Args:
        rng: Source of everything random.
        hand: Who writes.
        height: Of the loops in pixels.
        length: Of the line in pixels.
    """
    turns = max(3, int(length / (0.6 * height)))
    time = np.linspace(0, 2 * np.pi * turns, 24 * turns)
    size = np.repeat(rng.choice([0.4, 0.45, 0.9], turns, p=[0.5, 0.3, 0.2]), 24)
    loop = np.repeat(rng.uniform(0.1, 0.5, turns), 24)
    y = size * np.sin(time) + 0.1 * np.sin(time / 3)
    x = time / (2 * np.pi) * rng.uniform(0.5, 0.9) + loop * np.cos(time + 0.6) - hand.slant * y
    return _polyline(
        np.stack([x, -y], 1) * height * 0.6, max(1, round(min(hand.pen, 0.08) * height))
    )


def scribble(rng: Generator, height: float, thickness: int) -> Strip:
    """Draw a cross, a tick, a ring, an arrow, a zigzag or a tangle."""
    kind, t = rng.integers(6), np.linspace(0, 2 * np.pi * rng.uniform(0.6, 1.3), 30)
    if kind == 0:
        lines = [np.array([[0, 0], [1, 1]]), np.array([[0, 1], [1, 0]])]
    elif kind == 1:
        lines = [np.array([[0, 0.5], [0.3, 1], [1, -0.3]])]
    elif kind == 2:
        wide = rng.uniform(1.4, 3)  # an ellipse that is no zero
        lines = [np.stack([wide * np.cos(t), np.sin(t)], 1)]
    elif kind == 3:
        lines = [np.array([[0, 0], [2, 0]]), np.array([[1.6, -0.3], [2, 0], [1.6, 0.3]])]
    elif kind == 4:
        corners = int(rng.integers(4, 9))
        lines = [np.stack([np.arange(corners) * 0.4, np.arange(corners) % 2], 1)]
    else:
        lines = [np.cumsum(rng.normal(0, 0.6, (int(rng.integers(5, 14)), 2)), 0)]
    lines = [(line + rng.normal(0, 0.06, line.shape)) * height for line in lines]
    return _polyline(np.concatenate(lines), thickness, [len(line) for line in lines])


def _polyline(points: Floats, thickness: int, lengths: list[int] | None = None) -> Strip:
    points = points - points.min(0) + thickness + 2
    width, height = (int(side) + thickness + 3 for side in points.max(0))
    ink = np.zeros((height, width), np.uint8)
    ends = np.cumsum(lengths or [len(points)])[:-1]
    lines = [np.round(line * 8).astype(np.int32) for line in np.split(points, ends)]
    cv2.polylines(ink, lines, False, 255, thickness, cv2.LINE_AA, 3)
    return Strip(ink.astype(np.float32) / 255)


def _character(
    rng: Generator, text: str, hand: Hand, height: float, font: str = WRITTEN_FONTS[0]
) -> Floats:
    """Write a character, or a few, with the height they have relative to a digit's."""
    inks = []
    for character in text:
        line = letter_line(character, font)
        rows = np.nonzero(line.max(1))[0]
        tall = height * max((rows[-1] - rows[0]) / 29, 0.2) if len(rows) else 1
        inks.append(write(rng, line, tall, hand) if len(rows) else np.zeros((2, 2), np.float32))
    base = max(ink.shape[0] for ink in inks)
    padded = [cv2.copyMakeBorder(i, base - i.shape[0], 0, 0, 2, cv2.BORDER_CONSTANT) for i in inks]
    return np.concatenate(padded, 1)


def _mark(rng: Generator, hand: Hand, height: float, x: float) -> list[Part]:
    if rng.random() < 0.3:
        return []
    if rng.random() < 0.5:
        return [(_dot(height, rng), -1, x, height * rng.uniform(0.8, 1.0))]
    long = rng.uniform(0.15, 0.4) * height  # a comma, a dash or a slash
    end = [[-0.3, 1.0], [1.0, 0.0], [0.5, -2.0]][rng.integers(3)]
    line = np.array([[0.0, 0.0], end]) * long
    ink = _polyline(line, max(1, round(hand.pen * height))).ink
    return [(ink, -1, x, height - ink.shape[0] * rng.uniform(0.3, 1))]


def _dot(height: float, rng: Generator) -> Floats:
    radius = max(1, round(height * rng.uniform(0.02, 0.09)))
    ink = np.zeros((2 * radius + 3, 2 * radius + 3), np.float32)
    cv2.circle(ink, (radius + 1, radius + 1), radius, 1.0, -1, cv2.LINE_AA)
    return ink


def _joined(parts: list[Part]) -> Strip:
    """Put ink side by side: (ink, label or -1, x, y) each."""
    left, top = round(min(part[2] for part in parts)), round(min(part[3] for part in parts))
    places = [(round(x) - left, round(y) - top) for _, _, x, y in parts]
    inks = [part[0] for part in parts]
    width = max(x + ink.shape[1] for (x, _), ink in zip(places, inks, strict=True))
    height = max(y + ink.shape[0] for (_, y), ink in zip(places, inks, strict=True))
    sheet, digits = np.zeros((height, width), np.float32), []
    for (ink, label, _, _), (x, y) in zip(parts, places, strict=True):
        part = sheet[y : y + ink.shape[0], x : x + ink.shape[1]]
        np.maximum(part, ink, out=part)
        outline = _outline(ink, label, x, y) if label >= 0 else None
        digits += [outline] if outline else []
    return Strip(sheet, digits)


def _outline(ink: Floats, label: int, x: int, y: int) -> Outline | None:
    points = cv2.findNonZero((ink > 0.3).astype(np.uint8))
    if points is None or len(points) < 4:
        return None
    hull = cv2.convexHull(points)[:, 0].astype(np.float32)
    corners = hull[:, None] + np.array([[0, 0], [1, 1]], np.float32)  # of the pixels
    return Outline(corners.reshape(-1, 2) + np.array([x, y], np.float32), label)


def _decorated(rng: Generator, strip: Strip, height: float, hand: Hand) -> Strip:
    """Underline a number, or draw a box or a ring around it; sometimes."""
    if rng.random() > 0.3:
        return strip
    margin = round(height * rng.uniform(0.15, 0.5)) + 2
    ink = cv2.copyMakeBorder(strip.ink, margin, margin, margin, margin, cv2.BORDER_CONSTANT)
    rows, columns = strip.ink.shape
    thickness = max(1, round(hand.pen * height * rng.uniform(0.6, 1.2)))
    strength, kind = rng.uniform(0.6, 1), rng.random()
    if kind < 0.75:
        ends = np.cumsum(rng.normal(0, 0.04 * height, 9)) + rows + margin * rng.uniform(1.1, 1.7)
        begin, end = sorted(rng.uniform(-0.2, 1.2, 2)) if kind < 0.2 else (0, 1)
        x = margin + columns * np.linspace(begin, max(end, begin + 0.5), 9)
        line = np.round(np.stack([x, ends], 1) * 8).astype(np.int32)
        cv2.polylines(ink, [line], False, strength, thickness, cv2.LINE_AA, 3)
    elif kind < 0.9:
        far = (columns + margin + margin // 2, rows + margin + margin // 2)
        cv2.rectangle(ink, (margin // 2, margin // 2), far, strength, thickness, cv2.LINE_AA)
    else:
        middle = ((columns + 2 * margin) // 2, (rows + 2 * margin) // 2)
        cv2.ellipse(ink, middle, (middle[0] - 2, middle[1] - 2), 0, 0, 340, strength, thickness)
    moved = [Outline(each.points + np.float32(margin), each.label) for each in strip.digits]
    return Strip(ink, moved)
