"""Handwritten digits, trained, evaluated and used: a PyTorch Lightning experiment on MNIST."""

import os
from importlib import import_module

from mnist_lit.errors import InputError

# ONNX Runtime, from 1.29 on, would report every start and every model to its makers.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

TYPE_CHECKING = False  # that of typing, whose import takes as long as all the rest
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
    """Import a public name when it is asked for: most of them take torch along."""
    if name in LAZY:
        return getattr(import_module(LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
