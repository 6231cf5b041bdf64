import inspect
from pathlib import Path
from typing import Any

import pytest
import torch

from mnist_lit.augment.corruption import corrupted
from mnist_lit.augment.filters import thickened
from mnist_lit.augment.handwriting import Handwriting, european_forms
from mnist_lit.augment.outliers import non_digits
from mnist_lit.augment.remains import with_remains
from mnist_lit.augment.strokes import strokes
from mnist_lit.data import Batch, MNISTDataModule, scaled
from tests.conftest import SMALL, Command


@pytest.fixture(scope="module")
def batch(data_dir: Path) -> Batch:
    data = MNISTDataModule(data_dir=str(data_dir))
    data.setup("fit")
    fetched: Any = data.train_set.__getitems__(list(range(256)))
    images, labels = fetched
    return scaled(images), labels


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def still(**settings: float) -> Handwriting:
    """An augmentation that does nothing but what the settings ask for, to all images."""
    nothing = dict.fromkeys(inspect.signature(Handwriting).parameters, 0.0)
    return Handwriting(**nothing | {"foreign": 1.0} | settings)


def center_of_mass(images: torch.Tensor) -> torch.Tensor:
    """Of each image, ``(n, 2)``: row and column."""
    places = torch.arange(28.0)
    rows, columns = images.sum(3).squeeze(1), images.sum(2).squeeze(1)
    return torch.stack([(rows * places).sum(1), (columns * places).sum(1)], 1) / rows.sum(
        1, keepdim=True
    )


def test_digits_keep_their_places_and_labels_and_others_follow_in_doubt(batch: Batch) -> None:
    images, labels = batch
    augmented, targets = Handwriting(others=0.25)(images, labels)
    assert augmented.shape == (320, 1, 28, 28)
    assert (augmented.min() >= 0) & (augmented.max() <= 1)
    assert augmented.amax((1, 2, 3)).min() > 0.2  # nothing has vanished
    assert torch.equal(targets[:256].argmax(1), labels)
    assert targets[:256].amax(1).eq(1).all()
    assert targets[256:].eq(0.1).all()


def test_without_distortions_digits_stay_as_they_are_but_for_the_centring(batch: Batch) -> None:
    images, labels = batch
    augmented, _ = still()(images, labels)
    assert torch.allclose(center_of_mass(augmented), torch.tensor(14.0), atol=0.05)
    assert (augmented - images).abs().mean() < 0.03


@pytest.mark.parametrize(
    "settings",
    [{"rotation": 15}, {"shear": 0.2}, {"scale": 0.2}, {"shift": 2}, {"bend": 1}, {"pen": 1}],
)
def test_every_image_is_distorted_in_its_own_way(batch: Batch, settings: dict[str, Any]) -> None:
    images, labels = (part[:1].expand(16, *part.shape[1:]) for part in batch)
    plain, _ = still()(images, labels)
    augmented, _ = still(**settings)(images, labels)
    assert len(augmented.flatten(1).unique(dim=0)) == 16
    assert ((augmented - plain).abs().amax((1, 2, 3)) > 0.02).sum() >= 14


def test_only_foreign_digits_are_bent_and_written_with_another_pen(batch: Batch) -> None:
    images, labels = batch
    home, _ = still(foreign=0, european=1, bend=1, pen=1)(images, labels)
    plain, _ = still()(images, labels)
    assert torch.equal(home, plain)


def test_a_batch_is_a_function_of_the_random_state(batch: Batch) -> None:
    torch.manual_seed(3)
    once, _ = Handwriting()(*batch)
    torch.manual_seed(3)
    again, _ = Handwriting()(*batch)
    assert torch.equal(once, again)


def test_european_forms_change_ones_sevens_and_fours_only(batch: Batch) -> None:
    images, labels = batch
    drawn = european_forms(images, labels, share=1)
    changed = (drawn - images).abs().amax((1, 2, 3)) > 0
    assert set(labels[changed].tolist()) == {1, 4, 7}
    for digit in (1, 4, 7):  # a few had it already
        assert changed[labels == digit].float().mean() > 0.9
    assert torch.equal(european_forms(images, labels, share=0), images)


def test_ones_get_a_flag_to_the_left_of_their_top_and_fours_lose_it(batch: Batch) -> None:
    images, labels = batch
    drawn = european_forms(images, labels, share=1)
    for image, one in zip(images[labels == 1], drawn[labels == 1], strict=True):
        added = (one - image).clamp(min=0).squeeze(0)
        assert added.sum() > 1
        top = image.squeeze(0).amax(1).gt(0.4).float().argmax()
        stem = image[0, top].argmax()
        assert added[:14, : stem + 2].sum() > 0.8 * added[:14].sum()  # above the foot
    assert (drawn <= images)[labels == 4].all()
    assert (drawn >= images)[labels == 7].all()


@pytest.mark.parametrize("count", [0, 1, 16, 200])
def test_what_is_no_digit_has_ink_inside_the_picture(batch: Batch, count: int) -> None:
    pictures = non_digits(batch[0], count)
    assert pictures.shape == (count, 1, 28, 28)
    if count:
        assert (pictures.sum((1, 2, 3)) > 5).all()
        assert (pictures.min() >= 0) & (pictures.max() <= 1)


def test_a_stroke_is_as_long_and_wide_as_asked_for() -> None:
    segments = torch.tensor([[[[4.0, 10.0], [24.0, 10.0]]], [[[4.0, 4.0], [18.0, 18.0]]]])
    drawn = strokes(segments, torch.tensor([3.0, 2.0]))
    assert drawn[0, 0, :, 14].sum().item() == pytest.approx(3, abs=0.01)
    assert drawn[0, 0, 10].sum().item() == pytest.approx(20 + 3, abs=0.5)
    length = 14 * 2**0.5
    assert drawn[1].sum().item() == pytest.approx(2 * length + torch.pi, rel=0.05)


def test_remains_of_a_page_lie_on_some_digits_and_leave_them_in_the_box(batch: Batch) -> None:
    images, labels = batch
    plain, _ = still()(images, labels)
    some, targets = still(remains=0.5)(images, labels)
    changed = (some != plain).flatten(1).any(1)
    assert 0.3 < changed.float().mean() < 0.6
    assert torch.equal(targets.argmax(1), labels)
    assert some.min() >= 0
    assert some.max() <= 1
    inky = some[:, 0] > 0.5
    for dim in (1, 2):
        reach = inky.any(dim).float()
        assert (28 - reach.flip(1).argmax(1) - reach.argmax(1)).max() <= 21


def test_remains_add_ink_or_leave_gaps_and_never_hide_a_digit(batch: Batch) -> None:
    images, _ = batch
    changed = with_remains(images)
    added, erased = ((sign * (changed - images)).clamp(min=0).sum((1, 2, 3)) for sign in (1, -1))
    ink = images.sum((1, 2, 3))
    assert (added > 0.05 * ink).float().mean() > 0.4
    assert 0.05 < (erased > 0.05 * ink).float().mean() < 0.3
    assert (changed.minimum(images).sum((1, 2, 3)) / ink).min() > 0.2


def test_some_digits_are_corrupted_each_in_one_of_seven_ways_and_no_others(batch: Batch) -> None:
    images, labels = batch
    torch.manual_seed(1)
    plain, _ = still(others=0.25)(images, labels)
    torch.manual_seed(1)
    some, targets = still(others=0.25, corrupted=0.5)(images, labels)
    changed = (some != plain).flatten(1).any(1)
    assert 0.4 < changed[:256].float().mean() < 0.6
    assert not changed[256:].any()
    assert torch.equal(targets[:256].argmax(1), labels)


def test_a_corrupted_digit_is_still_there(batch: Batch) -> None:
    images, _ = batch
    digit = images[3].expand(700, 1, 28, 28)
    spoiled = corrupted(digit)
    assert spoiled.shape == digit.shape
    assert spoiled.min() >= 0
    assert spoiled.max() <= 1
    assert len({image.numpy().tobytes() for image in spoiled}) > 600
    on_it_or_beside_it = thickened(digit[:1])[0, 0] > 0.3
    ink = spoiled[:, 0, on_it_or_beside_it]
    assert ink.std(1).min() > 0.02


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_the_precision_of_a_training_does_not_change_what_is_drawn(
    batch: Batch, dtype: torch.dtype
) -> None:
    augmentation = Handwriting(others=0.1)
    expected, _ = augmentation(*batch)
    torch.manual_seed(0)
    torch.set_default_dtype(dtype)
    try:
        images, targets = augmentation(*batch)
        assert torch.get_default_dtype() == dtype
    finally:
        torch.set_default_dtype(torch.float32)
    assert images.dtype == targets.dtype == torch.float32
    assert torch.equal(images, expected)


@pytest.mark.parametrize("value", ["2", "-0.1", "nan"])
def test_a_share_that_is_none_is_refused(mnist_lit: Command, value: str) -> None:
    augmentation = "--model.augmentation=mnist_lit.augment.Handwriting"
    outcome = mnist_lit("fit", SMALL[0], augmentation, f"--model.augmentation.corrupted={value}")
    assert outcome.status == 2
    assert "corrupted" in outcome.err.splitlines()[0]
