from typing import Any

import numpy as np
import pytest

from mnist_lit.detection import calibration
from mnist_lit.detection.calibration import calibrated
from mnist_lit.detection.pages.numbers import DigitImages
from mnist_lit.detection.pages.page import Page, draw_page
from mnist_lit.reading.detector import Detections
from tests.support import paper


class Overconfident:
    """Gives three quarters to what is a digit in one of two cases, and less to what never is."""

    def __init__(self, boxes: Any) -> None:
        self.boxes = boxes

    def find(self, gray: Any, threshold: float) -> Detections:
        boxes = next(self.boxes)
        elsewhere = boxes + 1000
        found = np.concatenate([boxes, elsewhere, elsewhere + 1000])
        scores = np.repeat([0.75, 0.75, 0.25], len(boxes)).astype(np.float32)
        return Detections(found.astype(np.float32), scores)


@pytest.fixture
def digits() -> DigitImages:
    images, labels = paper.mnist("train")
    return DigitImages(images[:100], labels[:100].astype(np.int64))


def test_probabilities_become_how_often_what_is_found_is_a_digit(
    digits: DigitImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration, "PAGES", 20)
    pages: list[Page] = []

    def draw(rng: np.random.Generator, source: DigitImages) -> Page:
        pages.append(draw_page(rng, source))
        return pages[-1]

    monkeypatch.setattr("mnist_lit.detection.calibration.draw_page", draw)
    detector: Any = Overconfident(page.boxes for page in iter(lambda: pages[-1], None))
    slope, offset = calibrated(detector, digits)
    logits = np.array([np.log(3), -np.log(3)])
    certain, never = 1 / (1 + np.exp(-(slope * logits + offset)))
    assert certain == pytest.approx(0.5, abs=0.02)
    assert never < 0.02


def test_a_detector_that_is_always_right_is_left_as_it_is(
    digits: DigitImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration, "PAGES", 2)
    nothing = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32))
    detector: Any = type("Blind", (), {"find": lambda *_: nothing})()
    assert calibrated(detector, digits) == (1.0, 0.0)
