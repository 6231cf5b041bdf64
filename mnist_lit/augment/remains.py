"""What a crop of a page brings along: lines, pieces of neighbors, texture of paper, and gaps."""

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from mnist_lit.augment.strokes import CENTER, SIZE, between, strokes

LINES = 3
INKY = 0.3  # ink from which a column belongs to a digit


def with_remains(images: Tensor) -> Tensor:
    """Add one kind of remains to each image, as after the digits of a page have been cut out.

    Args:
        images: ``float32 (n, 1, 28, 28)`` in [0, 1].

    Returns:
        The same shape and range.
    """
    kinds = torch.randint(4, (len(images),), device=images.device).view(-1, 1, 1, 1)
    lines = _lines(images)
    added = torch.where(kinds == 0, lines, _piece_of_neighbor(images))
    added = torch.where(kinds == 2, _texture(images), added)
    return torch.where(kinds == 3, images * (1 - lines), images.maximum(added))


def _lines(images: Tensor) -> Tensor:
    """Parallel lines, most of them nearly horizontal or vertical, in full or in pieces."""
    n, device = len(images), images.device
    askew = torch.randn(n, device=device) * torch.where(torch.rand(n, device=device) < 0.7, 3, 40)
    upright = torch.rand(n, device=device) < 0.3
    angle = torch.deg2rad(askew + 90 * upright)
    along = torch.stack([angle.cos(), angle.sin()], 1).view(n, 1, 1, 2)
    across = torch.stack([-angle.sin(), angle.cos()], 1).view(n, 1, 1, 2)
    first, spacing = between(-12, 12, images), between(4, 14, images)
    count = torch.randint(1, LINES + 1, (n, 1), device=device)
    place = torch.arange(LINES, device=device).remainder(count) * spacing.view(n, 1)  # (n, 3)
    middle = CENTER + across * (first.view(n, 1) + place).view(n, LINES, 1, 1)
    ends = torch.tensor([-SIZE, SIZE], device=device).view(1, 1, 2, 1)
    lines = strokes(middle + ends * along, between(0.6, 2.4, images))
    return lines * _patches(images, 4) * between(0.3, 1.1, images).clamp(max=1).view(n, 1, 1, 1)


def _patches(images: Tensor, size: int) -> Tensor:
    """Smooth masks that leave out some of the picture, or in a third of them nothing."""
    n, device = len(images), images.device
    coarse = torch.randn(n, 1, size, size, device=device)
    coarse += 9 * (torch.rand(n, 1, 1, 1, device=device) < 1 / 3)
    fine = interpolate(coarse, (SIZE, SIZE), mode="bilinear", align_corners=True)
    return (3 * fine + 0.5).clamp(0, 1)


def _piece_of_neighbor(images: Tensor) -> Tensor:
    """The near edge of another digit, beside or (in a quarter) above or below."""
    n, device = len(images), images.device
    others = images[torch.randperm(n, device=device)]
    sideways = (torch.rand(n, 1, 1, 1, device=device) < 0.75).expand_as(images)
    images, others = (torch.where(sideways, each, each.mT) for each in (images, others))
    mirrored = (torch.rand(n, 1, 1, 1, device=device) < 0.5).expand_as(images)
    images, others = (torch.where(mirrored, each.flip(3), each) for each in (images, others))
    last = SIZE - 1 - (images.amax((1, 2)) > INKY).float().flip(1).argmax(1)  # (n,): of a digit
    start = (others.amax((1, 2)) > INKY).float().argmax(1)
    seen = between(0.5, 5.5, images).round().long()  # columns
    column = torch.arange(SIZE, device=device) - (last - seen + 1 - start).view(n, 1)  # (n, 28)
    inside = (column >= 0) & (column < SIZE)
    inside &= torch.arange(SIZE, device=device) <= (last + 1).view(n, 1)
    index = column.clamp(0, SIZE - 1).view(n, 1, 1, SIZE).expand_as(others)
    piece = others.gather(3, index) * inside.view(n, 1, 1, SIZE)
    piece = torch.where(mirrored, piece.flip(3), piece)
    return torch.where(sideways, piece, piece.mT)


def _texture(images: Tensor) -> Tensor:
    """Grains of paper that are as dark as ink."""
    n, device = len(images), images.device
    grains = torch.randn(n, 1, 14, 14, device=device)
    fine = interpolate(grains, (SIZE, SIZE), mode="bilinear", align_corners=False)
    rarity, strength = (
        between(*limits, images).view(n, 1, 1, 1) for limits in ((0.6, 1.6), (0.2, 0.9))
    )
    return (3 * (fine - rarity)).clamp(0, 1) * strength * _patches(images, 3) * _box(images)


def _box(images: Tensor) -> Tensor:
    """The box that ink reaches, ``(n, 1, 28, 28)``: 1 inside, 0 outside."""
    rows, columns = (images.amax(dim, keepdim=True) > INKY for dim in (3, 2))
    spread = [
        (each.float().cumsum(dim) > 0) & (each.flip(dim).float().cumsum(dim) > 0).flip(dim)
        for each, dim in ((rows, 2), (columns, 3))
    ]
    return (spread[0] & spread[1]).float()
