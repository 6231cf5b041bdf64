"""What spoils an image as a whole: noise, blur, jitter, haze, inversion, clutter, lost insides.

Kinds of corruption after Hendrycks and Dietterich, "Benchmarking neural network robustness to
common corruptions and perturbations" (2019), and Mu and Gilmer, "MNIST-C" (2019), with strengths
from weak to strong instead of theirs.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, conv2d, grid_sample, interpolate

from mnist_lit.augment.filters import blurred, thickened, thinned
from mnist_lit.augment.strokes import SIZE, between, columns, strokes

REACH = 7  # pixels that a blur extends at most
CORNERS = 16  # of a zigzag


def corrupted(images: Tensor) -> Tensor:
    """Corrupt each image in one way.

    Args:
        images: ``float32 (n, 1, 28, 28)`` in [0, 1].

    Returns:
        The same shape and range.
    """
    kinds = (_noisy, _smeared, _jittered, _hazy, _partly_inverted, _cluttered, _outlined)
    chosen = torch.randint(len(kinds), (len(images),))
    for kind, corrupt in enumerate(kinds):
        where = (chosen == kind).nonzero().squeeze(1).to(images.device)
        if len(where):
            images = images.index_copy(0, where, corrupt(images[where]).clamp(0, 1))
    return images


def _noisy(images: Tensor) -> Tensor:
    """Noise of all pixels, of the ink alone, or on a few pixels that become black or white."""
    strength = _between(0, 1, images)
    kind = torch.randint(3, strength.shape, device=images.device)
    sigma = torch.where(kind == 0, 0.5, 0.8 * images.sqrt())
    noisy = images + sigma * strength * torch.randn_like(images)
    chance = torch.rand_like(images) - 0.5
    spotted = torch.where(chance.abs() < 0.5 - 0.15 * strength, images, (chance > 0).float())
    return torch.where(kind == 2, spotted, noisy)


def _smeared(images: Tensor) -> Tensor:
    """Motion blur, to one side or both, or a blur to all sides."""
    n, device = len(images), images.device
    y, x = torch.meshgrid(*2 * [torch.arange(-REACH, REACH + 1, device=device)], indexing="ij")
    angle = math.pi * _between(-1, 1, images)
    along, across = x * angle.cos() + y * angle.sin(), y * angle.cos() - x * angle.sin()
    length = _between(0.5, 3.5, images)
    breadth = torch.where(_chance(0.3, images), length.clamp(max=1.5), 0.5)
    kernel = (-((along / length).square() + (across / breadth).square()) / 2).exp()
    kernel = torch.where(_chance(0.5, images) & (along < 0), 0, kernel)
    kernel = kernel / kernel.sum((2, 3), keepdim=True)
    smeared = conv2d(images.view(1, n, SIZE, SIZE), kernel, padding=REACH, groups=n)
    return smeared.view_as(images) * _between(1, 2, images)


def _jittered(images: Tensor) -> Tensor:
    """Pixels from nearby, as behind frosted glass."""
    n, device = len(images), images.device
    straight = affine_grid(
        torch.eye(2, 3, device=device).expand(n, 2, 3), list(images.shape), align_corners=False
    )
    away = torch.randn(n, SIZE, SIZE, 2, device=device) * _between(0.3, 1.2, images)
    moved = grid_sample(blurred(images), straight + 2 / SIZE * away, align_corners=False)
    return torch.where(_chance(0.7, images), blurred(moved), moved)


def _hazy(images: Tensor) -> Tensor:
    """Little contrast, on a ground that is brighter in some places than in others."""
    coarse = torch.rand(len(images), 1, 4, 4, device=images.device) * _between(0, 1, images)
    haze = interpolate(coarse, (SIZE, SIZE), mode="bicubic", align_corners=True)
    return images.lerp(haze + _between(0, 1, images), _between(0.1, 0.8, images))


def _partly_inverted(images: Tensor) -> Tensor:
    """White on black as far as a vertical or horizontal line, or beyond two of them."""
    place = columns(images)
    first, last = _between(0, 14, images), _between(14, SIZE, images)
    beyond = (place < first) | ((place > last) & _chance(0.6, images))  # (n, 1, 1, 28)
    beyond = torch.where(_chance(0.3, images), beyond.mT, beyond)
    return torch.where(beyond, 1 - images, images)


def _cluttered(images: Tensor) -> Tensor:
    """A straight line or a zigzag across, whole or dotted."""
    n, device = len(images), images.device
    corner = torch.arange(CORNERS, device=device)
    x = _between(-2, 3, images).view(n, 1) + corner * _between(1.6, 3, images).view(n, 1)
    tilt = _between(-0.6, 0.6, images).view(n, 1) * torch.rand(n, 1, device=device)
    swing = (between(-1, 4, images).clamp(min=0)).view(n, 1) * (2 * (corner % 2) - 1)
    y = between(2, 26, images).view(n, 1) + tilt * (x - SIZE / 2) + swing
    path = torch.stack([x, y], 2)  # (n, corners, 2)
    lines = strokes(torch.stack([path[:, :-1], path[:, 1:]], 2), between(0.8, 2.2, images))
    period = _between(2, 8, images)
    gaps = _chance(0.4, images) & (columns(images) % period < period / 2)
    lines = torch.where(gaps, 0, lines) * _between(0.5, 1.2, images).clamp(max=1)
    return images.maximum(torch.where(_chance(0.3, images), lines.mT, lines))


def _outlined(images: Tensor) -> Tensor:
    """Only the edges of the strokes, as a line around them or just within."""
    ink = (blurred(images) > _between(0.2, 0.6, images)).float()
    around, within = thickened(ink) - ink, ink - thinned(ink)
    edges = torch.where(_chance(0.7, images), around, within)
    return torch.where(_chance(0.3, images), blurred(edges) * 1.6, edges)


def _between(low: float, high: float, images: Tensor) -> Tensor:
    return between(low, high, images).view(-1, 1, 1, 1)


def _chance(share: float, images: Tensor) -> Tensor:
    return torch.rand(len(images), 1, 1, 1, device=images.device) < share
