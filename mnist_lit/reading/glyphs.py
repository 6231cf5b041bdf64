"""Glyphs: what may be a digit in a picture, in MNIST's form and in reading order."""

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np

from mnist_lit.reading.crops import Box, Floats, Gray, cut_out, whole
from mnist_lit.reading.detector import PACKAGED, Detector
from mnist_lit.reading.lines import find_lines
from mnist_lit.reading.mnist_form import normalize
from mnist_lit.reading.pictures import Picture

TINY = 32  # pixels: a picture with no longer side is one digit, as MNIST's are


@dataclass(frozen=True, eq=False)
class Glyph:
    """What may be a digit.

    Attributes:
        image: ``float32 (28, 28)`` in [0, 1], ink 1, in MNIST's form.
        box: Left, top, right and bottom in pixels of the picture; right and bottom are exclusive.
        probability: Probability in [0, 1] that it is a digit.
    """

    image: Floats
    box: Box
    probability: float


@cache
def packaged_detector() -> Detector:
    """Return the packaged detector, which is opened once."""
    return Detector(PACKAGED.read_bytes())


def to_gray(picture: Picture) -> Gray:
    """Convert ``uint8 (h, w, 3)`` RGB to ``uint8 (h, w)``, by luma (ITU-R BT.601)."""
    return cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.uint8, copy=False)


def find_glyphs(gray: Gray) -> list[list[Glyph]]:
    """Find the digits in a picture.

    Args:
        gray: ``uint8 (h, w)``, ink and paper of any brightness.

    Returns:
        Lines from top to bottom, each from left to right; none if there is no digit.
    """
    if max(gray.shape) <= TINY:
        return _only(gray)
    found = packaged_detector().find(gray)
    inks = cut_out(gray, found.boxes)
    corners = np.concatenate([np.floor(found.boxes[:, :2]), np.ceil(found.boxes[:, 2:])], 1)
    glyphs = [
        Glyph(normalize(ink), (left, top, right, bottom), probability)
        for ink, (left, top, right, bottom), probability in zip(
            inks, corners.astype(int).tolist(), found.probabilities.tolist(), strict=True
        )
    ]
    return [[glyphs[index] for index in line] for line in find_lines(found.boxes)]


def _only(gray: Gray) -> list[list[Glyph]]:
    """Return the digit that a tiny picture is, if there is any ink in it."""
    ink = whole(gray)
    if ink is None:
        return []
    left, top, width, height = cv2.boundingRect((ink > 0.5).astype(np.uint8))
    return [[Glyph(normalize(ink), (left, top, left + width, top + height), 1.0)]]
