"""A trial of a sweep: an ordinary fit in this process, judged by its lowest validation loss."""

import io
import os
import re
import socket
from contextlib import redirect_stderr, redirect_stdout
from math import isfinite
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from optuna import TrialPruned
from optuna.distributions import BaseDistribution, CategoricalDistribution, distribution_to_json
from optuna.trial import Trial

from mnist_lit.errors import InputError
from mnist_lit.sweep.space import NOT_SEARCHED, override
from mnist_lit.sweep.study import Study
from mnist_lit.training import command, environment, resuming
from mnist_lit.training.run_record import RunEndedError

ONE_DEVICE = r"auto|1|\d+,|\[\d+\]"  # by number or by index


class DivergedError(Exception):
    """The validation loss is no finite number any more."""


class PrunedError(TrialPruned, RunEndedError):
    """The trial is not worth its end."""


class Report(Callback):
    """Tells a trial its run and its validation losses, and ends the run if the trial is pruned.

    That is at the start of the next epoch, when the files of the run are whole.
    """

    def __init__(self, trial: Trial) -> None:
        self.trial = trial
        self.losses: list[float] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.trial.set_user_attr("run", os.path.relpath(str(trainer.log_dir)))
        self.trial.set_user_attr("host", socket.gethostname())

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            self.trial.report(float(trainer.callback_metrics["val/loss"]), len(self.losses))
            self.losses.append(float(trainer.callback_metrics["val/loss"]))

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.losses:
            self.best()  # nothing good comes after what is no number
            if self.trial.should_prune():
                raise PrunedError

    def best(self) -> float:
        """The lowest validation loss, in nats.

        Raises:
            DivergedError: If any was no finite number.
            InputError: If there was none.
        """
        if not self.losses:
            raise InputError(
                "A run ended before it was validated.",
                "Let it train longer, or validate more often.",
            )
        for number, loss in enumerate(self.losses, start=1):
            if not isfinite(loss):
                raise DivergedError(f"diverged: val/loss {loss} in validation {number}")
        return min(self.losses)


class Parsed(command.RunCLI):
    """The settings of a command line, of which nothing is made or run."""

    def _set_seed(self) -> None:
        """Leave it: nothing is drawn."""

    def instantiate_classes(self) -> None:
        """Make none."""

    def _run_subcommand(self, subcommand: str) -> None:
        """Run none."""


def settings_of(args: list[str]) -> dict[str, Any]:
    """All settings that ``fit`` would have, in primitives.

    Args:
        args: Its options.

    Raises:
        InputError: If there is no such option or value.
    """
    environment.prepare()
    return Parsed(["fit", *args]).settings()


def check_settings(settings: dict[str, Any]) -> None:
    """Refuse settings with which there would be no runs, or none that can be judged.

    Args:
        settings: Of ``fit``, in primitives.

    Raises:
        InputError: If there are such.
    """
    trainer, data = settings["trainer"], settings["data"]
    for wrong, what, what_to_do in (
        (settings["ckpt_path"], "A trial goes on from no checkpoint.", "Leave --ckpt_path out."),
        (settings["name"], "The runs have the name of the study.", "Give --study, not --name."),
        (
            trainer["logger"] is False or trainer["fast_dev_run"],
            "The trials would leave no runs.",
            "Leave trainer.logger and trainer.fast_dev_run as they are.",
        ),
        (
            data["val_size"] == 0 or trainer["limit_val_batches"] == 0,
            "There are no validation images, by which trials are judged.",
            "Give data.val_size and trainer.limit_val_batches other values.",
        ),
        (
            trainer["num_nodes"] != 1 or not re.fullmatch(ONE_DEVICE, str(trainer["devices"])),
            "A trial trains on one device.",
            "Leave trainer.devices out, and give more --jobs, or a command for each device.",
        ),
    ):
        if wrong:
            raise InputError(what, what_to_do)


def check_same(study: Study, settings: dict[str, Any]) -> None:
    """Refuse to go on with a study under other settings or in another space.

    Args:
        study: Keeps them, if it is new.
        settings: Of ``fit``, in primitives, with which the parameters of a trial are combined.

    Raises:
        InputError: If they are others.
    """
    space = {key: distribution_to_json(value) for key, value in study.plan.space.items()}
    given = study.plan.point_of(settings)
    first = given if given.keys() == space.keys() and not study.grid else None
    kept = study.keep(first, settings=settings, space=space)
    hint = "Leave it as it was, or give this study a name of its own: --study NAME."
    for key in kept["space"] | space:
        if space.get(key) != kept["space"].get(key):
            raise InputError(f"The study {study.name} has another space: {key} differs.", hint)
    for key, then, now in resuming.changes(kept["settings"], settings):
        if key not in (*NOT_SEARCHED, *resuming.FREE_WHEN_RESUMED):
            what = f"{key} is {then} in the study {study.name} and {now} in your options."
            raise InputError(what, hint)


def check_space(space: dict[str, BaseDistribution], args: list[str]) -> None:
    """Refuse keys and values that ``fit`` does not take.

    A value counts as taken if it is with the first values of the other keys, or alone.

    Args:
        space: By keys.
        args: The options of all trials.

    Raises:
        InputError: If there are such.
    """
    values = {key: _kinds(each) for key, each in space.items()}
    first = {key: override(key, each[0]) for key, each in values.items()}
    settings_of([*args, *first.values()])
    for key, (_, *others) in values.items():
        for value in others:
            option = override(key, value)
            try:
                settings_of([*args, *(first | {key: option}).values()])
            except InputError:
                settings_of([*args, option])


def _kinds(distribution: BaseDistribution) -> list[Any]:
    """The values that a parser may tell apart: every text, but of numbers one of a type."""
    if not isinstance(distribution, CategoricalDistribution):
        return [distribution.low]  # type: ignore[attr-defined]
    kinds: dict[Any, Any] = {}
    for choice in distribution.choices:
        kinds.setdefault(choice if isinstance(choice, str) else type(choice), choice)
    return list(kinds.values())


def train(trial: Trial, args: list[str]) -> float:
    """Run ``fit``, without a word, for a trial.

    Args:
        trial: Takes the run and its losses.
        args: Options of ``fit``.

    Returns:
        The lowest validation loss, in nats.

    Raises:
        TrialPruned: If the trial is not worth its end.
        DivergedError: If a validation loss is no finite number.
        InputError: If the options are wrong, or the run cannot be written.
    """
    report = Report(trial)
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        command.main(["fit", *args], [report])
    return report.best()
