"""Rules: takes straight lines that cross a crop out of it, be they ruled, squared or a table's."""

import cv2
import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.uint8]
Box = tuple[int, int, int, int]

SHARE = 0.75  # of the margin that a rule covers
THICKEST = 10  # pixels
STEEPEST = 0.12  # slope of a rule: paper is never quite straight
EXCESS = 2  # pixels: a stroke that crosses a rule reaches farther beyond it


def without_rules(ink: Mask, inner: Box) -> Mask:
    """Take out lines that go on beyond both sides of a digit, but not strokes that cross them.

    Args:
        ink: ``uint8 (h, w)``: 1 where there is ink.
        inner: Left, top, right and bottom of the digit.

    Returns:
        The ink that remains.
    """
    left, top, right, bottom = inner
    ink = _without_horizontal(ink, left, right)
    return np.ascontiguousarray(_without_horizontal(ink.T, top, bottom).T)


def _without_horizontal(ink: Mask, left: int, right: int) -> Mask:
    height, width = ink.shape
    left, right = max(left - 3, 1), min(right + 3, width - 1)
    starts, ends = _bands(ink[:, :left]), _bands(ink[:, right:])
    if not (len(starts) and len(ends)):
        return ink
    remaining, x = ink.copy(), np.arange(width)
    for first, last in starts:
        nearest = ends[np.abs(ends.sum(1) - first - last).argmin()]
        begin, end = (first + last - 1) / 2, (nearest.sum() - 1) / 2
        slope = (end - begin) / ((width + right - left) / 2)
        if abs(slope) > STEEPEST:
            continue
        middle = np.rint(begin + (x - left / 2) * slope).astype(int)
        half = max(last - first, nearest[1] - nearest[0]) // 2 + 1
        above, below = (
            ink[(middle + side * (half + EXCESS)).clip(0, height - 1), x] for side in (-1, 1)
        )
        alone = (above | below) == 0
        for shift in range(-half, half + 1):
            remaining[(middle + shift).clip(0, height - 1)[alone], x[alone]] = 0
    return remaining


def _bands(margin: Mask) -> NDArray[np.int64]:
    """Return first and last (exclusive) row of what covers a margin's width, ``(n, 2)``."""
    covered = cv2.reduce(margin, 1, cv2.REDUCE_AVG, dtype=cv2.CV_32F)[:, 0] >= SHARE
    edges = np.flatnonzero(np.diff(np.pad(covered.astype(np.int8), 1)))
    bands = edges.reshape(-1, 2)
    return bands[bands[:, 1] - bands[:, 0] <= THICKEST]
