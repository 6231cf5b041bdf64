from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from mnist_lit.reading.detector import PACKAGED, Detector, scales, suppressed


@pytest.mark.parametrize(
    ("size", "finest", "levels"),
    [
        ((3000, 4000), 0.36, 5),
        ((40_000, 3), 0.036, 5),
        ((256, 256), 1.0, 3),
        ((40, 33), 3.2, 2),
        ((1, 1), 128.0, 2),
    ],
)
def test_a_picture_is_seen_in_sizes_that_the_network_knows(
    size: tuple[int, int], finest: float, levels: int
) -> None:
    found = scales(*size)
    assert found[0] == pytest.approx(finest)
    assert len(found) == levels
    assert all(fine == 2 * coarse for fine, coarse in pairwise(found))


def test_of_overlapping_boxes_the_most_probable_stays() -> None:
    boxes: Any = np.array(
        [[0, 0, 10, 20], [1, 1, 11, 21], [30, 0, 40, 20], [32, 5, 38, 15], [12, 0, 22, 20]],
        np.float32,
    )
    assert suppressed(boxes) == [0, 2, 4]
    assert suppressed(boxes[:0]) == []


@pytest.mark.parametrize("shape", [(1, 1), (33, 1), (1, 5000), (300, 200)])
def test_what_is_found_is_in_the_picture_and_the_most_probable_comes_first(
    shape: tuple[int, int],
) -> None:
    picture = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    found = Detector(PACKAGED.read_bytes()).find(picture, threshold=0.001)
    assert found.boxes.shape == (len(found.probabilities), 4)
    assert (found.boxes >= 0).all()
    assert (found.boxes <= [shape[1], shape[0]] * 2).all()
    assert (np.diff(found.probabilities) <= 0).all()
    assert ((found.probabilities >= 0.001) & (found.probabilities <= 1)).all()
