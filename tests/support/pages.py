"""Pages of digits that a model reads right: its surest of MNIST's test images, on paper."""

from functools import cache
from pathlib import Path

import numpy as np

from mnist_lit.reading.reader import Reader
from tests.support import paper


@cache
def surest(model: Path) -> list[paper.Picture]:
    """Of each digit the image that the model is surest of, among those it reads right."""
    images, labels = (part[:2000] for part in paper.mnist())
    _, probabilities = Reader(model).classify((images / 255).astype(np.float32))
    return [
        images[np.where(labels == digit, probabilities[:, digit], 0).argmax()]
        for digit in range(10)
    ]


def page(model: Path, *lines: str) -> paper.Picture:
    """White paper with lines of digits, ``uint8 (h, w, 3)``."""
    digits = [[paper.digit(surest(model)[int(digit)], 60) for digit in line] for line in lines]
    ink = paper.lines([paper.row(line, gap=30) for line in digits], gap=50)
    ink = paper.put(ink, ink.shape[0] + 120, ink.shape[1] + 160, left=80, top=60)
    return paper.develop(paper.sheet(ink), np.random.default_rng(0))
