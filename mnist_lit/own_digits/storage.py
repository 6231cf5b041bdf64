"""Storage of one's own digits: an image of 28x28 pixels in a folder named after its digit."""

import hashlib
import json
import re
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mnist_lit.errors import InputError
from mnist_lit.files import atomic_write, open_regular
from mnist_lit.reading.pictures import open_picture, to_gray

Bytes = NDArray[np.uint8]

SIDE = 28
ENTRY = re.compile(r"([0-9])/[0-9a-f]{16}\.png")  # of a ZIP
MAX_ENTRIES = 20_000  # of a ZIP: images, and as many JSON files
MAX_IMAGE, MAX_ORIGIN = 20_000, 4_000  # bytes of a file in a ZIP
MAX_ZIP = 100_000_000  # bytes
HINT = "Give a ZIP file that the page of serve has written."
COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # zipfile bounds the output of these


@dataclass(frozen=True, eq=False)
class OwnDigit:
    """A digit that somebody has written and labeled.

    Args:
        image: ``uint8 (28, 28)``, ink 255 on 0, in MNIST's form.
        label: 0 to 9.
        origin: Where it is from, as JSON stores it.
    """

    image: Bytes
    label: int
    origin: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """A hash of the image, 16 hexadecimal digits."""
        return content_hash(self.image)


def content_hash(image: Bytes) -> str:
    """Return a hash of an image's pixels, 16 hexadecimal digits."""
    return hashlib.sha256(np.ascontiguousarray(image, np.uint8).tobytes()).hexdigest()[:16]


def from_glyph(glyph: NDArray[np.float32]) -> Bytes:
    """Return the image of a glyph, ``float32 (28, 28)`` in [0, 1], ink 1."""
    return (glyph * 255).round().clip(0, 255).astype(np.uint8)


def saved(folder: Path) -> dict[str, int]:
    """Return the names and labels of the images that are already in a folder of own digits."""
    return {path.stem: int(path.parent.name) for path in folder.glob("[0-9]/*.png")}


def save(digit: OwnDigit, folder: Path) -> Path:
    """Write an image, and its origin in a JSON file beside it.

    Raises:
        InputError: If they cannot be written; an image never lacks its origin.
    """
    path = folder / str(digit.label) / f"{digit.name}.png"
    with atomic_write(path.with_suffix(".json")) as partial:
        partial.write_text(json.dumps(digit.origin | {"label": digit.label}) + "\n")
    with atomic_write(path) as partial:
        Image.fromarray(digit.image).save(partial, format="PNG", optimize=True)
    return path


def read_zip(path: Path) -> list[OwnDigit]:
    """Read the digits in a ZIP file, as the page writes it, which may be from anyone.

    Raises:
        InputError: If it is no such file, or too large.
    """
    with open_regular(path, "ZIP file", HINT) as file:
        if path.stat().st_size > MAX_ZIP:
            raise InputError(f"{path} is larger than {MAX_ZIP / 1e6:g} MB.", HINT)
        try:
            with zipfile.ZipFile(file) as archive:
                digits = _digits(archive, path)
        except (EOFError, OSError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
            raise InputError(f"{path} cannot be read as a ZIP file: {error}.", HINT) from error
    if not digits:
        raise InputError(f"{path} has no digits.", HINT)
    return digits


def _digits(archive: zipfile.ZipFile, path: Path) -> list[OwnDigit]:
    files = archive.infolist()
    if len(files) > 2 * MAX_ENTRIES:
        raise InputError(f"{path} has more than {2 * MAX_ENTRIES:,} files.", HINT)
    if any(file.compress_type not in COMPRESSIONS for file in files):
        raise InputError(f"{path} is compressed in an unusual way.", HINT)
    sizes = {file.filename: file.file_size for file in files}
    return [
        OwnDigit(_image(archive, sizes, name, path), int(name[0]), _origin(archive, sizes, name))
        for name in filter(ENTRY.fullmatch, sizes)
    ]


def _image(archive: zipfile.ZipFile, sizes: dict[str, int], name: str, path: Path) -> Bytes:
    if sizes[name] > MAX_IMAGE:
        raise InputError(f"{path}: {name} has more than {MAX_IMAGE:,} bytes.", HINT)
    try:
        gray = to_gray(open_picture(archive.read(name), max_pixels=SIDE * SIDE))
    except InputError as error:
        raise InputError(f"{path}: {name}: {error.args[0]}", HINT) from error
    if gray.shape != (SIDE, SIDE):
        raise InputError(f"{path}: {name} is not {SIDE} pixels wide and high.", HINT)
    return gray


def _origin(archive: zipfile.ZipFile, sizes: dict[str, int], name: str) -> dict[str, Any]:
    """Read what is said of an image's origin; nothing if that is missing or not as expected."""
    name = name.removesuffix(".png") + ".json"
    if not 0 < sizes.get(name, 0) <= MAX_ORIGIN:
        return {}
    try:
        origin = json.loads(archive.read(name))
    except (ValueError, RecursionError):
        return {}
    return origin if isinstance(origin, dict) else {}
