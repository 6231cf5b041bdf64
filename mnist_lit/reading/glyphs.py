"""Glyphs: what may be a digit in a picture, in MNIST's form and in reading order."""

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np

from mnist_lit.reading.crops import Box, Floats, Gray, cut_out, is_drawing, whole
from mnist_lit.reading.detector import PACKAGED, Detector, suppressed
from mnist_lit.reading.lines import find_lines
from mnist_lit.reading.mnist_form import normalize

DRAWING = 256  # pixels: the longer side at which a picture is looked at as a single digit
SAME_INK = 0.8  # intersection over union of ink above which two detections are one digit
UNFOUND = 0.2  # probability of a digit that the detector has not found
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


def find_glyphs(gray: Gray) -> list[list[Glyph]]:
    """Find the digits in a picture.

    A tiny picture is one digit. A drawing in which the detector finds none is a doubtful one.

    Args:
        gray: ``uint8 (h, w)``, ink and paper of any brightness.

    Returns:
        Lines from top to bottom, each from left to right; none if there is no digit.
    """
    if max(gray.shape) <= TINY:
        return _single(gray)
    found = packaged_detector().find(gray)
    if not len(found.boxes):
        return _single(gray)
    inks, boxes = cut_out(gray, found.boxes)
    distinct = suppressed(boxes, overlap=SAME_INK, inside=1.0)
    kept = [index for index in distinct if inks[index].any()]
    boxes = np.concatenate([np.floor(boxes[kept, :2]), np.ceil(boxes[kept, 2:])], 1)
    boxes = boxes.clip(0, [gray.shape[1], gray.shape[0]] * 2)
    glyphs = [
        Glyph(normalize(inks[index]), (left, top, right, bottom), float(found.probabilities[index]))
        for index, (left, top, right, bottom) in zip(kept, boxes.astype(int).tolist(), strict=True)
    ]
    return [[glyphs[index] for index in line] for line in find_lines(boxes)]


def _single(gray: Gray) -> list[list[Glyph]]:
    """Return the digit that a tiny picture or a drawing is, if there is any ink in it."""
    small, is_tiny = _reduced(gray), max(gray.shape) <= TINY
    ink = whole(small)
    if ink is None or not (is_tiny or is_drawing(ink)):
        return []
    left, top, width, height = cv2.boundingRect((ink > 0.5).astype(np.uint8))
    across, down = gray.shape[1] / small.shape[1], gray.shape[0] / small.shape[0]
    corners = left * across, top * down, (left + width) * across, (top + height) * down
    left, top, right, bottom = (round(corner) for corner in corners)
    return [[Glyph(normalize(ink), (left, top, right, bottom), 1.0 if is_tiny else UNFOUND)]]


def _reduced(gray: Gray) -> Gray:
    """Scale a picture down to sides of at most ``DRAWING`` pixels."""
    scale = DRAWING / max(gray.shape)
    if scale >= 1:
        return gray
    size = max(1, round(gray.shape[1] * scale)), max(1, round(gray.shape[0] * scale))
    return cv2.resize(gray, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
