from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ImageColor

from mnist_lit.reading.drawing import BLUE, GLYPH, MAX_SIDE, MIN_SIDE, RULE, VERMILION, draw
from mnist_lit.reading.reader import Line, Reader, Reading
from tests.support.pages import page


def count(drawing: np.ndarray, color: str) -> int:
    return int((drawing == ImageColor.getrgb(color)).all(axis=2).sum())


def test_without_digits_the_picture_is_drawn_with_a_message_below_it() -> None:
    picture = np.full((600, 700, 3), 200, np.uint8)
    drawing = np.asarray(draw(picture, Reading([])))
    assert drawing.shape[1:] == (700, 3)
    assert 0 < drawing.shape[0] - 600 < 60
    assert (drawing[:600] == picture).all()
    assert (drawing[600:] < 128).any()  # "No digits found."
    assert count(drawing, BLUE) == count(drawing, VERMILION) == 0


@pytest.mark.parametrize(
    ("threshold", "own", "other"), [(0, BLUE, VERMILION), (1, VERMILION, BLUE)]
)
def test_a_digit_has_its_glyph_and_a_box_colored_by_doubt(
    exported: Path, threshold: int, own: Any, other: Any
) -> None:
    picture = page(exported, "7")
    reading = Reader(exported, threshold).read(picture)
    drawing = np.asarray(draw(picture, reading))
    assert count(drawing, own) > 200
    assert count(drawing, other) == 0
    scale = MIN_SIDE / max(picture.shape)
    left, top, right, bottom = (round(scale * edge) for edge in reading.digits[0].box)
    across = (drawing.shape[1] - round(picture.shape[1] * scale)) // 2
    frame = drawing[top - 1 : bottom + 1, left - 1 + across : right + 1 + across]
    for side in (frame[:, 0], frame[:, -1], frame[-1]):  # the word covers some of the top
        assert (side == ImageColor.getrgb(own)).all()
    glyph = (reading.digits[0].glyph * 255).round().astype(np.uint8)
    large = glyph.repeat(GLYPH // 28, axis=0).repeat(GLYPH // 28, axis=1)
    assert contains(drawing[round(picture.shape[0] * scale) :, :, 0], large)


def contains(gray: np.ndarray, part: np.ndarray) -> bool:
    windows = np.lib.stride_tricks.sliding_window_view(gray, part.shape)
    return bool((windows == part).all(axis=(2, 3)).any())


@pytest.mark.parametrize(
    ("lines", "rows"), [([1], 1), ([10], 1), ([11], 2), ([2, 1], 2), ([21, 10, 1], 5)]
)
def test_glyphs_take_as_many_rows_as_they_need(exported: Path, lines: list[int], rows: int) -> None:
    [digit] = Reader(exported).read(page(exported, "7")).digits
    picture = np.full((600, 12 + 10 * 96, 3), 255, np.uint8)  # room for ten glyphs in a row
    drawing = np.asarray(draw(picture, Reading([Line([[digit] * count]) for count in lines])))
    assert drawing.shape[1] == picture.shape[1]
    black = (drawing[600:, 12 : 12 + GLYPH] == 0).all(axis=2).mean(axis=1) > 0.9  # a glyph's margin
    assert (np.diff(black.astype(int)) == 1).sum() == 2 * rows  # the margins above and below it
    rules = (drawing[600:] == ImageColor.getrgb(RULE)).all(axis=2).mean(axis=1) > 0.9
    assert rules.sum() == len(lines) - 1  # between the lines, not where one is wrapped


@pytest.mark.parametrize(
    ("height", "width", "longest"),
    [(28, 28, MIN_SIDE), (1, 3000, MAX_SIDE), (3000, 2000, MAX_SIDE), (700, 500, 700)],
)
def test_the_drawing_is_neither_tiny_nor_huge(height: int, width: int, longest: Any) -> None:
    drawing = draw(np.full((height, width, 3), 255, np.uint8), Reading([]))
    assert drawing.width >= min(width, 400)
    assert longest <= max(drawing.size) < longest + 60
