import io
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageOps

from mnist_lit.errors import InputError, TooLargeError
from mnist_lit.reading.image_files import EXTENSIONS, FORMATS
from mnist_lit.reading.pictures import open_picture
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


@pytest.mark.parametrize("orientation", range(10))
def test_exif_orientation_is_applied(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = saved(drawing(), "PNG", exif=exif)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    assert np.array_equal(open_picture(content), np.asarray(upright))


def test_other_damage_to_exif_does_not_matter() -> None:
    head, end = struct.pack(">2sHI", b"MM", 42, 8), bytes(4)
    width = struct.pack(">HHIi", 0x0100, 9, 1, -1)
    orientation = struct.pack(">HHIHH", 0x0112, 3, 1, 6, 0)
    exif = b"Exif\0\0" + head + struct.pack(">H", 2) + width + orientation + end
    assert open_picture(saved(drawing(), "JPEG", exif=exif)).shape == (120, 160, 3)


def test_transparency_shows_white_paper_or_black_under_white_ink() -> None:
    clear = (0, 0, 0, 0)
    dark = drawing("black", clear, mode="RGBA")
    assert open_picture(dark)[0, 0].tolist() == [255, 255, 255]
    light = drawing("white", clear, mode="RGBA")
    assert open_picture(light)[0, 0].tolist() == [0, 0, 0]


def test_of_an_animation_the_first_frame_is_read() -> None:
    frames = [drawing(), Image.new("RGB", (120, 160), "white")]
    content = saved(frames[0], "GIF", save_all=True, append_images=frames[1:] * 50)
    assert np.abs(open_picture(content).astype(int) - np.asarray(frames[0])).mean() < 3


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "is empty"),
        (b"%PDF-1.7 and more", "is a PDF"),
        (b"\0\0\0\x18ftypheic and more", "is a HEIC picture"),
        (b"a letter to grandmother", "is not in a known format"),
        (saved(drawing(), "EPS"), "is not in a known format"),  # a program
        (saved(drawing(), "PPM"), "Give a PNG, JPEG, WebP, GIF, BMP or TIFF"),
        (saved(drawing(), "ICO"), "Give a PNG, JPEG, WebP, GIF, BMP or TIFF"),
        (promise(50_000, 50_000), "has more than 40 megapixels"),
        (promise(1, 100_001), "is more than 100,000 pixels wide or high"),
        (promise(0, 10), "is not in a known format|cannot be read"),
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


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG."""
    length, checksum = struct.pack(">I", len(data)), struct.pack(">I", zlib.crc32(kind + data))
    return length + kind + data + checksum


def chunks(kind: bytes, data: bytes, count: int, first: bytes = b"") -> bytes:
    """A PNG with so many chunks more, after the first."""
    content = saved(drawing(), "PNG")
    return content[:33] + first + chunk(kind, data) * count + content[33:]


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
        (chunks(b"tEXt", b"a\0b", 200, chunk(b"fdAT", bytes(4))), "has too many chunks"),
        (tiff((322, 30_000), (323, 30_000)), "has more than 40 megapixels"),
        (tiff((322, 1), (323, 1)), "has too many tiles"),
    ],
    ids=[
        *("scans", "51 scans", "segments", "profiles", "data chunks", "chunks after a frame"),
        *("large tile", "small tiles"),
    ],
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
