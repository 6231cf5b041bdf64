"""The lines of ruled and squared paper, and how they are taken away from what is written."""

import cv2
import numpy as np
from numpy.typing import NDArray

from mnist_lit.reading.paper import Mask

RULES = 3  # fewer straight lines are no ruled paper
STEEPEST = 0.1  # slope of a rule
COVERED = 0.5  # share of the picture's width that is seen of a rule
THICKEST = 0.15  # thickness of a rule, as a share of the distance to the next
UNEVEN = 0.2  # how far from evenly spaced a rule may be, as a share of that distance


def without_rules(certain: Mask) -> Mask:
    """Take away the lines of ruled or squared paper, and leave the strokes that cross them.

    As with the staff lines of music (Fujinaga, "Staff detection and removal", 2004): a run of ink
    across the rule that is longer than the rule is thick belongs to a stroke.

    Args:
        certain: ``bool (h, w)``.
    """
    flat, spacing = _rules(certain)
    if not spacing:
        return certain
    # Upright strokes of a row may be as tall as the picture: only squares have upright rules.
    steep, _ = _rules(certain.T, spacing)
    mask = certain.astype(np.uint8)
    for rules, turn in ((flat, False), (steep.T, True)):
        if not rules.any():
            continue
        thickness = _thickness(certain.T & rules.T if turn else certain & rules)
        length = thickness + 3
        kernel = np.ones((1, length) if turn else (length, 1), np.uint8)
        strokes = cv2.morphologyEx(mask, cv2.MORPH_OPEN, kernel)
        mask[rules & (strokes == 0)] = 0
    return mask.astype(bool)


def _rules(certain: Mask, spacing: float = 0) -> tuple[Mask, float]:
    """Where the nearly horizontal rules are, with a pixel more on either side.

    Args:
        certain: ``bool (h, w)``.
        spacing: Distance from rule to rule, if it is known.

    Returns:
        The rules, and their spacing; none and 0 if what there is may be strokes of digits.
    """
    height, width = certain.shape
    rules = np.zeros_like(certain)
    if min(height, width) < 100:
        return rules, 0
    x = np.arange(width) - width / 2
    slope, first, profile = _profile(certain)
    full = profile > COVERED * width
    changes = np.flatnonzero(np.diff(np.r_[False, full, False].astype(int)))
    starts, ends = changes[::2], changes[1::2]
    if len(starts) < RULES:
        return rules, 0
    steps = np.diff(starts)
    spacing = spacing or float(np.median(steps))
    uneven = np.abs(steps / spacing - np.rint(steps / spacing)) > UNEVEN
    if uneven.mean() > 0.25 or np.median(ends - starts) > THICKEST * spacing:
        return rules, 0
    for place in np.flatnonzero(np.convolve(full, np.ones(3), "same") > 0):
        y = np.rint(place + first + slope * x).astype(int)
        inside = (y >= 0) & (y < height)
        rules[y[inside], np.flatnonzero(inside)] = True
    # Three bars may be those of a 5, but rules run off the picture.
    if len(starts) == RULES and not (rules & certain)[:, [0, -1]].any(axis=0).all():
        return np.zeros_like(rules), 0
    return rules, spacing


def _profile(certain: Mask) -> tuple[float, int, NDArray[np.float64]]:
    """The ink along parallels, of the slope at which it is gathered in the fewest of them.

    Returns:
        The slope, the row in which the first parallel crosses the middle of the picture, and the
        pixels of ink on each.
    """
    height, width = certain.shape
    long = np.ones((1, 12), np.uint8)  # what is less is part of no rule, whatever its slope
    rows, columns = np.nonzero(cv2.morphologyEx(certain.astype(np.uint8), cv2.MORPH_OPEN, long))
    every = 1 + rows.size // 100_000  # of the pixels: enough of them
    rows, columns = rows[::every], columns[::every] - width / 2
    steps = round(STEEPEST * width / 2)
    best = np.zeros(height + 2 * steps + 1)
    slope = 0.0
    for each in np.arange(-steps, steps + 1) / (width / 2):
        places = np.rint(rows - each * columns).astype(int) + steps
        profile = np.bincount(places, minlength=len(best)).astype(float)
        if profile @ profile > best @ best:
            best, slope = profile, float(each)
    return slope, -steps, best * every


def _thickness(rules: Mask) -> int:
    """The usual length of vertical runs."""
    steps = np.diff(np.pad(rules, ((1, 1), (0, 0))).astype(np.int8), axis=0)
    starts, ends = (np.nonzero((steps == step).T)[1] for step in (1, -1))
    return int(np.median(ends - starts)) if starts.size else 0
