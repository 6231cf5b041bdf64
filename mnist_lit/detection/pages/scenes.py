"""Scenes: what is written where on a page, from a single large digit to a table of numbers."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.random import Generator

from mnist_lit.detection.pages import numbers, words
from mnist_lit.detection.pages.canvas import Canvas
from mnist_lit.detection.pages.clutter import (
    add_clutter,
    add_table_lines,
    drawing,
    log_uniform,
    print_words,
)
from mnist_lit.detection.pages.glyphs import FONTS
from mnist_lit.detection.pages.numbers import DigitImages
from mnist_lit.detection.pages.pens import Hand, random_hand
from mnist_lit.detection.pages.strips import Strip

MOST = 40  # digits on a page, about: more would only take time


def notes(rng: Generator, canvas: Canvas, source: DigitImages) -> None:
    """Write a few numbers anywhere, of any size."""
    hand = random_hand(rng)
    for _ in range(int(rng.choice([1, 2, 3, 5, 8], p=[0.25, 0.25, 0.2, 0.2, 0.1]))):
        hand = random_hand(rng) if rng.random() < 0.2 else hand
        height = log_uniform(rng, 10, 100)
        canvas.scatter(rng, _number(rng, source, hand, height, _count(rng)))
    add_clutter(rng, canvas, hand, int(rng.choice([0, 1, 3, 6], p=[0.35, 0.25, 0.25, 0.15])))
    add_table_lines(rng, canvas, int(rng.choice([0, 1, 2, 4], p=[0.5, 0.2, 0.15, 0.15])))


def column(rng: Generator, canvas: Canvas, source: DigitImages) -> None:
    """Write numbers below each other, some so close that they nearly touch, perhaps with words."""
    hand, height = random_hand(rng), log_uniform(rng, 10, 48)
    pitch = height * rng.uniform(1.05, 2.2)
    x, angle = rng.uniform(-0.3, 2) * height, rng.normal(0, 0.04)
    digits, captions, right = _count(rng), rng.random() < 0.25, rng.random() < 0.3
    y = rng.uniform(-0.6, 0.8) * height
    while y < canvas.size - 0.3 * height and len(canvas.digits) < MOST:
        left = x
        if captions and rng.random() < 0.7:
            text = words.word(rng, hand, height * 0.9, int(rng.integers(2, 6)))
            canvas.place(text, left, y, angle)
            left += text.ink.shape[1] + 0.5 * height
        for _ in range(int(rng.integers(1, 4))):
            count = digits if rng.random() < 0.6 else int(rng.integers(1, digits + 2))
            strip = numbers.number(rng, source, hand, height, count)
            place = canvas.size - x - strip.ink.shape[1] if right else left
            canvas.place(strip, place, y + rng.normal(0, 0.04) * height + angle * left, angle)
            left += strip.ink.shape[1] + height * rng.uniform(0.6, 2.5)
            if right or left > canvas.size or rng.random() < 0.3:
                break
        y += pitch
    if rng.random() < 0.3:  # a sum is drawn below
        bottom = rng.uniform(0.2, 0.95) * canvas.size
        canvas.rule((x, bottom), (canvas.size - x, bottom), 1.0, int(rng.integers(1, 4)))


def grid(rng: Generator, canvas: Canvas, source: DigitImages) -> None:
    """Fill the cells of a table, or the boxes of a form with one digit each."""
    hand, height = random_hand(rng), log_uniform(rng, 13, 60)
    single = rng.random() < 0.5
    count = 1 if single else int(rng.integers(1, 6))
    wide = height * (rng.uniform(1.05, 2.0) if single else rng.uniform(1, 1.6) + 0.6 * count)
    tall = height * rng.uniform(1.1, 2.2)
    x0, y0 = (rng.uniform(0, 0.6) * side for side in (wide, tall))
    if rng.random() < 0.75:
        strength, width = rng.uniform(0.4, 1), int(rng.choice([1, 2, 3], p=[0.6, 0.3, 0.1]))
        for x in np.arange(x0, canvas.size, wide):
            canvas.rule((x, 0), (x, canvas.size), strength, width)
        for y in np.arange(y0, canvas.size, tall):
            canvas.rule((0, y), (canvas.size, y), strength, width)
    cells = canvas.size**2 / (wide * tall)
    filled = min(rng.uniform(0.4, 1), 2 * MOST / cells / (count + 1))
    printed_too = rng.random() < 0.2
    for x in np.arange(x0 - wide, canvas.size, wide):
        for y in np.arange(y0 - tall, canvas.size, tall):
            if rng.random() > filled:
                continue
            if printed_too and rng.random() < 0.3:
                strip = print_words(rng, height * 0.6)
            else:
                strip = numbers.number(rng, source, hand, height, int(rng.integers(1, count + 1)))
            free = np.array([wide - strip.ink.shape[1], tall - strip.ink.shape[0]])
            shift = free * (0.5 + rng.uniform(-0.5, 0.5, 2) * rng.uniform(0, 1.2))
            canvas.place(strip, x + shift[0], y + shift[1], rng.normal(0, 0.02))


def cell(rng: Generator, canvas: Canvas, source: DigitImages) -> None:
    """Write one small number into a cut of a printed form."""
    hand, height = random_hand(rng), log_uniform(rng, 10, 60)
    hand = replace(hand, pen=min(hand.pen, 0.1), slant=hand.slant + 0.15)
    strip = numbers.number(rng, source, hand, height, int(rng.choice([1, 2, 3], p=[0.3, 0.5, 0.2])))
    canvas.scatter(rng, strip)
    add_table_lines(rng, canvas, int(rng.integers(1, 6)))
    for _ in range(int(rng.integers(0, 4))):
        canvas.scatter(rng, print_words(rng, log_uniform(rng, 5, 14)), printed=True)
    add_clutter(rng, canvas, hand, int(rng.integers(0, 4)))


def close_up(rng: Generator, canvas: Canvas, source: DigitImages) -> None:
    """Fill the picture with a digit or a number."""
    hand, count = random_hand(rng), int(rng.choice([1, 2, 3, 4, 5], p=[0.4, 0.2, 0.2, 0.1, 0.1]))
    height = canvas.size * rng.uniform(0.4, 1.05) / max(1, 0.55 * count)
    strip = numbers.number(rng, source, hand, height, count)
    free = canvas.size - np.array(strip.ink.shape[::-1])
    x, y = free * rng.uniform(0.1, 0.9, 2)
    canvas.place(strip, x, y, rng.normal(0, 0.05))
    if y > 0.5 * height and rng.random() < 0.5:  # the line above
        canvas.place(numbers.number(rng, source, hand, height, count), x, y - 1.15 * height)
    add_table_lines(rng, canvas, int(rng.choice([0, 1, 2])))
    add_clutter(rng, canvas, hand, int(rng.integers(0, 3)))


def text(rng: Generator, canvas: Canvas, source: DigitImages) -> None:
    """Write no numbers, or one among lines of words, print and drawings."""
    hand, height = random_hand(rng), log_uniform(rng, 10, 70)
    if rng.random() < 0.4:
        canvas.scatter(rng, numbers.number(rng, source, hand, height, _count(rng)))
    if rng.random() < 0.5:  # a paragraph
        size = log_uniform(rng, 6, 20)
        font = str(rng.choice(FONTS))
        for y in np.arange(rng.uniform(0, 60), canvas.size, size * rng.uniform(1.5, 2.5)):
            line = words.print_line(rng, size, int(rng.integers(10, 60)), font)
            canvas.place(line, rng.uniform(0, 8), y, printed=True)
    else:
        for y in np.arange(rng.uniform(0, 60), canvas.size, 1.8 * height):
            length = rng.uniform(0.3, 1) * canvas.size
            canvas.place(words.cursive(rng, hand, height, length), rng.uniform(0, 40), y)
    add_clutter(rng, canvas, hand, int(rng.integers(1, 7)))


def empty(rng: Generator, canvas: Canvas, source: DigitImages) -> None:
    """Leave the page blank but for lines and marks."""
    hand = random_hand(rng)
    add_table_lines(rng, canvas, int(rng.integers(0, 6)))
    for _ in range(int(rng.integers(0, 4))):
        canvas.scatter(rng, drawing(rng, hand))


Scene = Callable[[Generator, Canvas, DigitImages], None]
SCENES: tuple[Scene, ...] = (notes, column, grid, cell, close_up, text, empty)
SHARES = (0.27, 0.15, 0.12, 0.15, 0.14, 0.13, 0.04)


def _count(rng: Generator) -> int:
    shares = np.array([18, 18, 14, 12, 10, 8, 6, 5, 3, 2, 2, 2])
    return int(rng.choice(np.arange(1, 13), p=shares / shares.sum()))


def _number(rng: Generator, source: DigitImages, hand: Hand, height: float, count: int) -> Strip:
    if rng.random() < 0.1:
        return numbers.printed_number(rng, height, count)
    return numbers.number(rng, source, hand, height, count)
