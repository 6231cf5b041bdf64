"""The digits in a folder's pictures, as tensors."""

import sys
from pathlib import Path

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from mnist_lit.errors import InputError
from mnist_lit.files import pictures_in
from mnist_lit.reading.ink import find_lines, open_picture

# Where a digit is: the file, its line from 1 on, and its box: left, top, right, bottom.
Place = tuple[str, int, int, int, int, int]


def find_glyphs(folder: Path) -> tuple[Tensor, list[Place], int]:
    """Find the digits in a folder's pictures; says which pictures cannot be read, and skips them.

    Returns:
        Images, ``float32 (n, 28, 28)`` from 0 to 255 in MNIST's form, their n places, and the
        number of pictures that cannot be read.

    Raises:
        InputError: If there is no digit at all.
    """
    images, places, skipped = [], [], 0
    pictures, others = pictures_in(folder)
    if others:
        rank_zero_only(print)(f"{folder}: files that are no pictures: {others}", file=sys.stderr)
    for path in pictures:
        try:
            lines = find_lines(open_picture(path))
        except InputError as error:
            message = " ".join(str(error).splitlines())
            rank_zero_only(print)(f"Skipped: {message}", file=sys.stderr)
            skipped += 1
            continue
        for number, line in enumerate(lines, start=1):
            images += [glyph.image for glyph in line]
            places += [(path.name, number, *glyph.box) for glyph in line]
    if not images:
        raise InputError(
            f"There is no digit in the pictures of {folder}.", "Name a folder with handwriting."
        )
    return torch.from_numpy(np.stack(images)).mul_(255), places, skipped
