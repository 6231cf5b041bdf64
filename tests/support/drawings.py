"""Drawings that are no characters."""

import numpy as np
from PIL import Image, ImageDraw
from PIL.ImageDraw import ImageDraw as Brush

from tests.support.paper import Picture


def drawing(kind: str, rng: np.random.Generator) -> Picture:
    """Draw one of ``KINDS`` on white paper, turned and stretched a little, ``uint8 (h, w)``."""
    image = Image.new("L", (400, 400), 255)
    KINDS[kind](ImageDraw.Draw(image), rng)
    width, height = rng.integers(140, 260, 2)
    return np.asarray(image.rotate(rng.uniform(-20, 20), fillcolor=255).resize((width, height)))


def _house(brush: Brush, rng: np.random.Generator) -> None:
    brush.line([(80, 300), (80, 160), (200, 60), (320, 160), (320, 300), (80, 300)], 0, 14)
    brush.line([(80, 160), (320, 160)], 0, 14)
    brush.rectangle((170, 220, 230, 300), outline=0, width=12)


def _star(brush: Brush, rng: np.random.Generator) -> None:
    turns = np.arange(6) * 4 * np.pi / 5
    brush.line([(200 + 140 * np.sin(t), 200 - 140 * np.cos(t)) for t in turns], 0, 14)


def _tree(brush: Brush, rng: np.random.Generator) -> None:
    brush.line([(200, 330), (200, 120)], 0, 16)
    brush.line([(90, 230), (200, 50), (310, 230), (90, 230)], 0, 14)


def _grid(brush: Brush, rng: np.random.Generator) -> None:
    for place in (80, 160, 240, 320):
        brush.line([(place, 80), (place, 320)], 0, 10)
        brush.line([(80, place), (320, place)], 0, 10)


def _scribble(brush: Brush, rng: np.random.Generator) -> None:
    brush.line([tuple(point) for point in rng.uniform(60, 340, (18, 2))], 0, 10, joint="curve")


def _zigzag(brush: Brush, rng: np.random.Generator) -> None:
    brush.line([(60 + 40 * i, 120 + 140 * (i % 2)) for i in range(8)], 0, 12)


def _spiral(brush: Brush, rng: np.random.Generator) -> None:
    turns = np.linspace(0, 18, 200)
    brush.line([(200 + 8 * t * np.cos(t), 200 + 8 * t * np.sin(t)) for t in turns], 0, 8)


def _face(brush: Brush, rng: np.random.Generator) -> None:
    brush.ellipse((60, 60, 340, 340), outline=0, width=14)
    for left in (130, 230):
        brush.ellipse((left, 140, left + 36, 176), fill=0)
    brush.arc((120, 150, 280, 290), 20, 160, fill=0, width=12)


def _flower(brush: Brush, rng: np.random.Generator) -> None:
    turns = np.linspace(0, 2 * np.pi, 200)
    radius = 60 + 80 * np.abs(np.cos(2.5 * turns))
    points = np.stack([200 + radius * np.cos(turns), 200 + radius * np.sin(turns)], 1)
    brush.line([tuple(point) for point in points], 0, 10)
    brush.ellipse((170, 170, 230, 230), outline=0, width=10)


def _arrow(brush: Brush, rng: np.random.Generator) -> None:
    brush.line([(60, 200), (340, 200)], 0, 16)
    brush.line([(250, 110), (340, 200), (250, 290)], 0, 16)


KINDS = {
    "house": _house,
    "star": _star,
    "tree": _tree,
    "grid": _grid,
    "scribble": _scribble,
    "zigzag": _zigzag,
    "spiral": _spiral,
    "face": _face,
    "flower": _flower,
    "arrow": _arrow,
}
