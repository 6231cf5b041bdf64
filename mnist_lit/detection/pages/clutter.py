"""Clutter: what a page has besides its numbers: words, print, drawings, the lines of tables."""

import numpy as np
from numpy.random import Generator

from mnist_lit.detection.pages import marks, numbers, words
from mnist_lit.detection.pages.canvas import Canvas
from mnist_lit.detection.pages.pens import Hand
from mnist_lit.detection.pages.strips import Strip


def log_uniform(rng: Generator, low: float, high: float) -> float:
    """Sample a size, each doubling of which is as likely as any other."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def print_words(rng: Generator, height: float) -> Strip:
    """Set a few words in type, or sometimes a number."""
    if rng.random() < 0.15:
        return numbers.printed_number(rng, height, int(rng.integers(1, 7)))
    return words.print_line(rng, height, int(rng.integers(3, 24)))


def drawing(rng: Generator, hand: Hand) -> Strip:
    """Draw a cross, a tick or the like with somebody's pen."""
    height = log_uniform(rng, 6, 80)
    thickness = int(np.clip(round(hand.pen * height * rng.uniform(0.5, 1.5)), 1, 9))
    return marks.scribble(rng, height, thickness)


def add_clutter(rng: Generator, canvas: Canvas, hand: Hand, count: int) -> None:
    """Add words, print, loops and drawings."""
    for _ in range(count):
        kind, height = rng.random(), log_uniform(rng, 8, 60)
        if kind < 0.35:
            canvas.scatter(rng, words.word(rng, hand, height, int(rng.integers(1, 8))))
        elif kind < 0.55:
            canvas.scatter(rng, print_words(rng, height * 0.6), printed=True)
        elif kind < 0.7:
            canvas.scatter(rng, words.cursive(rng, hand, height, height * rng.uniform(2, 8)))
        else:
            canvas.scatter(rng, drawing(rng, hand))


def add_table_lines(rng: Generator, canvas: Canvas, count: int) -> None:
    """Print long lines, upright and level, single and double."""
    size = canvas.size
    for _ in range(count):
        at, tilt = rng.uniform(0, size), rng.normal(0, 3)
        begin, end = 0.0, float(size)  # a line that reached no edge could be a 1
        if rng.random() < 0.3:
            begin = rng.uniform(0, 0.6) * size
        elif rng.random() < 0.4:
            end = rng.uniform(0.4, 1) * size
        strength, width = rng.uniform(0.35, 1), int(rng.choice([1, 2, 3], p=[0.6, 0.25, 0.15]))
        upright, offsets = rng.random() < 0.6, [0.0]
        if rng.random() < 0.25:
            offsets.append(rng.uniform(3, 9))
        for offset in offsets:
            ends = (at + offset, begin), (at + offset + tilt, end)
            start, stop = ends if upright else (ends[0][::-1], ends[1][::-1])
            canvas.rule(start, stop, strength, width)
