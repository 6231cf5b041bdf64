"""Trained models: out of their checkpoints, and what they answer for a data set."""

import os
import sys
from argparse import ArgumentError
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mnist_lit import runs
from mnist_lit.data import Batch, scaled
from mnist_lit.errors import InputError
from mnist_lit.module import DigitClassifier
from mnist_lit.usage import explain


@dataclass(frozen=True)
class Trained:
    """A trained model and where it comes from.

    Args:
        path: Of the checkpoint.
        model: On the CPU, in evaluation mode.
        config: All settings of its run, in primitives; empty if it was trained from Python.
    """

    path: Path
    model: DigitClassifier
    config: dict[str, Any]


def load_trained(which: str) -> Trained:
    """Load the model of a checkpoint, and print which it is.

    Args:
        which: A path, or ``best`` or ``last`` of the newest run that has one.

    Raises:
        InputError: If there is none, or the code of its network is missing or has changed.
    """
    path = runs.find_checkpoint(which, Path(runs.LOG_DIR))
    config = runs.load_checkpoint(path).get("config", {})
    os.environ.setdefault("JSONARGPARSE_DEPRECATION_WARNINGS", "off")  # of Lightning's calls
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))  # for a network in a file of the user's own
    try:
        model = DigitClassifier.load_from_checkpoint(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the network's code may be missing, changed, or raise anything
        lines = [line.strip() for line in str(error).splitlines()]
        what = " ".join(lines[:2])  # of a long list of weights that do not fit, the first
        if isinstance(error, ArgumentError):
            what, _ = explain(str(error), (), "")
        raise InputError(
            f"{path} cannot be loaded: {what}",
            "The file of its network, as it was trained, has to lie here or on PYTHONPATH.",
        ) from error
    print(f"Checkpoint: {runs.label(path)}")
    return Trained(path, model.eval(), config)


def batches(dataset: Dataset[Batch], batch_size: int) -> DataLoader[Batch]:
    """Images, unscaled, and labels of a data set, in its order."""
    return DataLoader(dataset, batch_size, collate_fn=tuple)  # a fetch is a batch already


@torch.inference_mode()
def logits_of(model: DigitClassifier, images: Tensor) -> Tensor:
    """Give ``float32 (n, 10)`` logits for ``uint8 (n, 28, 28)`` images."""
    logits: Tensor = model(scaled(images))
    return logits


def answers(
    model: DigitClassifier, dataset: Dataset[Batch], batch_size: int
) -> tuple[Tensor, Tensor]:
    """Give labels ``int64 (n,)`` and logits ``float32 (n, 10)`` of a whole data set."""
    parts = [(labels, logits_of(model, images)) for images, labels in batches(dataset, batch_size)]
    labels, logits = (torch.cat(part) for part in zip(*parts, strict=True))
    return labels, logits
