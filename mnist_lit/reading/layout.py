"""Where the glyphs of a picture are: without rules, strokes joined, digits parted, in order."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from mnist_lit.reading.paper import TINY, Floats, Mask, lies_along, stroke_width
from mnist_lit.reading.rules import without_rules

Labels = NDArray[np.int32]

# All lengths but these are shares of the usual height of what is written.
LEAST = 6  # pixels: nothing lower is a digit
MOST = 2000  # pieces: so many are no writing
FARTHEST = 0.3  # how far strokes of one digit may be apart
HALO = 2  # pixels around what is ink for certain, in which a stroke fades


@dataclass(frozen=True)
class Region:
    """Where a glyph is.

    Args:
        box: Left, top, right and bottom, the last two exclusive.
        ink: ``float32 (h, w)`` in [0, 1], of this glyph alone, with a small margin.
    """

    box: tuple[int, int, int, int]
    ink: Floats


@dataclass(frozen=True)
class Piece:
    """Ink that hangs together, or several such that belong together."""

    labels: tuple[int, ...]
    left: int
    top: int
    right: int
    bottom: int
    area: int

    @property
    def width(self) -> int:
        return self.right - self.left

    @property
    def height(self) -> int:
        return self.bottom - self.top

    @property
    def size(self) -> int:
        return max(self.width, self.height)

    def __or__(self, other: "Piece") -> "Piece":
        return Piece(
            self.labels + other.labels,
            min(self.left, other.left),
            min(self.top, other.top),
            max(self.right, other.right),
            max(self.bottom, other.bottom),
            self.area + other.area,
        )


def find_lines(ink: Floats, certain: Mask) -> list[list[Region]]:
    """Find glyphs, in reading order.

    Args:
        ink: ``float32 (h, w)`` in [0, 1].
        certain: ``bool (h, w)``: where there is ink for certain.

    Returns:
        Lines from top to bottom, each from left to right.
    """
    if max(ink.shape) <= TINY:
        return [[_all(ink, certain)]]
    certain = without_rules(certain)
    labels, pieces = _pieces(certain)
    pieces = _writing(pieces, labels)
    if not pieces:
        return []
    glyphs = _joined(pieces, labels, _usual_height(pieces))
    usual = _usual_height(glyphs)
    labels, glyphs = _parted(labels, glyphs, usual)
    glyphs = [each for each in glyphs if each.size >= max(0.35 * usual, LEAST)]
    lines = _in_order([each for each in glyphs if each.width < 3 * each.height])
    kept = np.zeros(labels.max() + 1, bool)
    kept[[label for line in lines for each in line for label in each.labels]] = True
    return [[_region(each, labels, kept, ink) for each in line] for line in lines]


def _all(ink: Floats, certain: Mask) -> Region:
    """The only digit of a picture."""
    left, top, width, height = cv2.boundingRect(certain.astype(np.uint8))
    return Region((left, top, left + width, top + height), ink)


def _pieces(certain: Mask) -> tuple[Labels, list[Piece]]:
    """Label what hangs together, from 1 on."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(certain.astype(np.uint8))
    pieces = [
        Piece((label,), left, top, left + width, top + height, area)
        for label, (left, top, width, height, area) in enumerate(stats.tolist())
        if label and max(width, height) >= 3
    ]
    return labels.astype(np.int32, copy=False), pieces


def _writing(pieces: list[Piece], labels: Labels) -> list[Piece]:
    """Leave out specks, frames, long lines, and what comes in from the edge of the picture."""
    pieces = [each for each in pieces if not _comes_in(each, labels)]
    if not pieces:
        return []
    usual = _usual_height(pieces)
    pieces = [each for each in pieces if each.size >= 0.12 * usual]
    if len(pieces) > MOST:
        return []
    pieces = [each for each in pieces if not _frames(each, pieces)]
    return [each for each in pieces if each.height <= 3 * _usual_height(pieces)]


def _comes_in(piece: Piece, labels: Labels) -> bool:
    """Whether a piece lies along the edge of the picture, as a table does."""
    height, width = labels.shape
    sides = (piece.left == 0, piece.top == 0, piece.right == width, piece.bottom == height)
    if not any(sides):
        return False
    part = labels[piece.top : piece.bottom, piece.left : piece.right] == piece.labels[0]
    return lies_along(part, *sides)


def _frames(piece: Piece, pieces: list[Piece]) -> bool:
    """Whether a piece is a box, a circle or the edge of a sheet, with writing in it."""
    inside = [
        each
        for each in pieces
        if piece.left < each.left
        and piece.top < each.top
        and each.right < piece.right
        and each.bottom < piece.bottom
        and 0.1 * piece.size < each.size
    ]
    least = 0.3 if piece.width > 0.8 * piece.height else 0.5  # a 0 is narrow, its slash long
    return len(inside) > 3 or any(each.height > least * piece.height for each in inside)


def _usual_height(pieces: list[Piece]) -> float:
    """The height such that half of the ink is in higher pieces."""
    heights = np.array([each.height for each in pieces], float)
    areas = np.array([each.area for each in pieces], float)
    order = np.argsort(heights)
    share = np.cumsum(areas[order]) / areas.sum()
    return float(heights[order][np.searchsorted(share, 0.5)])


def _joined(pieces: list[Piece], labels: Labels, usual: float) -> list[Piece]:
    """Put together the strokes of one digit, the nearest first."""
    whole = {each.labels[0]: each for each in pieces}
    gaps = [gap for i, each in enumerate(pieces) for gap in _gaps(each, pieces[:i], labels, usual)]
    for gap, one, other in sorted(gaps):
        if whole[one] is not whole[other] and _belong(whole[one], whole[other], gap, usual):
            union = whole[one] | whole[other]
            whole |= dict.fromkeys(union.labels, union)
    return list({id(each): each for each in whole.values()}.values())


def _gaps(
    piece: Piece, others: list[Piece], labels: Labels, usual: float
) -> list[tuple[float, int, int]]:
    """How far those are that may belong to a piece, in usual heights, with their labels."""
    margin = int(FARTHEST * usual) + 1
    left, top = max(0, piece.left - margin), max(0, piece.top - margin)
    right, bottom = piece.right + margin, piece.bottom + margin
    near = [
        each
        for each in others
        if left < each.right
        and each.left < right
        and top < each.bottom
        and each.top < bottom
        and _belong(piece, each, 0, usual)
    ]
    if not near:
        return []
    around = labels[top:bottom, left:right]
    away = (around != piece.labels[0]).astype(np.uint8)
    distance = cv2.distanceTransform(away, cv2.DIST_L2, 5)
    gaps = []
    for each in near:
        rows = slice(max(0, each.top - top), each.bottom - top)
        box = rows, slice(max(0, each.left - left), each.right - left)
        gap = float(distance[box][around[box] == each.labels[0]].min(initial=np.inf)) / usual
        if gap <= FARTHEST:
            gaps.append((gap, piece.labels[0], each.labels[0]))
    return gaps


def _belong(one: Piece, other: Piece, gap: float, usual: float) -> bool:
    """Whether two pieces are strokes of one digit; their gap is a share of the usual height."""
    both = one | other
    lower = min(one.height, other.height)
    overlap = one.width + other.width - both.width
    if overlap >= 0.5 * min(one.width, other.width):  # one above the other
        tallest = 1.7 if lower < 0.6 * usual else 1.4
        return both.height <= tallest * usual and both.width <= 1.6 * max(usual, lower)
    beside = gap <= (FARTHEST if lower < 0.35 * usual else 0.14) and lower < 0.6 * usual
    return beside and both.height <= 1.4 * usual and both.width <= 1.4 * usual


def _parted(labels: Labels, glyphs: list[Piece], usual: float) -> tuple[Labels, list[Piece]]:
    """Cut digits that touch, where one thin stroke is all that holds them together."""
    labels = labels.copy()
    parted: list[Piece] = []
    waiting = list(glyphs)
    while waiting:
        glyph = waiting.pop()
        parts = _cut(glyph, labels) if glyph.height > 0.7 * usual else []
        (waiting if parts else parted).extend(parts or [glyph])
    return labels, parted


def _cut(glyph: Piece, labels: Labels) -> list[Piece]:
    """Two pieces, newly labelled, or none if no cut is clear."""
    if glyph.width < 1.5 * glyph.height or glyph.height < 2 * LEAST:
        return []
    window = labels[glyph.top : glyph.bottom, glyph.left : glyph.right]
    mask = np.isin(window, glyph.labels)
    middle = glyph.height // 4  # a digit is not narrower
    seam = _seam(mask[:, middle : glyph.width - middle]) + middle
    crossed = mask[np.arange(glyph.height), seam]
    strokes = np.count_nonzero(np.diff(crossed.astype(int)) == 1) + crossed[0]
    if strokes > 1 or crossed.sum() > min(1.25 * stroke_width(mask), 0.4 * glyph.height):
        return []
    left = np.arange(glyph.width) < seam[:, np.newaxis]
    halves = [mask & left, mask & ~left]
    boxes = [cv2.boundingRect(half.astype(np.uint8)) for half in halves]
    overlap = sum(width for _, _, width, _ in boxes) - glyph.width
    if overlap > 0.2 * glyph.height or min(height for *_, height in boxes) < 0.7 * glyph.height:
        return []
    parts = []
    for half, (x, y, width, height) in zip(halves, boxes, strict=True):
        label = int(labels.max()) + 1
        window[half] = label
        corner = glyph.left + x, glyph.top + y
        box = (*corner, corner[0] + width, corner[1] + height)
        parts.append(Piece((label,), *box, int(half.sum())))
    return parts


def _seam(mask: Mask) -> NDArray[np.int64]:
    """The way from top to bottom through the least ink: its column in each row."""
    height, width = mask.shape
    cost = mask.astype(np.float32)
    cost += 0.01 * np.abs(np.arange(width) - width / 2) / width  # of equal ways the middle one
    steps = np.zeros((height, width), np.int64)
    total = cost[0]
    for row in range(1, height):
        padded = np.pad(total, 1, constant_values=np.inf)
        ways = np.stack([padded[:-2], padded[1:-1], padded[2:]])
        steps[row] = ways.argmin(axis=0) - 1
        total = cost[row] + ways.min(axis=0)
    column = int(total.argmin())
    seam = np.empty(height, np.int64)
    for row in range(height - 1, -1, -1):
        seam[row] = column
        column += steps[row, column]
    return seam


def _in_order(glyphs: list[Piece]) -> list[list[Piece]]:
    """Lines from top to bottom: each glyph follows the one to its left that it is level with."""
    lines: list[list[Piece]] = []
    for glyph in sorted(glyphs, key=lambda each: each.left):
        line = max(lines, key=lambda each: _level(each[-1], glyph), default=None)
        if line is None or _level(line[-1], glyph) < 0.3:
            lines.append([glyph])
        else:
            line.append(glyph)
    return sorted(lines, key=lambda line: sum(each.top + each.bottom for each in line) / len(line))


def _level(one: Piece, other: Piece) -> float:
    """How much of the lower one's height they share."""
    shared = min(one.bottom, other.bottom) - max(one.top, other.top)
    return shared / min(one.height, other.height)


def _region(glyph: Piece, labels: Labels, kept: Mask, ink: Floats) -> Region:
    """The ink of a glyph, and what fades around it, but not that of its neighbours."""
    rows = slice(max(0, glyph.top - HALO), glyph.bottom + HALO)
    columns = slice(max(0, glyph.left - HALO), glyph.right + HALO)
    around = labels[rows, columns]
    own = np.isin(around, glyph.labels)
    others = kept[around] & ~own
    distance = cv2.distanceTransform((~own).astype(np.uint8), cv2.DIST_L2, 5)
    mine = distance <= HALO + 0.5
    if others.any():
        mine &= distance < cv2.distanceTransform((~others).astype(np.uint8), cv2.DIST_L2, 5)
    box = glyph.left, glyph.top, glyph.right, glyph.bottom
    return Region(box, ink[rows, columns] * mine)
