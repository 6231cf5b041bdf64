"""How the benchmarks score what was read, and what they corrupt."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.corruptions import CORRUPTIONS
from benchmarks.ocr import Score, labeled, score
from mnist_lit.errors import InputError


@pytest.mark.parametrize(
    ("text", "truth", "expected"),
    [
        ("548\n625", "548\n625", Score(exact=1, digits=6, nothing=0)),
        ("No. 5 48,\n--\n625.-\n", "548\n625", Score(exact=1, digits=6, nothing=0)),
        ("548625", "548\n625", Score(exact=0, digits=6, nothing=0)),  # one line instead of two
        ("5486", "5436", Score(exact=0, digits=3, nothing=0)),
        ("546", "5436", Score(exact=0, digits=3, nothing=0)),
        ("54 3161", "5436", Score(exact=0, digits=2, nothing=0)),  # two digits too many
        ("123456789", "0", Score(exact=0, digits=0, nothing=0)),  # never below zero
        ("l O\n", "10", Score(exact=0, digits=0, nothing=1)),
    ],
)
def test_readings_are_scored_by_picture_and_by_digit(
    text: str, truth: str, expected: Score
) -> None:
    assert score([text], [truth]) == expected
    assert score([text, truth], [truth, truth]).exact == 1 + expected.exact


def test_the_name_of_a_picture_says_what_is_written(tmp_path: Path) -> None:
    for name in ("007_anna.png", "12-3_b_4.jpg", "5.png", "2025-photo.jpg", "anna.png", "6_.txt"):
        (tmp_path / name).touch()
    assert {path.name: text for path, text in labeled(tmp_path).items()} == {
        "007_anna.png": "007",
        "12-3_b_4.jpg": "12\n3",
        "5.png": "5",
    }


def test_pictures_without_labels_are_no_input(tmp_path: Path) -> None:
    (tmp_path / "anna.png").touch()
    with pytest.raises(InputError, match="begins with what is written"):
        labeled(tmp_path)


@pytest.mark.parametrize("corrupt", CORRUPTIONS)
def test_a_corruption_changes_a_digit_but_does_not_hide_it(corrupt: Any) -> None:
    image = np.zeros((28, 28), np.float32)
    image[6:22, 12:15] = 1  # a thick 1
    once, again = (corrupt(np.random.default_rng(0), image.copy()) for _ in range(2))
    assert once.shape == (28, 28)
    assert np.array_equal(once, again)
    assert np.abs(once - image).max() > 0.1
    assert once[4:24, 8:19].std() > 0.03
