"""Evaluation: gather the logits of all images from all processes, and score them."""

from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot
from torchmetrics import Metric
from torchmetrics.functional.classification import multiclass_confusion_matrix
from torchmetrics.utilities import dim_zero_cat

SCALARS = ("loss", "accuracy", "calibration_error", "brier_score")  # scores that are one number


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The results of a validation or test; all tensors are on the CPU, in the order of the images.

    Args:
        indices: ``int64 (n,)``, positions of the images in their data set.
        labels: ``int64 (n,)`` in 0..9.
        logits: ``float32 (n, 10)``.
        scores: ``images`` and ``errors``, counts; ``accuracy`` in [0, 1] and its 95 % interval
            ``accuracy_interval``; ``loss``, the mean negative log-likelihood in nats;
            ``calibration_error`` in [0, 1]; ``brier_score`` in [0, 2], summed over the digits
            (Brier, "Verification of forecasts expressed in terms of probability", 1950);
            ``accuracy_by_digit``, which is the recall, and ``precision_by_digit``, None where
            undefined; ``confusion``, counts with a row for each true digit; ``wrong``, the
            indices of the errors.
    """

    indices: Tensor
    labels: Tensor
    logits: Tensor
    scores: dict[str, Any]


class Outputs(Metric):
    """Collects all labels and logits, so that scores do not depend on batches or processes."""

    full_state_update = False
    indices: list[Tensor]
    labels: list[Tensor]
    logits: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0  # images that this process has added
        for state in ("indices", "labels", "logits"):
            self.add_state(state, default=[], dist_reduce_fx="cat")

    def update(self, labels: Tensor, logits: Tensor, rank: int = 0, world_size: int = 1) -> None:
        """Add a batch, ``(n,)`` and ``(n, 10)``; image i belongs to process i modulo world size."""
        places = torch.arange(self.seen, self.seen + len(labels), device=labels.device)
        self.seen += len(labels)
        self.indices.append(places * world_size + rank)
        self.labels.append(labels)
        self.logits.append(logits)

    def reset(self) -> None:
        """Forget all images."""
        super().reset()
        self.seen = 0

    def compute(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return indices, labels and logits of all images, sorted by index."""
        indices, order = dim_zero_cat(self.indices).sort()
        return indices, dim_zero_cat(self.labels)[order], dim_zero_cat(self.logits)[order]


def evaluate(indices: Tensor, labels: Tensor, logits: Tensor) -> Evaluation:
    """Score logits ``(n, 10)`` against labels ``(n,)``, in double precision."""
    # torchmetrics squeezes tensors with one element.
    indices, labels, logits = indices.reshape(-1).cpu(), labels.reshape(-1).cpu(), logits.cpu()
    probabilities, predictions = logits.double().softmax(dim=1), logits.argmax(dim=1)
    confusion = multiclass_confusion_matrix(predictions, labels, 10)
    images, correct = len(labels), confusion.diag()
    accuracy = correct.sum().double() / images
    squares = (probabilities - one_hot(labels, 10)).square().sum(dim=1)
    scores = {
        "images": images,
        "errors": images - int(correct.sum()),
        "accuracy": accuracy.item(),
        "accuracy_interval": [end.item() for end in wilson_interval(accuracy, images)],
        "loss": cross_entropy(logits.double(), labels).item(),
        "calibration_error": calibration_error(probabilities, labels),
        "brier_score": squares.mean().item(),
        "accuracy_by_digit": _shares(correct, confusion.sum(dim=1)),
        "precision_by_digit": _shares(correct, confusion.sum(dim=0)),
        "confusion": confusion.tolist(),
        "wrong": indices[predictions != labels].tolist(),
    }
    return Evaluation(indices, labels, logits, scores)


def calibration_error(probabilities: Tensor, labels: Tensor, bins: int = 15) -> float:
    """Return the expected calibration error, the mean gap between confidence and accuracy.

    Guo et al., "On calibration of modern neural networks", 2017, with bins of equal width.

    Args:
        probabilities: ``(n, 10)`` in [0, 1]; the largest one is the confidence.
        labels: ``int64 (n,)`` in 0..9.
        bins: Number of bins.

    Returns:
        In [0, 1]; NaN if a probability is NaN.
    """
    if probabilities.isnan().any():
        return float("nan")
    # torchmetrics uses single precision, and a bin of its own for a confidence of exactly 1.
    confidences, predictions = probabilities.double().max(dim=1)
    excess = confidences - predictions.eq(labels).double()
    places = (confidences * bins).long().clamp(max=bins - 1)
    return (places.bincount(weights=excess).abs().sum() / len(labels)).item()


def wilson_interval(share: Tensor, n: Tensor | int) -> tuple[Tensor, Tensor]:
    """Return lower and upper ends of the 95 % score interval of shares in [0, 1] of ``n`` trials.

    Wilson, "Probable inference, the law of succession, and statistical inference", 1927.
    """
    z = NormalDist().inv_cdf(0.975)
    center = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * (share * (1 - share) / n + z**2 / (4 * n**2)).sqrt() / (1 + z**2 / n)
    return (center - half).clamp(min=0), (center + half).clamp(max=1)


def _shares(parts: Tensor, totals: Tensor) -> list[float | None]:
    pairs = zip(parts.tolist(), totals.tolist(), strict=True)
    return [part / total if total else None for part, total in pairs]
