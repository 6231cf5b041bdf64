"""Glyphs: the center lines of handwritten digits and of letters, ready for a pen."""

from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import matplotlib
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

# OpenCV's types do not tell these apart.
Floats = NDArray[Any]  # float32
Bytes = NDArray[Any]  # uint8

SIDE = 56  # pixels: MNIST's images at twice their size

FONTS = (
    *("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSansMono", "DejaVuSerif"),
    *("DejaVuSerif-Bold", "DejaVuSerif-Italic", "STIXGeneral", "STIXGeneralBol"),
    *("STIXGeneralItalic", "cmr10", "cmss10", "cmtt10", "cmb10"),
)
WRITTEN_FONTS = (
    *("STIXGeneralItalic", "DejaVuSans-Oblique", "DejaVuSans", "DejaVuSerif-Italic"),
    *("DejaVuSansMono-Oblique", "cmss10", "cmmi10"),
)


def _deletable() -> tuple[Bytes, Bytes]:
    """Return for both passes of Zhang and Suen which of the 256 neighborhoods lose their center."""
    around = (np.arange(256)[:, None] >> np.arange(8)) & 1  # clockwise from the upper neighbor
    count = around.sum(1)
    crossings = ((around == 0) & (np.roll(around, -1, 1) == 1)).sum(1)
    edge = (count >= 2) & (count <= 6) & (crossings == 1)
    up, right, down, left = around[:, ::2].T
    first = edge & (up * right * down == 0) & (right * down * left == 0)
    second = edge & (up * right * left == 0) & (up * down * left == 0)
    return first.astype(np.uint8), second.astype(np.uint8)


DELETABLE = _deletable()
NEIGHBORS = np.array([[128, 1, 2], [64, 0, 4], [32, 16, 8]], np.uint8)


def thinned(ink: Bytes) -> Bytes:
    """Thin ink to lines of one pixel.

    Zhang and Suen, "A fast parallel algorithm for thinning digital patterns", 1984.

    Args:
        ink: ``(h, w)``, 1 on 0.
    """
    ink = ink.copy()
    for _ in range(SIDE // 2):
        before = int(ink.sum())
        for table in DELETABLE:
            code = cv2.filter2D(ink, cv2.CV_8U, NEIGHBORS, borderType=cv2.BORDER_CONSTANT)
            ink &= 1 - table[code]
        if int(ink.sum()) == before:
            break
    return ink


def center_line(image: Bytes) -> Bytes:
    """Return the lines, 1 on 0 ``(56, 56)``, of an MNIST digit ``(28, 28)``, ink 255 on 0."""
    large = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    return thinned((large > 110).astype(np.uint8))


def regional(rng: Generator, line: Bytes, label: int) -> Bytes:
    """Give a 1 a flag and perhaps a base, a 7 a bar, as they are written in Europe.

    Args:
        rng: Source of the sizes and angles.
        line: ``(56, 56)``, 1 on 0; drawn on.
        label: The digit.
    """
    ys, xs = np.nonzero(line)
    top, bottom = int(ys.min()), int(ys.max())
    height = bottom - top
    if label == 1:
        x, angle = int(xs[ys.argmin()]), np.deg2rad(rng.uniform(20, 70))
        length = height * rng.uniform(0.2, 0.75)
        tip = (int(x - length * np.cos(angle)), int(top + length * np.sin(angle)))
        cv2.line(line, (x, top), tip, 1)
        if rng.random() < 0.3:
            foot, x = int(height * rng.uniform(0.12, 0.35)), int(xs[ys.argmax()])
            cv2.line(line, (x - foot, bottom), (x + foot, bottom), 1)
    elif label == 7:
        y = int(top + height * rng.uniform(0.42, 0.62))
        row = xs[ys == y]
        x, half = int(row.mean()) if len(row) else SIDE // 2, height * rng.uniform(0.12, 0.32)
        rise = half * rng.uniform(-0.3, 0.5)
        ends = (int(x - half), int(y + rise)), (int(x + half), int(y - rise))
        cv2.line(line, *ends, 1)
    return line


@lru_cache(maxsize=2000)
def letter_line(character: str, font: str) -> Bytes:
    """Return the lines, 1 on 0 ``(56, 56)``, of a printed character, as if written by hand."""
    size = 40
    drawn = Image.new("L", (SIDE, SIDE))
    place = (SIDE // 2, SIDE // 2 + 14)
    ImageDraw.Draw(drawn).text(place, character, 255, typeface(font, size), anchor="ms")
    return thinned((np.asarray(drawn) > 110).astype(np.uint8))


@lru_cache(maxsize=200)
def typeface(font: str, size: int) -> ImageFont.FreeTypeFont:
    """Load one of the free fonts that come with matplotlib, ``size`` pixels high."""
    path = Path(matplotlib.get_data_path(), "fonts", "ttf", f"{font}.ttf")
    return ImageFont.truetype(path, size)


def printed(text: str, font: str, height: float) -> tuple[Floats, list[float]]:
    """Set a line of text in type.

    Args:
        text: The characters.
        font: One of ``FONTS``.
        height: Of a digit, in pixels.

    Returns:
        The ink in [0, 1], and the x coordinate at which each character begins and the last ends.
    """
    face = typeface(font, max(6, round(height * 1.38)))
    starts = [face.getlength(text[:end]) + 2 for end in range(len(text) + 1)]
    ascent, descent = face.getmetrics()
    drawn = Image.new("L", (int(starts[-1]) + 6, ascent + descent + 4))
    ImageDraw.Draw(drawn).text((2, 2), text, 255, face)
    return np.asarray(drawn, np.float32) / 255, starts
