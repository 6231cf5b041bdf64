"""Ink against paper: which pixels of a picture are written, whatever the colours and the light."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]
Picture = NDArray[np.uint8]

SMALL = 64  # pixels: in a picture no larger nothing is smoothed, as its grey levels count
TINY = 32  # pixels: a picture no larger is one digit
FAINTEST = 0.04  # contrast of ink, as a share of the paper's lightness
TONES = 0.02  # range of a picture that is all of one tone
WAYS = (cv2.MORPH_CLOSE, cv2.MORPH_OPEN)  # to paper: from dark ink, from light ink


def ink_on_paper(picture: Picture) -> tuple[Floats, Mask] | None:
    """Tell ink from paper.

    Args:
        picture: ``uint8 (h, w, 3)`` RGB.

    Returns:
        How much ink there is, ``float32 (h, w)`` in [0, 1], and where it is for certain,
        ``bool (h, w)``; None if nothing stands out.
    """
    colour = _even_paper(picture)
    found = None if colour is None else _inked(_signed(_scene(picture) - colour))
    if found is not None:
        return found
    window = min(picture.shape[:2]) // 3
    ways = _ways(picture, window)
    found = _inked(_contrast(picture, _local_paper(picture, window, ways)))
    if found is None:
        return None
    narrow = max(int(16 * stroke_width(found[1])), 48)
    if narrow < window:  # the window need only be larger than a stroke: it follows the light better
        return _inked(_contrast(picture, _local_paper(picture, narrow, ways)))
    return found


def _ways(picture: Picture, window: int) -> list[int]:
    """Whether ink is darker or lighter than paper, in red, green and blue.

    Taking the strokes away leaves paper without the edges that taking the paper away makes; and
    strokes cover less than what lies between them. In doubt ink is dark.
    """
    small = shrunk(picture, 100_000)
    window = int(window * small.shape[1] / picture.shape[1])
    papers = [_local_paper(small, window, [way] * 3) for way in WAYS]
    edges = [cv2.morphologyEx(paper, cv2.MORPH_GRADIENT, np.ones((3, 3))) for paper in papers]
    ways = []
    for colour in range(3):
        tones = np.repeat(small[..., colour, np.newaxis], 3, axis=2)
        costs = []
        for i, prior in enumerate((1, 2)):
            own_edges = np.maximum(edges[i] - edges[1 - i], 0)[..., colour].mean()
            paper = np.repeat(papers[i][..., colour, np.newaxis], 3, axis=2)
            found = _inked(_contrast(tones, paper))
            covered = np.inf if found is None else max(float(found[1].mean()), 0.02)
            costs.append(prior * (float(own_edges) + 1e-4) * covered**0.5)
        ways.append(WAYS[int(np.argmin(costs))])
    return ways


def shrunk(picture: Picture, most: int) -> Picture:
    """Scale a picture down to at most so many pixels."""
    height, width = picture.shape[:2]
    scale = (most / (height * width)) ** 0.5
    if scale >= 1:
        return picture
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)


def stroke_width(mask: Mask) -> float:
    """The usual width of strokes in pixels: twice the distance of their middles to the paper."""
    padded = np.pad(mask.astype(np.uint8), 1)
    distance = cv2.distanceTransform(padded, cv2.DIST_L2, 5)
    middle = (distance >= cv2.dilate(distance, np.ones((3, 3), np.uint8))) & (padded > 0)
    return float(2 * np.median(distance[middle]) - 0.5) if middle.any() else 0.0


def lies_along(part: Mask, left: bool, top: bool, right: bool, bottom: bool) -> bool:
    """Whether more than three tenths of a shape's outline run along the edge of the picture.

    Args:
        part: ``bool (h, w)``: the shape, in its box.
        left: Whether this side of its box is the edge; so with the others.
        top: See ``left``.
        right: See ``left``.
        bottom: See ``left``.
    """
    sides = ((left, part[:, 0]), (top, part[0]), (right, part[:, -1]), (bottom, part[-1]))
    along = sum(int(pixels.sum()) for is_edge, pixels in sides if is_edge)
    outlines, _ = cv2.findContours(part.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return along > 0.3 * sum(len(outline) for outline in outlines)


def _even_paper(picture: Picture) -> Floats | None:
    """The colour of the paper, ``(3,)`` in [0, 1], if it is the same everywhere."""
    scene = _scene(shrunk(picture, 256 * 256))
    small = min(scene.shape[:2]) <= SMALL
    tone = principal(scene - scene.reshape(-1, 3).mean(axis=0))
    span = tone.max() - tone.min()
    if span < TONES:
        return None
    tones = ((tone - tone.min()) * (255 / span)).astype(np.uint8)
    _, ink = cv2.threshold(tones, 0, 1, cv2.THRESH_OTSU)
    edge = np.concatenate([ink[0], ink[-1], ink[1:-1, 0], ink[1:-1, -1]])
    if edge.mean() + ink.mean() > 1:
        ink = 1 - ink  # paper is what there is more of, in the picture and along its edge
    paper = ink == 0
    colour: Floats = np.median(scene[paper], axis=0).astype(np.float32)
    if small:
        return colour
    contrast = abs(np.median(tone[~paper]) - np.median(tone[paper]))
    low, high = np.percentile(tone[paper], [10, 90])
    if high - low > 0.15 * contrast or _is_scenery(~paper):
        return None
    return colour


def _is_scenery(ink: Mask) -> bool:
    """Whether what was taken for ink is a shadow or a table."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(ink.astype(np.uint8))
    for label in range(1, count):
        left, top, width, height, _ = stats[label].tolist()
        if max(width, height) < 0.2 * max(ink.shape):
            continue
        part = labels[top : top + height, left : left + width] == label
        right, bottom = left + width, top + height
        sides = (left == 0, top == 0, right == ink.shape[1], bottom == ink.shape[0])
        if lies_along(part, *sides):
            return True
    return False


def _local_paper(picture: Picture, window: int, ways: list[int]) -> Floats:
    """What remains without strokes narrower than a window, ``(h, w, 3)`` in [0, 1].

    A closing takes away dark strokes, an opening light ones; unlike a mean or a median, both leave
    the edges of a sheet and of a shadow where they are.
    """
    small = shrunk(picture, 300_000)
    size = max(3, int(window * small.shape[1] / picture.shape[1])) | 1
    # As if the picture went on beyond its edge: a table that shows there is no stroke.
    smooth = cv2.medianBlur(small, 3)
    wide = cv2.copyMakeBorder(smooth, size, size, size, size, cv2.BORDER_REPLICATE)
    kernel = np.ones((size, size), np.uint8)
    colours = zip(cv2.split(wide), ways, strict=True)
    wide = cv2.merge([cv2.morphologyEx(colour, way, kernel) for colour, way in colours])
    paper = wide[size:-size, size:-size]
    return _scene(cv2.resize(paper, picture.shape[1::-1], interpolation=cv2.INTER_LINEAR))


def _scene(picture: NDArray[Any]) -> Floats:
    return picture.astype(np.float32) / np.float32(255)


def _contrast(picture: Picture, paper: Floats) -> Floats:
    """How far each pixel is from its paper, as a share of the paper's lightness."""
    share = ((_scene(picture) - paper) / np.maximum(paper, 0.25)).astype(np.float32)
    # Of grainy paper its lightest or darkest grains were taken for all of it.
    grain = np.median(share[::4, ::4], axis=(0, 1)).astype(np.float32)  # of enough of them
    return _signed(share - grain)


def _signed(residual: Floats) -> Floats:
    """The residual along the colour of the ink, which stands out further than the paper's grain."""
    contrast = principal(residual)
    flat = contrast.ravel()
    return -contrast if (flat * flat) @ flat < 0 else contrast


def principal(residual: Floats) -> Floats:
    """Colours along the axis on which the strongest of them lie: ``(h, w, 3)`` to ``(h, w)``."""
    flat = residual.reshape(-1, 3)
    weights = (flat * flat).sum(axis=1, keepdims=True)
    axis = np.linalg.eigh((flat * weights).T @ flat)[1][:, -1]
    along: Floats = (flat @ axis.astype(np.float32)).reshape(residual.shape[:2])
    return along


def _inked(contrast: Floats) -> tuple[Floats, Mask] | None:
    noise = _noise(contrast)
    if min(contrast.shape) > SMALL and noise > 0.01:
        contrast = cv2.GaussianBlur(contrast, (0, 0), 1.0).astype(np.float32, copy=False)
        noise = _noise(contrast)
    floor = max(4 * noise, FAINTEST)
    strong = contrast[contrast > floor]
    if strong.size < 6:
        return None
    threshold = max(_threshold(strong), 1.25 * floor)
    certain = contrast > threshold
    if certain.sum() < 6:
        return None
    level = float(np.percentile(contrast[certain], 75))
    ink = np.where(contrast > (floor if noise else 0), contrast / level, 0)
    return ink.clip(0, 1).astype(np.float32), certain


def _threshold(values: Floats) -> float:
    """Between what is faint and what is ink (Otsu, 1979), if these are two things."""
    top = float(values.max())
    scaled = (values * (255 / top)).astype(np.uint8)
    threshold, _ = cv2.threshold(scaled.reshape(1, -1), 0, 255, cv2.THRESH_OTSU)
    faint, bold = values[scaled <= threshold], values[scaled > threshold]
    if not (faint.size and bold.size) or faint.mean() > 0.45 * bold.mean():
        return 0.5 * float((faint if faint.size else bold).mean())
    return (threshold + 0.5) / 255 * top


def _noise(contrast: Floats) -> float:
    """Standard deviation of the paper, from what is lighter than it and from its fine grain.

    The grain after Immerkaer, "Fast noise variance estimation" (1996).
    """
    lighter = contrast[contrast < 0]
    spread = 1.4826 * float(np.median(-lighter)) if lighter.size > 0.05 * contrast.size else 0.0
    if min(contrast.shape) <= SMALL:
        return spread
    kernel = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
    grain = cv2.filter2D(contrast, -1, kernel)
    return max(spread, 1.4826 * float(np.median(np.abs(grain))) / 6)
