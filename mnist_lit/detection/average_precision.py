"""Average precision at an intersection over union of one half."""

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat
from torchvision.ops import box_area, box_iou

from mnist_lit.detection.boxes import Detections

IOU = 0.5


class AveragePrecision(Metric):
    """The area under the curve of precision over recall.

    As in Everingham et al., "The PASCAL visual object classes challenge" (2015), section 3.5.1,
    with the area from all points. torchmetrics' MeanAveragePrecision computes the same, but needs
    the compiled COCO tools.
    """

    higher_is_better = True
    full_state_update = False
    scores: list[Tensor]
    hits: list[Tensor]
    total: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("scores", [], dist_reduce_fx="cat")
        self.add_state("hits", [], dist_reduce_fx="cat")
        self.add_state("total", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, found: Detections, boxes: Tensor, ignored: Tensor) -> None:
        """Add a picture.

        Args:
            found: What was found in it, the most probable first.
            boxes: ``float32 (k, 4)``: what is in it.
            ignored: ``float32 (m, 4)``: what may be found in it, or not.
        """
        hits = matches(found.boxes, boxes)
        counts = hits | ~within(found.boxes, ignored)
        self.scores.append(found.scores[counts])
        self.hits.append(hits[counts])
        self.total += len(boxes)

    def compute(self) -> Tensor:
        """Return the area; 0 if nothing was found."""
        hits = dim_zero_cat(self.hits)[dim_zero_cat(self.scores).argsort(descending=True)]
        right = hits.cumsum(0)
        precision = right / torch.arange(1, len(hits) + 1, device=hits.device)
        best = precision.flip(0).cummax(0).values.flip(0)  # at this recall or more
        return (best * hits).sum() / self.total.clamp(min=1)


def matches(found: Tensor, boxes: Tensor) -> Tensor:
    """Say of each box found, best first, whether it is the first on a true one: ``bool (k,)``."""
    hits = torch.zeros(len(found), dtype=torch.bool, device=found.device)
    if not len(boxes) or not len(found):
        return hits
    overlap = box_iou(found, boxes)
    for index in range(len(found)):
        best, which = overlap[index].max(0)
        if best >= IOU:
            hits[index] = True
            overlap[:, which] = 0
    return hits


def within(found: Tensor, ignored: Tensor) -> Tensor:
    """Say of each box whether at least half of it is inside one that is ignored."""
    if not len(ignored) or not len(found):
        return torch.zeros(len(found), dtype=torch.bool, device=found.device)
    low = torch.maximum(found[:, None, :2], ignored[None, :, :2])
    high = torch.minimum(found[:, None, 2:], ignored[None, :, 2:])
    shared = (high - low).clamp(min=0).prod(2)  # (k, m)
    inside: Tensor = (shared / box_area(found).clamp(min=1e-6)[:, None]).amax(1) >= 0.5
    return inside
