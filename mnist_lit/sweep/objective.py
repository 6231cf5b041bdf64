"""The objective: an ordinary ``fit`` in this process, scored by its lowest validation loss."""

import io
import os
import socket
from contextlib import redirect_stderr, redirect_stdout
from math import isfinite

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from optuna import TrialPruned
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import Trial

from mnist_lit.errors import InputError
from mnist_lit.sweep.search_space import override, suggest
from mnist_lit.sweep.settings import settings_of
from mnist_lit.sweep.study import DATABASE_ERRORS, DONE, Study, first_line
from mnist_lit.training import command
from mnist_lit.training.run_record import RunEndedError


class DivergedError(Exception):
    """A validation loss is not finite."""


class PrunedError(TrialPruned, RunEndedError):
    """The pruner ends the trial, and with it the run."""


class FailedError(Exception):
    """The trial failed; the sweep decides what follows."""


class ReportLosses(Callback):
    """Report a run to its trial; end it when pruned, at an epoch's start, with all its files."""

    def __init__(self, trial: Trial) -> None:
        self.trial = trial
        self.losses: list[float] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.trial.set_user_attr("run", os.path.relpath(str(trainer.log_dir)))
        self.trial.set_user_attr("host", socket.gethostname())

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            loss = float(trainer.callback_metrics["val/loss"])
            self.trial.report(loss, len(self.losses))
            self.losses.append(loss)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.losses:
            self.best()
            if self.trial.should_prune():
                raise PrunedError

    def best(self) -> float:
        """The lowest validation loss, in nats; raises DivergedError if any is not finite."""
        if not self.losses:
            what = "A run ended before its first validation."
            raise InputError(what, "Train longer, or validate more often.")
        for number, loss in enumerate(self.losses, start=1):
            if not isfinite(loss):
                raise DivergedError(f"diverged: val/loss {loss} in validation {number}")
        return min(self.losses)


class Objective:
    """What Optuna optimizes: draws the parameters of a trial and trains with them.

    Args:
        study: The study that the trials belong to.
        fit: The options of ``fit`` for all trials.

    Attributes:
        error: What has to end the worker after the last trial, if anything.
        reassigned: Whether the last trial was given to another worker meanwhile.
    """

    def __init__(self, study: Study, fit: list[str]) -> None:
        self.study, self.fit = study, fit
        self.error: BaseException | None = None
        self.reassigned = False

    def __call__(self, trial: Trial) -> float:
        """Train, and return the lowest validation loss, in nats."""
        self.reassigned = False
        args = [*self.fit, f"--name={self.study.name}"]
        try:
            params = suggest(trial, self.study.plan.space)
            if not self.study.needs(trial.number):
                trial.set_user_attr("discarded", True)
                raise FailedError
            args += [override(key, params[key]) for key in self.study.plan.space]
            loss = train(trial, args)
            trial.set_user_attr("trained", True)  # raises if the trial was reassigned
        except (TrialPruned, FailedError):
            raise
        except BaseException as error:
            try:
                self._record(trial, args, error)
            except UpdateFinishedTrialError:
                self.reassigned = True
            raise FailedError from error
        finally:
            torch.cuda.empty_cache()
        return loss

    def _record(self, trial: Trial, args: list[str], error: BaseException) -> None:
        """Record why a trial failed, or queue it again; set what ends the worker."""
        if isinstance(error, UpdateFinishedTrialError):
            raise error
        external = isinstance(error.__cause__ or error, (OSError, *DATABASE_ERRORS))
        if external or not isinstance(error, Exception):  # a full disk, or a signal
            self.error = error
            trial.set_user_attr("discarded", True)
            self.study.enqueue(trial.params)
        elif isinstance(error, InputError) and not self.study.counted(*DONE) and _is_valid(args):
            self.error = error  # every trial would fail: the user has to change the command
            trial.set_user_attr("discarded", True)
        else:
            if isinstance(error, torch.AcceleratorError):
                self.error = InputError(
                    f"The accelerator has failed since trial {trial.number}: {first_line(error)}",
                    "To resume the study in a new process, run the same command again.",
                )
            trial.set_user_attr("reason", _reason(error))


def train(trial: Trial, args: list[str]) -> float:
    """Run ``fit`` without output, report to the trial, and return the lowest validation loss."""
    report = ReportLosses(trial)
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        command.main(["fit", *args], [report])
    return report.best()


def _is_valid(args: list[str]) -> bool:
    """Whether the parameters of a trial can be combined; if so, an error is in what all share."""
    try:
        settings_of(args)
    except InputError:
        return False
    return True


def _reason(error: Exception) -> str:
    own = isinstance(error, InputError | DivergedError)
    text = first_line(error) if own else f"{type(error).__name__}: {first_line(error)}"
    return text[:200]
