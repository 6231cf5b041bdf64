"""What is found on paper of many kinds, with the packaged detector."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw

from mnist_lit.reading.glyphs import Glyph, find_glyphs
from mnist_lit.reading.pictures import open_picture, to_gray
from tests.support import paper


def find_lines(picture: Any) -> list[list[Glyph]]:
    return find_glyphs(to_gray(picture))


def glyphs(picture: Any) -> list[Glyph]:
    return [glyph for line in find_lines(open_picture(picture)) for glyph in line]


def row(
    labels: Sequence[int], size: int = 60, gap: int = 20, **settings: paper.Color
) -> paper.Picture:
    """The first of MNIST's test digits with these labels, in a row on a page."""
    images, truths = paper.mnist()
    digits = [paper.digit(images[np.flatnonzero(truths == label)[0]], size) for label in labels]
    ink = paper.row(digits, gap)
    ink = paper.put(ink, ink.shape[0] + 2 * size, ink.shape[1] + 2 * size, size, size)
    return paper.develop(paper.sheet(ink, **settings), np.random.default_rng(0))


def assert_same_glyphs(
    found: list[list[Glyph]], expected: list[list[Glyph]], tolerance: float = 0.05
) -> None:
    assert [len(line) for line in found] == [len(line) for line in expected]
    for line, other in zip(found, expected, strict=True):
        for one, two in zip(line, other, strict=True):
            assert np.abs(one.image - two.image).mean() < tolerance


def test_mnists_own_images_come_back_as_they_are() -> None:
    images, _ = paper.mnist()
    differences = []
    for image in images[:500]:
        (glyph,) = glyphs(image)
        differences.append(np.abs(glyph.image - image / np.float32(255)).mean())
    assert np.percentile(differences, 99) < 0.01


@pytest.mark.parametrize(
    "colors",
    [
        {"color": paper.WHITE, "paper": paper.BLACK},
        {"color": paper.BLUE, "paper": paper.WHITE},
        {"color": (0.8, 0.1, 0.1), "paper": (0.9, 0.9, 0.6)},
        {"color": paper.PENCIL, "paper": paper.WHITE},
        {"color": (0.95, 0.9, 0.3), "paper": (0.1, 0.35, 0.2)},
    ],
)
def test_the_colors_of_ink_and_paper_do_not_matter(colors: dict[str, Any]) -> None:
    assert_same_glyphs(find_lines(row([4, 7, 1], **colors)), find_lines(row([4, 7, 1])))


def test_neither_place_nor_size_nor_padding_matters() -> None:
    expected = find_lines(row([3, 0, 5]))
    large = find_lines(row([3, 0, 5], size=300, gap=100))
    assert_same_glyphs(large, expected, 0.09)
    picture = row([3, 0, 5])
    padded = np.pad(picture, ((300, 10), (5, 400), (0, 0)), mode="edge")
    found = find_lines(padded)
    assert_same_glyphs(found, expected, 0.09)
    for one, two in zip(found[0], expected[0], strict=True):
        shift = np.subtract(one.box, two.box)
        assert np.abs(shift - [5, 300, 5, 300]).max() <= 3


def test_boxes_enclose_the_ink_in_pixels_of_the_whole_picture() -> None:
    image = Image.new("RGB", (4000, 3000), "white")
    ImageDraw.Draw(image).rectangle((1000, 500, 1200, 1500), fill="black")
    (glyph,) = glyphs(image)
    assert np.abs(np.subtract(glyph.box, (1000, 500, 1201, 1501))).max() <= 8


def page(
    ink: paper.Floats,
    color: paper.Color = paper.BLACK,
    light: paper.Floats | None = None,
    rules: paper.Floats | None = None,
    noise: float = 0.0,
) -> paper.Picture:
    sheet: Any = np.broadcast_to(np.array(paper.WHITE, np.float32), (*ink.shape, 3))
    if rules is not None:
        sheet = paper.paint(sheet, rules, (0.6, 0.7, 0.9))
    sheet = paper.paint(sheet, ink, color)
    if light is not None:
        sheet = sheet * light[..., np.newaxis]
    return paper.develop(sheet, np.random.default_rng(0), noise, quality=90)


@pytest.fixture(scope="module")
def ink() -> paper.Floats:
    """Two lines of digits, 60 pixels high."""
    images, labels = paper.mnist()
    digits = [paper.digit(images[np.flatnonzero(labels == label)[1]], 60) for label in range(10)]
    lines = paper.lines([paper.row(digits[:5], 25), paper.row(digits[5:], 25)], 60)
    return paper.put(lines, lines.shape[0] + 160, lines.shape[1] + 200, 100, 80)


@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize(("slope", "thickness"), [(0.0, 2), (0.02, 2), (0.01, 4)])
def test_ruled_and_squared_paper(
    ink: paper.Floats, squared: bool, slope: float, thickness: int
) -> None:
    height, width = ink.shape
    rules = paper.ruled(height, width, 40, thickness, slope, squared)
    assert_same_glyphs(find_lines(page(ink, rules=rules)), find_lines(page(ink)), 0.1)


@pytest.mark.parametrize("blur", [1, 60, 200])
def test_shadows_and_uneven_light(ink: paper.Floats, blur: int) -> None:
    height, width = ink.shape
    shadow = paper.shadow(height, width, depth=0.5, angle=0.4, at=0.5, blur=blur)
    light: Any = shadow * paper.gradient(height, width, low=0.6, angle=2)
    found = find_lines(page(ink, light=light, noise=0.01))
    assert_same_glyphs(found, find_lines(page(ink)), 0.08)


@pytest.mark.parametrize("sides", [(80, 80, 80, 80), (0, 60, 0, 0), (0, 40, 70, 0)])
def test_a_dark_table_around_the_sheet(ink: paper.Floats, sides: tuple[int, int, int, int]) -> None:
    top, bottom, left, right = sides
    sheet = page(ink)
    table = np.full((ink.shape[0] + top + bottom, ink.shape[1] + left + right, 3), 50, np.uint8)
    table[top : top + ink.shape[0], left : left + ink.shape[1]] = sheet
    assert_same_glyphs(find_lines(table), find_lines(sheet), 0.08)


@pytest.mark.parametrize("grain", [0, 40])
@pytest.mark.parametrize("table", [(30, 30, 30), (110, 70, 40), (150, 40, 40)])
def test_a_sheet_that_covers_a_small_part_of_a_table(
    ink: paper.Floats, table: tuple[int, int, int], grain: int
) -> None:
    sheet = page(ink)
    height, width = ink.shape
    wood = cv2.GaussianBlur(
        np.random.default_rng(0).normal(0, 1, (1200, 1400)), (0, 0), 40, None, 2
    )
    photo: Any = np.clip(table + grain * wood[..., np.newaxis] / wood.std(), 0, 255).astype(
        np.uint8
    )
    place = photo[300 : 300 + height, 350 : 350 + width]
    place[:] = sheet
    assert_same_glyphs(find_lines(photo), find_lines(sheet), 0.08)
    turned: Any = cv2.warpAffine(photo, cv2.getRotationMatrix2D((700, 600), 4, 1), (1400, 1200))
    assert [len(line) for line in find_lines(turned[60:-60, 60:-60])] == [5, 5]


def test_a_patch_of_light_is_no_sheet(ink: paper.Floats) -> None:
    light = np.full(ink.shape, 0.5, np.float32)
    light[:, ink.shape[1] // 3 :] = 1
    soft: Any = cv2.GaussianBlur(light, (0, 0), 3)
    assert [len(line) for line in find_lines(page(ink, light=soft))] == [5, 5]


def framed(shape: str, size: tuple[int, int], digit: str = "seven") -> Image.Image:
    """A 7 of 50 x 80 pixels in a shape of a size, or a shape with a mark in it."""
    image = Image.new("L", (400, 400), 255)
    brush = ImageDraw.Draw(image)
    box = [200 - size[0] // 2, 200 - size[1] // 2, 200 + size[0] // 2, 200 + size[1] // 2]
    getattr(brush, shape)(box, outline=0, width=6)
    if digit == "seven":
        brush.line([(175, 160), (225, 160), (190, 240)], 0, 8)
    if digit == "dot":
        brush.ellipse((192, 192, 208, 208), fill=0)
    if digit == "slash":
        brush.line([(180, 230), (220, 170)], 0, 8)
    return image


@pytest.mark.parametrize("size", [(160, 160), (180, 200)])
@pytest.mark.parametrize("shape", ["rectangle", "ellipse"])
def test_a_box_or_a_circle_around_a_digit_is_no_digit(shape: str, size: tuple[int, int]) -> None:
    (glyph,) = glyphs(framed(shape, size))
    assert np.abs(np.subtract(glyph.box, (172, 157, 228, 243))).max() <= 6


@pytest.mark.parametrize(("mark", "width"), [("dot", 90)])
def test_a_nought_keeps_its_ring_whatever_is_in_it(mark: str, width: int) -> None:
    (glyph,) = glyphs(framed("ellipse", (width, 150), mark))
    assert glyph.box[2] - glyph.box[0] >= 0.95 * width


@pytest.mark.parametrize("gap", [0, 30])
def test_digits_in_the_boxes_of_a_form(gap: int) -> None:
    image = Image.new("L", (80 + 5 * (100 + gap), 200), 255)
    brush = ImageDraw.Draw(image)
    for left in range(40, 40 + 5 * (100 + gap), 100 + gap):
        brush.rectangle((left, 40, left + 100, 160), outline=60, width=3)
        brush.line([(left + 30, 70), (left + 70, 70), (left + 45, 130)], 0, 7)
    (line,) = find_lines(open_picture(image))
    assert len(line) == 5
    assert all(55 <= glyph.box[3] - glyph.box[1] <= 75 for glyph in line)


def test_specks_are_dropped() -> None:
    picture = row([6, 2])
    rng = np.random.default_rng(0)
    for y, x in rng.integers(0, [picture.shape[0] - 2, 50], (20, 2)):
        picture[y : y + 2, x : x + 2] = 0
    assert_same_glyphs(find_lines(picture), find_lines(row([6, 2])))


def test_a_stroke_that_broke_off_belongs_to_its_digit() -> None:
    image = Image.new("RGB", (300, 200), "white")
    brush = ImageDraw.Draw(image)
    for left in (40, 160):  # two fives, their upper bars apart
        brush.line([(left, 60), (left, 95), (left + 45, 110), (left + 40, 150), (left, 155)], 0, 9)
        brush.line([(left + 4, 46), (left + 55, 46)], 0, 9)
    (line,) = find_lines(np.asarray(image))
    assert len(line) == 2
    assert all(glyph.box[1] < 50 and glyph.box[3] > 150 for glyph in line)


def test_digits_that_touch_are_parted() -> None:
    images, labels = paper.mnist()
    six, eight = (paper.digit(images[np.flatnonzero(labels == label)[0]], 80) for label in (6, 8))
    ink = paper.row([six, eight], gap=12)
    ink[60:64, six.shape[1] - 10 : six.shape[1] + 25] = 1  # a stroke from one to the other
    ink = paper.put(ink, 200, ink.shape[1] + 120, 60, 60)
    (line,) = find_lines(page(ink))
    assert len(line) == 2
    assert line[0].box[0] + 40 < line[1].box[0]


def test_lines_are_read_from_top_to_bottom_and_each_from_left_to_right(ink: paper.Floats) -> None:
    found = find_lines(page(ink))
    assert [len(line) for line in found] == [5, 5]
    for line in found:
        lefts = [glyph.box[0] for glyph in line]
        assert lefts == sorted(lefts)
    assert max(g.box[3] for g in found[0]) < min(g.box[1] for g in found[1])


@pytest.mark.parametrize(
    "picture",
    [
        np.full((300, 400, 3), 255, np.uint8),
        np.zeros((28, 28, 3), np.uint8),
        np.full((1, 1, 3), 9, np.uint8),
        np.random.default_rng(0).integers(0, 256, (400, 400, 3), np.uint8),
        np.random.default_rng(0).normal(230, 8, (400, 400, 3)).clip(0, 255).astype(np.uint8),
    ],
    ids=["white", "black", "dot", "noise", "grain"],
)
def test_blank_paper_and_noise_have_no_glyphs(picture: Any) -> None:
    assert find_lines(picture) == []


@pytest.mark.parametrize(("size", "width"), [(100, 1), (500, 1), (2000, 3)])
def test_hairlines_keep_their_ink(size: int, width: int) -> None:
    image = Image.new("RGB", (size + 20, size + 20), "white")
    ImageDraw.Draw(image).ellipse((10, 10, size, size), outline="black", width=width)
    (glyph,) = glyphs(image)
    ring = glyph.image > 0.5
    assert ring.sum() > 50  # a circle of 20 pixels is 63 long
    assert not ring[12:16, 12:16].any()
