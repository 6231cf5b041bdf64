"""Resuming a run: with its own settings, from the start of an epoch, and with its randomness."""

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loops.loop import _Loop

from mnist_lit.errors import InputError
from mnist_lit.module import SCHEDULE_LENGTHS, DigitClassifier
from mnist_lit.training.restoring import verify_optimizer_states

# A resumed run has the settings it was begun with, but for those that change nothing of what it
# learns.
BOUND_WHEN_RESUMED = ("model.", "data.", "seed_everything", "name")
FREE_WHEN_RESUMED = ("data.data_dir", "data.eval_batch_size", "data.num_workers")
ENDS = ("trainer.max_", "trainer.min_", "trainer.callbacks")  # settings by which a training ends


class EpochSeed(Callback):
    """Makes an epoch's randomness a function of seed, epoch and rank, whether resumed or not.

    That of torch, and of NumPy and Python, which an augmentation may use.
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


class WholeEpochs(Callback):
    """Lets a resumed run go on with the start of an epoch, and says with which.

    An epoch that the checkpoint has only a part of is run again, with the weights as they are.

    Raises:
        InputError: If a schedule that advances by the step would outlive its own length by that.
    """

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        loop = checkpoint["loops"]["fit_loop"]
        progress = loop["epoch_progress"]
        if not progress["current"]["ready"]:  # saved and restored by a tuner before the first epoch
            return
        part = not loop["epoch_loop.batch_progress"]["is_last_batch"]
        assert isinstance(pl_module, DigitClassifier)
        lengths = {"total_steps", "T_max"} & {key for s in checkpoint["lr_schedulers"] for key in s}
        if part and pl_module.scheduler_interval == "step" and lengths:
            raise InputError(
                f"{trainer.ckpt_path} was saved within an epoch, "
                "and its schedule has no steps left to repeat the start of it.",
                "Resume from a checkpoint saved at the end of an epoch, such as last.ckpt.",
            )
        finished = progress["current"]["ready"] - part
        for counts in progress.values():
            counts.update(dict.fromkeys(counts, finished))
        loop["epoch_loop.state_dict"]["_batches_that_stepped"] = checkpoint["global_step"]
        why = ", as the checkpoint lies in the middle of it" if part else ""
        pl_module.print(f"Goes on with the start of epoch {finished + 1}{why}")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # With max_steps Lightning always means to go on in the middle of an epoch.
        _Loop.restarting.fset(trainer.fit_loop, False)  # type: ignore[attr-defined]
        trainer.fit_loop.reset_restart_stage()
        verify_optimizer_states(trainer)


def bound_settings(model: dict[str, Any]) -> tuple[str, ...]:
    """The beginnings of the settings that a resumed run cannot change.

    Args:
        model: Its arguments, in primitives. A schedule made for the length of the training cannot
            be stretched halfway.
    """
    scheduler = (model.get("scheduler") or {}).get("init_args", {})
    fitted = any(scheduler.get(name, 0) in (None, -1) for name in SCHEDULE_LENGTHS)
    return (*BOUND_WHEN_RESUMED, *(("trainer.max_",) if fitted else ()))


def changes(
    then: dict[str, Any], now: dict[str, Any], prefix: str = ""
) -> Iterator[tuple[str, Any, Any]]:
    """Give key, value then and value now of each setting that both have and that has changed."""
    for key in then.keys() & now.keys():
        if isinstance(then[key], dict) and isinstance(now[key], dict):
            yield from changes(then[key], now[key], f"{prefix}{key}.")
        elif then[key] != now[key]:
            yield prefix + key, then[key], now[key]
