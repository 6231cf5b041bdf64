"""Average precision, on cases that can be computed by hand."""

import pytest
import torch

from mnist_lit.detection.average_precision import AveragePrecision
from mnist_lit.detection.boxes import Detections

BOXES = torch.tensor([[0.0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10], [60, 0, 70, 10]])
NONE = BOXES[:0]


def found(boxes: torch.Tensor, scores: list[float]) -> Detections:
    return Detections(boxes, torch.tensor(scores), torch.zeros(len(boxes), dtype=torch.int64))


def test_all_found_and_nothing_else_is_one() -> None:
    metric = AveragePrecision()
    metric.update(found(BOXES + 1, [0.9, 0.8, 0.7, 0.6]), BOXES, NONE)
    assert metric.compute() == 1


def test_the_area_is_that_under_the_best_precision_at_each_recall() -> None:
    metric = AveragePrecision()
    wrong = torch.tensor([[200.0, 0, 210, 10]])
    boxes = torch.cat([BOXES[:1], wrong, BOXES[1:3]])  # right, wrong, right, right; one missed
    metric.update(found(boxes, [0.9, 0.8, 0.7, 0.6]), BOXES, NONE)
    assert metric.compute() == pytest.approx((1 + 3 / 4 + 3 / 4) / 4)


def test_a_second_box_on_a_digit_is_a_mistake() -> None:
    metric = AveragePrecision()
    metric.update(found(BOXES[[0, 0, 1]], [0.9, 0.8, 0.7]), BOXES[:2], NONE)
    assert metric.compute() == pytest.approx((1 + 2 / 3) / 2)


def test_ignored_boxes_count_neither_way() -> None:
    metric = AveragePrecision()
    metric.update(found(BOXES[:2], [0.9, 0.8]), BOXES[1:2], BOXES[:1])
    assert metric.compute() == 1


def test_pictures_are_ranked_together() -> None:
    metric = AveragePrecision()
    metric.update(found(BOXES[:1], [0.2]), BOXES[:1], NONE)
    metric.update(found(BOXES[:1], [0.9]), NONE, NONE)  # a surer mistake elsewhere
    assert metric.compute() == 0.5


def test_nothing_found_is_zero() -> None:
    metric = AveragePrecision()
    metric.update(found(NONE, []), BOXES, NONE)
    assert metric.compute() == 0
