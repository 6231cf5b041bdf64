"""Strips: ink that is drawn level, with the digits in it, to be placed on a page."""

from dataclasses import dataclass, field

import cv2
import numpy as np

from mnist_lit.detection.pages.glyphs import Floats

VISIBLE = 0.3  # least ink of a pixel that belongs to a digit's box


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


@dataclass(frozen=True)
class Part:
    """Ink at (x, y) of a strip, and the digit that it is, if any."""

    ink: Floats
    x: float
    y: float
    label: int | None = None


def joined(parts: list[Part]) -> Strip:
    """Put ink side by side into one strip."""
    left, top = round(min(part.x for part in parts)), round(min(part.y for part in parts))
    width = max(round(part.x) - left + part.ink.shape[1] for part in parts)
    height = max(round(part.y) - top + part.ink.shape[0] for part in parts)
    sheet, digits = np.zeros((height, width), np.float32), []
    for part in parts:
        x, y = round(part.x) - left, round(part.y) - top
        under = sheet[y : y + part.ink.shape[0], x : x + part.ink.shape[1]]
        np.maximum(under, part.ink, out=under)
        if part.label is not None:
            digits += outline(part.ink, part.label, x, y)
    return Strip(sheet, digits)


def outline(ink: Floats, label: int, x: int, y: int) -> list[Outline]:
    """Return the outline of a digit whose ink is at (x, y), or nothing if it has hardly any."""
    visible = (ink > VISIBLE).astype(np.uint8)
    contours = cv2.findContours(visible, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)[0]
    if not contours:
        return []
    hull = cv2.convexHull(np.concatenate(contours))[:, 0].astype(np.float32)
    of_pixel = np.array([[0, 0], [1, 0], [0, 1], [1, 1]], np.float32)
    corners = hull[:, None] + of_pixel
    return [Outline(corners.reshape(-1, 2) + np.array([x, y], np.float32), label)]


def polyline(points: Floats, thickness: int, lengths: list[int] | None = None) -> Strip:
    """Draw a line through points ``(k, 2)``, or several of the given lengths."""
    points = points - points.min(0) + thickness + 2
    width, height = (int(side) + thickness + 3 for side in points.max(0))
    ink = np.zeros((height, width), np.uint8)
    ends = np.cumsum(lengths or [len(points)])[:-1]
    lines = [np.round(line * 8).astype(np.int32) for line in np.split(points, ends)]
    cv2.polylines(ink, lines, False, 255, thickness, cv2.LINE_AA, 3)
    return Strip(ink.astype(np.float32) / 255)
