"""Fit: train in a new run directory, or resume in that of a checkpoint."""

import os
import sys
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from mnist_lit.checkpoints import load_checkpoint
from mnist_lit.errors import InputError
from mnist_lit.module import DigitClassifier
from mnist_lit.runs import directories as runs
from mnist_lit.runs.files import was_deleted
from mnist_lit.training.environment import broken_connection
from mnist_lit.training.loggers import best_epoch, run_loggers
from mnist_lit.training.processes import PROGRAM, program
from mnist_lit.training.restoring import cannot_be_resumed, damage, verify_training_state
from mnist_lit.training.resuming import changes, completed_epochs
from mnist_lit.training.run_record import deleted_error, remove_unrecorded

# Settings by which a training ends.
STOPPING_SETTINGS = ("trainer.max_", "trainer.min_", "trainer.callbacks")


class Fit:
    """Trains in a new run directory, or resumes in that of a checkpoint.

    Args:
        trainer: Complete but for its loggers.
        settings: All settings of the run, as primitives.
        log_dir: Directory of the runs.
        loggers: Creates the loggers of the configuration, given the directory of the run, or None
            except on rank 0. None for a run without directory and loggers.
        tensorboard: Whether the run has a TensorBoard logger of its own.
        checkpoint: The file to resume from, and its contents.
    """

    def __init__(
        self,
        trainer: Trainer,
        settings: dict[str, Any],
        log_dir: Path,
        *,
        loggers: Callable[[Path | None], list[Logger]] | None,
        tensorboard: bool,
        checkpoint: tuple[Path, dict[str, Any]] | None,
    ) -> None:
        self.trainer = trainer
        self.settings = settings
        self.log_dir = log_dir
        self.loggers = loggers
        self.tensorboard = tensorboard
        self.checkpoint: Path | None
        self.state: dict[str, Any]
        self.checkpoint, self.state = checkpoint or (None, {})
        self.run: Path | None = None  # on rank 0 only

    def __call__(self, model: DigitClassifier, datamodule: LightningDataModule) -> None:
        """Train, and print where the run and its checkpoints are."""
        with ExitStack() as until_end:
            self.run = self._resumed_run(until_end)
            if self.checkpoint:
                if self._finished():
                    return
                schedules = int(model.scheduler is not None)
                verify_training_state(self.state, self.checkpoint, schedules=schedules)
            if self.loggers:
                own = self._own_loggers(until_end)
                self.trainer.loggers = [*own, *self.loggers(self.run)]
            if self.trainer.is_global_zero:
                parameters = sum(parameter.numel() for parameter in model.network.parameters())
                print(
                    f"Run: {os.path.relpath(self.run) if self.run else 'not logged'}\n"
                    f"{type(model.network).__name__}, {parameters:,} parameters, on "
                    f"{self.trainer.strategy.root_device}, seed {self.settings['seed_everything']}"
                )
            self._train(model, datamodule)
        best = self._saved("best") or self._saved("last")
        if self.run and (line := best_epoch(self.run / "metrics.csv")):
            print(line)
        if self.trainer.is_global_zero and best:
            print(f"Checkpoint: {best}\nTo test: {PROGRAM} test --ckpt_path {best}")
            if self.run and self.tensorboard:
                print(f"To view: tensorboard --logdir {self.log_dir}")

    def _train(self, model: DigitClassifier, datamodule: LightningDataModule) -> None:
        try:
            self.trainer.fit(model, datamodule=datamodule, ckpt_path=self.checkpoint)
        except BaseException as error:
            if lost := broken_connection(error):  # on every rank: others may be gone
                raise InputError(lost, self._resume_hint().splitlines()[-1]) from error
            if self.checkpoint and (why := damage(error)):
                raise cannot_be_resumed(self.checkpoint, why) from error
            stopped = not isinstance(error, Exception)  # by a signal
            if self.run and not stopped and was_deleted(self.run):
                raise deleted_error(self.run) from error
            if self.trainer.is_global_zero and (stopped or self._saved("last")):
                print(self._resume_hint(), file=sys.stderr)
            raise

    def _resumed_run(self, until_end: ExitStack) -> Path | None:
        """Return the directory of the run to resume, locked by rank 0."""
        if not (self.checkpoint and self.loggers and self.trainer.is_global_zero):
            return None
        run = runs.resumable(self.checkpoint, self.state)
        if run:
            until_end.enter_context(runs.training_lock(run))
            self.state = load_checkpoint(self.checkpoint)  # it may have been replaced
        return run

    def _own_loggers(self, until_end: ExitStack) -> list[Logger]:
        run, step = self.log_dir / "of_rank_zero", 0  # nothing is written there
        if self.run:
            run, step = self.run, self.state["global_step"]
        elif self.trainer.is_global_zero:
            run = self.run = runs.new_run(self.log_dir, self.settings["name"])
            until_end.callback(remove_unrecorded, run)
            until_end.enter_context(runs.training_lock(run))
        return run_loggers(run, step, tensorboard=self.tensorboard)

    def _finished(self) -> bool:
        epochs, steps = self.state["epoch"] + 1, self.state["global_step"]
        with suppress(KeyError, TypeError):  # of damaged loops, about which resuming has an error
            epochs = completed_epochs(self.state)
        max_epochs, max_steps = self.trainer.max_epochs, self.trainer.max_steps
        if max_epochs in range(epochs + 1):
            limit, longer = f"max_epochs is {max_epochs}", f"--trainer.max_epochs {2 * epochs}"
        elif max_steps in range(steps + 1):
            limit, longer = f"max_steps is {max_steps}", f"--trainer.max_steps {2 * steps}"
        elif self.state.get("stopped_early") and not self._stops_otherwise():
            limit, longer = f"it stopped early, in epoch {epochs}", "--trainer.callbacks null"
            if self.settings["trainer"]["max_time"] and not self.trainer.early_stopping_callbacks:
                longer = "--trainer.max_time null"
        else:
            return False
        rank_zero_only(print)(
            f"This run is finished: {limit}.\n"
            f"To continue: {PROGRAM} fit --ckpt_path {self.checkpoint} {longer}"
        )
        return True

    def _stops_otherwise(self) -> bool:
        """Whether a setting that stops training differs from the checkpoint's."""
        changed = changes(self.state.get("config", {}), self.settings)
        return any(key.startswith(STOPPING_SETTINGS) for key, _, _ in changed)

    def _resume_hint(self) -> str:
        last = self._saved("last")
        try:
            epoch = load_checkpoint(last)["epoch"] + 1 if last else 0
        except InputError:  # removed or damaged
            last = None
        if not last and self.trainer.current_epoch:
            return "There is no checkpoint on this machine."  # rank 0 writes it
        if not last:
            return "No epoch was completed, so there is no checkpoint."
        return f"Saved: {last} (epoch {epoch})\nTo resume: {program()} fit --ckpt_path {last}"

    def _saved(self, name: str) -> Path | None:
        """Return the path of this run's checkpoint ``name`` if it exists."""
        for callback in self.trainer.checkpoint_callbacks:
            if isinstance(callback, ModelCheckpoint) and callback.filename == name:
                written = callback.best_model_path or "-"  # by spawned processes
                path = Path(callback.dirpath, f"{name}.ckpt") if callback.dirpath else Path(written)
                return Path(os.path.relpath(path)) if path.is_file() else None
        return None
