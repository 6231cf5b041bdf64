"""Folders of own digits, as ``collect`` writes them or anyone else: pictures sorted by digit."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mnist_lit.errors import InputError
from mnist_lit.own_digits.storage import SIDE, content_hash
from mnist_lit.reading.glyphs import find_glyphs
from mnist_lit.reading.image_files import EXTENSIONS
from mnist_lit.reading.pictures import Gray, open_picture, to_gray

HELD_OUT = 5  # one digit in so many is never trained on


@dataclass(frozen=True, eq=False)
class OwnDigits:
    """One's own digits.

    Args:
        images: ``uint8 (n, 28, 28)``, ink 255 on 0, in MNIST's form.
        labels: ``int64 (n,)`` in 0..9.
        held_out: ``bool (n,)``: about a fifth, chosen by a hash of the image, so that it stays the
            same when digits are added.
        messages: What to tell the user: which pictures were skipped, and why.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    held_out: NDArray[np.bool_]
    messages: list[str]


def load_own_digits(folder: Path) -> OwnDigits:
    """Load every picture in a folder named 0 to 9, at any depth below ``folder``.

    Images of 28x28 pixels in MNIST's form are taken as they are. Of other pictures, which show one
    digit each, the largest glyph is.

    Raises:
        InputError: If there are none.
    """
    if not folder.is_dir():
        raise InputError(
            f"There is no folder {folder}.", "Check the path, or collect digits first."
        )
    images: dict[str, NDArray[np.uint8]] = {}
    labels: dict[str, int] = {}
    messages = []
    for path in sorted(folder.rglob("[0-9]/*")):
        if path.suffix.lower() not in EXTENSIONS or path.name.startswith("."):
            continue
        try:
            image = _in_mnist_form(to_gray(open_picture(path)), path)
        except InputError as error:
            messages.append(f"Skipped: {' '.join(str(error).splitlines())}")
            continue
        name, label = content_hash(image), int(path.parent.name)
        if labels.setdefault(name, label) != label:
            messages.append(f"Skipped: {path} is labeled otherwise elsewhere.")
        images[name] = image
    if not images:
        raise InputError(
            f"There are no digits in {folder}.",
            "Give a folder with pictures in subfolders 0 to 9, as collect writes it.",
        )
    held_out = [int(name, 16) % HELD_OUT == 0 for name in images]
    values = [labels[name] for name in images]
    stacked = np.stack(list(images.values()))
    return OwnDigits(stacked, np.array(values, np.int64), np.array(held_out), messages)


def _in_mnist_form(gray: Gray, path: Path) -> NDArray[np.uint8]:
    edge = np.concatenate([gray[0], gray[-1], gray[:, 0], gray[:, -1]])
    if gray.shape == (SIDE, SIDE) and np.median(edge) == 0 and gray.any():
        return gray
    glyphs = [glyph for line in find_glyphs(gray) for glyph in line]
    if not glyphs:
        raise InputError(f"{path} shows no digit.", "Remove it.")
    largest = max(glyphs, key=lambda glyph: glyph.box[3] - glyph.box[1])
    return (largest.image * 255).round().astype(np.uint8)
