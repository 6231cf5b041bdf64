"""Numbers: MNIST's digits side by side, with what belongs to a number, or printed ones."""

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from mnist_lit.detection.pages.glyphs import (
    FONTS,
    SIDE,
    Bytes,
    Floats,
    center_line,
    printed,
    regional,
)
from mnist_lit.detection.pages.marks import decorated, dot, mark
from mnist_lit.detection.pages.pens import Hand, write
from mnist_lit.detection.pages.strips import Outline, Part, Strip, joined, outline
from mnist_lit.detection.pages.words import UNITS, character


class DigitImages:
    """Digits to write with; remembers their center lines.

    Args:
        images: ``uint8 (n, 28, 28)``, ink 255 on 0.
        labels: ``(n,)`` in 0..9.
    """

    def __init__(self, images: Bytes, labels: NDArray[np.int64]) -> None:
        self.images = images
        self.labels = labels
        self._of = [np.nonzero(labels == digit)[0] for digit in range(10)]
        self._lines: dict[int, Bytes] = {}  # one bit a pixel

    def choose(self, rng: Generator, label: int | None = None) -> int:
        """Return the index of a random digit, perhaps with a given label."""
        return int(rng.integers(len(self.labels)) if label is None else rng.choice(self._of[label]))

    def line(self, index: int) -> Bytes:
        """Return the center lines of a digit, 1 on 0 ``(56, 56)``."""
        if index not in self._lines:
            self._lines[index] = np.packbits(center_line(self.images[index]))
        return np.unpackbits(self._lines[index]).reshape(SIDE, SIDE)


def number(rng: Generator, source: DigitImages, hand: Hand, height: float, count: int) -> Strip:
    """Write a number, with what belongs to it.

    Args:
        rng: Source of everything random.
        source: The digits.
        hand: Who writes.
        height: Of a digit in pixels.
        count: How many digits.
    """
    parts: list[Part] = []
    x = 0.0
    if rng.random() < 0.08:
        parts.append(Part(character(rng, rng.choice(UNITS), hand, height), x, 0.0))
        x += parts[-1].ink.shape[1] + 0.3 * height
    zeros = int(rng.integers(1, 4)) if rng.random() < 0.12 else 0  # a round number
    repeated = int(rng.integers(10)) if rng.random() < 0.05 else None  # like 111
    for index in range(count):
        tall = height * np.exp(rng.normal(0, hand.wobble))
        wanted = 0 if 0 < count - index <= zeros else repeated
        ink, label = digit(rng, source, hand, tall, wanted)
        y = height - ink.shape[0] + rng.normal(0, hand.wobble) * height
        parts.append(Part(ink, x, y, label))
        gap = max((hand.gap + rng.normal(0, 0.06)) * height, -0.3 * ink.shape[1])
        if index < count - 1 and rng.random() < 0.05:  # a decimal or thousands mark, or a space
            parts += mark(rng, hand, height, x + ink.shape[1] + 0.1 * height)
            gap = height * rng.uniform(0.25, 1.0)
        x += ink.shape[1] + gap
    if rng.random() < 0.22:  # a full stop
        parts.append(Part(dot(rng, height), x, height * rng.uniform(0.85, 1.0)))
    if rng.random() < 0.08:
        unit = character(rng, rng.choice(UNITS), hand, height * rng.uniform(0.5, 1))
        parts.append(Part(unit, x + 0.3 * height, height - unit.shape[0]))
    return decorated(rng, joined(parts), height, hand)


def digit(
    rng: Generator, source: DigitImages, hand: Hand, height: float, wanted: int | None = None
) -> tuple[Floats, int]:
    """Write one digit of the source, perhaps a given one; return its ink and label."""
    index = source.choose(rng, wanted)
    image, label = source.images[index], int(source.labels[index])
    line = source.line(index)
    if label in (1, 7) and rng.random() < hand.regional:
        line = regional(rng, line, label)
    return write(rng, line, height, hand, image), label


def printed_number(rng: Generator, height: float, count: int) -> Strip:
    """Set a number in type."""
    text = "".join(str(each) for each in rng.integers(0, 10, count))
    ink, starts = printed(text, str(rng.choice(FONTS)), height)
    digits: list[Outline] = []
    for index, figure in enumerate(text):
        left, right = round(starts[index]), round(starts[index + 1])
        digits += outline(ink[:, left:right], int(figure), left, 0)
    return Strip(ink, digits)
