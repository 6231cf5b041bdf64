"""Callbacks for ``fit``: ``--trainer.callbacks+=benchmarks.clocks.NAME``."""

import os
import time
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer


class EpochClock(Callback):
    """Times the latest epoch of training, from its start to the end of its last batch."""

    seconds = float("nan")  # of the class: the command line makes the instance

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.start = time.perf_counter()

    def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
        EpochClock.seconds = time.perf_counter() - self.start


class DeviceEpochs(Callback):
    """Prints the seconds of each epoch, the device's work included, and the device's peak memory.

    An epoch lasts from its start to the end of its last batch, as in :class:`EpochClock`.
    """

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.start = self._now()

    def on_train_batch_end(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        if trainer.is_last_batch:
            print(f"epoch took {self._now() - self.start} s", flush=True)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if torch.cuda.is_available():
            print(f"device peak {torch.cuda.max_memory_reserved() / 1e6} MB", flush=True)

    def _now(self) -> float:
        if torch.cuda.is_available():
            torch.cuda.synchronize()  # kernels run on while Python is ahead of them
        return time.perf_counter()


class FirstStep(Callback):
    """Prints the time after the first step of the optimizer, and ends the process there."""

    def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
        print(f"first step ended at {time.time()}", flush=True)
        os._exit(0)
