"""Trained models: out of their checkpoints, and what they answer for a data set."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset

from mnist_lit.checkpoints import load_checkpoint, recorded_settings
from mnist_lit.data import Batch, scaled
from mnist_lit.module import DigitClassifier
from mnist_lit.runs import directories as runs


@dataclass(frozen=True)
class Trained:
    """A trained model and where it comes from.

    Args:
        path: Of the checkpoint.
        model: On the CPU, in evaluation mode.
        config: All settings of its run, in primitives; empty if it was trained from Python.
        data: The settings of its data module, as far as a checkpoint decides them.
    """

    path: Path
    model: DigitClassifier
    config: dict[str, Any]
    data: dict[str, Any]


def load_trained(which: str) -> Trained:
    """Load the model of a checkpoint for evaluation, and print which it is.

    Args:
        which: A path, or ``best`` or ``last`` of the newest run that has one.

    Raises:
        InputError: If there is none, it is damaged, or it does not fit its network.
    """
    path = runs.find_checkpoint(which, Path(runs.LOG_DIR))
    checkpoint = load_checkpoint(path)
    model = DigitClassifier.load_from_checkpoint(
        path, augmentation=None, optimizer=torch.optim.Adam, scheduler=None
    )
    data = recorded_settings(checkpoint, path, sections=["data"]).get("data", {})
    print(f"Checkpoint: {runs.label(path)}")
    return Trained(path, model.eval(), checkpoint.get("config", {}), data)


def batches(dataset: Dataset[Batch], batch_size: int) -> DataLoader[Batch]:
    """Images, unscaled, and labels of a data set, in its order."""
    return DataLoader(dataset, batch_size, collate_fn=tuple)  # a fetch is a batch already


@torch.inference_mode()
def logits_of(model: DigitClassifier, images: Tensor) -> Tensor:
    """Give ``float32 (n, 10)`` logits for ``uint8 (n, 28, 28)`` images."""
    logits: Tensor = model(scaled(images))
    return logits


def outputs(
    model: DigitClassifier, dataset: Dataset[Batch], batch_size: int
) -> tuple[Tensor, Tensor]:
    """Give labels ``int64 (n,)`` and logits ``float32 (n, 10)`` of a whole data set."""
    parts = [(labels, logits_of(model, images)) for images, labels in batches(dataset, batch_size)]
    labels, logits = (torch.cat(part) for part in zip(*parts, strict=True))
    return labels, logits


def worst_errors(labels: Tensor, logits: Tensor) -> Tensor:
    """Give the places of the images that are read wrong, the highest loss first.

    Args:
        labels: ``int64 (n,)`` in 0..9.
        logits: ``float32 (n, 10)``.
    """
    losses = cross_entropy(logits, labels, reduction="none")
    wrong = (logits.argmax(dim=1) != labels).nonzero().flatten()
    return wrong[losses[wrong].argsort(descending=True)]
