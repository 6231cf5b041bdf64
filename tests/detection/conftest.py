"""What the detector's tests share."""

import gzip

import numpy as np
import pytest

from mnist_lit.assets import ASSETS
from mnist_lit.detection.pages.numbers import DigitImages


@pytest.fixture(scope="session")
def digits() -> DigitImages:
    """The first thousand training digits."""
    with gzip.open(ASSETS / "train-images-idx3-ubyte.gz") as file:
        images = np.frombuffer(file.read(16 + 1000 * 784)[16:], np.uint8).reshape(-1, 28, 28)
    with gzip.open(ASSETS / "train-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read(8 + 1000)[8:], np.uint8).astype(np.int64)
    return DigitImages(images, labels)
