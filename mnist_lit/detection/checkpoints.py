"""Checkpoints of the detector: verified before anything is made of them."""

from pathlib import Path
from typing import Any

from mnist_lit.checkpoints import load_checkpoint, recorded_settings, verify_weights
from mnist_lit.detection.module import DigitDetector
from mnist_lit.errors import InputError


def verified_checkpoint(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read a checkpoint, which may come from anyone.

    Returns:
        Its contents, and the arguments of its DigitDetector.

    Raises:
        InputError: If the file is missing or damaged, or is not a checkpoint of a DigitDetector.
    """
    try:
        checkpoint = load_checkpoint(path)
        settings = recorded_settings(checkpoint, path, sections=["model"])["model"]
        verify_weights(DigitDetector, settings, checkpoint, path)
    except InputError as error:
        what: str = error.args[0]
        raise InputError(
            what if str(path) in what else f"{path} is not a checkpoint of a detector.",
            "Give one that python -m mnist_lit.detection fit has written.",
        ) from error
    return checkpoint, settings
