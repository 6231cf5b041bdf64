"""MNIST's form: scale and center a glyph's ink as the images of MNIST were made."""

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

SIDE, BOX = 28, 20  # MNIST's images, and the box that a digit fits into, in pixels
CENTER = 14  # the pixel, counted from 0, whose middle is the center of mass
THINNEST = 1.5  # pixels in the box: a quarter of MNIST's digits have strokes so thin, none thinner
VISIBLE = 0.1  # ink below it is no part of a glyph's box
THICKENED_AT = 80  # pixels: the longer side of a glyph whose strokes are widened


def normalize(ink: Floats) -> Floats:
    """Bring a glyph into MNIST's form.

    LeCun et al., "Gradient-based learning applied to document recognition" (1998): scaled with
    antialiasing to fit 20x20, its aspect ratio kept, and centered by mass in 28x28. Strokes that
    would become thinner than MNIST's are widened first, or they would fade.

    Args:
        ink: ``float32 (h, w)`` in [0, 1], ink 1 on 0.

    Returns:
        ``float32 (28, 28)`` in [0, 1]; its maximum is 1 if there is any ink.
    """
    ink = _trimmed(ink)
    if not ink.size:
        return np.zeros((SIDE, SIDE), np.float32)
    ink = np.minimum(ink / np.percentile(ink[ink > 0.5 * ink.max()], 75), 1)
    missing = THINNEST - stroke_width(ink > 0.5) * BOX / max(ink.shape)
    if missing > 0:
        ink = _widened(ink, missing / BOX)
    scale = BOX / max(ink.shape)
    if scale != 1:
        size = max(1, round(ink.shape[1] * scale)), max(1, round(ink.shape[0] * scale))
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        ink = cv2.resize(ink, size, interpolation=method).astype(np.float32, copy=False).clip(0, 1)
    return _centered(ink / ink.max())


def stroke_width(mask: NDArray[np.bool_]) -> float:
    """Return the usual width of strokes in pixels: twice the distance of their middles to paper."""
    padded = np.pad(mask.astype(np.uint8), 1)
    distance = cv2.distanceTransform(padded, cv2.DIST_L2, 5)
    middle = (distance >= cv2.dilate(distance, np.ones((3, 3), np.uint8))) & (padded > 0)
    return float(2 * np.median(distance[middle]) - 0.5) if middle.any() else 0.0


def _trimmed(ink: Floats) -> Floats:
    """Cut off margins without ink."""
    rows, columns = (np.flatnonzero(ink.max(axis=axis) > VISIBLE) for axis in (1, 0))
    if not rows.size:
        return ink[:0]
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _widened(ink: Floats, share: float) -> Floats:
    """Widen strokes by a share of the longer side."""
    if max(ink.shape) < THICKENED_AT:  # or a pixel would be the smallest step
        factor = THICKENED_AT / max(ink.shape)
        large = cv2.resize(ink, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
        ink = large.astype(np.float32, copy=False)
    pixels = max(1, round(share * max(ink.shape)))
    kernel = np.ones((pixels + 1, pixels + 1), np.uint8)  # a disk would take minutes at its worst
    return _trimmed(cv2.dilate(np.pad(ink, pixels), kernel).clip(0, 1))


def _centered(ink: Floats) -> Floats:
    height, width = ink.shape
    total = ink.sum()
    y = ink.sum(axis=1) @ np.arange(height) / total
    x = ink.sum(axis=0) @ np.arange(width) / total
    top = min(max(round(CENTER - y), 0), SIDE - height)
    left = min(max(round(CENTER - x), 0), SIDE - width)
    return np.pad(ink, ((top, SIDE - height - top), (left, SIDE - width - left)))
