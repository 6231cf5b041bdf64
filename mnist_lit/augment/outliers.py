"""Random images that are not digits, for outlier exposure."""

import math

import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad

from mnist_lit.augment.strokes import BOX, CENTER, SIZE, between, pixels, strokes


def non_digits(images: Tensor, count: int) -> Tensor:
    """Draw random images that are not digits.

    Args:
        images: ``float32 (n, 1, 28, 28)`` in [0, 1]: digits, some of which are superimposed.
        count: Number of images to draw.

    Returns:
        ``float32 (count, 1, 28, 28)`` in [0, 1].
    """
    kinds = torch.randint(9, (count,)).bincount(minlength=9).tolist()
    draw = (_scribbles, _zigzags, _shapes, _tangles, _asterisks, _suns)
    drawn = [
        strokes(_in_box(make(n, images.device)), between(1.2, 3.5, images.new_empty(n)))
        for make, n in zip(draw, kinds, strict=False)
        if n
    ]
    crossed, device = _crossed(kinds[6], images), images.device
    return torch.cat([*drawn, crossed, _noise(kinds[7], device), _blots(kinds[8], device)])


def _scribbles(n: int, device: torch.device) -> Tensor:
    """Closed or open curves of five harmonics."""
    order = torch.arange(1, 6, device=device)
    end = 2 * math.pi * (0.5 + 0.5 * torch.rand(n, 1, device=device))
    time = end * torch.linspace(0, 1, 41, device=device)  # (n, 41)
    phase, size = torch.rand(n, 2, 5, 1, device=device), torch.randn(n, 2, 5, 1, device=device)
    waves = size * (order.view(5, 1) * time.view(n, 1, 1, -1) + 2 * math.pi * phase).sin()
    return _path(waves.sum(2).mT)


def _zigzags(n: int, device: torch.device) -> Tensor:
    """Zigzags of four to eight straight strokes, from left to right."""
    corner = torch.arange(9, device=device)
    last = torch.randint(4, 9, (n, 1), device=device)
    corner = corner.minimum(last)  # (n, 9): the last corner repeats
    x = corner * (0.1 + 0.3 * torch.rand(n, 1, device=device))
    y = corner % 2 + 0.3 * torch.rand(n, 9, device=device).gather(1, corner)
    return _path(torch.stack([x, y], 2))


def _shapes(n: int, device: torch.device) -> Tensor:
    """Polygons with three to five corners."""
    corners = torch.randint(3, 6, (n, 1), device=device)
    radius = 0.3 + 0.7 * torch.rand(n, 5, device=device)
    corner = torch.arange(6, device=device) % corners  # (n, 6): repeats the first corners
    angle = 2 * math.pi * (corner / corners + torch.rand(n, 1, device=device))
    length = radius.gather(1, corner)
    return _path(torch.stack([length * angle.cos(), length * angle.sin()], 2))


def _tangles(n: int, device: torch.device) -> Tensor:
    """Six straight strokes between random points."""
    return torch.rand(n, 6, 2, 2, device=device)


def _asterisks(n: int, device: torch.device) -> Tensor:
    """Two to four strokes through nearly the same point, the first two roughly perpendicular."""
    turns = torch.tensor([0.0, 0.5, 0.25, 0.75], device=device) + 0.05 * torch.randn(
        n, 4, device=device
    )
    angle = math.pi * (turns + torch.rand(n, 1, device=device))
    reach = torch.stack([angle.cos(), angle.sin()], 2)  # (n, 4, 2)
    count = torch.randint(2, 5, (n, 1, 1), device=device)
    reach = reach * (torch.arange(4, device=device).view(4, 1) < count)
    middle = 0.15 * torch.randn(n, 4, 2, device=device)
    return torch.stack([middle - reach, middle + reach], 2)


def _suns(n: int, device: torch.device) -> Tensor:
    """Ellipses with six short strokes inside, as in a face, or across them."""
    angle = torch.linspace(0, 2 * math.pi, 17, device=device)
    circle = torch.stack([angle.cos(), angle.sin()], 1) * (
        0.5 + 0.5 * torch.rand(n, 1, 2, device=device)
    )
    reach = 0.3 + 0.9 * torch.rand(n, 1, 1, 1, device=device)
    middle = reach * (2 * torch.rand(n, 6, 1, 2, device=device) - 1)
    rays = middle + 0.4 * reach * torch.randn(n, 6, 2, 2, device=device)
    return torch.cat([_path(circle), rays], 1)


def _crossed(n: int, images: Tensor) -> Tensor:
    """Digits with another digit, rotated by 90 degrees, on top."""
    one, other = torch.randint(len(images), (2, n), device=images.device)
    return images[one].maximum(images[other].rot90(1, (2, 3)))


def _noise(n: int, device: torch.device) -> Tensor:
    """Smooth random noise over the whole box."""
    coarse = 2 * torch.randn(n, 1, 7, 7, device=device)
    patches = interpolate(coarse, (20, 20), mode="bicubic", align_corners=True).clamp(0, 1)
    return pad(patches, (4, 4, 4, 4))


def _blots(n: int, device: torch.device) -> Tensor:
    """Filled shapes, whose outlines have four harmonics."""
    offset = pixels(torch.zeros(1, device=device)) - CENTER  # (784, 2)
    stretch = 0.8 + torch.rand(n, 1, 2, device=device)
    x, y = (offset * stretch).unbind(2)  # (n, 784)
    order = torch.arange(1, 5, device=device).view(4, 1)
    phase, size = 6.3 * torch.rand(n, 4, 1, device=device), torch.randn(n, 4, 1, device=device)
    waves = (0.15 * size * (order * torch.atan2(y, x).unsqueeze(1) + phase).sin()).sum(1)
    radius = 8 * (1 + waves).clamp(min=0.3)
    return (radius - torch.hypot(x, y) + 0.5).clamp(0, 1).view(n, 1, SIZE, SIZE)


def _path(points: Tensor) -> Tensor:
    """Connect points ``(n, k, 2)`` into strokes ``(n, k - 1, 2, 2)``."""
    return torch.stack([points[:, :-1], points[:, 1:]], 2)


def _in_box(segments: Tensor) -> Tensor:
    """Scale and shift strokes into MNIST's box."""
    low, high = segments.amin((1, 2), keepdim=True), segments.amax((1, 2), keepdim=True)
    longest = (high - low).amax(3, keepdim=True).clamp(min=1e-3)
    return CENTER + (BOX - 2) * (segments - (low + high) / 2) / longest
