"""Canvas: the ink of a page, where it is, and the digits that it contains."""

import cv2
import numpy as np
from numpy.random import Generator

from mnist_lit.detection.pages.glyphs import Floats
from mnist_lit.detection.pages.strips import Outline, Strip

COARSE = 4  # pixels: the resolution at which a canvas remembers what is taken


class Canvas:
    """A page that strips are placed on, one beside the other.

    Args:
        size: Its sides in pixels.

    Attributes:
        writing: Ink of the pen in [0, 1], ``float32 (size, size)``.
        print: Ink of what is printed, likewise.
        digits: The outlines of all digits, also of those that the edge cuts.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.writing = np.zeros((size, size), np.float32)
        self.print = np.zeros((size, size), np.float32)
        self.digits: list[Outline] = []
        self._taken = np.zeros((size // COARSE, size // COARSE), np.bool_)

    def place(
        self, strip: Strip, x: float, y: float, angle: float = 0.0, *, printed: bool = False
    ) -> bool:
        """Put a strip's upper left corner at (x, y), turned by ``angle``, unless that is taken.

        Returns:
            Whether there was room.
        """
        ink, digits = (strip.ink, strip.digits) if abs(angle) < 0.004 else _turned(strip, angle)
        left, top = round(x), round(y)
        height, width = ink.shape
        inner = slice(max(-top, 0), self.size - top), slice(max(-left, 0), self.size - left)
        outer = tuple(
            slice(max(start, 0), max(start + extent, 0))
            for start, extent in ((top, height), (left, width))
        )
        region = self._taken[tuple(slice(s.start // COARSE, s.stop // COARSE + 1) for s in outer)]
        if region.size == 0 or region.any():
            return False
        region[:] = True
        layer = self.print if printed else self.writing
        part = layer[outer]
        np.maximum(part, ink[inner], out=part)
        corner = np.array([left, top], np.float32)
        self.digits += [Outline(each.points + corner, each.label) for each in digits]
        return True

    def scatter(self, rng: Generator, strip: Strip, *, printed: bool = False) -> None:
        """Place a strip anywhere, perhaps across the edge; not if three places are taken."""
        height, width = strip.ink.shape
        for _ in range(3):
            x = rng.uniform(-0.15 * width, max(self.size - 0.85 * width, 1))
            y = rng.uniform(-0.15 * height, max(self.size - 0.85 * height, 1))
            angle = rng.normal(0, 0.04) if rng.random() < 0.9 else rng.uniform(-0.7, 0.7)
            if self.place(strip, x, y, 0.0 if printed else angle, printed=printed):
                return

    def rule(
        self, start: tuple[float, float], end: tuple[float, float], strength: float, width: int
    ) -> None:
        """Print a straight line."""
        first, last = (tuple(round(8 * each) for each in point) for point in (start, end))
        cv2.line(self.print, first, last, strength, width, cv2.LINE_AA, 3)


def _turned(strip: Strip, angle: float) -> tuple[Floats, list[Outline]]:
    """Turn a strip around its upper left corner, clockwise, into a larger one."""
    height, width = strip.ink.shape
    cos, sin = np.cos(angle), np.sin(angle)
    turn = np.array([[cos, -sin], [sin, cos]])
    corners = np.array([[0, 0], [width, 0], [0, height], [width, height]]) @ turn.T
    shift = -corners.min(0)
    size = tuple(int(side) for side in np.ceil(np.ptp(corners, axis=0)))
    # Pixels have their centers at whole coordinates, outlines the corners of pixels.
    center = turn @ [0.5, 0.5] + shift - 0.5
    matrix = np.concatenate([turn, center[:, None]], 1)
    ink = cv2.warpAffine(strip.ink, matrix, size)
    digits = [
        Outline((each.points @ turn.T + shift).astype(np.float32), each.label)
        for each in strip.digits
    ]
    return ink, digits
