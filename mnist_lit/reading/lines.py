"""Lines: put the boxes of digits into reading order, and tell the numbers of a line apart."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

LEVEL = 0.35  # of the lower box's height: the least overlap of two boxes on one line
NEAR = 2.5  # heights: how far apart neighbors may be that tell how lines slope
STEEPEST = 1.0  # slope: as tall as wide
APART = 0.4  # heights: how much wider a gap between numbers is than any gap within them,
WIDER = 1.5  # and how many times as wide
WIDE = 0.6  # heights: its least width
FARTHEST = 4.0  # heights: a gap that always does


def find_lines(boxes: Floats) -> list[list[int]]:
    """Put boxes into lines, which may slope.

    Args:
        boxes: ``float32 (k, 4)``: left, top, right, bottom.

    Returns:
        Indices of the boxes: lines from top to bottom, each from left to right.
    """
    if not len(boxes):
        return []
    centers: Floats = (boxes[:, :2] + boxes[:, 2:]) * np.float32(0.5)
    heights: Floats = boxes[:, 3] - boxes[:, 1]
    slope = _slope(centers, heights)
    middles = centers[:, 1] - slope * centers[:, 0]  # where a line through the box meets the edge
    lines: list[list[int]] = []
    for index in np.argsort(centers[:, 0], kind="stable").tolist():
        ends = [line[-1] for line in lines]
        overlaps = _overlaps(middles, heights, index, ends)
        best = int(overlaps.argmax()) if ends else -1
        if best >= 0 and overlaps[best] >= LEVEL:
            lines[best].append(index)
        else:
            lines.append([index])
    return sorted(lines, key=lambda line: float(middles[line].mean()))


def split_numbers(boxes: Floats) -> list[int]:
    """Return where the numbers of a line begin, the first at 0.

    Args:
        boxes: ``float32 (k, 4)`` of one line, from left to right.
    """
    height = float(np.median(boxes[:, 3] - boxes[:, 1]))
    gaps = (boxes[1:, 0] - boxes[:-1, 2]).clip(0) / max(height, 1e-6)
    ordered = np.sort(gaps)
    narrower, wider = ordered[:-1], ordered[1:]
    between = wider[(wider > WIDE) & (wider > narrower + APART) & (wider > WIDER * narrower)]
    least = min([FARTHEST, *between.tolist()])
    return [0, *(np.flatnonzero(gaps >= least) + 1).tolist()]


def _slope(centers: Floats, heights: Floats) -> float:
    """Return how much lower lines are for each pixel to the right, by digits beside each other."""
    apart = centers[np.newaxis] - centers[:, np.newaxis]  # (k, k, 2): from each to each
    size = (heights[np.newaxis] + heights[:, np.newaxis]) / 2
    across, down = apart[..., 0], apart[..., 1]
    distance = np.hypot(across, 2 * down)  # the next digit is rather beside than below
    beside = (across > 0) & (np.abs(down) < STEEPEST * across) & (across < NEAR * size)
    distance[~beside] = np.inf
    right = distance.argmin(1)
    links = np.flatnonzero(np.isfinite(distance.min(1)))
    if not links.size:
        return 0.0
    return float(np.median(down[links, right[links]] / across[links, right[links]]))


def _overlaps(middles: Floats, heights: Floats, index: int, others: list[int]) -> Floats:
    """Return how much of the lower one's height a box shares with each of the others."""
    tops = np.maximum((middles - heights / 2)[others], middles[index] - heights[index] / 2)
    bottoms = np.minimum((middles + heights / 2)[others], middles[index] + heights[index] / 2)
    shared: Floats = (bottoms - tops) / np.minimum(heights[others], heights[index]).clip(1e-6)
    return shared
