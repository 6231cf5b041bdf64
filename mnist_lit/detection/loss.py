"""The loss of Zhou et al., "Objects as points" (2019), and a cross-entropy of the class."""

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, logsigmoid

from mnist_lit.detection.network import Maps
from mnist_lit.detection.targets import Targets

WEIGHTS = {"center": 1.0, "size": 2.0, "offset": 1.0, "label": 0.3}


def detection_loss(maps: Maps, targets: Targets) -> dict[str, Tensor]:
    """Compute the parts of the loss, each a mean over digits, and their weighted sum ``loss``.

    Args:
        maps: What the network gives for n pages.
        targets: What it should give.
    """
    total = targets.weight.sum().clamp(min=1)
    label = cross_entropy(maps.label, targets.label, reduction="none").unsqueeze(1)
    parts = {
        "center": focal_loss(maps.center, targets.center, targets.counted),
        "size": ((maps.size - targets.size).abs() * targets.weight).sum() / total,
        "offset": ((maps.offset - targets.offset).abs() * targets.weight).sum() / total,
        "label": (label * targets.weight).sum() / total,
    }
    weighted = [WEIGHTS[name] * part for name, part in parts.items()]
    return parts | {"loss": torch.stack(weighted).sum()}


def focal_loss(logits: Tensor, target: Tensor, counted: Tensor) -> Tensor:
    """Compute the penalty-reduced focal loss, per digit.

    Law and Deng, "CornerNet: detecting objects as paired keypoints" (2018), equation 1, with
    exponents 2 and 4: near a center the penalty for a high probability is small.

    Args:
        logits: Of the centers.
        target: 1 at centers, between 0 and 1 around them.
        counted: 0 where nothing is penalized, else 1.
    """
    probability, is_center = logits.sigmoid(), target == 1
    found = (1 - probability) ** 2 * -logsigmoid(logits)
    mistaken = (1 - target) ** 4 * probability**2 * -logsigmoid(-logits)
    penalties = found.where(is_center, mistaken) * counted
    return penalties.sum() / is_center.sum().clamp(min=1)
