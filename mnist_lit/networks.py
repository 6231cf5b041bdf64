"""Networks: plain modules from ``float32 (n, 1, 28, 28)`` in [0, 1] to ``(n, 10)`` logits."""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize


class TutorialCNN(nn.Sequential):
    """Two 5x5 convolutions, each with ReLU and 2x2 max pooling, and one linear layer.

    The network of the tutorial (``docs/tutorial.md``), similar to LeNet-5 (LeCun et al.,
    "Gradient-based learning applied to document recognition", 1998). 28,938 parameters. Input
    ``float32 (n, 1, 28, 28)`` in [0, 1], output ``(n, 10)`` logits.
    """

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(1, 16, kernel_size=5, stride=1, padding=2),  # (n, 16, 28, 28)
            nn.ReLU(),
            nn.MaxPool2d(2),  # (n, 16, 14, 14)
            nn.Conv2d(16, 32, kernel_size=5, stride=1, padding=2),  # (n, 32, 14, 14)
            nn.ReLU(),
            nn.MaxPool2d(2),  # (n, 32, 7, 7)
            nn.Flatten(),  # (n, 1568)
            nn.Linear(32 * 7 * 7, 10),
        )


class StrongCNN(nn.Sequential):
    """Six 3x3 convolutions without padding, since MNIST's margin is nearly empty.

    After An et al., "An ensemble of simple convolutional neural network models for MNIST digit
    recognition" (2020), at a fraction of the size. 247,226 parameters by default. Input
    ``float32 (n, 1, 28, 28)`` in [0, 1], output ``(n, 10)`` logits.

    Args:
        channels: Output channels of the convolutions; more in the last cost little time.
    """

    def __init__(
        self, channels: tuple[int, int, int, int, int, int] = (16, 32, 64, 64, 96, 128)
    ) -> None:
        first, second, *others = map(_block, (1, *channels), channels)
        super().__init__(
            *first,  # (n, 16, 26, 26)
            *second,  # (n, 32, 24, 24)
            nn.MaxPool2d(2),  # (n, 32, 12, 12)
            *(layer for block in others for layer in block),  # (n, 128, 4, 4)
            nn.Flatten(),  # (n, 2048)
            nn.Dropout(0.3),
            nn.Linear(channels[-1] * 4 * 4, 10),
        )
        self.channels = channels


class SpeedrunCNN(nn.Sequential):
    """Fixed oriented edge filters, one learned convolution and a hidden layer.

    For ``configs/speedrun.yaml``: the edge filters need no gradients and have a stride of 2, which
    saves time at little cost in accuracy. 72,154 parameters, 400 of them fixed. Input ``float32
    (n, 1, 28, 28)`` in [0, 1], output ``(n, 10)`` logits.
    """

    def __init__(self) -> None:
        edges = nn.Conv2d(1, 16, kernel_size=5, stride=2, bias=False)
        edges.weight = nn.Parameter(edge_filters(16, 5), requires_grad=False)
        super().__init__(
            nn.ZeroPad2d(-2),  # (n, 1, 24, 24): the margin has 0.2 % of the ink
            edges,  # (n, 16, 10, 10)
            nn.ReLU(),
            nn.Conv2d(16, 32, kernel_size=3, bias=False),  # (n, 32, 8, 8)
            nn.MaxPool2d(2),  # (n, 32, 4, 4)
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.Flatten(),  # (n, 512)
            nn.Linear(32 * 4 * 4, 128, bias=False),
            nn.BatchNorm1d(128),
            nn.ReLU(),
            nn.Linear(128, 10),
        )


def edge_filters(n: int, size: int) -> Tensor:
    """Return derivatives of a Gaussian in ``n`` directions around the circle.

    The first-order steerable filters of Freeman and Adelson, "The design and use of steerable
    filters" (1991), with a standard deviation of a quarter of the size and norm 1. Opposite
    filters are negatives of each other, so that ReLU keeps both signs of a response.

    Returns:
        ``float32 (n, 1, size, size)``; filter i responds to ink that increases in the direction
        ``2 pi i / n``, from the x axis to the y axis, which points down.
    """
    offsets = torch.arange(size) - (size - 1) / 2
    y, x = torch.meshgrid(offsets, offsets, indexing="ij")
    gaussian = torch.exp(-(x**2 + y**2) / (2 * (size / 4) ** 2))
    angles = torch.arange(n).view(n, 1, 1) * (2 * math.pi / n)
    filters = (x * angles.cos() + y * angles.sin()) * gaussian  # (n, size, size)
    return normalize(filters.flatten(1)).view(n, 1, size, size)


def _block(channels_in: int, channels_out: int) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(channels_in, channels_out, kernel_size=3, bias=False)
    return convolution, nn.BatchNorm2d(channels_out), nn.ReLU()
