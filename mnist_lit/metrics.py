"""What a network's answers are worth: accuracy, calibration, and each error by its image."""

from statistics import NormalDist
from typing import Any

from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot
from torchmetrics import Metric
from torchmetrics.functional.classification import multiclass_confusion_matrix
from torchmetrics.utilities import dim_zero_cat

# What a judgement has one number of, so that it makes a curve.
SCALARS = ("loss", "accuracy", "calibration_error", "brier_score")


class Answers(Metric):
    """Keeps the index, label and logits of every image, and gathers those of all processes.

    What is computed from them does not depend on the batch size or the number of processes.
    """

    full_state_update = False
    indices: list[Tensor]
    labels: list[Tensor]
    logits: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0  # images that this process has added
        for state in ("indices", "labels", "logits"):
            self.add_state(state, default=[], dist_reduce_fx="cat")

    def update(self, indices: Tensor, labels: Tensor, logits: Tensor) -> None:
        """Add a batch.

        Args:
            indices: ``int64 (n,)``, the images' places in their data set.
            labels: ``int64 (n,)`` in 0..9.
            logits: ``float32 (n, 10)``.
        """
        self.seen += len(labels)
        self.indices.append(indices)
        self.labels.append(labels)
        self.logits.append(logits)

    def reset(self) -> None:
        """Forget all images."""
        super().reset()
        self.seen = 0

    def compute(self) -> tuple[Tensor, Tensor, Tensor]:
        """Give indices, labels and logits of all images, in the order of the indices."""
        indices, order = dim_zero_cat(self.indices).sort()
        return indices, dim_zero_cat(self.labels)[order], dim_zero_cat(self.logits)[order]


def judge(indices: Tensor, labels: Tensor, logits: Tensor) -> dict[str, Any]:
    """Measure what answers are worth.

    Args:
        indices: ``int64 (n,)``, by which errors are named.
        labels: ``int64 (n,)`` in 0..9.
        logits: ``float32 (n, 10)``.

    Returns:
        ``images`` and ``errors``, counts; ``accuracy`` in [0, 1] and ``accuracy_interval``, its
        95 % interval; ``loss``, the mean negative log-likelihood in nats; ``calibration_error`` in
        [0, 1]; ``brier_score`` in [0, 2], summed over the digits (Brier, "Verification of forecasts
        expressed in terms of probability", 1950); ``accuracy_by_digit``, which is the recall, and
        ``precision_by_digit``, ``None`` where there is nothing to divide by; ``confusion``, counts
        with a row for each true digit; ``wrong``, the indices of the errors.
    """
    logits = logits.double()
    probabilities, predictions = logits.softmax(dim=1), logits.argmax(dim=1)
    confusion = multiclass_confusion_matrix(predictions, labels, 10)
    images, right = len(labels), confusion.diag()
    accuracy = right.sum().double() / images
    squares = (probabilities - one_hot(labels, 10)).square().sum(dim=1)
    return {
        "images": images,
        "errors": images - int(right.sum()),
        "accuracy": accuracy.item(),
        "accuracy_interval": [end.item() for end in wilson_interval(accuracy, images)],
        "loss": cross_entropy(logits, labels).item(),
        "calibration_error": calibration_error(probabilities, labels),
        "brier_score": squares.mean().item(),
        "accuracy_by_digit": _shares(right, confusion.sum(dim=1)),
        "precision_by_digit": _shares(right, confusion.sum(dim=0)),
        "confusion": confusion.tolist(),
        "wrong": indices[predictions != labels].tolist(),
    }


def worst_errors(labels: Tensor, logits: Tensor) -> Tensor:
    """Give the places of the images that are read wrong, the highest loss first.

    Args:
        labels: ``int64 (n,)`` in 0..9.
        logits: ``float32 (n, 10)``.
    """
    losses = cross_entropy(logits, labels, reduction="none")
    wrong = (logits.argmax(dim=1) != labels).nonzero().flatten()
    return wrong[losses[wrong].argsort(descending=True)]


def calibration_error(probabilities: Tensor, labels: Tensor, bins: int = 15) -> float:
    """The expected calibration error: how far confidence and accuracy lie apart, on average.

    Guo et al., "On calibration of modern neural networks", 2017, with bins of equal width.

    Args:
        probabilities: ``(n, 10)`` in [0, 1]; an image's largest one is its confidence.
        labels: ``int64 (n,)`` in 0..9.
        bins: Their number.

    Returns:
        From 0 to 1; not a number if a probability is none.
    """
    if probabilities.isnan().any():
        return float("nan")
    # Not by torchmetrics: it computes in single precision, and gives a confidence of exactly 1 a
    # bin of its own.
    confidences, predictions = probabilities.double().max(dim=1)
    excess = confidences - predictions.eq(labels).double()
    places = (confidences * bins).long().clamp(max=bins - 1)
    return (places.bincount(weights=excess).abs().sum() / len(labels)).item()


def wilson_interval(share: Tensor, n: Tensor | int) -> tuple[Tensor, Tensor]:
    """The 95 % score interval of a share, which has a width even where all or none are right.

    Wilson, "Probable inference, the law of succession, and statistical inference", 1927.

    Args:
        share: In [0, 1], of any shape.
        n: Number of trials, at least 1.

    Returns:
        Lower and upper ends in [0, 1], of the shape of ``share``.
    """
    z = NormalDist().inv_cdf(0.975)
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * (share * (1 - share) / n + z**2 / (4 * n**2)).sqrt() / (1 + z**2 / n)
    return (centre - half).clamp(min=0), (centre + half).clamp(max=1)


def _shares(parts: Tensor, wholes: Tensor) -> list[float | None]:
    return [
        part / whole if whole else None
        for part, whole in zip(parts.tolist(), wholes.tolist(), strict=True)
    ]
