"""What the tests of own digits share: MNIST's test images as if somebody had written them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from mnist_lit.own_digits.storage import OwnDigit, save
from tests.support import paper

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Save own digits: the first ``count`` of MNIST's test images, or of those with a label."""

    def saved(count: int, folder: str = "hands/anna", label: int | None = None) -> Path:
        images, labels = paper.mnist()
        if label is not None:
            images, labels = images[labels == label], labels[labels == label]
        for image, digit in zip(images[:count], labels[:count], strict=True):
            save(OwnDigit(image, int(digit), {"source": "test"}), tmp_path / folder)
        return tmp_path / folder

    return saved
