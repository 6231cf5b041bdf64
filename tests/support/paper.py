"""Synthetic paper: MNIST's digits written on it, as a camera or a scanner would see them."""

import gzip
import io
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

import mnist_lit

ASSETS = Path(mnist_lit.__file__).parent / "assets"

Floats = NDArray[np.float32]
Picture = NDArray[np.uint8]
Color = tuple[float, float, float]

WHITE = (0.96, 0.96, 0.94)
BLACK = (0.1, 0.1, 0.12)
PENCIL = (0.58, 0.58, 0.6)
BLUE = (0.15, 0.25, 0.7)


@cache
def mnist(part: str = "t10k") -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Images ``uint8 (n, 28, 28)`` and labels ``uint8 (n,)``; part is ``t10k`` or ``train``."""
    with gzip.open(ASSETS / f"{part}-images-idx3-ubyte.gz") as file:
        images = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 28, 28)
    with gzip.open(ASSETS / f"{part}-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read(), np.uint8, offset=8)
    return images, labels


def digit(image: NDArray[np.uint8], size: float) -> Floats:
    """An MNIST image as ink with sharp edges, its 20x20 box ``size`` pixels large, cut tightly."""
    scale = size / 20
    if scale > 1:
        side = round(28 * scale)
        large = cv2.resize(image, (side, side), interpolation=cv2.INTER_CUBIC) / np.float32(255)
        ink: Floats = np.clip((large - 0.5) * max(scale / 1.5, 1) + 0.5, 0, 1).astype(np.float32)
    else:
        ink = (image / 255).astype(np.float32)
    rows, columns = (np.flatnonzero(ink.max(axis=axis) > 0.1) for axis in (1, 0))
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def row(
    digits: list[Floats],
    gap: float,
    slope: float = 0.0,
    jitter: NDArray[np.float64] | None = None,
) -> Floats:
    """Digits side by side on one line, ``gap`` pixels of paper between their boxes."""
    jitter = np.zeros(len(digits)) if jitter is None else jitter
    lefts = np.cumsum([0] + [each.shape[1] + gap for each in digits])
    middles = [slope * left + shift for left, shift in zip(lefts, jitter, strict=False)]
    tops = [round(m - d.shape[0] / 2) for m, d in zip(middles, digits, strict=True)]
    tops = [top - min(tops) for top in tops]
    height = max(top + d.shape[0] for top, d in zip(tops, digits, strict=True))
    ink = np.zeros((height, round(lefts[-1] - gap) + 1), np.float32)
    for left, top, each in zip(lefts, tops, digits, strict=False):
        place = ink[top : top + each.shape[0], round(left) : round(left) + each.shape[1]]
        np.maximum(place, each[:, : place.shape[1]], out=place)
    return ink


def lines(rows: list[Floats], gap: float) -> Floats:
    """Rows one below the other, ``gap`` pixels of paper between them."""
    width = max(each.shape[1] for each in rows)
    parts = []
    for each in rows:
        parts += [np.pad(each, ((0, round(gap)), (0, width - each.shape[1])))]
    return np.concatenate(parts)[: -round(gap) or None]


def put(ink: Floats, height: int, width: int, left: int, top: int) -> Floats:
    """Ink at a place of a larger, empty sheet."""
    sheet = np.zeros((height, width), np.float32)
    sheet[top : top + ink.shape[0], left : left + ink.shape[1]] = ink
    return sheet


def ruled(
    height: int,
    width: int,
    spacing: float,
    thickness: float,
    slope: float = 0.0,
    squared: bool = False,
) -> Floats:
    """Coverage of printed lines, horizontal and, on squared paper, vertical."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    parts = [y - slope * x] + ([x + slope * y] if squared else [])
    distances = [np.abs((part / spacing - 0.37) % 1 - 0.5) * spacing for part in parts]
    coverage: Floats = np.clip(thickness / 2 + 0.5 - np.min(distances, axis=0), 0, 1)
    return coverage.astype(np.float32)


def paint(paper: Floats, coverage: Floats, color: Color) -> Floats:
    """Cover paper ``(h, w, 3)`` in [0, 1] with a color."""
    share = coverage[..., None]
    covered: Floats = paper * (1 - share) + np.array(color, np.float32) * share
    return covered


def sheet(ink: Floats, color: Color = BLACK, paper: Color = WHITE) -> Floats:
    """Ink on even paper, ``(h, w, 3)`` in [0, 1]."""
    return paint(np.broadcast_to(np.array(paper, np.float32), (*ink.shape, 3)), ink, color)


def gradient(height: int, width: int, low: float, angle: float) -> Floats:
    """Light that falls from 1 to ``low`` across the picture."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    along = np.cos(angle) * x / width + np.sin(angle) * y / height
    along -= along.min()
    light: Floats = 1 - (1 - low) * along / along.max()
    return light


def shadow(height: int, width: int, depth: float, angle: float, at: float, blur: float) -> Floats:
    """Light with the shadow of a straight edge, ``blur`` pixels soft."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    along = np.cos(angle) * (x - at * width) + np.sin(angle) * (y - at * height)
    dark = depth / (1 + np.exp(np.clip(-along * 4 / max(blur, 0.5), -50, 50)))
    light: Floats = (1 - dark).astype(np.float32)
    return light


def develop(
    scene: Floats,
    rng: np.random.Generator,
    noise: float = 0.0,
    blur: float = 0.0,
    quality: int | None = None,
) -> Picture:
    """What a camera makes of a scene ``(h, w, 3)`` in [0, 1]."""
    if blur:
        scene = cv2.GaussianBlur(scene, (0, 0), blur).astype(np.float32)
    if noise:
        scene = scene + rng.normal(0, noise, scene.shape).astype(np.float32)
    picture = (np.clip(scene, 0, 1) * 255 + 0.5).astype(np.uint8)
    if quality is None:
        return picture
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))
