"""The glyphs in a folder's pictures, for ``predict``."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mnist_lit.errors import InputError
from mnist_lit.reading.glyphs import find_glyphs
from mnist_lit.reading.image_files import pictures_in
from mnist_lit.reading.pictures import open_picture, to_gray

Place = tuple[str, int, int, int, int, int]


@dataclass(frozen=True)
class FolderGlyphs:
    """The glyphs in a folder's pictures.

    Args:
        images: ``float32 (n, 28, 28)`` from 0 to 255, in MNIST's form.
        places: Where each of the n glyphs is: its file's name, its line from 1 on, and left, top,
            right and bottom in pixels of the upright picture.
        skipped: Number of pictures that cannot be read.
        messages: What to tell the user: why pictures were skipped, and which files were ignored.
    """

    images: NDArray[np.float32]
    places: list[Place]
    skipped: int
    messages: list[str]


def folder_glyphs(folder: Path) -> FolderGlyphs:
    """Find the glyphs in a folder's pictures; pictures that cannot be read are skipped.

    Raises:
        InputError: If there are none.
    """
    images, places, skipped = [], [], 0
    pictures, others = pictures_in(folder)
    messages = [f"{folder}: ignored {others} other files"] if others else []
    for path in pictures:
        try:
            lines = find_glyphs(to_gray(open_picture(path)))
        except InputError as error:
            messages.append(f"Skipped: {' '.join(str(error).splitlines())}")
            skipped += 1
            continue
        for number, line in enumerate(lines, start=1):
            images += [glyph.image for glyph in line]
            places += [(path.name, number, *glyph.box) for glyph in line]
    if not images:
        raise InputError(
            f"There are no digits in the pictures of {folder}.",
            "Give a folder with pictures of handwritten digits.",
        )
    return FolderGlyphs(np.stack(images) * 255, places, skipped, messages)
