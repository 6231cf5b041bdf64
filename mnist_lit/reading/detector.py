"""Detector: finds digits in a picture of any size, with the exported detection network."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mnist_lit.reading.models import open_session

Floats = NDArray[np.float32]
Gray = NDArray[np.uint8]

PACKAGED = Path(__file__).parent.parent / "assets" / "detector.onnx"

LARGEST = 1440  # pixels: the longer side of a picture at its finest level
SMALLEST = 128  # pixels: a picture with a smaller longer side is enlarged to it at first
COARSEST = 64  # pixels: the least longer side of a level
CANDIDATES = 2000  # the most of a picture, in all its sizes: more than a full page has
FOUND = 0.4  # probability: about half of the F1 score, which maximizes it (Lipton et al., 2014)
OVERLAP = 0.4  # intersection over union above which the less probable of two boxes is dropped
INSIDE = 0.75  # share of a box inside a more probable one above which it is dropped


@dataclass(frozen=True, eq=False)
class Detections:
    """The digits found in a picture, the most probable first.

    Attributes:
        boxes: ``float32 (k, 4)``: left, top, right, bottom in pixels of the picture.
        probabilities: ``float32 (k,)`` in [0, 1], that it is a digit.
    """

    boxes: Floats
    probabilities: Floats

    def __getitem__(self, chosen: Any) -> "Detections":
        return Detections(self.boxes[chosen], self.probabilities[chosen])


class Detector:
    """Finds digits; threads may share a detector.

    Args:
        content: An ONNX file written by ``python -m mnist_lit.detection export``.

    Attributes:
        calibration: Slope and offset of the logit of the probability, as a function of the logit
            of what the network says (Platt, "Probabilistic outputs for support vector machines",
            1999).
    """

    def __init__(self, content: bytes) -> None:
        self._session = open_session(content)
        metadata = self._session.get_modelmeta().custom_metadata_map
        slope, offset = json.loads(metadata.get("calibration", "[1, 0]"))
        self.calibration = (float(slope), float(offset))

    def find(self, gray: Gray, threshold: float = FOUND) -> Detections:
        """Find the digits of a picture.

        The network knows digits from 8 pixels to the whole of a picture of 256 pixels, so it sees
        the picture in several sizes, each half of the one before.

        Args:
            gray: ``uint8 (h, w)``.
            threshold: The least probability of a digit.
        """
        slope, offset = self.calibration
        least = _sigmoid((_logit(threshold) - offset) / slope)
        levels = [self._level(gray, scale, least) for scale in scales(*gray.shape)]
        boxes, scores = (np.concatenate(each) for each in zip(*levels, strict=True))
        best = np.argsort(-scores, kind="stable")[:CANDIDATES]
        found = Detections(boxes[best], _sigmoid(slope * _logit(scores[best]) + offset))
        return found[suppressed(found.boxes)]

    def _level(self, gray: Gray, scale: float, least: float) -> tuple[Floats, Floats]:
        """Return boxes and scores of what is at least so probable in a picture scaled first."""
        height, width = gray.shape
        size = max(1, round(width * scale)), max(1, round(height * scale))
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        scaled = cv2.resize(gray, size, interpolation=method)
        image = (scaled.astype(np.float32) / 255)[np.newaxis, np.newaxis]
        (centers,), boxes = (
            maps[0] for maps in self._session.run(["centers", "boxes"], {"images": image})
        )
        peaks = centers == cv2.dilate(centers, np.ones((3, 3), np.uint8))
        rows, columns = np.nonzero(peaks & (centers >= least))
        to_picture = np.array([width / size[0], height / size[1]] * 2, np.float32)
        limits = np.array([width, height] * 2, np.float32)
        return (boxes[:, rows, columns].T * to_picture).clip(0, limits), centers[rows, columns]


def scales(height: int, width: int) -> list[float]:
    """Return the sizes in which a picture is seen, relative to its own, the finest first."""
    longer = max(height, width)
    found = [min(max(1.0, SMALLEST / longer), LARGEST / longer)]
    while found[-1] * longer >= 2 * COARSEST:
        found.append(found[-1] / 2)
    return found


def suppressed(boxes: Floats, overlap: float = OVERLAP, inside: float = INSIDE) -> list[int]:
    """Suppress all but the most probable of overlapping boxes.

    Args:
        boxes: ``float32 (k, 4)``, the most probable first.
        overlap: Intersection over union above which the less probable of two boxes is dropped.
        inside: Share of a box inside a more probable one above which it is dropped.

    Returns:
        Indices of those that stay.
    """
    areas = (boxes[:, 2:] - boxes[:, :2]).clip(1e-3).prod(1)
    waiting, kept = np.arange(len(boxes)), []
    while waiting.size:
        first, waiting = waiting[0], waiting[1:]
        kept.append(int(first))
        corner = np.maximum(boxes[first, :2], boxes[waiting, :2])
        shared = (np.minimum(boxes[first, 2:], boxes[waiting, 2:]) - corner).clip(0).prod(1)
        union = areas[first] + areas[waiting] - shared
        smaller = np.minimum(areas[first], areas[waiting])
        waiting = waiting[(shared <= overlap * union) & (shared <= inside * smaller)]
    return kept


def _logit(probability: Any) -> Any:
    return np.log(probability) - np.log1p(-probability)


def _sigmoid(logit: Any) -> Any:
    return 1 / (1 + np.exp(-logit))
