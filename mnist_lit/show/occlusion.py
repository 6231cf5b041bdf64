"""Occlusion: which pixels a prediction rests on."""

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from mnist_lit.module import DigitClassifier
from mnist_lit.training.evaluation import predict_logits

SIZE = 5  # pixels of the square's side: wider than a stroke, so that it interrupts one


def occlusion_maps(model: DigitClassifier, images: Tensor) -> Tensor:
    """Measure how much each part of an image supports its prediction.

    As in Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks", 2014, a blank
    square is moved across the image. The value of a pixel is the fall in the log odds of the
    predicted digit with the square around it; where the ink opposes the prediction, they rise.

    Args:
        model: In evaluation mode.
        images: ``uint8 (n, 28, 28)``.

    Returns:
        ``float32 (n, 28, 28)``, in nats.
    """
    centers = torch.eye(28 * 28).view(-1, 1, 28, 28)
    squares = max_pool2d(centers, SIZE, stride=1, padding=SIZE // 2)
    outside = squares.squeeze(1) == 0  # (784, 28, 28)
    maps = []
    for image in images:
        logits = predict_logits(model, torch.cat([image[None], image * outside]))  # (785, 10)
        odds = _log_odds(logits, logits[0].argmax())
        maps.append((odds[0] - odds[1:]).view(28, 28))
    return torch.stack(maps)


def _log_odds(logits: Tensor, digit: Tensor) -> Tensor:
    others = logits.index_fill(1, digit, -torch.inf)
    return logits[:, digit] - others.logsumexp(dim=1)
