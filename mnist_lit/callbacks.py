"""What a run writes besides scalars: its configuration, its progress, results and predictions."""

import csv
import hashlib
import json
import math
import platform
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import yaml
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import (
    BasePredictionWriter,
    LearningRateMonitor,
    ModelCheckpoint,
)
from torch import Tensor

from mnist_lit.module import DigitClassifier
from mnist_lit.runs import run_of, whole

PACKAGES = ("mnist-lit", "torch", "torchvision", "lightning", "torchmetrics")


def fit_callbacks(
    config: dict[str, Any], *, logs: bool, checkpoints: bool, validates: bool
) -> list[Callback]:
    """The callbacks that every ``fit`` has, whatever its configuration adds.

    Args:
        config: All settings of the run, in primitives.
        logs: Whether there are loggers.
        checkpoints: Whether checkpoints are kept: the last, after every epoch, and the best.
        validates: Whether there is a validation loss, which the best checkpoint needs.
    """
    callbacks: list[Callback] = [RunRecord(config), EpochLines()]
    if logs:
        callbacks.append(LearningRateMonitor("step"))
    if checkpoints and validates:
        best = ModelCheckpoint(monitor="val/loss", filename="best", enable_version_counter=False)
        callbacks.append(best)
    if checkpoints:
        last = ModelCheckpoint(
            filename="last", save_on_train_epoch_end=True, enable_version_counter=False
        )
        callbacks.append(last)
    return callbacks


class RunRecord(Callback):
    """Keeps the resolved configuration, in the run's directory and in its checkpoints.

    Args:
        config: All settings of the run, in primitives.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        log_dir = trainer.log_dir  # all ranks have to ask
        if trainer.is_global_zero and trainer.loggers and log_dir:
            with whole(Path(log_dir, "config.yaml")) as path:
                path.write_text(yaml.safe_dump(self.config, sort_keys=False))

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        checkpoint["config"] = self.config


class EpochLines(Callback):
    """Prints a line an epoch, above the progress bar where there is one."""

    FIGURES = ("train/loss_epoch", "train/accuracy_epoch", "val/loss", "val/accuracy")

    def __init__(self) -> None:
        self._epoch = 0
        self._start = 0.0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._print_finished(trainer, pl_module)
        self._epoch = trainer.current_epoch + 1
        self._start = time.monotonic()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._print_finished(trainer, pl_module)

    def _print_finished(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self._epoch:
            return
        figures = trainer.callback_metrics
        parts = [
            f"{name.removesuffix('_epoch')} {figures[name]:.4f}"
            for name in self.FIGURES
            if name in figures
        ]
        seconds = f"{time.monotonic() - self._start:.1f} s"
        pl_module.print("  ".join([f"epoch {self._epoch}/{trainer.max_epochs}", *parts, seconds]))
        sys.stdout.flush()


class Results(Callback):
    """Prints what ``validate`` and ``test`` found; ``test`` also writes ``test.json``.

    Args:
        checkpoint: The file whose weights are judged.
    """

    def __init__(self, checkpoint: Path) -> None:
        self.checkpoint = checkpoint

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        results = self._results(trainer, pl_module, "val")
        pl_module.print(results_table(results))

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        results = self._results(trainer, pl_module, "test")
        pl_module.print(results_table(results))
        path = run_of(self.checkpoint) / "test.json"
        if trainer.is_global_zero:
            with whole(path) as partial:
                partial.write_text(json.dumps(results, indent=2) + "\n")
        pl_module.print(f"Results: {path}")

    def _results(self, trainer: Trainer, pl_module: LightningModule, split: str) -> dict[str, Any]:
        assert isinstance(pl_module, DigitClassifier)
        counts = pl_module.confusion.compute().double()  # (10, 10)
        images, correct = int(counts.sum()), int(counts.trace())
        by_digit = (counts.diag() / counts.sum(dim=1)).tolist()
        with self.checkpoint.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return {
            "images": images,
            "errors": images - correct,
            "accuracy": correct / images,
            "loss": trainer.callback_metrics[f"{split}/loss"].item(),
            "accuracy_by_digit": [None if math.isnan(share) else share for share in by_digit],
            "checkpoint": str(self.checkpoint),
            "sha256": sha256,
            "versions": {"python": platform.python_version()}
            | {package: version(package) for package in PACKAGES},
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
        }


def results_table(results: dict[str, Any]) -> str:
    """Lay out the results of a test: images, errors, accuracy, loss and accuracy by digit.

    Args:
        results: As in ``test.json``; accuracies in [0, 1], ``None`` for a digit without images.
    """
    shares = results["accuracy_by_digit"]
    cells = ["     -" if share is None else f"{share:6.1%}" for share in shares]
    return "\n".join(
        [
            f"images      {results['images']:,}",
            f"errors      {results['errors']:,}",
            f"accuracy    {results['accuracy']:.2%}",
            f"loss        {results['loss']:.4f}",
            "digit       " + "  ".join(f"{digit:6}" for digit in range(10)),
            "accuracy    " + "  ".join(cells),
        ]
    )


class Predictions(BasePredictionWriter):
    """Writes ``predictions.csv``: index, label, prediction, probability and loss of each image.

    Args:
        path: The file to write.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(write_interval="epoch")
        self.path = path

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
        with whole(self.path) as partial, partial.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["index", *columns])
            writer.writerows(sorted(rows))
        wrong = sum(label != prediction for _, label, prediction, *_ in rows)
        pl_module.print(f"{len(rows):,} predictions, {wrong:,} of them wrong: {self.path}")
