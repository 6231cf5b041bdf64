import pytest

from mnist_lit.own_digits.alignment import aligned

ROWS = ["0123456789"] * 4


@pytest.mark.parametrize(
    ("read", "text", "pairs"),
    [
        (["012", "345"], ["012", "345"], [(0, 0), (1, 1)]),
        (["912", "346"], ["012", "345"], [(0, 0), (1, 1)]),  # misread
        (["777"], ["012"], [(0, 0)]),
        (["01", "345"], ["012", "345"], [(1, 1)]),  # a digit was not found
        ([*ROWS[:2], "1", *ROWS[2:]], ROWS, [(0, 0), (1, 1), (3, 2), (4, 3)]),  # a speck
        ([*ROWS[:2], "012345689", ROWS[3]], ROWS, [(0, 0), (1, 1), (3, 2)]),
        (["345"], ["012", "345", "678"], [(0, 1)]),  # part of the sheet
        ([], ["012"], []),
        (["012"], [], []),
    ],
)
def test_lines_are_matched_in_order_by_length_and_digits(
    read: list[str], text: list[str], pairs: list[tuple[int, int]]
) -> None:
    assert aligned(read, text) == pairs
