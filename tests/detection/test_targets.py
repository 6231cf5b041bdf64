"""Targets, loss and boxes: what is drawn is found again, and nothing else is better."""

import pytest
import torch
from torch import Tensor

from mnist_lit.detection.boxes import box_maps, detect
from mnist_lit.detection.loss import detection_loss
from mnist_lit.detection.network import Maps
from mnist_lit.detection.targets import Targets, page_targets

BOXES = torch.tensor(
    [
        [10.0, 20, 30, 60],
        [100, 40, 108, 90],
        [33, 21, 50, 58],
        [120, 100, 250, 255],
        [8, 200, 14, 210],
    ]
)
LABELS = torch.tensor([3, 1, 7, 0, 9])
IGNORED = torch.tensor([[200.0, 10, 240, 40]])


@pytest.fixture
def targets() -> Targets:
    return batch(page_targets(BOXES, LABELS, IGNORED, 256, 256))


def batch(targets: Targets) -> Targets:
    return Targets(*(each.unsqueeze(0) for each in targets))


def perfect(targets: Targets) -> Maps:
    center = torch.where(targets.center == 1, 12.0, -12.0)
    label = 20.0 * torch.nn.functional.one_hot(targets.label, 10).movedim(3, 1)
    return Maps(center, targets.size.clone(), targets.offset.clone(), label)


def in_order(boxes: Tensor) -> Tensor:
    return boxes[boxes[:, 0].argsort()]


def test_targets_peak_at_the_centers(targets: Targets) -> None:
    peaks = (targets.center[0, 0] == 1).nonzero() * 4 + 2  # y, x of the middle of the place
    centers = (BOXES[:, :2] + BOXES[:, 2:]) / 2
    assert len(peaks) == len(BOXES)
    for x, y in centers.tolist():
        assert (peaks - torch.tensor([y, x])).abs().amax(1).min() <= 2


def test_every_digit_counts_as_much_as_any_other(targets: Targets) -> None:
    for digit in LABELS:
        assert targets.weight[0, 0][targets.label[0] == digit].sum() == pytest.approx(1)


def test_decoding_the_targets_returns_the_boxes(targets: Targets) -> None:
    (found,) = detect(perfect(targets))
    assert torch.allclose(in_order(found.boxes), in_order(BOXES), atol=1e-3)
    by_place = found.labels[found.boxes[:, 0].argsort()]
    assert torch.equal(by_place, LABELS[BOXES[:, 0].argsort()])
    assert found.scores.min() > 0.99


def test_every_place_of_a_core_suggests_its_digits_box(targets: Targets) -> None:
    boxes = box_maps(perfect(targets))
    core = boxes[0, :, targets.weight[0, 0] > 0].T
    assert all((BOXES - box).abs().amax(1).min() < 1e-3 for box in core)


def test_the_perfect_prediction_has_the_least_loss(targets: Targets) -> None:
    maps = perfect(targets)
    least = detection_loss(maps, targets)
    assert least["loss"] < 0.01
    for shift in (1, 2, 5):
        moved = Maps(*(each.roll(shift, 3) for each in maps))
        worse = detection_loss(moved, targets)
        assert all(worse[name] > least[name] for name in ("center", "offset", "loss"))
    flat = maps._replace(center=torch.full_like(maps.center, -4))
    assert detection_loss(flat, targets)["center"] > least["center"]


def test_what_is_ignored_costs_nothing(targets: Targets) -> None:
    maps = perfect(targets)
    maps.center[0, 0, 5, 55] = 9.0  # in the ignored box
    assert detection_loss(maps, targets)["loss"] < 0.01
    maps.center[0, 0, 30, 55] = 9.0
    assert detection_loss(maps, targets)["loss"] > 1


def test_an_empty_page_only_has_mistakes(targets: Targets) -> None:
    nothing = page_targets(BOXES[:0], LABELS[:0], IGNORED[:0], 256, 256)
    assert nothing.center.sum() == nothing.weight.sum() == 0
    assert [each.shape for each in batch(nothing)] == [each.shape for each in targets]
    loss = detection_loss(perfect(targets), batch(nothing))
    assert loss["loss"] == loss["center"] > 1


def test_overlapping_boxes_are_suppressed(targets: Targets) -> None:
    maps = perfect(targets)
    for each in maps[1:3]:  # the second peak of the 3, with the same box
        each[0, :, 10, 7] = each[0, :, 10, 5]
    maps.offset[0, 0, 10, 7] -= 2
    maps.center[0, 0, 10, 7] = 3.0
    (found,) = detect(maps)
    assert len(found.boxes) == len(BOXES)
