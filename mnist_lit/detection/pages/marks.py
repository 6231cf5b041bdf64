"""Marks: what is drawn between, below and around numbers, and elsewhere on a page."""

import cv2
import numpy as np
from numpy.random import Generator

from mnist_lit.detection.pages.glyphs import Floats
from mnist_lit.detection.pages.pens import Hand
from mnist_lit.detection.pages.strips import Outline, Part, Strip, polyline


def mark(rng: Generator, hand: Hand, height: float, x: float) -> list[Part]:
    """Draw a point, a comma, a dash or a slash at x, or nothing."""
    if rng.random() < 0.3:
        return []
    if rng.random() < 0.5:
        return [Part(dot(rng, height), x, height * rng.uniform(0.8, 1.0))]
    long = rng.uniform(0.15, 0.4) * height
    end = [[-0.3, 1.0], [1.0, 0.0], [0.5, -2.0]][rng.integers(3)]
    line = np.array([[0.0, 0.0], end]) * long
    ink = polyline(line, max(1, round(hand.pen * height))).ink
    return [Part(ink, x, height - ink.shape[0] * rng.uniform(0.3, 1))]


def dot(rng: Generator, height: float) -> Floats:
    """Draw a point."""
    radius = max(1, round(height * rng.uniform(0.02, 0.09)))
    ink = np.zeros((2 * radius + 3, 2 * radius + 3), np.float32)
    cv2.circle(ink, (radius + 1, radius + 1), radius, 1.0, -1, cv2.LINE_AA)
    return ink


def decorated(rng: Generator, strip: Strip, height: float, hand: Hand) -> Strip:
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
    return polyline(np.concatenate(lines), thickness, [len(line) for line in lines])
