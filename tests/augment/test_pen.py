import inspect
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Generator, Tensor

from mnist_lit.augment.__main__ import main
from mnist_lit.augment.contact_sheet import PLAIN
from mnist_lit.augment.curves import SAMPLES, curves, points_of
from mnist_lit.augment.forms import FORMS
from mnist_lit.augment.handwriting import Handwriting
from mnist_lit.augment.pen import VALIDATION_PEN, Pen, choose_forms, draw
from mnist_lit.data import MNISTDataModule, scaled

TRAINING = Pen()
# Without variation, so that the forms themselves can be compared.
STILL = replace(PLAIN, width=(2.5, 2.5), edge=(1, 1))


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def index(name: str) -> int:
    return [str(form) for form in FORMS].index(name)


def every_form(count: int, pen: Pen = TRAINING, seed: int = 0) -> Tensor:
    """``count`` images of each form, ``(forms * count, 28, 28)``."""
    forms = torch.arange(len(FORMS)).repeat_interleave(count)
    return draw(forms, pen, Generator().manual_seed(seed)).squeeze(1)


def longer_side(images: Tensor) -> Tensor:
    inky = images > 0.1
    return torch.maximum(inky.any(2).sum(1), inky.any(1).sum(1))


def center_of_mass(images: Tensor) -> Tensor:
    """Row and column of each image, ``(n, 2)``."""
    places = torch.arange(28.0)
    sums = torch.stack([(images.sum(2) * places).sum(1), (images.sum(1) * places).sum(1)], 1)
    return sums / images.sum((1, 2)).unsqueeze(1)


def test_every_digit_has_forms_of_hand_and_print_each_with_a_name_of_its_own() -> None:
    names = Counter(str(form) for form in FORMS)
    assert max(names.values()) == 1
    assert [form.digit for form in FORMS] == sorted(form.digit for form in FORMS)
    for digit in range(10):
        printed = [form.printed for form in FORMS if form.digit == digit]
        assert len(printed) >= 5
        assert set(printed) == {True, False}


def test_both_ends_of_a_range_have_the_same_strokes() -> None:
    for form in FORMS:
        ends = [[len(stroke.split()) for stroke in end] for end in (form.strokes, form.until)]
        assert not form.until or ends[0] == ends[1], str(form)


def test_strokes_pass_through_their_points() -> None:
    table = curves(torch.device("cpu"))
    paths = table.sharp @ table.first
    for form, path in zip(FORMS, paths, strict=True):
        points = torch.cat([points_of(stroke)[0] for stroke in form.strokes]).float()
        assert torch.cdist(points, path).amin(1).max() < 0.03, str(form)


def test_a_stroke_between_corners_is_straight_and_rounding_cuts_the_corner() -> None:
    form = index("4 printed")
    table = curves(torch.device("cpu"))
    sharp, rounded = (each[form] @ table.first[form] for each in (table.sharp, table.round))
    first, peak, elbow = (points_of(FORMS[form].strokes[0])[0][k] for k in (0, 1, 2))
    stem = sharp[sharp[:, 0] > peak[0].item() - 1e-4]
    assert len(stem) > SAMPLES / 4
    assert (sharp[:, 1] - first[1]).amax() < 1e-5
    assert (sharp - elbow).norm(dim=1).min() < 0.02
    assert (rounded - elbow).norm(dim=1).min() > 0.02
    assert torch.allclose(rounded[[0, -1]], sharp[[0, -1]], atol=1e-5)


def test_images_are_a_function_of_the_generator_or_the_global_random_state() -> None:
    assert torch.equal(every_form(2, seed=3), every_form(2, seed=3))
    assert not torch.equal(every_form(2, seed=3), every_form(2, seed=4))
    state = torch.get_rng_state()
    first = draw(torch.arange(len(FORMS)))
    torch.set_rng_state(state)
    assert torch.equal(draw(torch.arange(len(FORMS))), first)


@pytest.mark.parametrize("pen", [TRAINING, VALIDATION_PEN])
def test_images_are_in_the_form_of_mnist(pen: Pen) -> None:
    images = every_form(10, pen)
    assert images.shape == (10 * len(FORMS), 28, 28)
    assert images.dtype == torch.float32
    assert images.min() == 0
    assert (images.amax((1, 2)) == 1).all()
    sides = longer_side(images)
    assert ((sides >= 18) & (sides <= 22)).all()
    assert (sides == 20).float().mean() > 0.6
    away = (center_of_mass(images) - 14).abs()
    assert away.mean() < 0.4
    assert away.max() < 2


def test_strokes_are_as_wide_as_those_of_the_training_images(data_dir: Path) -> None:
    data = MNISTDataModule(data_dir=str(data_dir))
    data.setup("fit")
    images, labels = data.train_set.dataset[data.train_set.indices]
    written = scaled(images).sum((1, 2, 3))
    drawn = every_form(10).sum((1, 2))
    digits = torch.tensor([form.digit for form in FORMS]).repeat_interleave(10)
    for digit in range(10):
        ink = written[labels == digit]
        assert ink.quantile(0.1) < drawn[digits == digit].median() < ink.quantile(0.9)


def test_every_image_of_a_form_is_different() -> None:
    images = every_form(8).view(len(FORMS), 8, 784)
    for form, drawn in zip(FORMS, images, strict=True):
        distances = torch.cdist(drawn, drawn) + 100 * torch.eye(8)
        assert distances.min() > 1, str(form)


def test_forms_differ_from_each_other() -> None:
    plain = draw(torch.arange(len(FORMS)), STILL).flatten(1)
    distances = torch.cdist(plain, plain) + 100 * torch.eye(len(FORMS))
    assert distances.min() > 1.5


def test_an_upstroke_lies_to_the_left_of_a_stem_and_gets_longer_from_form_to_form() -> None:
    ink = [
        draw(torch.full((20,), index(f"1 {name}")), STILL).sum((1, 2, 3)).mean().item()
        for name in ("a plain stroke", "with a short upstroke", "with a long upstroke")
    ]
    assert ink == sorted(ink)
    image = draw(torch.full((1,), index("1 with a long upstroke")), STILL)[0, 0]
    stem = image[22].argmax().item()
    assert image[10, : int(stem) - 1].sum() > 0.5
    assert image[10, int(stem) + 3 :].sum() == 0


def test_forms_are_chosen_evenly_among_those_of_the_digit() -> None:
    labels = torch.randint(10, (10_000,))
    chosen = choose_forms(labels)
    assert [FORMS[form].digit for form in chosen.tolist()] == labels.tolist()
    counts = chosen.bincount(minlength=len(FORMS))
    for digit in range(10):
        of_digit = counts[[form.digit == digit for form in FORMS]]
        assert of_digit.min() > 0.7 * of_digit.float().mean()


def test_handwriting_draws_a_share_of_the_digits_with_their_labels() -> None:
    nothing = dict.fromkeys(inspect.signature(Handwriting).parameters, 0.0)
    images, labels = every_form(4).unsqueeze(1), torch.randint(10, (4 * len(FORMS),))
    plain, _ = Handwriting(**nothing)(images, labels)
    some, targets = Handwriting(**nothing | {"drawn": 0.25})(images, labels)
    changed = (some != plain).flatten(1).any(1)
    assert 0.15 < changed.float().mean() < 0.35
    assert torch.equal(targets.argmax(1), labels)
    everything, _ = Handwriting(**nothing | {"drawn": 1.0})(images, labels)
    assert (everything != plain).flatten(1).any(1).all()


@pytest.mark.parametrize("count", [1, 3])
def test_a_batch_may_be_so_small_that_nothing_is_drawn(count: int) -> None:
    images, labels = torch.rand(count, 1, 28, 28), torch.randint(10, (count,))
    for _ in range(10):
        augmented, _ = Handwriting(drawn=0.2, remains=0.2, corrupted=0.2)(images, labels)
        assert augmented.isfinite().all()


def test_the_contact_sheet_shows_every_form(tmp_path: Path) -> None:
    path = tmp_path / "forms.png"
    assert main(["forms", f"--output={path}"]) == 0
    with Image.open(path) as sheet:
        width, height = sheet.size
        assert width * height > len(FORMS) * 84 * 300
    first = path.read_bytes()
    assert main(["forms", f"--output={path}"]) == 0
    assert path.read_bytes() == first
    assert main(["forms", f"--output={path}", f"--seed={10**30}"]) == 0
