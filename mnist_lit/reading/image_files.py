"""Image files: finding and opening them, and refusing hostile ones before they are decoded.

Decoding even a small image can take minutes: a JPEG may have thousands of scans, each of which
changes every pixel, and a TIFF may have a tile for every pixel.
"""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from mnist_lit.errors import InputError, TooLargeError
from mnist_lit.files import open_regular

if TYPE_CHECKING:  # commands that only list files do without Pillow
    from PIL.Image import Image

# Pillow decodes these in C and limits their metadata. Its other formats are rarer, and some are
# decoded in Python or by external programs.
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF")
EXTENSIONS = frozenset(
    (".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".gif", ".bmp", ".webp", ".tif", ".tiff")
)

MAX_SIDE = 100_000  # pixels; Pillow also needs memory for each row
MAX_SCANS = 50  # of a JPEG; cameras and web sites write about 10
MAX_SEGMENTS = 2000  # of a JPEG: tables, metadata, a color profile with up to 255
MAX_CHUNKS = 100  # of a PNG, besides those with pixels or about frames
MAX_DATA_CHUNKS = 100_000  # of a PNG, with pixels or about frames; usually of 8 kB or more
MIN_TILE = 16  # pixels; the sides of a TIFF's tiles are multiples of it

MAX_STREAM = 500_000_000  # bytes; more than 40 megapixels take without compression

PNG_DATA = (b"IDAT", b"fdAT", b"fcTL")
TILE_WIDTH, TILE_LENGTH = 322, 323  # tags of a TIFF

MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # in a JPEG, except restart markers
START_OF_IMAGE, END_OF_IMAGE, START_OF_SCAN, TEMPORARY = 0xD8, 0xD9, 0xDA, 0x01
WINDOW = 65536  # bytes to search at a time


def pictures_in(folder: Path) -> tuple[list[Path], int]:
    """List the image files in a folder, by extension and sorted by name.

    Hidden files and subfolders are ignored.

    Returns:
        The paths of the image files, and the number of other files.

    Raises:
        InputError: If there are none, or the folder cannot be read.
    """
    try:
        files = [path for path in folder.iterdir() if path.is_file() and path.name[0] != "."]
    except OSError as error:
        raise InputError(
            f"{folder} cannot be read: {error.strerror}.", "Give a folder with pictures."
        ) from error
    pictures = sorted(path for path in files if path.suffix.lower() in EXTENSIONS)
    if not pictures:
        raise InputError(
            f"There are no pictures in the folder {folder}.",
            "Give a folder with .png, .jpg or other image files; subfolders are ignored.",
        )
    return pictures, len(files) - len(pictures)


@contextmanager
def opened(source: str | Path | bytes | BinaryIO) -> Iterator[BinaryIO]:
    """Open an image file for reading.

    Args:
        source: A file, its path or its contents.

    Raises:
        InputError: If it cannot be opened, is a pipe or a device, or an object of another type.
    """
    if isinstance(source, str | Path):
        with open_regular(Path(source), "picture", "Give the path of an image file.") as file:
            yield file
    elif isinstance(source, bytes):
        yield io.BytesIO(source)
    elif not hasattr(source, "read"):
        raise InputError(
            f"The picture is of type {type(source).__name__}.",
            "Give a path, a file or its contents, a PIL image or a NumPy array.",
        )
    elif hasattr(source, "seekable") and source.seekable():
        yield source
    else:
        yield io.BytesIO(contents(source))


def contents(stream: BinaryIO) -> bytes:
    """Read all of a stream, which may be endless.

    Raises:
        TooLargeError: If it has more than ``MAX_STREAM`` bytes.
    """
    content = stream.read(MAX_STREAM + 1)
    if len(content) > MAX_STREAM:
        raise TooLargeError(
            f"The picture has more than {MAX_STREAM / 1e6:g} MB.", "Make it smaller."
        )
    return content


def check_structure(file: BinaryIO, name: str) -> None:
    """Refuse a file with excessively many parts before Pillow goes through them.

    Args:
        file: A seekable file.
        name: Its name in messages.

    Raises:
        TooLargeError: If it has too many parts.
    """
    file.seek(0)
    head = file.read(8)
    if head[:2] == b"\xff\xd8":
        _check_jpeg(file, name)
    elif head == b"\x89PNG\r\n\x1a\n":
        _check_png(file, name)
    file.seek(0)


def _check_jpeg(file: BinaryIO, name: str) -> None:
    place, scans, segments = 2, 0, 0
    while True:
        file.seek(place)
        window = file.read(WINDOW)
        found = MARKER.search(window)
        if not found:
            if len(window) < 2:
                return
            place += len(window) - 1  # the last byte may begin a marker
            continue
        marker = window[found.end() - 1]
        if marker == END_OF_IMAGE:  # phones append data that is not decoded
            return
        place += found.end()
        if marker not in (START_OF_IMAGE, TEMPORARY):
            file.seek(place)
            place += max(int.from_bytes(file.read(2)), 2)
        scans += marker == START_OF_SCAN
        segments += 1
        if scans > MAX_SCANS or segments > MAX_SEGMENTS:
            raise _too_many(name, "scans" if scans > MAX_SCANS else "segments")


def _check_png(file: BinaryIO, name: str) -> None:
    chunks = data_chunks = 0
    while len(head := file.read(8)) == 8 and head[4:] != b"IEND":
        has_data = head[4:] in PNG_DATA
        data_chunks += has_data
        chunks += not has_data
        if chunks > MAX_CHUNKS or data_chunks > MAX_DATA_CHUNKS:
            raise _too_many(name, "chunks")
        file.seek(int.from_bytes(head[:4]) + 4, io.SEEK_CUR)


def check_size(image: "Image", name: str, max_pixels: int) -> None:
    """Refuse an image that is too large before it is decoded.

    Args:
        image: An image that Pillow has opened.
        name: Its name in messages.
        max_pixels: Limit on the pixels of the image, and of each tile.

    Raises:
        TooLargeError: If it has too many pixels or tiles, or is too wide or high.
    """
    pixels = image.width * image.height
    tags = getattr(image, "tag_v2", {})  # of a TIFF
    tile = [tags.get(tag, MIN_TILE) for tag in (TILE_WIDTH, TILE_LENGTH)]
    if max(pixels, tile[0] * tile[1]) > max_pixels:
        raise too_large(name, max_pixels)
    if max(image.size) > MAX_SIDE:
        raise TooLargeError(
            f"{name} is more than {MAX_SIDE:,} pixels wide or high.", "Split it into parts."
        )
    # A strip for each row, or tiles of the smallest size, in each of four channels.
    max_tiles = 4 * (image.height + pixels // MIN_TILE**2 + 1)
    if tags and (min(tile) < MIN_TILE or len(getattr(image, "tile", ())) > max_tiles):
        raise _too_many(name, "tiles")


def too_large(name: str, max_pixels: int) -> TooLargeError:
    """The error for an image with too many pixels."""
    small = max_pixels < 10_000
    limit = f"{max_pixels:,} pixels" if small else f"{max_pixels / 1e6:g} megapixels"
    return TooLargeError(f"{name} has more than {limit}.", "Make it smaller.")


def _too_many(name: str, parts: str) -> TooLargeError:
    return TooLargeError(f"{name} has too many {parts}.", "Save it again in another program.")
