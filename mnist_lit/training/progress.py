"""Training progress: epoch summaries, throughput, gradient norm, CPU contention."""

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
    """Logs training images per second, over all devices and the steps of each epoch."""

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
    """Logs the gradient norm before clipping, as often as the training loss."""

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
        # With 16-mixed, a fused optimizer unscales the gradients only in its step.
        scaler = trainer.scaler if optimizer.defaults.get("fused") else None
        norm = get_total_norm(gradients) / (scaler.get_scale() if scaler else 1.0)
        self._unlogged = None if is_logged else norm
        if is_logged:
            pl_module.log("train/gradient_norm", norm)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._unlogged is not None:
            pl_module.log("train/gradient_norm", self._unlogged)


class EpochLines(Callback):
    """Prints one line per epoch, above the progress bar if there is one."""

    METRICS = ("train/loss_epoch", "train/accuracy_epoch", "val/loss", "val/accuracy")

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
        metrics = trainer.callback_metrics
        parts = [
            f"{name.removesuffix('_epoch')} {metrics[name]:.4f}"
            for name in self.METRICS
            if name in metrics and (self._validated or not name.startswith("val"))
        ]
        seconds = f"{time.monotonic() - self._start:.1f} s"
        pl_module.print("  ".join([f"epoch {self._epoch}/{trainer.max_epochs}", *parts, seconds]))
        sys.stdout.flush()


class CPUContention(Callback):
    """Reports once if the threads of an epoch waited long for a CPU used by other programs."""

    MIN_SHARE = 0.25  # of an epoch; on an idle machine it is below 0.02
    MIN_SECONDS = 5.0

    def __init__(self) -> None:
        self._reported = False

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._start = time.monotonic()
        self._waited = cpu_wait_seconds()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        waited = cpu_wait_seconds() - self._waited
        if self._reported or waited < max(
            self.MIN_SECONDS, self.MIN_SHARE * (time.monotonic() - self._start)
        ):
            return
        self._reported = True
        advice = "; OMP_NUM_THREADS=1 may be faster" if torch.get_num_threads() > 1 else ""
        pl_module.print(
            f"Epoch {trainer.current_epoch + 1} waited {waited:.0f} s for a CPU that "
            f"other programs were using{advice}"
        )


def cpu_wait_seconds() -> float:
    """Return the total seconds that this process's threads were runnable but had no CPU.

    From Linux's scheduler statistics; 0 where these are not available.
    """
    nanoseconds = 0
    for path in Path("/proc/self/task").glob("*/schedstat"):
        with suppress(OSError, ValueError, IndexError):  # a thread that has just ended
            nanoseconds += int(path.read_text().split()[1])
    return nanoseconds / 1e9
