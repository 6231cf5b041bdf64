from typing import Any

import numpy as np
import pytest

from mnist_lit.reading.lines import find_lines, split_numbers


def row(*lefts: float, top: float = 0.0, slope: float = 0.0, height: float = 30.0) -> Any:
    """Boxes 20 pixels wide on one line."""
    lines = [[x, top + slope * x, x + 20, top + slope * x + height] for x in lefts]
    return np.array(lines, np.float32)


def test_no_boxes_have_no_lines() -> None:
    assert find_lines(np.zeros((0, 4), np.float32)) == []


@pytest.mark.parametrize("slope", [-0.5, -0.1, 0.0, 0.1, 0.5])
def test_lines_may_slope(slope: float) -> None:
    lefts = [0, 25, 50, 75, 100, 125, 150, 175, 200, 225]
    boxes = np.concatenate([row(*lefts, top=top, slope=slope) for top in (0, 60, 120)])
    order = np.random.default_rng(0).permutation(len(boxes))
    lines = find_lines(boxes[order])
    assert [[int(order[i]) for i in line] for line in lines] == [
        list(range(10)),
        list(range(10, 20)),
        list(range(20, 30)),
    ]


def test_lines_close_to_each_other_are_not_mixed() -> None:
    boxes = np.concatenate([row(*range(0, 300, 25), top=top) for top in (0, 32)])
    boxes[:, [1, 3]] += np.random.default_rng(0).normal(0, 3, (len(boxes), 1))
    assert [sorted(line) for line in find_lines(boxes)] == [list(range(12)), list(range(12, 24))]


def test_a_column_of_single_digits_is_read_downward() -> None:
    boxes = np.concatenate([row(x, top=45 * i) for i, x in enumerate([3, 0, 5, 1])])
    assert find_lines(boxes) == [[0], [1], [2], [3]]


@pytest.mark.parametrize(
    ("lefts", "starts"),
    [
        ([0], [0]),
        ([0, 25, 50], [0]),
        ([0, 25, 150, 175], [0, 2]),
        ([0, 60, 120, 180], [0]),  # digits that are evenly spaced, however widely
        ([0, 150], [0, 1]),
        ([0, 25, 70, 95, 120], [0, 2]),  # a space as wide as a digit
        ([0, 25, 70], [0, 2]),
        ([0, 21, 46, 77, 98], [0]),  # digits that are unevenly spaced
        ([0, 25, 50, 140, 165, 190, 290], [0, 3, 6]),
    ],
)
def test_numbers_are_apart_where_the_gap_is_much_wider_than_usual(
    lefts: list[float], starts: list[int]
) -> None:
    assert split_numbers(row(*lefts)) == starts
