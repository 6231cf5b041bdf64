"""What a training prints and logs of its progress."""

import sys
import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Timer
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from mnist_lit.data import Batch


class Throughput(Callback):
    """Logs the images trained on per second, on all devices, over each epoch's steps."""

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._images = 0
        self._start = time.monotonic()

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
    ) -> None:
        self._images += len(batch[1])
        self._end = time.monotonic()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        rate = self._images * trainer.world_size / (self._end - self._start)
        pl_module.log("train/images_per_second", rate)


class GradientNorm(Callback):
    """Logs the norm of the gradients before they are clipped, as often as the training loss."""

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._unlogged: torch.Tensor | None = None

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        interval: int = trainer.log_every_n_steps  # type: ignore[attr-defined]  # set late
        is_logged = interval > 0 and (trainer.global_step + 1) % interval == 0
        if not (is_logged or trainer.is_last_batch):
            return
        gradients = [each.grad for each in pl_module.parameters() if each.grad is not None]
        # With 16-mixed a fused optimizer unscales them only in its step.
        scaler = trainer.scaler if optimizer.defaults.get("fused") else None
        norm = get_total_norm(gradients) / (scaler.get_scale() if scaler else 1.0)
        self._unlogged = None if is_logged else norm
        if is_logged:
            pl_module.log("train/gradient_norm", norm)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._unlogged is not None:
            pl_module.log("train/gradient_norm", self._unlogged)


class EpochLines(Callback):
    """Prints a line an epoch, above the progress bar where there is one."""

    FIGURES = ("train/loss_epoch", "train/accuracy_epoch", "val/loss", "val/accuracy")

    def __init__(self) -> None:
        self._epoch = 0
        self._start = 0.0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._print_finished(trainer, pl_module)
        self._epoch = trainer.current_epoch + 1
        self._validated = False
        self._start = time.monotonic()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._validated = True

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._print_finished(trainer, pl_module)
        if trainer.global_step == trainer.max_steps:
            pl_module.print(f"Stopped by max_steps {trainer.max_steps}")
        for callback in trainer.callbacks:  # type: ignore[attr-defined]  # set late
            remaining = callback.time_remaining() if isinstance(callback, Timer) else None
            if remaining is not None and remaining <= 0:
                limit = timedelta(seconds=round(callback.time_elapsed() + remaining))
                pl_module.print(f"Stopped by max_time {limit}")
        for callback in trainer.early_stopping_callbacks:
            if callback.stopping_reason_message:
                why = " ".join(callback.stopping_reason_message.split())
                pl_module.print(f"Stopped early: {why}")

    def _print_finished(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self._epoch:
            return
        figures = trainer.callback_metrics
        parts = [
            f"{name.removesuffix('_epoch')} {figures[name]:.4f}"
            for name in self.FIGURES
            if name in figures and (self._validated or not name.startswith("val"))
        ]
        seconds = f"{time.monotonic() - self._start:.1f} s"
        pl_module.print("  ".join([f"epoch {self._epoch}/{trainer.max_epochs}", *parts, seconds]))
        sys.stdout.flush()


class BusyProcessor(Callback):
    """Says once if an epoch's threads waited long for a processor that other programs use."""

    SHARE = 0.25  # of an epoch; alone on a machine it is below 0.02
    LEAST = 5.0  # seconds

    def __init__(self) -> None:
        self._said = False

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._start = time.monotonic()
        self._waited = waited_for_processor()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        waited = waited_for_processor() - self._waited
        if self._said or waited < max(self.LEAST, self.SHARE * (time.monotonic() - self._start)):
            return
        self._said = True
        advice = "; OMP_NUM_THREADS=1 may be faster" if torch.get_num_threads() > 1 else ""
        pl_module.print(
            f"Epoch {trainer.current_epoch + 1} waited {waited:.0f} s for a processor, which other "
            f"programs are using{advice}"
        )


def waited_for_processor() -> float:
    """Sum the seconds that this process's threads were ready to run and had no processor.

    From Linux's scheduler statistics; 0 where there are none.
    """
    nanoseconds = 0
    for path in Path("/proc/self/task").glob("*/schedstat"):
        with suppress(OSError, ValueError, IndexError):  # a thread that has just ended
            nanoseconds += int(path.read_text().split()[1])
    return nanoseconds / 1e9
