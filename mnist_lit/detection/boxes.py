"""From maps to boxes: peaks of the centers, with non-maximum suppression."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d
from torchvision.ops import nms

from mnist_lit.detection.network import STRIDE, Maps

OVERLAP = 0.5  # intersection over union above which the less probable of two boxes is dropped


class Detections(NamedTuple):
    """The digits found in a picture, the most probable first.

    Attributes:
        boxes: ``float32 (k, 4)``: left, top, right, bottom in pixels.
        scores: ``float32 (k,)`` in [0, 1].
        labels: ``int64 (k,)`` in 0..9.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor


def box_maps(maps: Maps) -> Tensor:
    """Return the box that each place suggests, in pixels: ``float32 (n, 4, h / 4, w / 4)``."""
    rows, columns = maps.size.shape[2:]
    like = maps.size
    x = torch.arange(columns, dtype=like.dtype, device=like.device) + 0.5
    y = torch.arange(rows, dtype=like.dtype, device=like.device).unsqueeze(1) + 0.5
    center = maps.offset + torch.stack([x.expand(rows, columns), y.expand(rows, columns)])
    half = maps.size.exp() / 2
    return torch.cat([center - half, center + half], 1) * STRIDE


def detect(maps: Maps, threshold: float = 0.1, limit: int = 300) -> list[Detections]:
    """Find the digits of n pictures.

    Args:
        maps: Of the n pictures.
        threshold: The least probability of a center.
        limit: The most centers of a picture before suppression.
    """
    scores = maps.center.sigmoid()
    peaks = scores * (scores == max_pool2d(scores, 3, 1, 1))
    best, places = peaks.flatten(1).topk(min(limit, peaks[0].numel()), 1)  # (n, limit)
    boxes = box_maps(maps).flatten(2)  # (n, 4, places)
    labels = maps.label.argmax(1).flatten(1)
    found = []
    for index, (score, place) in enumerate(zip(best, places, strict=True)):
        place = place[score >= threshold]
        score = score[: len(place)]
        kept = nms(boxes[index, :, place].T, score, OVERLAP)
        place = place[kept]
        found.append(Detections(boxes[index, :, place].T, score[kept], labels[index, place]))
    return found
