import io
import os
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw

from mnist_lit.errors import InputError, TooLargeError
from mnist_lit.reading.image_files import EXTENSIONS, FORMATS
from mnist_lit.reading.ink import Glyph, find_lines, normal_form, open_picture
from tests.support import paper
from tests.support.hostile import promise

RED, GREEN = (255, 0, 0), (0, 128, 0)


Color = str | int | tuple[int, ...]


def drawing(
    ink: Color = "black",
    sheet: Color = "white",
    size: tuple[int, int] = (120, 160),
    mode: str = "RGB",
) -> Image.Image:
    """A 7 drawn with straight strokes."""
    image = Image.new(mode, size, sheet)
    ImageDraw.Draw(image).line([(30, 40), (90, 40), (50, 120)], fill=ink, width=10)
    return image


def saved(image: Image.Image, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


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


# Opening


@pytest.mark.parametrize("form", ["PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "MPO"])
def test_formats(form: str, tmp_path: Path) -> None:
    path = tmp_path / f"seven.{form.lower()}"
    path.write_bytes(saved(drawing(), form))
    picture = open_picture(path)
    assert picture.shape == (160, 120, 3)
    assert picture.dtype == np.uint8
    assert np.abs(picture.astype(int) - np.asarray(drawing())).mean() < 3


def test_sources_are_paths_bytes_files_images_and_arrays(tmp_path: Path) -> None:
    image = drawing()
    path = tmp_path / "seven.png"
    image.save(path)
    content = path.read_bytes()
    for source in (path, str(path), content, io.BytesIO(content), image, np.asarray(image)):
        assert np.array_equal(open_picture(source), np.asarray(image))


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "YCbCr", "HSV"])
def test_modes(mode: str) -> None:
    picture = open_picture(drawing().convert(mode))
    assert picture[0, 0].min() > 240
    assert picture[40, 60].max() < 40


def test_sixteen_bits_and_floats_keep_their_range() -> None:
    gray = np.asarray(drawing().convert("L"), np.float32) / 255
    sixteen = (gray * 65535).astype(np.uint16)
    content = saved(Image.fromarray(sixteen), "PNG")
    for source in (content, sixteen, gray, gray.astype(np.float64), gray > 0.5):
        picture = open_picture(source)
        assert picture.shape == (160, 120, 3)
        assert picture[0, 0].min() == 255
        assert picture[40, 60].max() == 0
    dim = open_picture(saved(Image.fromarray((sixteen // 2).astype(np.uint16)), "PNG"))
    assert 120 < dim[0, 0, 0] < 135


@pytest.mark.parametrize("kind", [np.int32, np.int64, np.uint32])
def test_other_integers_are_what_they_seem_to_be(kind: Any) -> None:
    gray = np.asarray(drawing().convert("L"))
    assert np.array_equal(open_picture(gray.astype(kind)), open_picture(gray))


def test_what_is_not_a_number_is_black() -> None:
    gray = np.asarray(drawing().convert("L"), np.float32) / 255
    assert np.array_equal(open_picture(np.where(gray, gray, np.nan)), open_picture(gray))
    assert not open_picture(np.full((9, 9), np.nan)).any()


@pytest.mark.parametrize(
    "array", [np.full((9, 9), 255.0), np.full((9, 9), 1000), np.full((9, 9), np.inf)]
)
def test_values_out_of_range_are_an_input_error(array: Any) -> None:
    with pytest.raises(InputError, match="has values above") as error:
        open_picture(array)
    assert len(str(error.value).splitlines()) == 2


@pytest.mark.parametrize("source", [None, 7, [[0, 1], [1, 0]], {}])
def test_a_source_of_another_type_is_named(
    source: Any,
) -> None:
    what = f"The picture is of type {type(source).__name__}."
    with pytest.raises(InputError, match=what) as error:
        open_picture(source)
    assert len(str(error.value).splitlines()) == 2


def test_a_truncated_image_is_an_input_error() -> None:
    noisy = Image.effect_noise((200, 200), 90)
    content = saved(noisy, "PNG")
    with pytest.raises(InputError, match="cannot be read"):
        open_picture(Image.open(io.BytesIO(content[: len(content) // 2])))


def test_exif_orientation_is_applied() -> None:
    upright = drawing()
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter
    lying = saved(upright.rotate(90, expand=True), "PNG", exif=exif)
    assert np.array_equal(open_picture(lying), np.asarray(upright))


def test_transparency_shows_white_paper_or_black_under_white_ink() -> None:
    clear = (0, 0, 0, 0)
    dark = drawing("black", clear, mode="RGBA")
    assert open_picture(dark)[0, 0].tolist() == [255, 255, 255]
    light = drawing("white", clear, mode="RGBA")
    assert open_picture(light)[0, 0].tolist() == [0, 0, 0]
    assert_same_glyphs(find_lines(open_picture(dark)), find_lines(open_picture(light)))


def test_of_an_animation_the_first_frame_is_read() -> None:
    frames = [drawing(), Image.new("RGB", (120, 160), "white")]
    content = saved(frames[0], "GIF", save_all=True, append_images=frames[1:] * 50)
    assert len(glyphs(content)) == 1


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "is empty"),
        (b"%PDF-1.7 and more", "is a PDF"),
        (b"\0\0\0\x18ftypheic and more", "is a HEIC picture"),
        (b"a letter to grandmother", "is not a picture of a known format"),
        (saved(drawing(), "EPS"), "is not a picture of a known format"),  # a program
        (saved(drawing(), "PPM"), "Give a PNG, JPEG, WebP, GIF, BMP or TIFF"),
        (saved(drawing(), "ICO"), "Give a PNG, JPEG, WebP, GIF, BMP or TIFF"),
        (promise(50_000, 50_000), "has more than 40 megapixels"),
        (promise(1, 100_001), "is more than 100,000 pixels wide or high"),
        (promise(0, 10), "is not a picture of a known format|cannot be read"),
        (promise(100, 100), "cannot be read"),
        (saved(drawing(), "JPEG")[:400], "cannot be read"),
        (saved(drawing(), "PNG")[:120], "cannot be read"),
    ],
)
def test_what_is_no_sound_picture_is_an_input_error(content: Any, what: str) -> None:
    with pytest.raises(InputError, match=what) as error:
        open_picture(content)
    assert len(str(error.value).splitlines()) == 2


def test_a_missing_file_and_arrays_that_are_no_pictures_are_input_errors(tmp_path: Path) -> None:
    for source in (
        tmp_path / "none.png",
        tmp_path,
        np.zeros((3, 3, 3, 3)),
        np.zeros((0, 4)),
        np.zeros((4, 4, 2)),
        np.array([["a"]]),
    ):
        with pytest.raises(InputError):
            open_picture(source)


def test_pictures_in_a_folder_are_those_with_the_endings_of_the_formats() -> None:
    endings = Image.registered_extensions().items()
    assert {ending for ending, kind in endings if kind in FORMATS} == EXTENSIONS


@pytest.mark.parametrize(
    ("source", "what"),
    [
        (Image.new("RGB", (0, 5)), "The picture has no pixels"),
        (np.ma.masked_less(np.zeros((9, 9), np.uint8), 1), "The picture is a masked array"),
        (np.full((9, 9), None), "An array of object is not a picture"),
        (np.zeros((9, 9), np.complex64), "An array of complex64 is not a picture"),
        (np.zeros((0, 9, 3)), "is not a picture"),
        (np.zeros((9, 0)), "is not a picture"),
        (np.zeros((9, 9, 0)), "is not a picture"),
        ("a" * 300 + ".png", "File name too long"),
        ("null\0byte.png", "embedded null byte"),
        (io.StringIO("text"), "cannot be read"),
    ],
)
def test_strange_images_arrays_and_names_are_input_errors(source: Any, what: str) -> None:
    with pytest.raises(InputError, match=what) as error:
        open_picture(source)
    assert len(str(error.value).splitlines()) == 2


def test_a_closed_image_is_an_input_error() -> None:
    image = Image.open(io.BytesIO(saved(drawing(), "PNG")))
    image.close()
    with pytest.raises(InputError, match="cannot be read"):
        open_picture(image)


def test_arrays_may_be_of_half_precision_read_only_turned_or_out_of_the_range_of_floats() -> None:
    gray = np.asarray(drawing().convert("L"), np.float16) / 255
    expected = open_picture(gray.astype(np.float32))
    assert np.abs(open_picture(gray).astype(int) - expected).max() <= 1
    turned = np.asfortranarray(gray.astype(np.float32))
    turned.flags.writeable = False
    assert np.array_equal(open_picture(turned), expected)
    assert np.array_equal(open_picture(turned[::-1]), expected[::-1])
    dark = np.where(gray > 0.5, gray.astype(np.float64), -1e300)
    assert open_picture(dark)[40, 60].max() == 0
    assert open_picture(np.where(gray > 0.5, 1, -np.inf))[40, 60].max() == 0


@pytest.mark.parametrize("kind", ["fifo", "folder", "device"])
def test_what_is_not_a_regular_file_is_not_opened(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "seven.png"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    with pytest.raises(InputError, match="not a picture"):
        open_picture("/dev/zero" if kind == "device" else path)


# Files whose image is small, but that would take minutes or gigabytes


def scans(count: int) -> bytes:
    """A progressive JPEG of 16 megapixels with so many refinement scans after its own."""
    content = saved(Image.new("L", (4000, 4000), 255), "JPEG", progressive=True)[:-2]
    return content + content[content.rindex(b"\xff\xda") :] * count + b"\xff\xd9"


def chunks(kind: bytes, data: bytes, count: int) -> bytes:
    """A PNG with so many chunks more."""
    content = saved(drawing(), "PNG")
    chunk = struct.pack(">I", len(data)) + kind + data
    return (
        content[:33] + (chunk + struct.pack(">I", zlib.crc32(kind + data))) * count + content[33:]
    )


def tiff(*tags: tuple[int, int], size: tuple[int, int] = (100, 100)) -> bytes:
    """A gray TIFF of zeros, deflated, with other tags."""
    data = zlib.compress(bytes(10**6))
    base = {256: size[0], 257: size[1], 258: 8, 259: 8, 262: 1, 277: 1} | dict(tags)
    base |= {324: 8, 325: len(data)} if 322 in base else {273: 8, 278: size[1], 279: len(data)}
    directory = b"".join(struct.pack("<HHII", tag, 4, 1, base[tag]) for tag in sorted(base))
    head = struct.pack("<2sHI", b"II", 42, 8 + len(data))
    return head + data + struct.pack("<H", len(base)) + directory + bytes(4)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (scans(10_000), "has too many scans"),
        (scans(50), "has too many scans"),
        (b"\xff\xd8" * 10_000, "has too many segments"),
        (chunks(b"iCCP", b"a\0\0" + zlib.compress(bytes(10**6)), 1000), "has too many chunks"),
        (chunks(b"IDAT", b"", 200_000), "has too many chunks"),
        (tiff((322, 30_000), (323, 30_000)), "has more than 40 megapixels"),
        (tiff((322, 1), (323, 1)), "has too many tiles"),
    ],
    ids=["scans", "51 scans", "segments", "profiles", "data chunks", "large tile", "small tiles"],
)
def test_a_file_with_absurdly_many_parts_is_refused_before_it_is_decoded(
    content: Any, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda _: pytest.fail("was decoded"))
    with pytest.raises(TooLargeError, match=what) as error:
        open_picture(content)
    assert len(str(error.value).splitlines()) == 2


def test_as_many_parts_as_cameras_and_programs_write_are_read() -> None:
    assert open_picture(scans(20)).shape == (4000, 4000, 3)
    thumbnail = b"\xff\xe1" + struct.pack(">H", 60_002) + b"\xff\xda" * 30_000
    content = saved(drawing(), "JPEG")
    video = b"\xff\xda" * 30_000  # that a phone appends
    assert np.array_equal(
        open_picture(content[:2] + thumbnail + content[2:] + video), open_picture(content)
    )
    assert open_picture(chunks(b"tEXt", b"a\0b", 50)).shape == (160, 120, 3)
    assert open_picture(tiff()).shape == open_picture(tiff((322, 256), (323, 256))).shape


# Finding


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
    assert_same_glyphs(large, expected, 0.07)
    picture = row([3, 0, 5])
    padded = np.pad(picture, ((300, 10), (5, 400), (0, 0)), mode="edge")
    found = find_lines(padded)
    assert_same_glyphs(found, expected)
    for one, two in zip(found[0], expected[0], strict=True):
        shift = np.subtract(one.box, two.box)
        assert np.abs(shift - [5, 300, 5, 300]).max() <= 1


def test_boxes_enclose_the_ink_in_pixels_of_the_whole_picture() -> None:
    image = Image.new("RGB", (4000, 3000), "white")
    ImageDraw.Draw(image).rectangle((1000, 500, 1200, 1500), fill="black")
    (glyph,) = glyphs(image)
    assert np.abs(np.subtract(glyph.box, (1000, 500, 1201, 1501))).max() <= 3


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
    assert_same_glyphs(find_lines(page(ink, rules=rules)), find_lines(page(ink)), 0.08)


@pytest.mark.parametrize("margin", [0, 3, 10])
@pytest.mark.parametrize("height", [100, 300])
def test_upright_strokes_as_tall_as_the_picture_are_no_rules(height: int, margin: int) -> None:
    step = height * 2 // 5
    image = Image.new("L", (6 * step, height + 2 * margin), 255)
    brush = ImageDraw.Draw(image)
    for left in range(step // 2, 6 * step, step):  # 1s, evenly spaced
        brush.line([(left, margin), (left, height + margin)], 0, height // 30)
    (line,) = find_lines(open_picture(image))
    assert len(line) == 6
    assert all(glyph.box[3] - glyph.box[1] >= height - 2 for glyph in line)


def test_the_bars_of_a_digit_are_no_rules() -> None:
    image = Image.new("L", (130, 210), 255)
    five = [(120, 5), (10, 5), (10, 105), (120, 105), (120, 205), (10, 205)]
    ImageDraw.Draw(image).line(five, 0, 4)
    (glyph,) = glyphs(image)
    assert np.abs(np.subtract(glyph.box, (8, 3, 123, 208))).max() <= 3


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


@pytest.mark.parametrize("size", [(100, 120), (160, 160), (180, 200)])
@pytest.mark.parametrize("shape", ["rectangle", "ellipse"])
def test_a_box_or_a_circle_around_a_digit_is_no_digit(shape: str, size: tuple[int, int]) -> None:
    (glyph,) = glyphs(framed(shape, size))
    assert np.abs(np.subtract(glyph.box, (172, 157, 228, 243))).max() <= 6


@pytest.mark.parametrize(("mark", "width"), [("dot", 90), ("dot", 150), ("slash", 100)])
def test_a_nought_keeps_its_ring_whatever_is_in_it(mark: str, width: int) -> None:
    (glyph,) = glyphs(framed("ellipse", (width, 150), mark))
    assert glyph.box[2] - glyph.box[0] >= width


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
    assert line[0].box[2] <= line[1].box[0] + 10


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


# The form


def test_the_form_is_mnists() -> None:
    bar = np.zeros((400, 300), np.float32)
    bar[50:350, 100:160] = 0.7
    form: Any = normal_form(bar)
    assert (form.shape, form.dtype, form.max()) == ((28, 28), np.float32, 1)
    rows, columns = (np.flatnonzero(form.max(axis=axis) > 0.1) for axis in (1, 0))
    assert (len(rows), len(columns)) == (20, 4)
    assert form.sum(axis=1) @ np.arange(28) / form.sum() == pytest.approx(14, abs=0.5)
    assert form.sum(axis=0) @ np.arange(28) / form.sum() == pytest.approx(14, abs=0.5)


@pytest.mark.parametrize(("size", "width"), [(100, 1), (500, 1), (2000, 3)])
def test_hairlines_keep_their_ink(size: int, width: int) -> None:
    image = Image.new("RGB", (size + 20, size + 20), "white")
    ImageDraw.Draw(image).ellipse((10, 10, size, size), outline="black", width=width)
    (glyph,) = glyphs(image)
    ring = glyph.image > 0.5
    assert ring.sum() > 50  # a circle of 20 pixels is 63 long
    assert not ring[12:16, 12:16].any()


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 1), (3, 2)])
def test_the_form_of_any_shape_is_in_range(shape: tuple[int, int]) -> None:
    form = normal_form(np.ones(shape, np.float32))
    assert form.shape == (28, 28)
    assert form.max() == 1
    assert np.isfinite(form).all()
    assert not normal_form(np.zeros(shape, np.float32)).any()
