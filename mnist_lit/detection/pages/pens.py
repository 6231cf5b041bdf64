"""Pens: write a glyph's center line with a hand's slant and a pen's width."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.random import Generator

from mnist_lit.detection.pages.glyphs import Bytes, Floats

DRAWN = 40.0  # pixels: smaller glyphs are drawn at about this height and then reduced
BLUR = 1.0  # pixels of a model, standard deviation
RAISED = 0.8  # pixels of a model
MARGIN = 3  # pixels around the ink of a glyph while it is drawn


@dataclass(frozen=True)
class Hand:
    """How somebody writes.

    Attributes:
        slant: Horizontal shear, as a tangent; positive leans to the right.
        wide: Width of a glyph relative to that of its model.
        bend: Standard deviation of the elastic displacement, relative to the height.
        pen: Stroke width relative to the height.
        uneven: How much width and pressure vary along a stroke, in [0, 1].
        regional: Share of 1s and 7s in the European form.
        gap: Mean space between digits, relative to the height; negative where they overlap.
        wobble: Standard deviation of baseline and size, relative to the height.
        kind: ``pen``, or ``own``: the strokes as MNIST has them.
    """

    slant: float
    wide: float
    bend: float
    pen: float
    uneven: float
    regional: float
    gap: float
    wobble: float
    kind: str


def random_hand(rng: Generator) -> Hand:
    """Draw a hand from those that write on the pages."""
    return Hand(
        slant=rng.normal(0.08, 0.2),
        wide=float(np.exp(rng.normal(0, 0.14))),
        bend=rng.uniform(0.01, 0.05),
        pen=float(np.exp(rng.uniform(np.log(0.014), np.log(0.15)))),
        uneven=rng.uniform(0, 0.6),
        regional=rng.choice([0.0, 0.5, 1.0], p=[0.5, 0.2, 0.3]),
        gap=rng.normal(0.14, 0.13) if rng.random() < 0.85 else rng.uniform(0.3, 1.0),
        wobble=rng.uniform(0.01, 0.09),
        kind="own" if rng.random() < 0.2 else "pen",
    )


def write(
    rng: Generator, line: Bytes, height: float, hand: Hand, own: Bytes | None = None
) -> Floats:
    """Write a glyph.

    Args:
        rng: Source of what differs between two glyphs of one hand.
        line: The glyph's center lines, 1 on 0 ``(56, 56)``.
        height: Of the ink in pixels.
        hand: Who writes.
        own: The glyph's own strokes, 255 on 0 ``(28, 28)``, for a hand of kind ``own``.

    Returns:
        Ink in [0, 1], cut tightly.
    """
    reduce = max(1, round(DRAWN / height))
    tall = float(height) * reduce
    ys, xs = np.nonzero(line)
    shear, rise = hand.slant + rng.normal(0, 0.05), rng.normal(0, 0.05)
    extent = float(np.ptp(hand.wide * xs - shear * ys)), float(np.ptp(rise * xs + ys))
    width = max(hand.pen * tall, 0.9 * reduce)  # of the stroke
    scale = max(tall - width, 1) / max(extent[1], extent[0] / 1.25, 1)
    border = MARGIN * reduce + width + 2.5 * hand.bend * tall
    size = int(scale * extent[0] + 2 * border) + 1, int(scale * extent[1] + 2 * border) + 1
    inverse = np.array([[1, shear], [-rise, hand.wide]], np.float32)
    inverse /= np.float32(scale * (hand.wide + shear * rise))
    middle = float(xs.min() + xs.max()) / 2, float(ys.min() + ys.max()) / 2
    maps = _maps(rng, size, inverse, middle, hand.bend * tall / scale)
    if hand.kind == "own" and own is not None:
        ink = _own_strokes(own, line, maps)
    else:
        ink = _strokes(rng, line, maps, scale, width, hand.uneven)
    if reduce > 1:
        small = (max(ink.shape[1] // reduce, 1), max(ink.shape[0] // reduce, 1))
        ink = cv2.resize(ink, small, interpolation=cv2.INTER_AREA)
    return cut(ink)


def _maps(
    rng: Generator,
    size: tuple[int, int],
    inverse: Floats,
    middle: tuple[float, float],
    bend: float,
) -> tuple[Floats, Floats]:
    """Return for each pixel of a glyph of ``size`` (w, h) the place in its model, in pixels."""
    width, height = size
    x = np.arange(width, dtype=np.float32) - (width - 1) / 2
    y = (np.arange(height, dtype=np.float32) - (height - 1) / 2)[:, None]
    coarse = rng.standard_normal((4, 4, 2), np.float32) * np.float32(bend)
    bending = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    across, down = (inverse[i, 0] * x + inverse[i, 1] * y + middle[i] for i in (0, 1))
    return across + bending[..., 0], down + bending[..., 1]


def _strokes(
    rng: Generator,
    line: Bytes,
    maps: tuple[Floats, Floats],
    scale: float,
    width: float,
    uneven: float,
) -> Floats:
    """Draw strokes of constant width around the lines.

    Blurring the distance from the lines removes the steps between their pixels. It also raises
    the distance, on the lines themselves to ``RAISED``, and hardly any more away from them.
    """
    distance = cv2.distanceTransform(1 - line, cv2.DIST_L2, cv2.DIST_MASK_5)
    distance = cv2.GaussianBlur(distance, (0, 0), BLUR) ** 2 - RAISED**2
    outside = cv2.BORDER_REPLICATE
    distance = cv2.remap(distance, *maps, cv2.INTER_LINEAR, borderMode=outside)
    distance = np.sqrt(np.maximum(distance, 0)) * np.float32(scale)
    half, pressure = np.full(1, width / 2, np.float32), np.ones(1, np.float32)
    if uneven > 0.1:
        noise = cv2.resize(rng.random((4, 4), np.float32), distance.shape[::-1])
        half = half * (1 + uneven * (noise - 0.5))
        pressure = 1 - 0.5 * uneven * noise
    ink: Floats = np.clip(half + 0.5 - distance, 0, 1) * pressure
    return ink


def _own_strokes(own: Bytes, line: Bytes, maps: tuple[Floats, Floats]) -> Floats:
    large = cv2.resize(own, line.shape, interpolation=cv2.INTER_CUBIC)
    large = np.maximum(large, cv2.dilate(line, np.ones((3, 3), np.uint8)) * 255)
    drawn = cv2.remap(large, *maps, interpolation=cv2.INTER_LINEAR).astype(np.float32) / 255
    return np.clip((drawn - 0.4) * 2.5 + 0.5, 0, 1)


def cut(ink: Floats) -> Floats:
    """Cut away what has no ink; at least a pixel is left."""
    visible = (ink > 0.3).astype(np.uint8)
    x, y, width, height = cv2.boundingRect(visible)
    return ink[y : y + max(height, 1), x : x + max(width, 1)]
