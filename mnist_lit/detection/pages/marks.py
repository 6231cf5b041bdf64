"""Marks: what is drawn between, below and around numbers, and elsewhere on a page."""

from collections.abc import Callable

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
    if kind < 0.7:
        ends = np.cumsum(rng.normal(0, 0.04 * height, 9)) + rows + margin * rng.uniform(1.1, 1.7)
        begin, end = sorted(rng.uniform(-0.2, 1.2, 2)) if kind < 0.2 else (0, 1)
        x = margin + columns * np.linspace(begin, max(end, begin + 0.5), 9)
        line = np.round(np.stack([x, ends], 1) * 8).astype(np.int32)
        cv2.polylines(ink, [line], False, strength, thickness, cv2.LINE_AA, 3)
    elif kind < 0.87:
        far = (columns + margin + margin // 2, rows + margin + margin // 2)
        cv2.rectangle(ink, (margin // 2, margin // 2), far, strength, thickness, cv2.LINE_AA)
    else:
        middle = ((columns + 2 * margin) // 2, (rows + 2 * margin) // 2)
        cv2.ellipse(ink, middle, (middle[0] - 2, middle[1] - 2), 0, 0, 340, strength, thickness)
    moved = [Outline(each.points + np.float32(margin), each.label) for each in strip.digits]
    return Strip(ink, moved)


def scribble(rng: Generator, height: float, thickness: int) -> Strip:
    """Draw a cross, a tick, an arrow, a star, a face or the like, which are no digits."""
    make = FIGURES[rng.integers(len(FIGURES))]
    lines = [
        (line + rng.normal(0, 0.2 / (4 + len(line)), line.shape)) * height for line in make(rng)
    ]
    return polyline(np.concatenate(lines), thickness, [len(line) for line in lines])


def _arc(
    radius: float | Floats, start: float, end: float, middle: tuple[float, float] = (0.0, 0.0)
) -> Floats:
    """Return points of an arc, from turn to turn, clockwise from the right."""
    turns = np.linspace(start, end, np.size(radius) if np.ndim(radius) else 25)
    angle = 2 * np.pi * turns
    circle = np.stack([np.cos(angle), np.sin(angle)], 1)
    points: Floats = circle * np.reshape(radius, (-1, 1)) + middle
    return points


def _cross(rng: Generator) -> list[Floats]:
    return [np.array([[0.0, 0], [1, 1]]), np.array([[0.0, 1], [1, 0]])]


def _tick(rng: Generator) -> list[Floats]:
    return [np.array([[0, 0.5], [0.3, 1], [1, -0.3]])]


def _ellipse(rng: Generator) -> list[Floats]:
    """Lie too flat for a zero."""
    start = rng.uniform(0, 1)
    return [_arc(0.5, start, start + rng.uniform(0.8, 1.3)) * [rng.uniform(1.7, 4), 1]]


def _arrow(rng: Generator) -> list[Floats]:
    return [np.array([[0.0, 0], [2, 0]]), np.array([[1.6, -0.3], [2, 0], [1.6, 0.3]])]


def _zigzag(rng: Generator) -> list[Floats]:
    corners = int(rng.integers(4, 9))
    return [np.stack([np.arange(corners) * 0.4, np.arange(corners) % 2], 1)]


def _tangle(rng: Generator) -> list[Floats]:
    return [np.cumsum(rng.normal(0, 0.6, (int(rng.integers(5, 14)), 2)), 0)]


def _spiral(rng: Generator) -> list[Floats]:
    turns = rng.uniform(1.8, 4)
    return [_arc(np.linspace(0.05, 0.5, 70), 0, turns * rng.choice([-1, 1]))]


def _star(rng: Generator) -> list[Floats]:
    corners = np.arange(6) * 0.4 - 0.25
    return [np.concatenate([_arc(0.5, turn, turn)[:1] for turn in corners])]


def _flower(rng: Generator) -> list[Floats]:
    petals = np.arange(n := int(rng.integers(4, 9))) / n
    rings = [_arc(0.17, 0, 1, tuple(_arc(0.33, turn, turn)[0])) for turn in petals]
    return [_arc(0.14, 0, 1), *rings] + [np.array([[0, 0.5], [0, 1.4]])] * int(rng.integers(2))


def _sun(rng: Generator) -> list[Floats]:
    rays = np.arange(n := int(rng.integers(6, 13))) / n
    return [_arc(0.25, 0, 1)] + [
        np.stack([_arc(near, turn, turn)[0] for near in (0.32, 0.5)]) for turn in rays
    ]


def _face(rng: Generator) -> list[Floats]:
    eyes = [_arc(0.04, 0, 1, (x, -0.12)) for x in (-0.17, 0.17)]
    return [_arc(0.5, 0, 1), *eyes, _arc(0.28, 0.08, 0.42)]


def _house(rng: Generator) -> list[Floats]:
    wall, door = rng.uniform(0.4, 0.7), rng.uniform(0.2, 0.4)
    outline = [[0, 1], [0, 1 - wall], [0.5, 0], [1, 1 - wall], [1, 1], [0, 1]]
    return [np.array(outline), np.array([[0.4, 1], [0.4, 1 - door], [0.6, 1 - door], [0.6, 1]])]


def _tree(rng: Generator) -> list[Floats]:
    crown = (
        _arc(0.4, 0, 1)
        if rng.random() < 0.5
        else np.array([[-0.4, 0], [0, -1], [0.4, 0], [-0.4, 0]])
    )
    return [crown, np.array([[0, 0.4 if len(crown) > 4 else 0], [0, 1]])]


def _heart(rng: Generator) -> list[Floats]:
    t = np.linspace(0, 2 * np.pi, 40)
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return [np.stack([16 * np.sin(t) ** 3, -y], 1) / 32]


def _lattice(rng: Generator) -> list[Floats]:
    places = np.linspace(0, 1, int(rng.integers(3, 6)))
    level = [np.array([[0, y], [1, y]]) for y in places]
    return level + [line[:, ::-1] for line in level]


FIGURES: tuple[Callable[[Generator], list[Floats]], ...] = (
    *(_cross, _tick, _ellipse, _arrow, _zigzag, _tangle, _spiral, _star),
    *(_flower, _sun, _face, _house, _tree, _heart, _lattice),
)
