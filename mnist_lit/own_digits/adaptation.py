"""Adaptation: start from a trained model, and report what has changed on the way."""

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.utils.data import Dataset

from mnist_lit.assets import ASSETS
from mnist_lit.data import Batch
from mnist_lit.errors import InputError
from mnist_lit.module import DigitClassifier
from mnist_lit.own_digits.accuracy import Accuracy, accuracy, table
from mnist_lit.own_digits.data import OwnDigitsDataModule

PACKAGED = ASSETS / "digits.ckpt"
FEW = 50  # held-out digits: with fewer, only a large difference means anything
MOST_LOST = 0.001  # of the accuracy on MNIST, without a warning


class Adaptation(Callback):
    """Starts with the weights of a trained model, and at the end compares it with the new one.

    Args:
        checkpoint: A file that fit has written; the packaged model's if not given.
    """

    def __init__(self, checkpoint: str | None = None) -> None:
        self.checkpoint = Path(checkpoint) if checkpoint else PACKAGED

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Load the weights; if a run is resumed, its own will replace them.

        Raises:
            InputError: If they do not fit the network, or no folder of own digits is given.
        """
        if stage != "fit":
            return
        data = trainer.datamodule  # type: ignore[attr-defined]
        if not data.own_dir:
            raise InputError("There are no own digits to adapt to.", "Add --data.own_dir FOLDER.")
        assert isinstance(pl_module, DigitClassifier)
        self.before = DigitClassifier.load_from_checkpoint(
            self.checkpoint, augmentation=None, optimizer=torch.optim.Adam, scheduler=None
        ).eval()
        try:
            pl_module.network.load_state_dict(self.before.network.state_dict())
        except RuntimeError as error:
            raise InputError(
                f"The weights of {self.checkpoint} do not fit this network.",
                f"Use its network, {type(self.before.network).__name__}, with the same arguments.",
            ) from error

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the accuracy of both models."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        if trainer.fast_dev_run or not trainer.is_global_zero:  # type: ignore[attr-defined]
            return
        assert isinstance(pl_module, DigitClassifier)
        assert isinstance(data, OwnDigitsDataModule)
        after = deepcopy(self.before)
        after.network.load_state_dict(pl_module.network.state_dict())
        sets: dict[str, Dataset[Batch]] = {"own digits, held out": data.own_val_set}
        if data.has_validation:
            sets["MNIST, validation"] = data.val_set
        scores = {
            name: (accuracy(self.before, images), accuracy(after, images))
            for name, images in sets.items()
        }
        print("\n".join(["", table(scores, ("before", "after")), *warnings(scores), ""]))


def warnings(scores: Mapping[str, tuple[Accuracy, Accuracy]]) -> list[str]:
    """Say what the figures do not tell, and what has been lost.

    Args:
        scores: Accuracy before and after, on own digits and on MNIST.
    """
    lines = []
    for name, (before, after) in scores.items():
        if name.startswith("own") and after.n < FEW:
            lines.append(
                f"Note: {after.n} held-out digits tell little: collect {FEW} or more "
                f"({5 * FEW} in all) to see what was gained."
            )
        lost = before.share - after.share
        if name.startswith("MNIST") and lost > MOST_LOST:
            lines.append(
                f"Warning: MNIST lost {100 * lost:.2f} points. Train for fewer epochs, or with a "
                "smaller --data.own_share."
            )
    return lines
