"""Resume a run: with its settings, from the start of an epoch, with the same randomness."""

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

# A resumed run keeps its settings, except those that do not affect what it learns.
BOUND_WHEN_RESUMED = ("model.", "data.", "seed_everything", "name")
FREE_WHEN_RESUMED = (
    *("data.data_dir", "data.download", "data.eval_batch_size", "data.num_workers"),
)


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

    An epoch that the checkpoint had not completed starts again with the weights saved.

    Raises:
        InputError: If a schedule that advances every step has no steps left for that.
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
                f"{trainer.ckpt_path} was saved in the middle of an epoch, "
                "and its schedule has no steps left to repeat that epoch.",
                "Resume from a checkpoint saved at the end of an epoch, such as last.ckpt.",
            )
        finished = progress["current"]["ready"] - part
        for counts in progress.values():
            counts.update(dict.fromkeys(counts, finished))
        loop["epoch_loop.state_dict"]["_batches_that_stepped"] = checkpoint["global_step"]
        why = ", which the checkpoint had not completed" if part else ""
        pl_module.print(f"Resuming at the start of epoch {finished + 1}{why}")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # With max_steps Lightning assumes that every run resumes in the middle of an epoch.
        _Loop.restarting.fset(trainer.fit_loop, False)  # type: ignore[attr-defined]
        trainer.fit_loop.reset_restart_stage()
        verify_optimizer_states(trainer)


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
