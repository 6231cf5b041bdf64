"""Targets: the maps that a perfect network would give for a page."""

from typing import NamedTuple

import torch
from torch import Tensor

from mnist_lit.detection.network import STRIDE

SPREAD = 0.12  # standard deviation of a peak relative to the digit's width and height
NARROWEST = 0.5  # places: the least standard deviation
CORE = 0.5  # height of a peak above which places learn the size, offset and class


class Targets(NamedTuple):
    """What the network learns, ``float32 (n, c, h / 4, w / 4)`` unless said otherwise.

    Attributes:
        center: 1 at the center of a digit, falling off to 0 around it.
        size: The logarithms of width and height, in places.
        offset: From the middle of the place to the center, x and y, in places.
        label: ``int64 (n, h / 4, w / 4)``: the digit.
        weight: How much size, offset and label count; 1 in sum over the places of a digit.
        counted: 0 where a digit is neither to be found nor to be missed, else 1.
    """

    center: Tensor
    size: Tensor
    offset: Tensor
    label: Tensor
    weight: Tensor
    counted: Tensor


def page_targets(
    boxes: Tensor, labels: Tensor, ignored: Tensor, height: int, width: int
) -> Targets:
    """Draw the targets of a page.

    Peaks are Gaussian with the digit's proportions, as in Liu et al., "Training-time-friendly
    network for real-time object detection" (2020).

    Args:
        boxes: ``float32 (k, 4)``: left, top, right, bottom in pixels.
        labels: ``int64 (k,)``.
        ignored: ``float32 (m, 4)``: boxes in which the center does not count.
        height: Of the page in pixels.
        width: Of the page in pixels.

    Returns:
        Targets without their first dimension.
    """
    rows, columns = -(-height // STRIDE), -(-width // STRIDE)
    counted = torch.ones(1, rows, columns)
    for left, top, right, bottom in (ignored / STRIDE).tolist():
        counted[:, int(top) : int(bottom) + 1, int(left) : int(right) + 1] = 0
    if not len(boxes):
        nothing = torch.zeros(2, rows, columns)
        return Targets(nothing[:1], nothing, nothing, nothing[0].long(), nothing[:1], counted)
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2 / STRIDE  # (k, 2)
    extents = ((boxes[:, 2:] - boxes[:, :2]) / STRIDE).clamp(min=0.25)
    x, y = (torch.arange(n) + 0.5 for n in (columns, rows))
    center, owner = _peaks(x, y, centers, extents).max(0)
    core = center * (center > CORE)
    total = torch.zeros(len(boxes)).index_add(0, owner.flatten(), core.flatten())
    place = torch.stack([x.expand(rows, -1), y.unsqueeze(1).expand(-1, columns)])
    return Targets(
        center.unsqueeze(0),
        extents.log()[owner].movedim(2, 0),
        centers[owner].movedim(2, 0) - place,
        labels[owner],
        (core / total.clamp(min=1e-6)[owner]).unsqueeze(0),
        counted.maximum((center == 1).float()),
    )


def _peaks(x: Tensor, y: Tensor, centers: Tensor, extents: Tensor) -> Tensor:
    """Draw a peak for each digit, ``(k, rows, columns)``, exactly 1 in the place of its center."""
    spread = (SPREAD * extents).clamp(min=NARROWEST)
    across = (-(((x - centers[:, :1]) / spread[:, :1]) ** 2) / 2).exp()  # (k, columns)
    down = (-(((y - centers[:, 1:]) / spread[:, 1:]) ** 2) / 2).exp()  # (k, rows)
    peaks = down.unsqueeze(2) * across.unsqueeze(1)
    column, row = centers.long().unbind(1)
    peaks[torch.arange(len(peaks)), row.clamp(0, len(y) - 1), column.clamp(0, len(x) - 1)] = 1
    return peaks
