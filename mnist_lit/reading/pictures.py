"""Open pictures of any kind: files of six formats, PIL images, arrays."""

import warnings
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from mnist_lit.errors import InputError, TooLargeError, UnknownFormatError
from mnist_lit.reading.image_files import FORMATS, check_size, check_structure, opened, too_large

Picture = NDArray[np.uint8]
Gray = NDArray[np.uint8]
Source = str | Path | bytes | BinaryIO | Image.Image | NDArray[Any]

LUMA = np.array([0.299, 0.587, 0.114])
WEAKEST = 0.3  # of the largest variance of any direction of color that luma must have
SAMPLE = 256  # pixels a side, about, of which colors are compared
STRIP = 256  # rows that are converted at a time
ORIENTATION = 0x0112  # EXIF
TRANSPOSES = {  # what makes a picture upright, by its orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
MAX_PIXELS = 40_000_000  # of an image file; decoding and compositing takes less than a gigabyte


def open_picture(source: Source, max_pixels: int = MAX_PIXELS) -> Picture:
    """Open a picture and turn it upright.

    An animation is read up to its first frame, and the EXIF orientation is applied. Transparent
    parts become white paper, or black where the ink itself is white.

    Args:
        source: A PNG, JPEG, WebP, GIF, BMP or TIFF file, its path or its contents; an image; or
            an array ``(h, w)``, ``(h, w, 3)`` or ``(h, w, 4)`` of 8 or 16 bits over the range of
            their type, other integers in [0, 255], booleans, or floats in [0, 1].
        max_pixels: Limit on the number of pixels in an image file.

    Returns:
        ``uint8 (h, w, 3)`` RGB.

    Raises:
        UnknownFormatError: If it is not a picture of a supported format.
        TooLargeError: If it has too many pixels or parts, or does not fit into memory.
        InputError: If it is damaged or not a regular file, or not a valid array or source.
    """
    name = str(source) if isinstance(source, str | Path) else "The picture"
    try:
        with warnings.catch_warnings(action="ignore"):  # what Pillow only warns of is checked
            if isinstance(source, np.ndarray):
                source = _image_of(source)
            if isinstance(source, Image.Image):
                return _rgb(source)
            with opened(source) as file:
                return _decoded(file, name, max_pixels)
    except InputError:
        raise
    except MemoryError:
        raise TooLargeError(f"{name} does not fit into memory.", "Make it smaller.") from None
    except Exception as error:  # a damaged file makes Pillow's decoders raise anything
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(
            f"{name} cannot be read: {reason}.",
            "It may be damaged: open it in another program, and save it again.",
        ) from None


def _decoded(file: BinaryIO, name: str, max_pixels: int) -> Picture:
    check_structure(file, name)
    try:
        with Image.open(file, formats=FORMATS) as image:
            check_size(image, name, max_pixels)
            return _rgb(image)
    except Image.DecompressionBombError:
        raise too_large(name, max_pixels) from None
    except UnidentifiedImageError:
        raise _unknown_format(file, name) from None


def _unknown_format(file: BinaryIO, name: str) -> UnknownFormatError:
    """The error for a file in none of the formats."""
    file.seek(0)
    head = file.read(12)
    if head[:4] == b"%PDF":
        return UnknownFormatError(f"{name} is a PDF.", "Convert its page to PNG or JPEG.")
    if head[4:] in (b"ftypheic", b"ftypheix", b"ftypmif1"):
        return UnknownFormatError(f"{name} is a HEIC picture.", "Convert it to PNG or JPEG.")
    what = "not in a known format" if head else "empty"
    return UnknownFormatError(f"{name} is {what}.", "Give a PNG, JPEG, WebP, GIF, BMP or TIFF.")


def _image_of(array: NDArray[Any]) -> Image.Image:
    if isinstance(array, np.ma.MaskedArray):
        raise InputError(
            "The picture is a masked array with missing values.", "Fill them: array.filled(255)."
        )
    if array.ndim not in (2, 3) or array.shape[2:] not in ((), (1,), (3,), (4,)) or not array.size:
        raise InputError(
            f"An array of shape {array.shape} is not a picture.",
            "Give (height, width), or three or four channels as a third dimension.",
        )
    if array.dtype.kind not in "biuf":
        raise InputError(f"An array of {array.dtype} is not a picture.", "Give uint8 or floats.")
    most = 1 if array.dtype.kind in "bf" else 255
    if array.dtype.kind in "iu" and array.dtype.itemsize <= 2:
        most = np.iinfo(array.dtype).max
    elif np.nanmax(array, initial=0) > 1.1 * most:  # but for what a filter overshot
        raise InputError(
            f"An array of {array.dtype} has values above {most}.",
            f"Scale them to [0, {most}], or give uint8.",
        )
    scaled = np.nan_to_num(array.clip(0, most)).astype(np.float32) * (255 / most)
    pixels = scaled.round().astype(np.uint8)
    return Image.fromarray(pixels[..., 0] if array.shape[2:] == (1,) else pixels)


def _rgb(image: Image.Image) -> Picture:
    if not image.width * image.height:
        raise InputError("The picture has no pixels.", "Give one with a width and a height.")
    if (turn := TRANSPOSES.get(image.getexif().get(ORIENTATION, 1))) is not None:
        image = image.transpose(turn)
    if image.mode.startswith(("I", "F")):
        image = _in_eight_bits(image)
    paper = _paper(image) if image.has_transparency_data else None
    picture = np.empty((image.height, image.width, 3), np.uint8)
    for top in range(0, image.height, STRIP):  # or the picture would be in memory several times
        bottom = min(top + STRIP, image.height)
        strip = image.crop((0, top, image.width, bottom))
        if paper:
            strip = strip.convert("RGBA")
            below = Image.new("RGB", strip.size, paper)
            below.paste(strip, mask=strip.getchannel("A"))
            strip = below
        picture[top:bottom] = np.asarray(strip.convert("RGB"))
    return picture


def _paper(image: Image.Image) -> str:
    """Return the color of what shines through: white, or black where the ink itself is white."""
    sample = np.asarray(image.resize((256, 256), Image.Resampling.NEAREST).convert("RGBA"))
    ink, cover = sample[..., :3], sample[..., 3]
    white_ink = cover.min() < 128 <= cover.max() and ink[cover >= 128].min() > 200
    return "black" if white_ink else "white"


def _in_eight_bits(image: Image.Image) -> Image.Image:
    """16 and 32 bits and floats: over the range of 16 bits if they fit there, or their own."""
    values = np.nan_to_num(np.asarray(image, np.float32), posinf=0, neginf=0)
    low, high = float(values.min()), float(values.max())
    if image.mode.startswith("I;16") or (image.mode == "I" and low >= 0 and 255 < high < 65536):
        low, high = 0, 65535
    elif low >= 0 and high <= 255:
        low, high = 0, 255 if high > 1 or image.mode == "I" else 1
    return Image.fromarray(
        ((values - low) * (255 / max(high - low, 1e-6))).round().astype(np.uint8)
    )


def to_gray(picture: Picture) -> Gray:
    """Convert ``uint8 (h, w, 3)`` RGB to ``uint8 (h, w)``.

    By luma (ITU-R BT.601), or, if ink and paper differ in color rather than in lightness, along
    the first principal component of the colors.
    """
    step = max(1, max(picture.shape) // SAMPLE)
    colors = picture[::step, ::step].reshape(-1, 3).astype(np.float64)
    covariance = np.cov(colors, rowvar=False) if len(colors) > 1 else np.zeros((3, 3))
    variances, axes = np.linalg.eigh(covariance)
    if LUMA @ covariance @ LUMA >= WEAKEST * variances[-1] * (LUMA @ LUMA):
        return cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.uint8, copy=False)
    axis = axes[:, -1] * np.sign(axes[:, -1].sum() or 1) / np.abs(axes[:, -1]).sum()
    offset = -255 * axis[axis < 0].sum()
    return cv2.transform(picture, np.append(axis, offset)[np.newaxis]).astype(np.uint8, copy=False)
