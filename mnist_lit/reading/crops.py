"""Crops: the ink of each digit alone, cut out of a picture where the detector has found it."""

import cv2
import numpy as np
from numpy.typing import NDArray

from mnist_lit.reading.rules import without_rules

Box = tuple[int, int, int, int]
Floats = NDArray[np.float32]
Gray = NDArray[np.uint8]
Mask = NDArray[np.uint8]

SIDE = 64  # pixels of a crop: the longer side of a digit's box
MARGIN = 22  # pixels of a crop around the box: enough to see rules and neighbors go on
SLACK = 4  # pixels of a crop: how far a digit may reach beyond its box
PAPER = 27  # pixels of a crop: wider than any stroke, so that a closing leaves paper alone
CERTAIN = 0.45  # ink relative to the darkest, from which a pixel is certainly ink
COMPLETE = 0.85  # share of a digit's ink inside its box, above which the rest is its own, too
FRAME = 8  # pixels of a crop: what reaches farther beyond opposite sides surrounds the digit
HALO = 2  # pixels of a crop around certain ink, in which a stroke fades
FAINTEST = 1.0  # level of gray: less contrast is no ink


def cut_out(gray: Gray, boxes: Floats) -> tuple[list[Floats], Floats]:
    """Cut digits out of a picture.

    Args:
        gray: ``uint8 (h, w)``, ink and paper of any brightness.
        boxes: ``float32 (k, 4)``: left, top, right, bottom.

    Returns:
        For each box its ink in [0, 1], ``float32 (h, w)``, without rules and neighbors, and the
        boxes of that ink in the picture, ``float32 (k, 4)``.
    """
    levels = _halved(gray, int(np.max(boxes[:, 2:] - boxes[:, :2], initial=1) // SIDE))
    crops = [_crop(levels, box) for box in boxes]
    light = sum(_darkness(*each) for each in crops) < 0
    inks, refined = [], np.empty_like(boxes)
    for index, (crop, inner) in enumerate(crops):
        ink, part = _ink(255 - crop if light else crop, inner)
        inks.append(ink)
        left, top, right, bottom = boxes[index].tolist()
        scale = max(right - left, bottom - top, 1) / SIDE
        refined[index] = [left, top] * 2 + (np.array(part) - MARGIN) * scale
    return inks, refined


def whole(gray: Gray) -> Floats | None:
    """Return the ink of a picture that is one digit, in [0, 1], or None if it is all of one tone.

    Paper is what there is more of, in the picture and along its edge.

    Args:
        gray: ``uint8 (h, w)``.
    """
    if int(gray.max()) - int(gray.min()) < FAINTEST:
        return None
    _, light = cv2.threshold(gray, 0, 1, cv2.THRESH_OTSU)
    edge = np.concatenate([light[0], light[-1], light[1:-1, 0], light[1:-1, -1]])
    if edge.mean() + light.mean() < 1:
        gray, light = 255 - gray, 1 - light
    paper = float(np.median(gray[light == 1]))
    ink: Floats = ((paper - gray) / (paper - float(gray.min()))).clip(0, 1).astype(np.float32)
    return ink


def is_drawing(ink: Floats) -> bool:
    """Say whether ink is either there or not, as in a drawing program, and less than paper."""
    between = float(((ink > 0.15) & (ink < 0.6)).mean())
    return between < 0.03 and float(ink.mean()) < 0.3


def _halved(gray: Gray, times: int) -> list[Gray]:
    """Return a picture, half of it and so on, until it is at least so many times smaller."""
    levels = [gray]
    while 2 ** (len(levels) - 1) < times and min(levels[-1].shape) > 1:
        size = levels[-1].shape[1] // 2, levels[-1].shape[0] // 2
        half = cv2.resize(levels[-1], size, interpolation=cv2.INTER_AREA)
        levels.append(half.astype(np.uint8, copy=False))
    return levels


def _crop(levels: list[Gray], box: Floats) -> tuple[Gray, Box]:
    """Cut out a box with a margin, scaled; also return where in the crop the box is."""
    left, top, right, bottom = box.tolist()
    longer = max(right - left, bottom - top, 1)
    number = min(int(np.log2(max(longer / SIDE, 1))), len(levels) - 1)
    gray, scale = levels[number], SIDE / longer
    width, height = (max(round(side * scale), 1) for side in (right - left, bottom - top))
    size = width + 2 * MARGIN, height + 2 * MARGIN
    matrix = np.zeros((2, 3))
    for axis, start in enumerate((left, top)):
        factor = scale * levels[0].shape[1 - axis] / gray.shape[1 - axis]
        # OpenCV's pixels have their centers at whole coordinates.
        matrix[axis, axis], matrix[axis, 2] = factor, MARGIN - start * scale + factor / 2 - 0.5
    crop = cv2.warpAffine(
        gray, matrix, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    inner = (MARGIN, MARGIN, size[0] - MARGIN, size[1] - MARGIN)
    return crop.astype(np.uint8, copy=False), inner


def _darkness(crop: Gray, inner: Box) -> float:
    """Return how much more what stands out from a digit's surroundings is dark than light."""
    left, top, right, bottom = inner
    around = crop[MARGIN // 2 : -MARGIN // 2, MARGIN // 2 : -MARGIN // 2]
    low, high = np.percentile(crop[top:bottom, left:right], [5, 95])
    return float(2 * np.median(around) - low - high)


def _ink(crop: Gray, inner: Box) -> tuple[Floats, Box]:
    """Return the ink of the digit in a crop, dark on light, and its box."""
    left, top, right, bottom = inner
    smooth = cv2.GaussianBlur(crop, (0, 0), 0.8)
    paper = cv2.morphologyEx(smooth, cv2.MORPH_CLOSE, np.ones((PAPER, PAPER), np.uint8))
    depth = cv2.subtract(paper, smooth).astype(np.float32)
    darkest = float(np.percentile(depth[top:bottom, left:right], 95))
    if darkest < FAINTEST:
        return np.zeros((1, 1), np.float32), inner
    certain = without_rules((depth > CERTAIN * darkest).astype(np.uint8), inner)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(certain)
    box = slice(max(top - SLACK, 0), bottom + SLACK), slice(max(left - SLACK, 0), right + SLACK)
    own = _own(stats.astype(np.int32), labels[box].astype(np.int32), inner)
    whole = own[labels]
    digit = np.zeros_like(whole)
    digit[box] = whole[box]
    if digit.sum() > COMPLETE * whole.sum():  # what reaches out of the box is no neighbor
        digit = whole
    reach = cv2.dilate(digit, np.ones((2 * HALO + 1, 2 * HALO + 1), np.uint8))
    reach[(labels > 0) & (digit == 0)] = 0
    left, top, width, height = cv2.boundingRect(digit)
    ink = ((depth / darkest).clip(0, 1) * reach).astype(np.float32, copy=False)
    return ink, ((left, top, left + width, top + height) if width else inner)


def _own(stats: NDArray[np.int32], inside: NDArray[np.int32], inner: Box) -> Mask:
    """Return for each component, 0 being paper, whether it belongs to the digit in the box."""
    left, top, width, height, area = stats.T
    part = np.bincount(inside.ravel(), minlength=len(stats))
    part[0] = 0
    mostly = part > 0.6 * area
    dominant = (part > 0.25 * area) & (part > 0.3 * part.sum())
    beyond = np.stack(
        [inner[0] - left, left + width - inner[2], inner[1] - top, top + height - inner[3]]
    )
    frame = (beyond[:2].min(0) > FRAME) | (beyond[2:].min(0) > FRAME)
    own = mostly | dominant
    if part[own & ~frame].sum() > 0.3 * part.sum():
        own &= ~frame
    chosen: Mask = own.astype(np.uint8)
    return chosen
