"""Paper: its shade and texture, rulings, folds, stains and shadows; textured tables around it."""

import cv2
import numpy as np
from numpy.random import Generator

from mnist_lit.detection.pages.glyphs import Bytes, Floats


def blank(rng: Generator, size: int) -> Floats:
    """Return paper without any print: brightness in [0, 1] ``(size, size)``."""
    shade = rng.uniform(0.5, 1.0) if rng.random() < 0.75 else rng.uniform(0.85, 1.0)
    page = np.full((size, size), shade, np.float32)
    if rng.random() < 0.8:
        page += smooth(rng, size, int(rng.integers(2, 5)), rng.uniform(0, 0.1))
    if rng.random() < 0.5:
        page += smooth(rng, size, int(rng.integers(24, 90)), rng.uniform(0, 0.03))
    if rng.random() < 0.06:
        page += smooth(rng, size, int(rng.integers(6, 16)), rng.uniform(0.02, 0.09))  # stains
    return page


def smooth(rng: Generator, size: int, cells: int, strength: float) -> Floats:
    """Return Gaussian noise of ``cells`` by ``cells`` random values, interpolated."""
    coarse = rng.standard_normal((cells, cells), np.float32) * np.float32(strength)
    return cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)


def along(size: int, angle: float) -> Floats:
    """Return each pixel's coordinate along a direction, in pixels from the middle."""
    place = np.arange(size, dtype=np.float32) - size / 2
    return np.float32(np.cos(angle)) * place + np.float32(np.sin(angle)) * place[:, None]


def light(rng: Generator, page: Floats) -> Floats:
    """Darken the page by shadows and folds; sometimes."""
    size = len(page)
    if rng.random() < 0.25:  # the edge of a shadow
        edge = (
            along(size, rng.uniform(0, 2 * np.pi)) - rng.uniform(-0.4, 0.4) * size
        ) / np.float32(rng.uniform(2, 50))
        page = page * (1 - np.float32(rng.uniform(0.1, 0.5)) * (0.5 + 0.5 * np.tanh(edge)))
    if rng.random() < 0.15:  # a lamp, or the corners of a lens
        x, y = along(size, 0) - rng.normal(0, 60), along(size, np.pi / 2) - rng.normal(0, 60)
        page = page * (1 - np.float32(rng.uniform(0.2, 0.8)) * (x**2 + y**2) / (1.5 * size) ** 2)
    if rng.random() < 0.12:  # a fold: bright on one side, dark on the other
        away = along(size, rng.uniform(0, np.pi)) - rng.uniform(-0.4, 0.4) * size
        width = np.float32(rng.uniform(1, 10))
        page = page + rng.uniform(-0.12, 0.12) * np.sign(away) * np.exp(-np.abs(away) / width)
    return page.astype(np.float32)


def ruling(rng: Generator, size: int) -> Floats:
    """Return the lines or dots of exercise paper, ink in [0, 1], or nothing."""
    drawn: Bytes = np.zeros((size, size), np.uint8)
    kind = rng.choice(["none", "lines", "squares", "dots"], p=[0.5, 0.25, 0.17, 0.08])
    if kind == "none":
        return np.zeros((size, size), np.float32)
    angle = rng.normal(0, 0.05) if rng.random() < 0.85 else rng.uniform(-0.8, 0.8)
    if rng.random() < 0.15:
        angle += np.pi / 2
    pitch = float(np.exp(rng.uniform(np.log(8), np.log(80))))
    if kind == "dots":
        steps = np.arange(-size, size, max(pitch, 9)) + rng.uniform(0, pitch)
        x, y = (each.ravel() for each in np.meshgrid(steps, steps))
        cos, sin = np.cos(angle), np.sin(angle)
        places = np.stack([cos * x - sin * y, sin * x + cos * y], 1) + size / 2
        inside = places[((places >= 0) & (places < size - 1)).all(1)].astype(int)
        drawn[inside[:, 1], inside[:, 0]] = 255
        if rng.random() < 0.6:
            drawn = cv2.dilate(drawn, np.ones((2, 2), np.uint8))
        return drawn.astype(np.float32) / 255
    thickness = 1 if pitch < 14 or rng.random() < 0.75 else 2
    _parallels(rng, drawn, angle, pitch, thickness)
    if kind == "squares":
        _parallels(rng, drawn, angle + np.pi / 2, pitch, thickness)
    elif rng.random() < 0.2:  # the margin of an exercise book
        _parallels(rng, drawn, angle + np.pi / 2, size * rng.uniform(0.8, 2), thickness)
    return drawn.astype(np.float32) / 255


def _parallels(rng: Generator, drawn: Bytes, angle: float, pitch: float, thickness: int) -> None:
    size = len(drawn)
    direction = np.array([np.cos(angle), np.sin(angle)])
    for offset in np.arange(-size, size, pitch) + rng.uniform(0, pitch):
        middle = size / 2 + offset * direction[::-1] * (-1, 1)
        far = size * direction
        start, end = np.round(8 * np.stack([middle - far, middle + far])).astype(int).tolist()
        cv2.line(drawn, start, end, 255, thickness, cv2.LINE_AA, 3)


def table_top(rng: Generator, size: int) -> Floats:
    """Return what lies around a sheet: wood, cloth or stone, brightness ``(size, size)``."""
    shade = rng.uniform(0.05, 0.75)
    page = np.full((size, size), shade, np.float32) + smooth(rng, size, 4, 0.05)
    kind = rng.random()
    if kind < 0.4:  # wood: long grain
        coarse = rng.standard_normal((int(rng.integers(20, 90)), 3), np.float32) * np.float32(0.1)
        grain = cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)
        page += grain.T if rng.random() < 0.5 else grain
    elif kind < 0.7:  # cloth
        pitch, angle = rng.uniform(3, 14), rng.uniform(0, np.pi)
        waves = (along(size, angle + turn) * np.float32(2 * np.pi / pitch) for turn in (0, 1.57))
        page += np.float32(rng.uniform(0.01, 0.08)) * sum(np.sin(wave) for wave in waves)
    else:
        page += smooth(rng, size, int(rng.integers(20, 100)), rng.uniform(0.01, 0.12))
    return page
