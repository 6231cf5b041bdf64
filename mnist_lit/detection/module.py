"""DigitDetector: the network with its loss, metric and optimizer, as a LightningModule."""

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.optim.lr_scheduler import OneCycleLR

from mnist_lit.checkpoints import CheckpointModule
from mnist_lit.detection.average_precision import AveragePrecision
from mnist_lit.detection.boxes import Detections, detect
from mnist_lit.detection.data import PageBatch
from mnist_lit.detection.loss import detection_loss
from mnist_lit.detection.network import DetectionNetwork, Maps
from mnist_lit.errors import InputError


class DigitDetector(CheckpointModule):
    """Trains and evaluates a network that finds digits on pages.

    AdamW with one cycle of the learning rate (Smith and Topin, "Super-convergence", 2018).

    Args:
        max_lr: The highest learning rate.
        weight_decay: Of AdamW.
        warmup: In (0, 1): share of the training in which the learning rate rises.
    """

    def __init__(
        self, max_lr: float = 0.002, weight_decay: float = 0.02, warmup: float = 0.1
    ) -> None:
        super().__init__()
        self.record_hyperparameters(**locals())
        self.network = DetectionNetwork().to(memory_format=torch.channels_last)
        self.average_precision = AveragePrecision()

    def forward(self, images: Tensor) -> Maps:
        """Compute the maps of ``float32 (n, 1, h, w)`` pictures in [0, 1]."""
        maps: Maps = self.network(images)
        return maps

    def on_train_start(self) -> None:
        """Refuse to resume a training of another length, for which the schedule has no steps.

        Raises:
            InputError: If its number of steps differs from the checkpoint's.
        """
        then = self.lr_schedulers().state_dict()["total_steps"]  # type: ignore[union-attr]
        if then != (now := int(self.trainer.estimated_stepping_batches)):
            raise InputError(
                f"The training has {then} steps in the checkpoint and {now} by your options.",
                "Give the options that its training has begun with.",
            )

    def training_step(self, batch: PageBatch, batch_idx: int) -> Tensor:
        parts = detection_loss(self(scaled(batch.images)), batch.targets)
        self.log_dict({f"train/{name}": part for name, part in parts.items()}, prog_bar=True)
        return parts["loss"]

    def validation_step(self, batch: PageBatch, batch_idx: int) -> dict[str, list[Detections]]:
        """Evaluate a batch; return what was found, by the name ``found``."""
        return self._evaluate("val", batch)

    def test_step(self, batch: PageBatch, batch_idx: int) -> dict[str, list[Detections]]:
        """Evaluate a batch, likewise."""
        return self._evaluate("test", batch)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        hparams = self.hparams
        optimizer = torch.optim.AdamW(
            self.parameters(), lr=hparams["max_lr"], weight_decay=hparams["weight_decay"]
        )
        steps = self.trainer.estimated_stepping_batches
        if steps == float("inf"):
            raise InputError(
                "The learning rate's schedule needs the length of the training.",
                "Set trainer.max_epochs.",
            )
        schedule = OneCycleLR(
            optimizer, hparams["max_lr"], total_steps=int(steps), pct_start=hparams["warmup"]
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def _evaluate(self, split: str, batch: PageBatch) -> dict[str, list[Detections]]:
        maps = self(scaled(batch.images))
        n = len(batch.images)
        loss = detection_loss(maps, batch.targets)["loss"]
        self.log(f"{split}/loss", loss, batch_size=n, sync_dist=True)
        found = detect(maps)
        for each, boxes, ignored in zip(found, batch.boxes, batch.ignored, strict=True):
            self.average_precision.update(each, boxes, ignored)
        self.log(f"{split}/average_precision", self.average_precision, batch_size=n, prog_bar=True)
        return {"found": found}


def scaled(images: Tensor) -> Tensor:
    """Scale ``uint8 (n, 1, h, w)`` to ``float32`` in [0, 1]."""
    return images.float().div_(255)
