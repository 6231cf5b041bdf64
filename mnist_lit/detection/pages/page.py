"""Draw a page: scene, ink, paper, light, camera, in this order."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from mnist_lit.detection.pages import camera, paper
from mnist_lit.detection.pages.canvas import Canvas
from mnist_lit.detection.pages.glyphs import Bytes, Floats
from mnist_lit.detection.pages.numbers import DigitImages
from mnist_lit.detection.pages.scenes import SCENES, SHARES, cell, close_up

SIZE = 256
WHOLE, PART = 0.7, 0.5  # share of a digit that is seen: it counts, or is not worth a mistake
FAINTEST = 9.0  # levels of grey: the contrast of a digit that counts
SMALLEST = 8  # pixels: the height of a digit that counts


@dataclass(frozen=True)
class Page:
    """A picture and the digits in it.

    Attributes:
        image: ``uint8 (256, 256)`` grey.
        boxes: ``float32 (n, 4)``: left, top, right, bottom of each digit's ink, in pixels.
        labels: ``int64 (n,)`` in 0..9.
        ignored: ``float32 (m, 4)``: boxes of digits that are cut off, too small or faint.
    """

    image: Bytes
    boxes: Floats
    labels: NDArray[np.int64]
    ignored: Floats


def draw_page(rng: Generator, source: DigitImages) -> Page:
    """Draw a random page.

    Args:
        rng: Source of everything random: its state alone determines the page.
        source: The digits to write with.
    """
    canvas = Canvas(SIZE)
    scene = SCENES[rng.choice(len(SCENES), p=SHARES)]
    scene(rng, canvas, source)
    screen = rng.random() < (0.35 if scene is close_up else 0.1)
    picture = _on_screen(rng, canvas) if screen else _on_paper(rng, canvas)
    outlines = [each.points for each in canvas.digits]
    ink, visible = np.maximum(canvas.writing, canvas.print), np.ones((SIZE, SIZE), np.float32)
    if not screen and rng.random() < 0.4:
        inside = rng.random() < 0.35
        matrix = camera.perspective(rng, SIZE, inside=inside)
        around = camera.surroundings(rng, SIZE) if inside else picture
        picture, visible = camera.seen_from(matrix, picture, around)
        ink = cv2.warpPerspective(ink, matrix, (SIZE, SIZE))
        outlines = [camera.moved(matrix, points) for points in outlines]
    margins = [0.25, 0.55, 0.2] if scene is cell else [0.65, 0.28, 0.07]
    for _ in range(int(rng.choice([0, 1, 2], p=margins))):
        picture, visible = camera.margin(rng, picture, visible)
    if rng.random() < 0.14:
        picture = 1.02 - picture  # light on dark
    image = camera.exposed(rng, picture, clean=screen or rng.random() < 0.15)
    labels = np.array([each.label for each in canvas.digits], np.int64)
    return Page(image, *_boxes(outlines, labels, image, ink, visible))


def _on_paper(rng: Generator, canvas: Canvas) -> Floats:
    page = paper.blank(rng, SIZE)
    page *= 1 - paper.ruling(rng, SIZE) * np.float32(rng.uniform(0.08, 0.7))
    ink: Floats = canvas.writing
    if rng.random() < 0.2:  # pencil on rough paper
        ink = ink * (1 - np.float32(rng.uniform(0.3, 0.8)) * rng.random((SIZE, SIZE), np.float32))
    if rng.random() < 0.2:  # a pen that runs dry
        ink = ink * np.clip(1 - paper.smooth(rng, SIZE, 8, 0.3), 0.4, 1)
    if rng.random() < 0.15:  # felt that bleeds
        ink = cv2.GaussianBlur(ink, (0, 0), rng.uniform(0.5, 1.2))
    dark = rng.uniform(0.02, 0.45) if rng.random() < 0.75 else rng.uniform(0.45, 0.72)
    for layer, shade in ((canvas.print, rng.uniform(0.05, 0.75)), (ink, dark)):
        page *= 1 - layer * np.float32(1 - shade)
    return paper.light(rng, page)


def _on_screen(rng: Generator, canvas: Canvas) -> Floats:
    """Return flat colors, as of a drawing program."""
    page = np.full((SIZE, SIZE), rng.choice([1.0, 0.95, 0.85]), np.float32)
    page *= 1 - canvas.print * np.float32(rng.uniform(0.2, 0.9))
    page *= 1 - np.minimum(canvas.writing * 1.5, 1) * np.float32(rng.uniform(0.6, 1.0))
    for _ in range(int(rng.choice([0, 1, 2]))):  # bars and buttons
        height, top = int(rng.uniform(6, 40)), rng.choice([True, False])
        bar = page[:height] if top else page[-height:]
        bar[:] = bar * 0.3 + rng.uniform(0, 0.7)
    return page


def _boxes(
    outlines: list[Floats],
    labels: NDArray[np.int64],
    image: Bytes,
    ink: Floats,
    visible: Floats,
) -> tuple[Floats, NDArray[np.int64], Floats]:
    """Return boxes and labels of the digits that count, and the boxes of those to ignore."""
    whole = [np.concatenate([each.min(0), each.max(0)]) for each in outlines]
    boxes = np.array(whole, np.float32).reshape(-1, 4)
    cut = boxes.clip(0, SIZE)
    share = (cut[:, 2:] - cut[:, :2]).prod(1) / (boxes[:, 2:] - boxes[:, :2]).prod(1).clip(1e-6)
    clear = np.zeros(len(boxes), np.bool_)
    for index, (left, top, right, bottom) in enumerate(cut.round().astype(int)):
        part = slice(top, bottom), slice(left, right)
        written = ink[part] * visible[part]
        share[index] *= written.sum() / max(ink[part].sum(), 1e-6)
        clear[index] = _contrast(image[part], written) >= FAINTEST
    counts = clear & (share >= WHOLE) & (cut[:, 3] - cut[:, 1] >= SMALLEST)
    return cut[counts], labels[counts], cut[~counts & (share >= PART)]


def _contrast(image: Bytes, ink: Floats) -> float:
    """Return the difference between ink and what is around it, in levels of grey."""
    if not 0 < ink.sum() < ink.size:
        return 0.0
    around = 1 - ink
    return abs(float((image * ink).sum() / ink.sum() - (image * around).sum() / around.sum()))
