"""Ensembles: several trained networks predict together, by the mean of their probabilities."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Ensemble(nn.Module):
    """Networks that predict together.

    Lakshminarayanan et al., "Simple and scalable predictive uncertainty estimation using deep
    ensembles", 2017. Input ``float32 (n, 1, 28, 28)`` in [0, 1], output ``(n, 10)`` logits: the
    logarithms of the mean probabilities.

    Args:
        members: The networks.
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, images: Tensor) -> Tensor:
        return mean_logits(torch.stack([member(images) for member in self.members]))


def mean_logits(logits: Tensor) -> Tensor:
    """Average logits ``(members, n, 10)``: the logarithms ``(n, 10)`` of the mean probabilities."""
    return logits.log_softmax(dim=2).logsumexp(dim=0) - math.log(len(logits))
