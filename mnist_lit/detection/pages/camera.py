"""Camera and scanner: perspective, margins, blur, noise, resolution and compression."""

import cv2
import numpy as np
from numpy.random import Generator

from mnist_lit.detection.pages.glyphs import Bytes, Floats
from mnist_lit.detection.pages.paper import smooth, table_top


def perspective(rng: Generator, size: int, *, inside: bool) -> Floats:
    """Return a random homography ``(3, 3)``, of a page's pixels to a picture's.

    Args:
        rng: Its source.
        size: Of page and picture.
        inside: Whether the edges of the page are to be seen.
    """
    corners = np.array([[0, 0], [size, 0], [size, size], [0, size]], np.float32)
    middle, turn = corners - size / 2, rng.normal(0, 0.06)
    if inside:
        middle = middle * rng.uniform(0.72, 0.97) + rng.normal(0, 0.05 * size, 2)
    else:
        middle = middle * rng.uniform(1.02, 1.2)
    spin = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    moved = middle @ spin.T + size / 2 + rng.normal(0, 0.035 * size, (4, 2))
    return cv2.getPerspectiveTransform(corners, moved.astype(np.float32))


def seen_from(matrix: Floats, page: Floats, surroundings: Floats) -> tuple[Floats, Floats]:
    """Return the page as the camera sees it, and the share of each pixel that is page."""
    size = (len(page), len(page))
    mask = cv2.warpPerspective(np.ones_like(page), matrix, size)
    seen = cv2.warpPerspective(page, matrix, size, borderMode=cv2.BORDER_REPLICATE)
    return surroundings + (seen - surroundings) * mask, mask


def moved(matrix: Floats, points: Floats) -> Floats:
    """Apply a homography to points ``(n, 2)`` that are corners of pixels."""
    whole = np.concatenate([points - 0.5, np.ones((len(points), 1), np.float32)], 1) @ matrix.T
    places: Floats = whole[:, :2] / whole[:, 2:] + 0.5
    return places.astype(np.float32)


def margin(rng: Generator, picture: Floats, visible: Floats) -> tuple[Floats, Floats]:
    """Cover one side as the lid of a scanner, the gutter of a book or a window's bar does."""
    size = len(picture)
    turns = int(rng.integers(4))
    picture, visible = np.rot90(picture, turns), np.rot90(visible, turns)
    width = int(rng.uniform(2, 60)) if rng.random() < 0.6 else int(rng.uniform(60, 0.6 * size))
    edge = np.full(size, float(width), np.float32)
    if rng.random() < 0.6:  # slanted, or frayed
        edge += np.linspace(0, rng.normal(0, 6), size, dtype=np.float32)
    if rng.random() < 0.35:
        edge += np.abs(rng.standard_normal(size, np.float32)) * np.float32(rng.uniform(0.5, 4))
    x = np.arange(size, dtype=np.float32)
    mask = np.clip((edge[:, None] - x) / np.float32(rng.uniform(0.5, 4)) + 0.5, 0, 1)
    shade = rng.uniform(0, 0.3) if rng.random() < 0.75 else rng.uniform(0.3, 1)
    cover = np.float32(shade) + smooth(rng, size, 6, rng.uniform(0, 0.04))
    picture = picture + (cover - picture) * mask
    if rng.random() < 0.35:  # the shadow of a gutter beside it
        away = np.maximum(x - edge[:, None], 0) / np.float32(rng.uniform(3, 40))
        picture *= 1 - np.float32(rng.uniform(0.1, 0.7)) * np.exp(-away)
    if rng.random() < 0.5:  # the edges of sheets below, a binding
        for _ in range(int(rng.integers(1, 4))):
            begin = int(np.clip(width + rng.uniform(0, 14), 0, size - 1))
            line = picture[:, begin : begin + int(rng.integers(1, 4))]
            line += (np.float32(shade) - line) * np.float32(rng.uniform(0.2, 0.9))
    return np.rot90(picture, -turns), np.rot90(visible * (1 - mask), -turns)


def exposed(rng: Generator, picture: Floats, *, clean: bool) -> Bytes:
    """Turn brightness into the bytes of a picture, with everything that a camera adds.

    Args:
        rng: Source of everything random.
        picture: Brightness, about [0, 1].
        clean: Whether it is a screenshot or a good scan, without blur and noise.
    """
    size = len(picture)
    picture = np.ascontiguousarray(picture, np.float32)
    if not clean:
        if rng.random() < 0.35:  # few pixels, enlarged
            small = round(size / rng.uniform(1.2, 2.2))
            picture = cv2.resize(picture, (small, small), interpolation=cv2.INTER_AREA)
            kind = cv2.INTER_CUBIC if rng.random() < 0.7 else cv2.INTER_LINEAR
            picture = cv2.resize(picture, (size, size), interpolation=kind)
        elif rng.random() < 0.5:
            picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.3, 1.4))
        if rng.random() < 0.1:  # moved while it was taken
            length = int(rng.integers(2, 5))
            kernel = np.full((1, length), 1 / length, np.float32)
            picture = cv2.filter2D(picture, -1, kernel if rng.random() < 0.5 else kernel.T)
        if rng.random() < 0.7:
            noise: Floats = rng.standard_normal((size, size), np.float32)
            if rng.random() < 0.4:
                noise = 2 * cv2.GaussianBlur(noise, (0, 0), rng.uniform(0.6, 1.2))
            picture = picture + np.float32(abs(rng.normal(0, 0.022))) * noise
    contrast = rng.uniform(0.5, 1.4)
    picture = (picture - 0.5) * np.float32(contrast) + np.float32(0.5 + rng.normal(0, 0.06))
    if rng.random() < 0.2:  # a scanner that makes paper white
        picture = picture * np.float32(rng.uniform(1.05, 1.35))
    levels = np.clip(picture * 255, 0, 255).astype(np.uint8)
    if rng.random() < (0.1 if clean else 0.45):
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(20, 92))]
        levels = cv2.imdecode(cv2.imencode(".jpg", levels, quality)[1], cv2.IMREAD_GRAYSCALE)
    return levels


def surroundings(rng: Generator, size: int) -> Floats:
    """Return what is around a sheet: a table, or the lid of a scanner."""
    if rng.random() < 0.6:
        return table_top(rng, size)
    return np.full((size, size), rng.choice([0.02, 0.1, 0.9, 1.0]), np.float32)
