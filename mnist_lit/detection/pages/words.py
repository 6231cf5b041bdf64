"""Words: letters written by hand, loops that look like writing, and lines of print."""

import cv2
import numpy as np
from numpy.random import Generator

from mnist_lit.detection.pages.glyphs import FONTS, WRITTEN_FONTS, Floats, letter_line, printed
from mnist_lit.detection.pages.pens import Hand, write
from mnist_lit.detection.pages.strips import Part, Strip, joined, polyline

LETTERS = "abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRTUVWXYZ"  # no o, l, I and the like
TEXT = LETTERS + "aeinrstaeinrstolIOS"
PRINT = TEXT + ".,:;-/()&%" + " " * 12
UNITS = ("kg", "cm", "EUR", "Fr", "Kr", "m", "h", "%", "€", "$", "=", "+", "x", "No", "(", ")")


def word(rng: Generator, hand: Hand, height: float, length: int) -> Strip:
    """Write a word of letters."""
    font, x = str(rng.choice(WRITTEN_FONTS)), 0.0
    parts: list[Part] = []
    letters = TEXT if length > 2 else LETTERS
    for _ in range(length):
        ink = character(rng, rng.choice(list(letters)), hand, height, font)
        parts.append(Part(ink, x, 0.8 * height - 0.7 * ink.shape[0]))
        x += ink.shape[1] + max(0.1, hand.gap) * height * 0.6
    return joined(parts)


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
    thickness = max(1, round(min(hand.pen, 0.08) * height))
    return polyline(np.stack([x, -y], 1) * height * 0.6, thickness)


def character(
    rng: Generator, text: str, hand: Hand, height: float, font: str = WRITTEN_FONTS[0]
) -> Floats:
    """Write a character, or a few, with the height they have relative to a digit's."""
    inks = []
    for letter in text:
        line = letter_line(letter, font)
        rows = np.nonzero(line.max(1))[0]
        tall = height * max((rows[-1] - rows[0]) / 29, 0.2) if len(rows) else 1
        inks.append(write(rng, line, tall, hand) if len(rows) else np.zeros((2, 2), np.float32))
    base = max(ink.shape[0] for ink in inks)
    padded = [cv2.copyMakeBorder(i, base - i.shape[0], 0, 0, 2, cv2.BORDER_CONSTANT) for i in inks]
    return np.concatenate(padded, 1)


def print_line(rng: Generator, height: float, count: int, font: str | None = None) -> Strip:
    """Set a line of letters in type."""
    text = "".join(rng.choice(list(PRINT), count))
    return Strip(printed(text, font or str(rng.choice(FONTS)), height)[0])
