"""Draw pen strokes on batches of images, ``float32 (n, 1, 28, 28)``."""

import torch
from torch import Tensor

SIZE = 28
BOX = 20.0  # MNIST's digits fit into 20x20 pixels,
CENTER = 14.0  # with their center of mass at this pixel, counted from 0


def strokes(segments: Tensor, width: Tensor) -> Tensor:
    """Draw straight strokes with round ends.

    Args:
        segments: ``float32 (n, s, 2, 2)``: s strokes per image, each with two ends (x, y) in
            pixels; (0, 0) is the center of the first pixel.
        width: ``float32 (n,)`` in pixels.

    Returns:
        ``float32 (n, 1, 28, 28)`` in [0, 1], antialiased.
    """
    start, end = segments.unsqueeze(4).unbind(2)  # (n, s, 2, 1)
    along = end - start
    away = pixels(segments).T - start  # (n, s, 2, 784)
    share = (away * along).sum(2, keepdim=True) / along.square().sum(2, keepdim=True).clamp(1e-6)
    away -= share.clamp_(0, 1) * along
    distance = away.square_().sum(2).amin(1).sqrt()  # (n, 784)
    return (width.unsqueeze(1) / 2 + 0.5 - distance).clamp(0, 1).view(-1, 1, SIZE, SIZE)


def pixels(like: Tensor) -> Tensor:
    """Return the coordinates (x, y) of all pixels, ``(784, 2)``."""
    y, x = torch.meshgrid(columns(like), columns(like), indexing="ij")
    return torch.stack([x.flatten(), y.flatten()], 1)


def columns(like: Tensor) -> Tensor:
    """Return the coordinates of the columns, ``(28,)``."""
    return torch.arange(SIZE, device=like.device, dtype=like.dtype)


def between(low: float, high: float, like: Tensor) -> Tensor:
    """Sample from the uniform distribution on [low, high) for each element of a batch, ``(n,)``."""
    return low + (high - low) * torch.rand(len(like), device=like.device)
