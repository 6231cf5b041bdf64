"""Resume a run: with its settings, from the start of an epoch, with the same randomness."""

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from mnist_lit.errors import InputError
from mnist_lit.module import SCHEDULE_LENGTHS, DigitClassifier
from mnist_lit.training.restoring import verify_optimizer_states

# A resumed run keeps its settings, except those that do not affect what it learns.
BOUND_WHEN_RESUMED = ("model.", "data.", "seed_everything", "name")
FREE_WHEN_RESUMED = (
    *("data.data_dir", "data.download", "data.eval_batch_size", "data.num_workers", "data.own_dir"),
)

COUNTS = ("ready", "started", "processed", "completed")  # of Lightning's progress of epochs


class EpochSeed(Callback):
    """Seeds every epoch from (seed, epoch, rank), so that a resumed run repeats the same one.

    Seeds torch, and NumPy and Python, which an augmentation may use.
    """

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._seed = trainer.strategy.broadcast(torch.initial_seed())

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        key = [self._seed, trainer.current_epoch, trainer.global_rank]
        entropy = np.random.SeedSequence(key).generate_state(4, np.uint64)
        for_torch, for_python, *for_numpy = entropy.tolist()
        torch.manual_seed(for_torch)
        random.seed(for_python)
        np.random.seed(np.array(for_numpy, np.uint64).view(np.uint32))


class ResumeAtEpochStart(Callback):
    """Resumes at the start of an epoch, and prints which one.

    An epoch that max_steps or max_time has ended starts again with the weights saved. A checkpoint
    saved within an epoch cannot be resumed.

    Raises:
        InputError: If the checkpoint was saved within an epoch, or if an epoch has to start again
            for which a schedule that advances every step has no steps left.
    """

    def __init__(self) -> None:
        self._completed: int | None = None  # epochs of the checkpoint
        self._val_loss: float | None = None  # after them

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if "val/loss" in trainer.callback_metrics:
            checkpoint["val_loss"] = float(trainer.callback_metrics["val/loss"])

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        loop = checkpoint["loops"]["fit_loop"]
        epochs = loop["epoch_progress"]["current"]
        if not epochs["ready"]:  # saved and restored by a tuner before the first epoch
            return
        if epochs["processed"] < epochs["ready"]:
            raise _within_epoch(
                f"{trainer.ckpt_path} was saved in the middle of epoch {epochs['ready']}."
            )
        cut_short = not loop["epoch_loop.batch_progress"]["is_last_batch"]
        assert isinstance(pl_module, DigitClassifier)
        lengths = {"total_steps", "T_max"} & {key for s in checkpoint["lr_schedulers"] for key in s}
        if cut_short and pl_module.scheduler_interval == "step" and lengths:
            raise _within_epoch(
                f"{trainer.ckpt_path} was saved in the middle of an epoch, "
                "and its schedule has no steps left to repeat that epoch."
            )
        self._completed = completed_epochs(checkpoint)
        epochs["processed"] = self._completed  # or Lightning would not repeat the last epoch
        if not cut_short and isinstance(checkpoint.get("val_loss"), float):
            self._val_loss = checkpoint["val_loss"]
        why = ", which the checkpoint had not completed" if cut_short else ""
        pl_module.print(f"Resuming at the start of epoch {self._completed + 1}{why}")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._completed is None:
            return
        # The resumed epoch starts like any other. Lightning would use an iterator from before it
        # has restored the epoch (its issue 21938) and, with max_steps, skip hooks (issue 19617).
        counts = dict.fromkeys(COUNTS, self._completed)
        trainer.fit_loop.epoch_progress.load_state_dict({"total": counts, "current": counts})
        trainer.fit_loop.on_iteration_done()
        trainer.fit_loop.epoch_loop.restarting = False
        verify_optimizer_states(trainer)
        # Lightning saves before a ReduceLROnPlateau takes its step at the end of an epoch.
        if self._val_loss is not None:
            for config in trainer.lr_scheduler_configs:
                if config.interval == "epoch" and isinstance(config.scheduler, ReduceLROnPlateau):
                    config.scheduler.step(self._val_loss)


def completed_epochs(checkpoint: dict[str, Any]) -> int:
    """Return the number of completed epochs; max_steps or max_time may have cut one short."""
    loop = checkpoint["loops"]["fit_loop"]
    cut_short = not loop["epoch_loop.batch_progress"]["is_last_batch"]
    processed: int = loop["epoch_progress"]["current"]["processed"]
    return processed - cut_short


def _within_epoch(what: str) -> InputError:
    return InputError(
        what, "Resume from a checkpoint saved at the end of an epoch, such as last.ckpt."
    )


def bound_settings(model: dict[str, Any]) -> tuple[str, ...]:
    """Return the prefixes of the settings that a resumed run cannot change.

    Args:
        model: The model's arguments, as primitives. With a schedule that spans the whole training,
            its length cannot change either.
    """
    scheduler = (model.get("scheduler") or {}).get("init_args", {})
    fitted = any(scheduler.get(name, 0) in (None, -1) for name in SCHEDULE_LENGTHS)
    return (*BOUND_WHEN_RESUMED, *(("trainer.max_",) if fitted else ()))


def changes(
    then: dict[str, Any], now: dict[str, Any], prefix: str = ""
) -> Iterator[tuple[str, Any, Any]]:
    """Yield key, old value and new value of each setting in both that has changed."""
    for key in then.keys() & now.keys():
        if isinstance(then[key], dict) and isinstance(now[key], dict):
            yield from changes(then[key], now[key], f"{prefix}{key}.")
        elif then[key] != now[key]:
            yield prefix + key, then[key], now[key]
