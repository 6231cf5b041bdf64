"""Handwriting: augment digits as if by other writers, pens and scanners.

Everything works on a batch ``float32 (n, 1, 28, 28)``, ink 1.0 on background 0.0, on its device,
with new random numbers for every image. As with torchvision's ``MixUp``, the input is images and
labels, and the output images and targets.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from jsonargparse.typing import ClosedUnitInterval, NonNegativeFloat
from torch import Tensor, nn
from torch.nn.functional import affine_grid, grid_sample, interpolate, one_hot

from mnist_lit.augment.corruption import corrupted
from mnist_lit.augment.filters import blurred, thickened, thinned
from mnist_lit.augment.outliers import non_digits
from mnist_lit.augment.pen import choose_forms, draw
from mnist_lit.augment.remains import with_remains
from mnist_lit.augment.strokes import BOX, CENTER, SIZE, between, columns, pixels, strokes

HALF = SIZE / 2
VISIBLE = 0.3  # ink below it does not count in the size of a digit


class Handwriting(nn.Module):
    """Distortions of hand, pen and scanner, European digit forms, and images that are not digits.

    Rotation, shear, scale and elastic distortion follow Simard et al., "Best practices for
    convolutional neural networks applied to visual document analysis" (2003). Images that are not
    digits, with the uniform distribution as target, teach the network to be uncertain (Hendrycks
    et al., "Deep anomaly detection with outlier exposure", 2019).

    Args:
        rotation: Largest angle in degrees, in either direction.
        shear: Largest horizontal shear, as a tangent, in either direction.
        scale: Largest relative change of width and height, which vary independently.
        shift: Largest shift in pixels along each axis.
        foreign: In [0, 1]: share of the digits to which the next three apply.
        european: In [0, 1]: share of these on which a 1 gets a flag, a 7 a bar, and a 4 an open
            top.
        bend: Standard deviation of the elastic displacement in pixels.
        pen: In [0, 1]: how much the thickness, contrast and texture of the strokes vary.
        drawn: In [0, 1]: share of the digits replaced by the same digit in a form of ``forms.py``.
        remains: In [0, 1]: share of the digits with something that a crop of a page brings along.
        corrupted: In [0, 1]: share of the digits corrupted by noise, blur, haze and the like.
        others: Number of images that are not digits to add, as a share of the digits.
    """

    def __init__(
        self,
        rotation: float = 12.0,
        shear: float = 0.2,
        scale: float = 0.12,
        shift: float = 1.5,
        foreign: ClosedUnitInterval = 0.5,
        european: ClosedUnitInterval = 0.5,
        bend: float = 0.7,
        pen: ClosedUnitInterval = 0.6,
        drawn: ClosedUnitInterval = 0.25,
        remains: ClosedUnitInterval = 0.25,
        corrupted: ClosedUnitInterval = 0.15,
        others: NonNegativeFloat = 0.03125,
    ) -> None:
        super().__init__()
        self.rotation = math.radians(rotation)
        self.shear = shear
        self.scale = scale
        self.shift = shift
        self.foreign = foreign
        self.european = european
        self.bend = bend
        self.pen: float = pen
        self.drawn = drawn
        self.remains = remains
        self.corrupted = corrupted
        self.others = others

    @torch.no_grad()
    def forward(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Augment a batch.

        Args:
            images: ``float32 (n, 1, 28, 28)`` in [0, 1].
            labels: ``int64 (n,)`` in 0..9.

        Returns:
            ``float32 (m, 1, 28, 28)`` in [0, 1], and targets, ``float32 (m, 10)`` probabilities:
            first the n digits in order, then the images that are not digits.
        """
        # Coordinates need float32.
        with torch.autocast(images.device.type, enabled=False), _float32_by_default():
            foreign = torch.rand(len(images), 1, 1, 1, device=images.device) < self.foreign
            others = non_digits(images, round(self.others * len(images)))
            european = european_forms(images, labels, self.european)
            images = self._with_drawn(torch.where(foreign, european, images), labels)
            images = _changed(images, with_remains, self.remains, len(labels))
            images = torch.cat([images, others])
            foreign = torch.cat([foreign, foreign.new_ones(len(others), 1, 1, 1)])
            images = self._distort(images, foreign)
            images = torch.where(foreign, self._vary_strokes(images), images)
            images = _changed(images, corrupted, self.corrupted, len(labels))
        targets = images.new_full((len(images), 10), 0.1)
        targets[: len(labels)] = one_hot(labels, 10).to(targets.dtype)
        return images, targets

    def _with_drawn(self, images: Tensor, labels: Tensor) -> Tensor:
        if not self.drawn:
            return images
        chosen = torch.rand(len(labels), device=labels.device) < self.drawn
        where = chosen.nonzero().squeeze(1)
        return images.index_copy(0, where, draw(choose_forms(labels[where])))

    def _distort(self, images: Tensor, foreign: Tensor) -> Tensor:
        """Rotate, shear, scale, shift and bend about the center of mass, in one resampling."""
        n = len(images)
        angle, shear = (limit * between(-1, 1, images) for limit in (self.rotation, self.shear))
        fitting = _fitting(images)
        width, height = (fitting * (1 + self.scale * between(-1, 1, images)) for _ in range(2))
        cos, sin = angle.cos(), angle.sin()
        rows = torch.stack([cos / width, shear - sin, sin, cos / height], 1)
        matrix = rows.view(n, 2, 2)
        shift = self.shift / HALF * torch.stack([between(-1, 1, images), between(-1, 1, images)], 1)
        middle = matrix.new_full((2,), (CENTER + 0.5) / HALF - 1)
        offset = (_center_of_mass(images) + 0.5) / HALF - 1 + shift - matrix @ middle
        theta = torch.cat([matrix, offset.unsqueeze(2)], 2)  # (n, 2, 3)
        grid = affine_grid(theta, list(images.shape), align_corners=False)  # (n, 28, 28, 2)
        coarse = self.bend / HALF * torch.randn(n, 2, 5, 5, device=images.device) * foreign
        bending = interpolate(coarse, (SIZE, SIZE), mode="bicubic", align_corners=True)
        return grid_sample(images, grid + bending.movedim(1, 3), align_corners=False)

    def _vary_strokes(self, images: Tensor) -> Tensor:
        """Make strokes thicker or thinner, softer or sharper, and uneven."""
        n = len(images)
        thickness = self.pen * between(-1, 1, images).view(n, 1, 1, 1)
        thicker, thinner = thickened(images), thinned(images)
        images = torch.where(
            thickness > 0, images.lerp(thicker, thickness), images.lerp(thinner, -0.6 * thickness)
        )
        hardness = self.pen * between(-1, 1, images).view(n, 1, 1, 1)
        hard = ((images - 0.5) * (3 * hardness).exp2() + 0.5).clamp(0, 1)
        soft = images.lerp(blurred(images), (-1.6 * hardness).clamp(0, 1))
        images = torch.where(hardness > 0, hard, soft)
        coarse = torch.rand(n, 1, 9, 9, device=images.device)
        unevenness = interpolate(coarse, (SIZE, SIZE), mode="bilinear", align_corners=True)
        strength = 0.5 * self.pen * torch.rand(n, 1, 1, 1, device=images.device).square()
        return images * (1 - strength * unevenness)


def _changed(
    images: Tensor, change: Callable[[Tensor], Tensor], share: float, among: int
) -> Tensor:
    """Change a share of the first images."""
    if not share:
        return images
    where = (torch.rand(among) < share).nonzero().squeeze(1).to(images.device)
    return images.index_copy(0, where, change(images[where]))


@contextmanager
def _float32_by_default() -> Iterator[None]:
    """Undo what the precisions bf16-true and 64-true set."""
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(default)


def european_forms(images: Tensor, labels: Tensor, share: float) -> Tensor:
    """Give some 1s a flag and perhaps a base, some 7s a bar, and some 4s an open top.

    Args:
        images: ``float32 (n, 1, 28, 28)`` in [0, 1].
        labels: ``int64 (n,)`` in 0..9.
        share: In [0, 1]: share of these digits to change.
    """
    images = images.clone()
    chosen = torch.rand(len(labels), device=labels.device) < share
    for digit, change in ((1, _flagged), (7, _barred), (4, _opened)):
        where = (chosen & (labels == digit)).nonzero().squeeze(1)
        if len(where):
            images[where] = change(images[where])
    return images


def _flagged(ones: Tensor) -> Tensor:
    top, bottom, width = _stem(ones)
    height = bottom[:, 1] - top[:, 1]
    angle = torch.deg2rad(between(25, 65, height))
    length = height * between(0.2, 0.6, height)
    tip = top + torch.stack([-length * angle.cos(), length * angle.sin()], 1)
    foot = height * between(0.1, 0.3, height) * (torch.rand_like(height) < 0.3)
    feet = torch.stack([foot, foot * 0.1 * between(-1, 1, foot)], 1)
    ends = torch.stack([top, tip, bottom - feet, bottom + feet], 1)
    return ones.maximum(strokes(ends.view(-1, 2, 2, 2), width))


def _barred(sevens: Tensor) -> Tensor:
    top, bottom, width = _stem(sevens)
    height = bottom[:, 1] - top[:, 1]
    y = top[:, 1] + height * between(0.42, 0.62, height)
    x = _middle_of_ink(sevens, y.round().long().clamp(0, SIZE - 1))
    half = height * between(0.12, 0.3, height)
    slope = torch.deg2rad(between(-25, 15, height))
    reach = half.unsqueeze(1) * torch.stack([slope.cos(), slope.sin()], 1)
    middle = torch.stack([x, y], 1)
    bar = torch.stack([middle - reach, middle + reach], 1).unsqueeze(1)
    return sevens.maximum(strokes(bar, width))


def _opened(fours: Tensor) -> Tensor:
    top, bottom, _ = _stem(fours)
    gap = (bottom[:, 1] - top[:, 1]) * between(0.08, 0.2, fours)
    distance = (pixels(fours) - top.unsqueeze(1)).norm(dim=2)  # (n, 784)
    kept: Tensor = (distance - gap.unsqueeze(1)).clamp(0, 1)
    return fours * kept.view_as(fours)


def _stem(digits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return top and bottom of the ink, (x, y) ``(n, 2)``, and the stroke width ``(n,)``."""
    ink = digits.squeeze(1)
    inky = (ink.amax(2) > 0.4).float()  # (n, 28): the rows with ink
    first = inky.argmax(1)
    last = SIZE - 1 - inky.flip(1).argmax(1)
    top, bottom = (
        torch.stack([_middle_of_ink(digits, row), row.float()], 1) for row in (first, last)
    )
    length = (bottom - top).norm(dim=1)
    width = (ink.sum((1, 2)) / length.clamp(min=1)).clamp(1.5, 4)
    return top, bottom, width


def _middle_of_ink(digits: Tensor, row: Tensor) -> Tensor:
    """Return the mean x of the ink in one row of each digit, ``(n,)``."""
    line = digits[torch.arange(len(row), device=row.device), 0, row]  # (n, 28)
    return (line * columns(line)).sum(1) / line.sum(1).clamp(min=1e-3)


def _fitting(images: Tensor) -> Tensor:
    """Return the factor, at most 1, by which ink must shrink to fit into MNIST's box, ``(n,)``."""
    inky = torch.stack([images.amax((1, 2)), images.amax((1, 3))]) > VISIBLE  # (2, n, 28)
    first, last = inky.float().argmax(2), SIZE - inky.float().flip(2).argmax(2)
    return (BOX / (last - first).amax(0).clamp(min=1)).clamp(max=1)


def _center_of_mass(images: Tensor) -> Tensor:
    """(x, y) in pixels, ``(n, 2)``."""
    total = images.sum((1, 2, 3)).clamp(min=1e-3)
    place = columns(images)
    x, y = (images * place).sum((1, 2, 3)), (images.mT * place).sum((1, 2, 3))
    return torch.stack([x, y], 1) / total.unsqueeze(1)
