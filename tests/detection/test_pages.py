"""Synthetic pages: what is on them, where, and that nothing else decides it."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from mnist_lit.detection.pages import camera, numbers, words
from mnist_lit.detection.pages.canvas import Canvas
from mnist_lit.detection.pages.glyphs import FONTS, SIDE, center_line, letter_line, thinned
from mnist_lit.detection.pages.numbers import DigitImages
from mnist_lit.detection.pages.page import FAINTEST, SIZE, SMALLEST, draw_page
from mnist_lit.detection.pages.pens import cut, random_hand, write
from mnist_lit.detection.pages.scenes import SCENES, SHARES, Scene
from mnist_lit.detection.pages.strips import VISIBLE, Part, joined


def random(*seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_a_page_depends_on_its_seed_alone(digits: DigitImages) -> None:
    first, again = (draw_page(random(3, 1, 4), digits) for _ in range(2))
    other = draw_page(random(3, 1, 5), digits)
    assert np.array_equal(first.image, again.image)
    assert np.array_equal(first.boxes, again.boxes)
    assert not np.array_equal(first.image, other.image)


def test_pages_have_digits_of_all_sizes_within_their_edges(digits: DigitImages) -> None:
    pages = [draw_page(random(index), digits) for index in range(60)]
    boxes = np.concatenate([page.boxes for page in pages])
    heights = boxes[:, 3] - boxes[:, 1]
    assert all(page.image.shape == (SIZE, SIZE) and page.image.dtype == np.uint8 for page in pages)
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 2:] <= SIZE).all()
    assert heights.min() >= SMALLEST
    assert (heights < 14).sum() > 10
    assert (heights > 128).sum() > 2
    assert {len(page.boxes) == 0 for page in pages} == {True, False}
    assert {int(label) for page in pages for label in page.labels} == set(range(10))


def test_every_digit_that_counts_can_be_seen(digits: DigitImages) -> None:
    for seed in range(30):
        page = draw_page(random(seed, 8), digits)
        for left, top, right, bottom in page.boxes.round().astype(int):
            assert np.ptp(page.image[top:bottom, left:right]) > FAINTEST


@pytest.mark.parametrize("angle", [0.0, 0.3, -0.7])
@pytest.mark.parametrize("height", [11.0, 40.0, 120.0])
def test_boxes_are_tight_around_the_ink(digits: DigitImages, angle: float, height: float) -> None:
    rng, canvas = random(7), Canvas(SIZE)
    hand = replace(random_hand(rng), gap=0.5, uneven=0.0, kind="pen", pen=0.1)
    ink, label = numbers.digit(rng, digits, hand, height)
    strip = joined([Part(ink, 0, 0, label)])
    assert canvas.place(strip, 60, 70, angle)
    (outline,) = canvas.digits
    ys, xs = np.nonzero(canvas.writing > VISIBLE)
    drawn = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
    box = [*outline.points.min(0), *outline.points.max(0)]
    assert box == pytest.approx(drawn, abs=0.01 if angle == 0 else 1.6)


def test_boxes_follow_the_perspective() -> None:
    matrix = camera.perspective(random(2), SIZE, inside=True)
    page = np.zeros((SIZE, SIZE), np.float32)
    page[100:140, 60:90] = 1
    seen, share = camera.seen_from(matrix, page, np.zeros_like(page))
    corners = np.array([[60, 100], [90, 100], [60, 140], [90, 140]], np.float32)
    places = camera.moved(matrix, corners)
    ys, xs = np.nonzero(seen > 0.5)
    drawn = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
    assert [*places.min(0), *places.max(0)] == pytest.approx(drawn, abs=1.6)
    assert 0.2 < share.mean() < 1


@pytest.mark.parametrize("height", [10, 24, 90])
def test_a_digit_is_as_high_as_asked_and_its_pen_as_wide(
    digits: DigitImages, height: float
) -> None:
    rng = random(1)
    hand = replace(random_hand(rng), bend=0.0, uneven=0.0, slant=0.0, kind="pen", pen=0.12)
    one = int(np.flatnonzero(digits.labels == 1)[0])
    ink = write(rng, digits.line(one), height, hand)
    assert ink.shape[0] == pytest.approx(height, abs=2 + 0.1 * height)
    upright = np.hypot(ink.shape[1] - 0.12 * height, ink.shape[0]) / ink.shape[0]
    middle = ink[ink.shape[0] // 2 - 1 : ink.shape[0] // 2 + 2].sum(1).mean()
    assert middle == pytest.approx(0.12 * height * upright, rel=0.35, abs=0.4)


def test_thinning_leaves_connected_lines_of_one_pixel(digits: DigitImages) -> None:
    for image in digits.images[:30]:
        line = center_line(image)
        large = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC) > 110
        pieces, before = (
            cv2.connectedComponents(each.astype(np.uint8))[0] for each in (line, large)
        )
        assert pieces == before
        assert line.sum() < 0.4 * large.sum()
        assert np.array_equal(thinned(line), line)


def test_a_zero_is_written_when_a_zero_is_asked_for(digits: DigitImages) -> None:
    rng = random(5)
    hand = random_hand(rng)
    assert {numbers.digit(rng, digits, hand, 20, 0)[1] for _ in range(10)} == {0}


def test_printed_digits_have_a_box_each() -> None:
    rng = random(3)
    for _ in range(20):
        strip = numbers.printed_number(rng, 30, 6)
        lefts = [each.points[:, 0].min() for each in strip.digits]
        assert len(lefts) == 6
        assert lefts == sorted(lefts)


def test_all_letters_are_in_all_fonts() -> None:
    for font in FONTS:
        blank = letter_line("\uffff", font)
        for letter in words.PRINT.replace(" ", ""):
            assert not np.array_equal(letter_line(letter, font), blank), (font, letter)


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
def test_every_scene_can_be_drawn(digits: DigitImages, scene: Scene) -> None:
    for seed in range(20):
        canvas = Canvas(SIZE)
        scene(random(seed), canvas, digits)
        assert canvas.writing.shape == (SIZE, SIZE)
        assert 0 <= canvas.writing.min() <= canvas.writing.max() <= 1.001
    assert sum(SHARES) == pytest.approx(1)


def test_nothing_is_written_over_a_number(digits: DigitImages) -> None:
    canvas, rng = Canvas(SIZE), random(0)
    strip = numbers.number(rng, digits, random_hand(rng), 40, 3)
    assert canvas.place(strip, 20, 20)
    assert not canvas.place(strip, 30, 40)
    assert len(canvas.digits) == 3


def test_a_pen_that_leaves_hardly_any_ink_writes_something() -> None:
    assert cut(np.full((20, 10), 0.2, np.float32)).size == 1
    ink = np.zeros((20, 10), np.float32)
    ink[5:9, 2:4] = 1
    assert cut(ink).shape == (4, 2)
