"""Predict the test images, or the digits in a folder of images, and write a table."""

import csv
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor
from torch.utils.data import DataLoader

from mnist_lit.data import Batch, DigitDataset
from mnist_lit.errors import InputError
from mnist_lit.files import atomic_write, new_file
from mnist_lit.own_digits.data import OwnDigitsDataModule
from mnist_lit.reading.folder import Place, folder_glyphs

POSITION = ("file", "line", "left", "top", "right", "bottom")  # of a digit in a folder of images

UNLABELLED = -100  # the label that torch's cross-entropy ignores


class PredictDataModule(OwnDigitsDataModule):
    """OwnDigitsDataModule that can also predict the digits in a folder of images.

    Args:
        predict_dir: The folder; null for the test images. Unlike those of ``read``, the
            probabilities are not calibrated.
        kwargs: Arguments of OwnDigitsDataModule.
    """

    def __init__(self, predict_dir: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.predict_dir = predict_dir
        self.places: list[Place] = []
        self.skipped = 0  # images that cannot be read

    def setup(self, stage: str) -> None:
        """Load the images to predict.

        Raises:
            InputError: If there are fewer digits than processes, or none.
        """
        if not self.predict_dir:
            super().setup(stage)
            return
        found = folder_glyphs(Path(self.predict_dir))
        for line in found.messages:
            rank_zero_only(print)(line, file=sys.stderr)
        images, self.places = torch.from_numpy(found.images), found.places
        self.skipped = found.skipped
        processes, _ = self._world()
        if len(images) < processes:
            raise InputError(
                f"There are fewer digits than processes: {len(images)} for {processes}.",
                "Use one process: --trainer.devices 1",
            )
        self.predict_set = DigitDataset(images, torch.full((len(images),), UNLABELLED))

    def predict_dataloader(self) -> DataLoader[Batch]:
        """The digits in ``predict_dir``, or the test images."""
        return self._eval_loader(self.predict_set if self.predict_dir else self.test_set)


class Predictions(BasePredictionWriter):
    """Writes ``predictions.csv``: index, label, prediction, probability and loss of each image.

    Digits from a folder have no label: their file, line and box take the place of index, label
    and loss.

    Args:
        directory: Returns the directory of the file. An existing file is not replaced: the new
            one gets a number.
    """

    def __init__(self, directory: Callable[[], Path]) -> None:
        super().__init__(write_interval="epoch")
        self.directory = directory

    def write_on_epoch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        predictions: Sequence[dict[str, Tensor]],
        batch_indices: Sequence[Sequence[Sequence[int]]],
    ) -> None:
        """Gather the rows of all processes and write them in the order of the images."""
        indices = [index for batch in batch_indices[0] for index in batch]
        columns = {
            name: torch.cat([p[name] for p in predictions]).tolist() for name in predictions[0]
        }
        rows = list(zip(indices, *columns.values(), strict=True))
        if torch.distributed.is_initialized():
            parts: list[list[Any]] = [[] for _ in range(trainer.world_size)]
            torch.distributed.all_gather_object(parts, rows)
            rows = [row for part in parts for row in part]
        if not trainer.is_global_zero:
            return
        rows.sort()
        if places := getattr(trainer.datamodule, "places", None):  # type: ignore[attr-defined]
            heading = [*POSITION, "prediction", "probability"]
            rows = [(*places[index], *result) for index, _, *result, _ in rows]
            counts = f"{len(rows):,} digits, {len({file for file, *_ in places}):,} images"
        else:
            heading = ["index", *columns]
            wrong = sum(label != prediction for _, label, prediction, *_ in rows)
            counts = f"{len(rows):,} images, {wrong:,} errors"
        path = new_file(self.directory() / "predictions.csv")
        with atomic_write(path) as partial, partial.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(heading)
            writer.writerows(rows)
        pl_module.print(f"Predictions: {path} ({counts})")
