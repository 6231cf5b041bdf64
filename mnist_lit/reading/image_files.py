"""Image files: the formats that are read, and what is refused before anything is decoded.

A file can take a decoder minutes although its image is small: a JPEG may have thousands of scans,
each of which changes all pixels, a TIFF may have a tile for each of them.
"""

import io
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from mnist_lit.errors import InputError, TooLargeError

if TYPE_CHECKING:  # the commands that train list files, but do without Pillow
    from PIL.Image import Image

# Pillow decodes these in C, and holds their metadata within limits. Its others are rarer, and some
# are decoded by loops in Python, or by another program.
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF")
ENDINGS = frozenset(
    (".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".gif", ".bmp", ".webp", ".tif", ".tiff")
)

MOST_SIDE = 100_000  # pixels; Pillow also takes memory for each row
MOST_SCANS = 50  # of a JPEG; cameras and web sites write about 10
MOST_SEGMENTS = 2000  # of a JPEG: tables, colour profile, metadata; a profile has at most 255
MOST_CHUNKS = 100  # of a PNG, without those of its pixels
MOST_DATA_CHUNKS = 100_000  # of a PNG's pixels; they usually have 8 kB or more
LEAST_TILE = 16  # pixels; the sides of a TIFF's tiles are multiples of it

TILE_WIDTH, TILE_LENGTH = 322, 323  # tags of a TIFF

MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # in a JPEG, without those that part its data
START_OF_IMAGE, END_OF_IMAGE, START_OF_SCAN, TEMPORARY = 0xD8, 0xD9, 0xDA, 0x01
WINDOW = 65536  # bytes that are searched at once


@contextmanager
def opened(source: str | Path | bytes | BinaryIO) -> Iterator[BinaryIO]:
    """Open an image file for reading.

    Args:
        source: A file, its path or its contents.

    Raises:
        InputError: If it cannot be opened, or is a pipe or a device, which may never end.
    """
    if isinstance(source, str | Path):
        with _regular(Path(source)) as file:
            yield file
    elif isinstance(source, bytes):
        yield io.BytesIO(source)
    elif hasattr(source, "seekable") and source.seekable():
        yield source
    else:
        yield io.BytesIO(source.read())


def _regular(path: Path) -> BinaryIO:
    try:
        mode = path.stat().st_mode
        if stat.S_ISREG(mode):
            return path.open("rb")
    except FileNotFoundError:
        raise InputError(f"{path} is not there.", "Check the name.") from None
    except (OSError, ValueError) as error:  # a name with a null byte is a ValueError
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"{path} cannot be read: {reason}.", "Check the name, and the right to read it."
        ) from None
    what = "a folder" if stat.S_ISDIR(mode) else "a pipe or a device"
    raise InputError(f"{path} is {what}, not a picture.", "Give the name of a file.")


def check_structure(file: BinaryIO, name: str) -> None:
    """Refuse a file that has absurdly many parts, before Pillow goes through them.

    Args:
        file: Seekable.
        name: What messages call it.

    Raises:
        TooLargeError: If it has.
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
        if marker == END_OF_IMAGE:  # what phones append is not decoded
            return
        place += found.end()
        if marker not in (START_OF_IMAGE, TEMPORARY):
            file.seek(place)
            place += max(int.from_bytes(file.read(2)), 2)
        scans += marker == START_OF_SCAN
        segments += 1
        if scans > MOST_SCANS or segments > MOST_SEGMENTS:
            raise _absurd(name, "scans" if scans > MOST_SCANS else "segments")


def _check_png(file: BinaryIO, name: str) -> None:
    chunks = data_chunks = 0
    while len(head := file.read(8)) == 8 and head[4:] not in (b"IEND", b"fdAT"):
        data_chunks += head[4:] == b"IDAT"
        chunks += head[4:] != b"IDAT"
        if chunks > MOST_CHUNKS or data_chunks > MOST_DATA_CHUNKS:
            raise _absurd(name, "chunks")
        file.seek(int.from_bytes(head[:4]) + 4, io.SEEK_CUR)


def check_size(image: "Image", name: str, most_pixels: int) -> None:
    """Refuse an image that is too large, before it is decoded.

    Args:
        image: As Pillow opened it.
        name: What messages call it.
        most_pixels: Of the image, and of each of its tiles.

    Raises:
        TooLargeError: If it has more, is absurdly long, or has absurdly many tiles.
    """
    pixels = image.width * image.height
    tags = getattr(image, "tag_v2", {})  # of a TIFF
    tile = [tags.get(tag, LEAST_TILE) for tag in (TILE_WIDTH, TILE_LENGTH)]
    if max(pixels, tile[0] * tile[1]) > most_pixels:
        raise too_large(name, most_pixels)
    if max(image.size) > MOST_SIDE:
        raise TooLargeError(
            f"{name} is more than {MOST_SIDE} pixels wide or high.", "Cut it into parts."
        )
    # A strip for each row, or tiles of the least size, in each of four channels.
    most_tiles = 4 * (image.height + pixels // LEAST_TILE**2 + 1)
    if tags and (min(tile) < LEAST_TILE or len(getattr(image, "tile", ())) > most_tiles):
        raise _absurd(name, "tiles")


def too_large(name: str, most_pixels: int) -> TooLargeError:
    """The error for an image with too many pixels."""
    return TooLargeError(
        f"{name} has more than {most_pixels / 1e6:g} megapixels.", "Make it smaller."
    )


def _absurd(name: str, parts: str) -> TooLargeError:
    return TooLargeError(f"{name} has too many {parts}.", "Save it anew in another program.")
