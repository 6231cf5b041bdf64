"""A worker: run trials, each an ordinary ``fit`` in this process, until the study is done."""

import io
import os
import socket
from contextlib import redirect_stderr, redirect_stdout
from math import isfinite, nan

import optuna
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from optuna import TrialPruned
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, Trial, TrialState

from mnist_lit.errors import InputError, first_line
from mnist_lit.sweep.plan import SamplerError, override
from mnist_lit.sweep.report import trial_line
from mnist_lit.sweep.settings import settings_of
from mnist_lit.sweep.study import DATABASE_ERRORS, DONE, Study, failure
from mnist_lit.training import command
from mnist_lit.training.run_record import RunEndedError


class DivergedError(Exception):
    """A validation loss is not finite."""


class PrunedError(TrialPruned, RunEndedError):
    """The pruner ends a trial and its run."""


class ReportLosses(Callback):
    """Report a run to its trial, and end it at the start of an epoch if the trial is pruned."""

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
    """The function that Optuna optimizes: draw the parameters of a trial and train with them.

    Args:
        study: The study that the trials belong to.
        fit: The options of ``fit`` for all trials.

    Attributes:
        error: What ends the worker after the last trial, if anything; an UpdateFinishedTrialError
            only says that the trial was meanwhile given to another worker.
    """

    def __init__(self, study: Study, fit: list[str]) -> None:
        self.study = study
        self.fit = [*fit, f"--name={study.name}"]
        self.error: BaseException | None = None

    def __call__(self, trial: Trial) -> float:
        """Train, and return the lowest validation loss, in nats; nan if the trial failed."""
        self.error = None
        args = self.fit
        try:
            params = self.study.plan.suggest(trial)
            if not self.study.needs(trial.number):
                trial.set_user_attr("reason", None)
                return nan
            args = [*args, *(override(key, params[key]) for key in self.study.plan.space)]
            loss = train(trial, args)
            trial.set_user_attr("trained", True)  # raises if the trial was reassigned
            return loss
        except TrialPruned:
            raise
        except BaseException as error:
            try:
                self.error = self._record(trial, args, error)
            except UpdateFinishedTrialError as reassigned:
                self.error = reassigned
                raise
            return nan
        finally:
            torch.cuda.empty_cache()

    def _record(self, trial: Trial, args: list[str], error: BaseException) -> BaseException | None:
        """Record why a trial failed, or that it does not count; return what ends the worker."""
        external = isinstance(error.__cause__ or error, (OSError, *DATABASE_ERRORS))
        sampler = isinstance(error, SamplerError)
        if external or sampler or not isinstance(error, Exception):  # a full disk, or a signal
            trial.set_user_attr("reason", None)
            self.study.enqueue(trial.params)
            return error
        if isinstance(error, InputError) and not self.study.counted(*DONE) and _is_valid(args):
            trial.set_user_attr("reason", None)
            return error  # every trial would fail: the user has to change the command
        own = isinstance(error, InputError | DivergedError)
        reason = first_line(error) if own else f"{type(error).__name__}: {first_line(error)}"
        trial.set_user_attr("reason", reason[:200])
        if isinstance(error, torch.AcceleratorError):
            return InputError(
                f"The accelerator has failed since trial {trial.number}: {first_line(error)}",
                "To resume the study in a new process, run the same command again.",
            )
        return None


def train(trial: Trial, args: list[str]) -> float:
    """Run ``fit`` without output, report to the trial, and return the lowest validation loss."""
    report = ReportLosses(trial)
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        command.main(["fit", *args], [report])
    return report.best()


def work(study: Study, fit: list[str], parent: int | None = None) -> None:
    """Run trials until the study is done or the parent process has ended.

    Args:
        study: The study.
        fit: The options of ``fit`` for all trials.
        parent: The PID of the process that started this one, if it is one of several workers.
    """

    def print_trial(_: optuna.Study, trial: FrozenTrial) -> None:
        if trial.state != TrialState.FAIL or failure(trial):
            print(trial_line(study, trial), flush=True)

    objective = Objective(study, fit)
    while parent in (None, os.getppid()) and study.has_work():
        try:
            study.study.optimize(
                objective, n_trials=1, callbacks=[print_trial], gc_after_trial=True
            )
        except ValueError:  # Optuna ends no trial that has ended
            if not isinstance(objective.error, UpdateFinishedTrialError):
                raise
            print("A trial was reassigned: its heartbeats had stopped.", flush=True)
        else:
            if objective.error:
                raise objective.error


def _is_valid(args: list[str]) -> bool:
    """Whether ``fit`` accepts the options of a trial; if so, its error is that of all trials."""
    try:
        settings_of(args)
    except InputError:
        return False
    return True
