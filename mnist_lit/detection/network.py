"""DetectionNetwork: an encoder-decoder from a grey picture to maps of digits."""

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate

STRIDE = 4  # pixels of the picture to one of the maps
CELL = 8  # pixels: the local contrast is computed from means over such squares
HEADS = [1, 2, 2, 10]  # channels of the maps
PRIOR = -4.0  # logit of a digit's center before training: few places are one


class Maps(NamedTuple):
    """What the network says of each place, ``(n, c, h / 4, w / 4)``.

    Attributes:
        center: One channel: the logit of a digit's center.
        size: Two: the logarithms of a digit's width and height, in places.
        offset: Two: from the middle of the place to the center, x and y, in places.
        label: Ten: the logits of the digit's class.
    """

    center: Tensor
    size: Tensor
    offset: Tensor
    label: Tensor


class DetectionNetwork(nn.Module):
    """A fully convolutional encoder to 1/64 of the resolution, and a decoder back to 1/4.

    Heads as in Zhou et al., "Objects as points" (2019); the decoder adds what it knows to the
    features of the encoder, as in Lin et al., "Feature pyramid networks for object detection"
    (2017).

    Args:
        widths: Channels at 1/2, 1/4, 1/8, 1/16, and from 1/32 on.
    """

    def __init__(self, widths: tuple[int, int, int, int, int] = (16, 32, 48, 64, 96)) -> None:
        super().__init__()
        half, quarter, *_, deepest = widths
        self.stem = nn.Sequential(_conv(2, half, 5, stride=2), _conv(half, quarter, stride=2))
        channels = (quarter, *widths[2:], deepest)  # at 1/4, 1/8, 1/16, 1/32 and 1/64
        first = nn.Sequential(_conv(quarter, quarter), _conv(quarter, quarter))
        self.encoder = nn.ModuleList([first])
        for before, after in pairwise(channels):
            again = (_conv(after, after) for _ in range(2 if after < deepest else 1))
            self.encoder.append(nn.Sequential(_conv(before, after, stride=2), *again))
        self.decoder = nn.ModuleList()
        for coarse, fine in zip(channels[:0:-1], channels[-2::-1], strict=True):
            self.decoder.append(Merge(coarse, fine))
        last = nn.Conv2d(48, sum(HEADS), 1)
        assert last.bias is not None
        nn.init.constant_(last.bias[:1], PRIOR)
        self.heads = nn.Sequential(_conv(quarter, 48), last)

    def forward(self, images: Tensor) -> Maps:
        """Compute the maps of ``float32 (n, 1, h, w)`` pictures in [0, 1], of any size."""
        features = self.stem(contrasts(images))
        levels = []
        for stage in self.encoder:
            features = stage(features)
            levels.append(features)
        for merge, level in zip(self.decoder, levels[-2::-1], strict=True):
            features = merge(features, level)
        maps: Tensor = self.heads(features).float()
        return Maps(*maps.split_with_sizes(HEADS, 1))


class Merge(nn.Module):
    """Adds coarse features, enlarged, to fine ones."""

    def __init__(self, coarse: int, fine: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(coarse, fine, 1)
        self.smooth = _conv(fine, fine)

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        enlarged = interpolate(self.reduce(coarse), fine.shape[2:])
        smooth: Tensor = self.smooth(fine + enlarged)
        return smooth


def contrasts(images: Tensor) -> Tensor:
    """Return pictures relative to the whole and to their surroundings, ``(n, 2, h, w)``.

    The second channel makes pencil on grey paper as clear as ink on white.
    """
    mean = images.mean((2, 3), keepdim=True)
    variance = (images - mean).square().mean((2, 3), keepdim=True)
    whole = (images - mean) / (variance.sqrt() + 0.02)
    moments = torch.cat([images, images.square()], 1)
    options = {"ceil_mode": True, "count_include_pad": False}
    coarse = avg_pool2d(moments, CELL, **options)  # (n, 2, h / 8, w / 8)
    coarse = avg_pool2d(coarse, 5, 1, 2, count_include_pad=False)
    local, square = interpolate(coarse, images.shape[2:], mode="bilinear").chunk(2, 1)
    spread = (square - local.square()).clamp(min=0).sqrt()
    return torch.cat([whole, (images - local) / (spread + 0.02)], 1)


def _conv(before: int, after: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU(inplace=True),
    )
