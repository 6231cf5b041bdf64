"""A pen that draws the forms of ``forms.py`` as in MNIST, each image in a hand of its own."""

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn.functional import pad

from mnist_lit.augment.curves import SAMPLES, Curves, curves
from mnist_lit.augment.strokes import BOX, CENTER, SIZE

Range = tuple[float, float]

SPOT = 0.5  # pixels: standard deviation of the spots of ink that make up a stroke


@dataclass(frozen=True)
class Pen:
    """How hands and pens vary.

    Args:
        slant: Tangent of the angle by which stems lean to the right.
        rotation: Clockwise, in degrees.
        breadth: Width of the digit relative to the table's.
        bend: Standard deviation of deformations of the whole digit, as a share of its height.
        jitter: Standard deviation of each point of a stroke, as a share of the digit's height.
        rounding: Of corners, from 0 for sharp to 1.
        width: Of the strokes, in pixels; half are in the lowest quarter of the range. Narrow
            digits have thinner ones.
        pressure: Relative change of the width along a stroke.
        nib: Relative change of the width with the direction of a stroke.
        edge: Distance from full ink to none, in pixels.
    """

    slant: Range = (-0.1, 0.35)
    rotation: Range = (-4, 4)
    breadth: Range = (0.8, 1.5)
    bend: float = 0.035
    jitter: float = 0.022
    rounding: Range = (0, 1)
    width: Range = (1.8, 4.0)
    pressure: Range = (0, 0.2)
    nib: Range = (0, 0.25)
    edge: Range = (0.8, 1.3)


# For validation: hands and pens that vary more than those in training.
VALIDATION_PEN = Pen(
    slant=(-0.2, 0.45),
    rotation=(-7, 7),
    breadth=(0.7, 1.7),
    jitter=0.026,
    width=(1.6, 4.4),
    pressure=(0, 0.3),
    nib=(0, 0.35),
    edge=(0.6, 1.8),
)


def draw(
    forms: Tensor, pen: Pen = Pen(), generator: Generator | None = None, size: int = SIZE
) -> Tensor:
    """Draw digits as in MNIST: 20 of 28 pixels high or wide, the center of mass in the middle.

    Args:
        forms: ``int64 (n,)``: indices into ``FORMS``.
        pen: How the digits vary; printed forms vary a quarter as much in shape.
        generator: Source of the random numbers, on the device of ``forms``; torch's own if None.
        size: Side of the images in pixels; the pen's pixels remain those of 28.

    Returns:
        ``float32 (n, 1, size, size)`` in [0, 1], ink 1.
    """
    chance = _Chance(len(forms), forms.device, generator)
    between, table = chance.between, curves(forms.device)
    points, breadth = _points(table, forms, pen, chance)
    samples = table.sharp[forms].lerp(table.round[forms], between(*pen.rounding))
    path = samples @ points  # (n, s, 2)
    steps = (path[:, 1:] - path[:, :-1]) * table.down[forms].unsqueeze(2)
    lengths, directions = _along(steps, between(0, 2 * math.pi))  # (n, s, 1)
    thin, thick = pen.width
    width = thin + (thick - thin) * between(0, 1).square() * breadth.clamp(max=1)
    time = torch.linspace(0, 1, SAMPLES, device=forms.device).view(SAMPLES, 1)
    waves = (between(3, 12) * time + between(0, 2 * math.pi)).sin()
    varied = 1 + between(*pen.pressure) * waves + between(*pen.nib) * directions
    radius = width / 2 * varied
    path, lengths = _placed(path, lengths, radius)
    offset = torch.cat([between(-0.5, 0.5), between(-0.5, 0.5)], 2)  # MNIST shifts whole pixels
    return _inked(path + offset, lengths, radius, between(*pen.edge), size)


def choose_forms(labels: Tensor, generator: Generator | None = None) -> Tensor:
    """Choose one of the forms of each digit.

    Args:
        labels: ``int64 (n,)`` in 0..9.
        generator: As in :func:`draw`.

    Returns:
        ``int64 (n,)``: indices into ``FORMS``.
    """
    starts = curves(labels.device).starts
    counts = starts.diff()[labels]
    choice = torch.rand(len(labels), generator=generator, device=labels.device)
    return starts[labels] + (choice * counts).long().clamp(max=counts - 1)


class _Chance:
    """Random numbers, other ones for each of n images."""

    def __init__(self, n: int, device: torch.device, generator: Generator | None) -> None:
        self.n, self.device, self.generator = n, device, generator

    def between(self, low: float, high: float) -> Tensor:
        """Sample from the uniform distribution on [low, high), ``(n, 1, 1)``."""
        numbers = torch.rand(self.n, 1, 1, generator=self.generator, device=self.device)
        return low + (high - low) * numbers

    def normal(self, *shape: int) -> Tensor:
        """Sample from the normal distribution, ``(n, *shape)``."""
        return torch.randn(self.n, *shape, generator=self.generator, device=self.device)


def _points(table: Curves, forms: Tensor, pen: Pen, chance: _Chance) -> tuple[Tensor, Tensor]:
    """Return the points of the forms in a hand of their own, ``(n, k, 2)``, and its breadth."""
    between = chance.between
    looseness = 1 - 0.75 * table.printed[forms].view(-1, 1, 1)
    points = table.first[forms].lerp(table.last[forms], between(0, 1))
    points = points + pen.jitter * looseness * chance.normal(*points.shape[1:])
    points = _bent(points, pen.bend * looseness * chance.normal(4, 1))
    breadth = 1 + looseness * (between(*pen.breadth) - 1)
    slant, rotation = looseness * between(*pen.slant), looseness * between(*pen.rotation)
    return _leaned(points, slant, rotation, breadth), breadth


def _bent(points: Tensor, by: Tensor) -> Tensor:
    """Bow and wave the stems, taper the digit, and move its waist: ``by`` is ``(n, 4, 1)``."""
    x, y = points.unbind(2)  # (n, k), from the digit's middle
    bow, wave, taper, waist = by.unbind(1)
    across = bow * 4 * y.square() + wave * (2 * math.pi * y).sin() + taper * 8 * x * y
    return torch.stack([x + across, y + waist * (1 - 4 * y.square())], 2)


def _leaned(points: Tensor, slant: Tensor, rotation: Tensor, breadth: Tensor) -> Tensor:
    x, y = points.chunk(2, 2)
    x = breadth * x - slant * y
    cos, sin = torch.deg2rad(rotation).cos(), torch.deg2rad(rotation).sin()
    return torch.cat([cos * x - sin * y, sin * x + cos * y], 2)


def _along(steps: Tensor, nib: Tensor) -> tuple[Tensor, Tensor]:
    """Return the length of the path at each sample, and how far it goes along the nib.

    The second is in [-1, 1]; both are ``(n, s, 1)``.
    """
    x, y = steps.chunk(2, 2)
    length = steps.norm(dim=2, keepdim=True)
    along = (nib.cos() * (x.square() - y.square()) + nib.sin() * 2 * x * y) / length.clamp(1e-6)
    shared = pad(torch.cat([length, along], 2), (0, 0, 1, 1)) / 2
    lengths, directions = (shared[:, 1:] + shared[:, :-1]).chunk(2, 2)
    return lengths, directions / lengths.clamp(1e-6)


def _placed(path: Tensor, lengths: Tensor, radius: Tensor) -> tuple[Tensor, Tensor]:
    """Scale path and lengths to MNIST's box, and move the center of mass to the middle."""
    low, high = path.amin(1, keepdim=True), path.amax(1, keepdim=True)  # (n, 1, 2)
    width = 2 * radius.mean(1, keepdim=True)
    scale = (BOX - 0.6 - width) / (high - low).amax(2, keepdim=True)  # edges are half ink
    mass = lengths * radius
    middle = (mass * path).sum(1, keepdim=True) / mass.sum(1, keepdim=True)
    low, high = (CENTER + (end - middle) * scale for end in (low, high))
    inside = (width / 2 - low).clamp(min=0) - (high + width / 2 - (SIZE - 1)).clamp(min=0)
    return CENTER + (path - middle) * scale + inside, lengths * scale


def _inked(path: Tensor, lengths: Tensor, radius: Tensor, edge: Tensor, size: int) -> Tensor:
    """Draw the path as a row of spots of ink, whose sum gives the distance to it.

    With spots like ``exp(-distance**2)``, the logarithm of their sum is a smooth minimum of the
    squared distances. As a spot is a function of x times one of y, the sum is a matrix product,
    which is much faster than all distances between pixels and path.
    """
    variance = 2 * SPOT**2
    pixels = (torch.arange(size, device=path.device) + 0.5) * (SIZE / size) - 0.5
    away = (path.unsqueeze(3) - pixels).square() / variance  # (n, s, 2, size)
    across, down = away.clamp(max=40).neg().exp().unbind(2)  # slow if the numbers were denormal
    ink = lengths * (radius.square() / variance).exp() / math.sqrt(math.pi * variance)
    density = (down * ink).mT @ across  # (n, size, size)
    middle = radius.mean(1, keepdim=True)
    distance = (middle.square() - variance * density.log()).clamp(min=0).sqrt()
    image = (0.5 - (distance - middle) / edge).clamp(0, 1)
    return (image / image.amax((1, 2), keepdim=True)).unsqueeze(1)
