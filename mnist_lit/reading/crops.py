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
HALO = 2  # pixels of a crop around certain ink, in which a stroke fades
FAINTEST = 1.0  # level of gray: less contrast is no ink


def cut_out(gray: Gray, boxes: Floats) -> list[Floats]:
    """Cut digits out of a picture.

    Args:
        gray: ``uint8 (h, w)``, ink and paper of any brightness.
        boxes: ``float32 (k, 4)``: left, top, right, bottom.

    Returns:
        For each box its ink in [0, 1], ``float32 (h, w)``, without rules and neighbors.
    """
    if sum(_darkness(gray, box) for box in boxes) < 0:
        gray = 255 - gray
    return [_ink(*_crop(gray, box)) for box in boxes]


def whole(gray: Gray) -> Floats | None:
    """Return the ink of a small picture that is one digit, in [0, 1], or None if it has none.

    Paper is what there is more of, in the picture and along its edge.
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


def _crop(gray: Gray, box: Floats) -> tuple[Gray, Box]:
    """Cut out a box with a margin, scaled; also return where in the crop the box is."""
    left, top, right, bottom = box.tolist()
    scale = SIDE / max(right - left, bottom - top, 1)
    width, height = (right - left) * scale, (bottom - top) * scale
    size = round(width) + 2 * MARGIN, round(height) + 2 * MARGIN
    if scale < 0.5:  # an affine map takes single pixels, so reduce by a whole number first
        step = int(1 / scale)
        x, y, reach = int(left), int(top), int(MARGIN / scale) + step
        part = gray[max(y - reach, 0) : int(bottom) + reach, max(x - reach, 0) : int(right) + reach]
        shape = max(part.shape[1] // step, 1), max(part.shape[0] // step, 1)
        factors = part.shape[1] / shape[0], part.shape[0] / shape[1]
        part = cv2.resize(part, shape, interpolation=cv2.INTER_AREA)
        left = (left - max(x - reach, 0)) / factors[0]
        top = (top - max(y - reach, 0)) / factors[1]
        gray, across, down = part, scale * factors[0], scale * factors[1]
    else:
        across = down = scale
    shift = (MARGIN - left * across + across / 2 - 0.5, MARGIN - top * down + down / 2 - 0.5)
    matrix = np.array([[across, 0, shift[0]], [0, down, shift[1]]])
    crop = cv2.warpAffine(
        gray, matrix, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    inner = (MARGIN, MARGIN, size[0] - MARGIN, size[1] - MARGIN)
    return crop.astype(np.uint8, copy=False), inner


def _darkness(gray: Gray, box: Floats) -> float:
    """Return how much more what stands out from a digit's surroundings is dark than light."""
    crop, (left, top, right, bottom) = _crop(gray, box)
    around = crop[MARGIN // 2 : -MARGIN // 2, MARGIN // 2 : -MARGIN // 2]
    low, high = np.percentile(crop[top:bottom, left:right], [5, 95])
    return float(2 * np.median(around) - low - high)


def _ink(crop: Gray, inner: Box) -> Floats:
    """Return the ink of the digit in a crop, dark on light."""
    left, top, right, bottom = inner
    smooth = cv2.GaussianBlur(crop, (0, 0), 0.8)
    paper = cv2.morphologyEx(smooth, cv2.MORPH_CLOSE, np.ones((PAPER, PAPER), np.uint8))
    depth = cv2.subtract(paper, smooth).astype(np.float32)
    darkest = float(np.percentile(depth[top:bottom, left:right], 95))
    if darkest < FAINTEST:
        return np.zeros((1, 1), np.float32)
    certain = (depth > CERTAIN * darkest).astype(np.uint8)
    certain = without_rules(certain, inner)
    _, labels = cv2.connectedComponents(certain)
    box = (
        slice(max(top - SLACK, 0), bottom + SLACK),
        slice(max(left - SLACK, 0), right + SLACK),
    )
    own = _own(labels, labels[box])
    reach = cv2.dilate(own[labels], np.ones((2 * HALO + 1, 2 * HALO + 1), np.uint8))
    reach[(labels > 0) & (own[labels] == 0)] = 0
    ink: Floats = (depth / darkest).clip(0, 1)[box] * reach[box]
    return ink


def _own(labels: NDArray[np.int32], inside: NDArray[np.int32]) -> Mask:
    """Return for each label, 0 being paper, whether that ink belongs to the digit in the box."""
    count = int(labels.max()) + 1
    area = np.bincount(labels.ravel(), minlength=count)
    part = np.bincount(inside.ravel(), minlength=count)
    part[0] = 0
    mostly = part > 0.6 * area
    dominant = (part > 0.25 * area) & (part > 0.3 * part.sum())
    return (mostly | dominant).astype(np.uint8)
