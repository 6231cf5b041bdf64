"""Draws a picture with a box around each digit, and the network's inputs below it."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from mnist_lit.files import atomic_write, new_file
from mnist_lit.reading.reader import Digit, Reading, percent

# Distinguishable by color-blind people; vermilion is for doubtful digits.
BLUE, VERMILION = "#0072B2", "#D55E00"
INK, RULE, PAPER = "#222222", "#999999", "white"
MAX_SIDE, MIN_SIDE = 1600, 480  # pixels: pictures are scaled to have a longer side in this range
GLYPH = 84  # pixels, three times 28
GAP = 12
CAPTION = 24  # height of the line above the glyphs
CELL = (GLYPH + GAP, GLYPH + GAP + 22)  # width and height of a glyph with its label


def draw(picture: NDArray[np.uint8], reading: Reading) -> Image.Image:
    """Draw a picture and the digits in it.

    Args:
        picture: ``uint8 (h, w, 3)`` RGB, upright.
        reading: The digits in the picture.
    """
    height, width = picture.shape[:2]
    scale = min(MAX_SIDE / max(height, width), max(1, MIN_SIDE / max(height, width)))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    kind = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS
    scene = Image.fromarray(picture).resize(size, kind)
    for digit in reading.digits:
        _draw_box(ImageDraw.Draw(scene), digit, scale)
    across = max(size[0], 4 * CELL[0] + GAP)
    panel = _panel(reading, across)
    sheet = Image.new("RGB", (across, size[1] + panel.height), PAPER)
    sheet.paste(scene, ((across - size[0]) // 2, 0))
    sheet.paste(panel, (0, size[1]))
    return sheet


def save_new(drawing: Image.Image, path: Path) -> Path:
    """Save a drawing at ``path``, or at ``STEM_N`` with the lowest number that is free.

    Raises:
        InputError: If it cannot be written; nothing is left of it then.
    """
    place = new_file(path)
    try:
        with atomic_write(place) as partial:
            drawing.save(partial, format="PNG")
    except BaseException:
        place.unlink(missing_ok=True)
        raise
    return place


def _draw_box(brush: ImageDraw.ImageDraw, digit: Digit, scale: float) -> None:
    left, top, right, bottom = (round(scale * edge) for edge in digit.box)
    width = 2 if bottom - top < 100 else 3
    brush.rectangle((left - width, top - width, right, bottom), outline=_color(digit), width=width)
    font = ImageFont.load_default(min(max((bottom - top) / 3, 12), 32))
    text = _label(digit)
    _, _, wide, high = brush.textbbox((0, 0), text, font)
    corner = (left - width, max(top - width - high - 4, 0))
    brush.rectangle((*corner, corner[0] + wide + 6, corner[1] + high + 4), fill=_color(digit))
    brush.text((corner[0] + 3, corner[1] + 1), text, PAPER, font)


def _panel(reading: Reading, width: int) -> Image.Image:
    """Draw the glyphs in rows that fill the width, with a rule between lines of digits."""
    columns = (width - GAP) // CELL[0]
    rows = [
        (start == 0, line[start : start + columns])
        for line in reading.lines
        for start in range(0, len(line), columns)
    ]
    panel = Image.new("RGB", (width, CAPTION + len(rows) * CELL[1] + GAP), PAPER)
    brush = ImageDraw.Draw(panel)
    caption = "Network inputs, 28 x 28 pixels each:" if rows else "No digits found."
    brush.text((GAP, GAP), caption, INK, ImageFont.load_default(15))
    for y, (begins, row) in enumerate(rows):
        if begins and y:
            height = CAPTION + y * CELL[1] + GAP // 2
            brush.line((GAP, height, width - GAP, height), RULE)
        for x, digit in enumerate(row):
            _draw_glyph(panel, brush, digit, (x * CELL[0] + GAP, CAPTION + y * CELL[1] + GAP))
    return panel


def _draw_glyph(
    panel: Image.Image, brush: ImageDraw.ImageDraw, digit: Digit, corner: tuple[int, int]
) -> None:
    glyph = Image.fromarray((digit.glyph * 255).round().astype(np.uint8))
    panel.paste(glyph.resize((GLYPH, GLYPH), Image.Resampling.NEAREST), corner)
    below = corner[1] + GLYPH + 4
    brush.text((corner[0], below), _label(digit), _color(digit), ImageFont.load_default(20))
    share = percent(digit.probability, 1)
    place = (corner[0] + GLYPH, below + 4)
    brush.text(place, share, INK, ImageFont.load_default(15), anchor="ra")


def _label(digit: Digit) -> str:
    return f"{digit.digit}?" if digit.doubtful else str(digit.digit)


def _color(digit: Digit) -> str:
    return VERMILION if digit.doubtful else BLUE
