"""Handwritten digits, trained, judged and used: a PyTorch Lightning experiment on MNIST."""

import os

from mnist_lit.errors import InputError

# ONNX Runtime, from 1.29 on, would tell its makers of every start and every model.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

TYPE_CHECKING = False  # that of typing, whose import takes as long as all the rest
if TYPE_CHECKING:
    from mnist_lit.reading.reader import Reader

__all__ = ["InputError", "Reader", "__version__"]

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """Import ``Reader`` when it is asked for: most commands have no use for it."""
    if name == "Reader":
        from mnist_lit.reading.reader import Reader

        return Reader
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
