"""The sheet that lies on a table, cut out of a photo."""

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mnist_lit.reading.paper import SMALL, Mask, Picture, principal, shrunk

FEW_PIXELS = 80_000  # in which a sheet is looked for
LEAST = 0.05  # share of the photo that a sheet covers
FADING = 32  # of 255: tones whose edge is less apart are one sheet under uneven light

Outline = NDArray[np.int32]


def sheet_alone(picture: Picture) -> tuple[Picture, int, int]:
    """Cut out the sheet that lies on a table, paper where the table shows; or all of the picture.

    Args:
        picture: ``uint8 (h, w, 3)`` RGB.

    Returns:
        What was cut out, and its left and top in the picture.
    """
    height, width = picture.shape[:2]
    every = 1 + int((height * width / 1e6) ** 0.5)  # of the pixels: enough of them
    small = shrunk(np.ascontiguousarray(picture[::every, ::every]), FEW_PIXELS)
    outline = _outline(small) if min(height, width) > SMALL else None
    if outline is None:
        return picture, 0, 0
    scale = width / small.shape[1], height / small.shape[0]
    outline = np.rint((outline + 0.5) * scale).astype(np.int32)
    left, top, across, down = cv2.boundingRect(outline)
    cut = picture[top : top + down, left : left + across]
    blank = np.zeros(cut.shape[:2], np.uint8)
    sheet = cv2.drawContours(blank, [outline - (left, top)], 0, 1, cv2.FILLED)
    edge = int(3 * max(scale))  # it is blurred
    sheet = cv2.erode(sheet, np.ones((2 * edge + 1, 2 * edge + 1), np.uint8), borderValue=0)
    return np.where(sheet[..., np.newaxis] > 0, cut, _around(cut, sheet)), left, top


def _around(picture: Picture, sheet: NDArray[Any]) -> Picture:
    """Paper where the table shows: as the sheet is nearest to it, or its edge would be a stroke."""
    small = shrunk(picture, FEW_PIXELS)
    height, width = small.shape[:2]
    inside = cv2.resize(sheet, (width, height), interpolation=cv2.INTER_NEAREST) > 0
    _, nearest = cv2.distanceTransformWithLabels(
        (~inside).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    colours = np.zeros((nearest.max() + 1, 3), np.uint8)
    colours[nearest[inside]] = small[inside]
    smooth = cv2.blur(colours[nearest], (width // 10 | 1, height // 10 | 1))
    paper: Picture = cv2.resize(smooth, picture.shape[1::-1])
    return paper


def _outline(picture: Picture) -> Outline | None:
    """The outline ``(n, 1, 2)`` of the sheet: a rectangle of one tone with writing in it.

    Of all tones that may part it from the table, the one that leaves the largest sheet: a shadow
    parts it too. A sheet that reaches beyond two edges of the picture may be a patch of light.
    """
    scene = picture.reshape(-1, 3) / np.float32(255)
    contrast = principal((scene - scene.mean(axis=0)).reshape(picture.shape))
    span = max(float(np.ptp(contrast)), 1e-6)
    tone = cv2.medianBlur(((contrast - contrast.min()) * (255 / span)).astype(np.uint8), 3)
    height, width = tone.shape
    steps = cv2.morphologyEx(tone, cv2.MORPH_GRADIENT, np.ones((7, 7)))
    steps[[0, -1]], steps[:, [0, -1]] = 255, 255
    largest, found = LEAST * tone.size, None
    for part, outline in _rectangles(tone):
        area = cv2.contourArea(outline)
        if area < largest or np.percentile(steps[outline[..., 1], outline[..., 0]], 10) < FADING:
            continue
        left, top, across, down = cv2.boundingRect(outline)
        if sum((left == 0, top == 0, left + across == width, top + down == height)) > 1:
            continue
        inside = cv2.drawContours(np.zeros_like(tone), [outline], 0, 1, cv2.FILLED) > 0
        if part[~inside].mean() < 0.3 and 0.8 < part[inside].mean() < 0.998:
            largest, found = area, outline
    return found


def _rectangles(tone: NDArray[Any]) -> Iterator[tuple[Mask, Outline]]:
    """The largest shape of what is lighter, and of what is darker, than each of some tones."""
    for level in range(FADING, 256, FADING):
        for part in (tone > level, tone <= level):
            detached = cv2.morphologyEx(part.astype(np.uint8), cv2.MORPH_OPEN, np.ones((5, 5)))
            outlines, _ = cv2.findContours(detached, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
            outline = max(outlines, key=len, default=None)
            if outline is not None:
                (_, (width, height), _) = cv2.minAreaRect(outline)
                if cv2.contourArea(outline) > 0.88 * width * height > 0:
                    yield part, outline.astype(np.int32, copy=False)
