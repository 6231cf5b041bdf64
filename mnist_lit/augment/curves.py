"""Forms as matrices: the path of the pen is linear in the points of the table."""

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn.functional import pad

from mnist_lit.augment.forms import FORMS, Form

SAMPLES = 64  # of a form's path, less than a pixel apart in MNIST's size
ROUNDING = 4  # samples on either side that round a corner


@dataclass(frozen=True, eq=False)
class Curves:
    """Forms, stacked; those with fewer points are padded with zeros.

    Args:
        first: ``float32 (f, k, 2)``: points (x, y) in heights of the digit, from its middle.
        last: The same at the other end of each form's range.
        sharp: ``float32 (f, s, k)``: from points to path.
        round: The same with rounded corners.
        down: ``float32 (f, s - 1)``: 0 where the pen is lifted after a sample, 1 elsewhere.
        printed: ``float32 (f,)``: 1 for printed forms, 0 for others.
        starts: ``int64 (11,)``: the index of each digit's first form, and the number of forms.
    """

    first: Tensor
    last: Tensor
    sharp: Tensor
    round: Tensor
    down: Tensor
    printed: Tensor
    starts: Tensor


@cache
def curves(device: torch.device) -> Curves:
    """Compute the matrices of ``FORMS``, once for each device."""
    first, last, sharp, rounded, down = zip(*[_matrices(form) for form in FORMS], strict=True)
    most = max(len(points) for points in first)

    def stacked(parts: tuple[Tensor, ...]) -> Tensor:
        return torch.stack(parts).to(device, torch.float32)

    printed = torch.tensor([float(form.printed) for form in FORMS])
    counts = torch.tensor([form.digit for form in FORMS]).bincount(minlength=10)
    return Curves(
        first=stacked(tuple(pad(points, (0, 0, 0, most - len(points))) for points in first)),
        last=stacked(tuple(pad(points, (0, 0, 0, most - len(points))) for points in last)),
        sharp=stacked(tuple(pad(matrix, (0, most - matrix.shape[1])) for matrix in sharp)),
        round=stacked(tuple(pad(matrix, (0, most - matrix.shape[1])) for matrix in rounded)),
        down=stacked(down),
        printed=printed.to(device),
        starts=pad(counts.cumsum(0), (1, 0)).to(device),
    )


def points_of(stroke: str) -> tuple[Tensor, list[bool]]:
    """Parse a stroke of the table.

    Returns:
        ``float64 (k, 2)`` in heights of the digit, from its middle, and which points are corners.
    """
    words = stroke.split()
    numbers = [[float(number) for number in word.rstrip("!").split(",")] for word in words]
    points = torch.tensor(numbers, dtype=torch.float64) / 100
    return points - torch.tensor([0.3, 0.5]), [word.endswith("!") for word in words]


def _matrices(form: Form) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return a form's first to down, as in ``Curves``."""
    strokes = [points_of(stroke) for stroke in form.strokes]
    splines = [_spline(points, corners) for points, corners in strokes]
    distances = [  # along each stroke
        pad((spline @ points).diff(dim=0).norm(dim=1).cumsum(0), (1, 0))
        for spline, (points, _) in zip(splines, strokes, strict=True)
    ]
    counts = _shares([distance[-1].item() for distance in distances])
    even = [_resampled(*each) for each in zip(splines, distances, counts, strict=True)]
    down = torch.ones(SAMPLES)
    down[torch.tensor(counts).cumsum(0) - 1] = 0
    return (
        torch.cat([points for points, _ in strokes]),
        torch.cat([points_of(stroke)[0] for stroke in form.until or form.strokes]),
        _block_diagonal(even),
        _block_diagonal([_smoothing(len(each)) @ each for each in even]),
        down[:-1],
    )


def _spline(points: Tensor, corners: list[bool]) -> Tensor:
    """Return the matrix ``(m, k)`` from the points to a cubic Hermite spline through them.

    The tangent at a point is that of the parabola through it and its neighbors. At ends and
    corners there is none: the curve beside them is a parabola, or a line.
    """
    k = len(points)
    time = points.diff(dim=0).norm(dim=1)  # (k - 1,): from each point to the next
    each = torch.eye(k, dtype=points.dtype)
    slopes = each.diff(dim=0) / time.unsqueeze(1)  # (k - 1, k)
    tangents: dict[int, Tensor] = {}
    closed = torch.equal(points[0], points[-1])
    for i in range(0 if closed else 1, k - 1):
        if not corners[i]:
            before, after = time[i - 1], time[i]
            tangents[i] = (slopes[i - 1] * after + slopes[i] * before) / (before + after)
    if closed and 0 in tangents:
        tangents[k - 1] = tangents[0]
    share = torch.linspace(0, 1, 25, dtype=points.dtype)[:-1].unsqueeze(1)
    pieces = []
    for i in range(k - 1):
        start = tangents.get(i, (3 * slopes[i] - tangents.get(i + 1, slopes[i])) / 2)
        end = tangents.get(i + 1, (3 * slopes[i] - start) / 2)
        bulge = share * (1 - share) * ((1 - share) * start - share * end) * time[i]
        pieces.append(each[i].lerp(each[i + 1], share.square() * (3 - 2 * share)) + bulge)
    return torch.cat([*pieces, each[-1:]])


def _resampled(spline: Tensor, distance: Tensor, count: int) -> Tensor:
    """Choose ``count`` points at equal distances along a spline, as a matrix ``(count, k)``."""
    wanted = torch.linspace(0, 1, count, dtype=distance.dtype) * distance[-1]
    after = torch.searchsorted(distance, wanted).clamp(1, len(distance) - 1)
    share = (wanted - distance[after - 1]) / (distance[after] - distance[after - 1])
    return spline[after - 1].lerp(spline[after], share.unsqueeze(1))


def _shares(lengths: list[float]) -> list[int]:
    """Divide the samples among strokes of these lengths."""
    counts = [max(3, round(SAMPLES * length / sum(lengths))) for length in lengths]
    counts[counts.index(max(counts))] += SAMPLES - sum(counts)
    return counts


def _smoothing(count: int) -> Tensor:
    """Return the matrix ``(count, count)`` of a moving average that leaves the ends in place."""
    place = torch.arange(count, dtype=torch.float64)
    reach = torch.minimum(place, count - 1 - place).clamp(max=ROUNDING) + 1
    weights = (reach.unsqueeze(1) - (place - place.unsqueeze(1)).abs()).clamp(min=0)
    return weights / weights.sum(1, keepdim=True)


def _block_diagonal(blocks: list[Tensor]) -> Tensor:
    result: Tensor = torch.block_diag(*blocks)  # type: ignore[no-untyped-call]
    return result
