"""Networks: plain modules from ``float32 (n, 1, 28, 28)`` in [0, 1] to ``(n, 10)`` logits."""

from torch import nn


class TutorialCNN(nn.Sequential):
    """Two 5x5 convolutions, each with ReLU and 2x2 max pooling, and one linear layer.

    The network of the tutorial that this project began with (``docs/tutorial.md``), a relative of
    LeNet-5 (LeCun et al., "Gradient-based learning applied to document recognition", 1998).
    28,938 parameters. Input ``float32 (n, 1, 28, 28)`` in [0, 1], output ``(n, 10)`` logits.
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
