"""Train, evaluate and use networks that read handwritten digits, with PyTorch Lightning."""

import os
from importlib import import_module

from mnist_lit.errors import InputError

# ONNX Runtime 1.29 and later send usage data to Microsoft unless told not to.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

TYPE_CHECKING = False  # as in typing, whose import would double the time of this one
if TYPE_CHECKING:
    from mnist_lit.data import MNISTDataModule
    from mnist_lit.module import DigitClassifier
    from mnist_lit.networks import TutorialCNN
    from mnist_lit.reading.reader import Reader

__all__ = [
    "DigitClassifier",
    "InputError",
    "MNISTDataModule",
    "Reader",
    "TutorialCNN",
    "__version__",
]

__version__ = "0.1.0"

LAZY = {
    "DigitClassifier": "mnist_lit.module",
    "MNISTDataModule": "mnist_lit.data",
    "Reader": "mnist_lit.reading.reader",
    "TutorialCNN": "mnist_lit.networks",
}


def __getattr__(name: str) -> object:
    """Import a public name on first use, since most of them import torch."""
    if name in LAZY:
        return getattr(import_module(LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
