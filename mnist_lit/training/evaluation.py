"""Load trained models from checkpoints, and compute their outputs on a data set."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset

from mnist_lit.checkpoints import load_checkpoint, recorded_settings
from mnist_lit.data import Batch, scaled
from mnist_lit.ensembles import Ensemble
from mnist_lit.errors import InputError
from mnist_lit.module import DigitClassifier
from mnist_lit.runs import directories as runs
from mnist_lit.training.environment import import_from_working_directory


@dataclass(frozen=True)
class TrainedModel:
    """A trained model and its origin.

    Args:
        path: The checkpoint.
        model: On the CPU, in evaluation mode.
        config: All settings of its run, as primitives; empty if it was trained from Python.
        data: The settings of its data module that a checkpoint may decide.
    """

    path: Path
    model: DigitClassifier
    config: dict[str, Any]
    data: dict[str, Any]


def load_trained_model(which: str) -> TrainedModel:
    """Load the model of a checkpoint for evaluation, and print the path.

    Args:
        which: A path, or ``best`` or ``last`` for the newest run that has one.

    Raises:
        InputError: If the checkpoint is missing or damaged, or does not match its network.
    """
    import_from_working_directory()
    path = runs.find_checkpoint(which, Path(runs.LOG_DIR))
    checkpoint = load_checkpoint(path)
    model = DigitClassifier.load_from_checkpoint(
        path, augmentation=None, optimizer=torch.optim.Adam, scheduler=None
    )
    data = recorded_settings(checkpoint, path, sections=["data"]).get("data", {})
    rank_zero_only(print)(f"Checkpoint: {runs.describe_checkpoint(path)}")
    return TrainedModel(path, model.eval(), checkpoint.get("config", {}), data)


def load_members(names: Sequence[str]) -> list[TrainedModel]:
    """Load the models that are to predict together, and print their paths.

    Args:
        names: Paths, ``best``, ``last``, or names of runs.

    Raises:
        InputError: If a checkpoint is missing or damaged, or they were not trained on the same
            data set.
    """
    members = [
        load_trained_model(str(path)) for path in runs.find_checkpoints(names, Path(runs.LOG_DIR))
    ]
    datasets = {member.data.get("dataset", "MNIST") for member in members}
    if len(datasets) > 1:
        what = f"The checkpoints were trained on {' and '.join(sorted(datasets))}."
        raise InputError(what, "Give those of one data set.")
    return members


def joined(members: Sequence[TrainedModel]) -> DigitClassifier:
    """Return the only member's model, or one that predicts by the mean of all members."""
    if len(members) == 1:
        return members[0].model
    return DigitClassifier(Ensemble([member.model.network for member in members])).eval()


def batches(dataset: Dataset[Batch], batch_size: int) -> DataLoader[Batch]:
    """Return a loader of unscaled images and labels, in the order of the data set."""
    return DataLoader(dataset, batch_size, collate_fn=tuple)  # a fetch returns a whole batch


@torch.inference_mode()
def predict_logits(model: DigitClassifier, images: Tensor) -> Tensor:
    """Compute ``float32 (n, 10)`` logits for ``uint8 (n, 28, 28)`` images."""
    logits: Tensor = model(scaled(images))
    return logits


def outputs(
    model: DigitClassifier, dataset: Dataset[Batch], batch_size: int
) -> tuple[Tensor, Tensor]:
    """Compute labels ``int64 (n,)`` and logits ``float32 (n, 10)`` of a whole data set."""
    parts = [
        (labels, predict_logits(model, images)) for images, labels in batches(dataset, batch_size)
    ]
    labels, logits = (torch.cat(part) for part in zip(*parts, strict=True))
    return labels, logits


def worst_errors(labels: Tensor, logits: Tensor) -> Tensor:
    """Return the indices of the misclassified images, highest loss first.

    Args:
        labels: ``int64 (n,)`` in 0..9.
        logits: ``float32 (n, 10)``.
    """
    losses = cross_entropy(logits, labels, reduction="none")
    wrong = (logits.argmax(dim=1) != labels).nonzero().flatten()
    return wrong[losses[wrong].argsort(descending=True)]
