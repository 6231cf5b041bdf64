"""The commands fit, validate, test and predict."""

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from functools import cache, partial
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import (
    BatchSizeFinder,
    LearningRateFinder,
    LearningRateMonitor,
    ModelCheckpoint,
    ProgressBar,
    StochasticWeightAveraging,
)
from lightning.pytorch.cli import LightningArgumentParser
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from mnist_lit.errors import InputError
from mnist_lit.metrics import Evaluation
from mnist_lit.module import DigitClassifier
from mnist_lit.own_digits.accuracy import accuracy, table
from mnist_lit.own_digits.data import OwnDigitsDataModule
from mnist_lit.runs import directories as runs
from mnist_lit.runs.files import is_run
from mnist_lit.training.environment import prepare
from mnist_lit.training.evaluation import joined, load_members
from mnist_lit.training.failures import reported
from mnist_lit.training.fitting import Fit
from mnist_lit.training.hparams import HParams, hyperparameters
from mnist_lit.training.loggers import AtomicCheckpointIO, cannot_be_created, start_loggers
from mnist_lit.training.options import OptionsCLI
from mnist_lit.training.predictions import Predictions
from mnist_lit.training.processes import PROGRAM, ProcessSync, check_number
from mnist_lit.training.progress import CPUContention, EpochLines, GradientNorm, Throughput
from mnist_lit.training.results import Results, finite, identity, members_table
from mnist_lit.training.resuming import EpochSeed, ResumeAtEpochStart
from mnist_lit.training.run_record import RunRecord, recorded_run_ids
from mnist_lit.training.tensorboard import FitPictures, TestPictures, draw_validation

# Callbacks that would fail, or have no effect on what is saved: the reason, and what to do.
UNSUITABLE_CALLBACKS = (
    (
        LearningRateFinder,
        "LearningRateFinder needs a model with an attribute lr; here it belongs to the optimizer.",
        "Search it with sweep, as model.optimizer.init_args.lr.",
    ),
    (
        StochasticWeightAveraging,
        "StochasticWeightAveraging averages the weights only after the last checkpoint is saved.",
        "Use EMAWeightAveraging, whose average is saved.",
    ),
)


def main(args: list[str], callbacks: Sequence[Callback] = ()) -> int:
    """Run ``fit``, ``validate``, ``test`` or ``predict``.

    Args:
        args: The command and its options.
        callbacks: Added to those of the command and its configuration.

    Returns:
        The exit status: 0, or 2 if ``predict`` could not read an image.

    Raises:
        InputError: If an option or a file it names is invalid.
    """
    prepare()
    with reported(f"{PROGRAM} {args[0]}"):
        cli = RunCLI(args, callbacks)
        return 2 if getattr(cli.datamodule, "skipped", 0) and cli.trainer.is_global_zero else 0


class RunCLI(OptionsCLI):
    """OptionsCLI that runs its command, with run directories and resuming.

    Args:
        args: The command and its options.
        callbacks: Added to those of the command and its configuration.
    """

    def __init__(self, args: list[str], callbacks: Sequence[Callback] = ()) -> None:
        self.more_callbacks = callbacks
        self.failure: InputError | None = None  # why an object could not be created
        with ExitStack() as self.until_end:
            super().__init__(args)

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse the options; LightningCLI would merge the settings of ``ckpt_path`` again."""
        super().parse_arguments(parser, args)
        self.config[self.command].ckpt_path = None

    def before_instantiate_classes(self) -> None:
        """Create every object of the configuration with ``_make``, but loggers later."""
        self.parser.add_instantiator(lambda *given, **more: partial(*given, **more), Logger)
        self.parser.add_instantiator(self._make, object)

    def _make(self, kind: type, *args: Any, **kwargs: Any) -> Any:
        try:
            return kind(*args, **kwargs)
        except Exception as error:  # the parser reports it among failures of other types
            self.failure = cannot_be_created(kind, error)
            raise

    def instantiate_classes(self) -> None:
        """Create model, data and trainer.

        Raises:
            InputError: If a constructor raises an exception.
        """
        try:
            super().instantiate_classes()
        except InputError:
            raise
        except Exception as error:
            if not self.failure:
                raise
            raise self.failure from error
        self.model.record_hyperparameters(**self.settings()["model"])

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Create the Trainer with the user's callbacks and plugins and those every run needs."""
        self.failure = None  # all objects of the configuration exist
        given = self.config_init[self.command].trainer
        self._check_options(given)
        own = [*self.more_callbacks, *self._callbacks()]
        of_user = _listed(given.callbacks)
        if self.checkpoint:  # which has the batch size that was found
            of_user = [each for each in of_user if not isinstance(each, BatchSizeFinder)]
        callbacks = [ProcessSync(), *of_user, *own]
        checkpoint_io = AtomicCheckpointIO()
        plugins = [*_listed(given.plugins), checkpoint_io]
        has_bar = any(isinstance(each, ProgressBar) for each in of_user)
        if given.enable_progress_bar is None and not sys.stdout.isatty() and not has_bar:
            kwargs["enable_progress_bar"] = False
        if not self.datamodule.has_validation:
            kwargs["limit_val_batches"] = 0
        # fit creates the run directory and its loggers only after everything else has succeeded.
        kwargs["logger"] = False
        if self.command != "fit":
            kwargs["logger"] = self._given_loggers(self._evaluated_run())
            kwargs["enable_checkpointing"] = False
        elif given.fast_dev_run:  # Lightning's stand-in for a logger
            kwargs["logger"] = given.logger is not False
        elif given.barebones:  # an error if one is given
            kwargs["logger"] = given.logger and True
        trainer = super().instantiate_trainer(callbacks=callbacks, plugins=plugins, **kwargs)
        check_number(trainer)
        checkpoint_io.callbacks = trainer.checkpoint_callbacks
        return trainer

    def _check_options(self, given: Any) -> None:
        """Refuse what Lightning and the model accept, but what fails later or does nothing."""
        if given.precision == "16-true":
            raise InputError(
                "trainer.precision 16-true underflows: small gradients become 0.",
                "Use 16-mixed, or bf16-true.",
            )
        interval = given.val_check_interval
        if isinstance(interval, int | float) and interval <= 0:
            what = f"trainer.val_check_interval is {interval}."
            raise InputError(what, "Give a number greater than 0.")
        limit = f"limit_{'val' if self.command == 'validate' else self.command}_batches"
        if self.command != "fit" and given[limit] == 0:
            raise InputError(f"trainer.{limit} is 0.", "Give a greater number, or leave it out.")
        for kind, what, what_to_do in UNSUITABLE_CALLBACKS:
            if any(isinstance(each, kind) for each in _listed(given.callbacks)):
                raise InputError(what, what_to_do)
        if self.model.loss.weight is not None and self.datamodule.batch_size == 1:
            raise InputError(
                "model.class_weights has no effect with data.batch_size 1.",
                "Leave it out, or choose a larger batch.",
            )

    def _callbacks(self) -> list[Callback]:
        """The command's own callbacks; also registers the observers of evaluations."""
        if self.command == "fit":
            return self._fit_callbacks()
        assert self.checkpoint is not None
        find = partial(runs.results_directory, self.members, self.log_dir(), self.command)
        directory = cache(find)  # created with the first result
        if self.command == "predict":
            return [Predictions(directory)]
        self.results = Results(identity(self.checkpoint), directory)
        self.model.observers.append(self.results)
        if self.command == "test":
            self.model.observers.append(TestPictures(directory, self.state["global_step"] - 1))
        return []

    def _fit_callbacks(self) -> list[Callback]:
        given = self.config_init.fit.trainer
        config = {**self.settings(), "config": None}
        callbacks = [RunRecord(config, self.args), EpochSeed(), ResumeAtEpochStart()]
        callbacks += [EpochLines(), CPUContention()]
        self.logs = not (given.fast_dev_run or given.barebones)
        if self.logs:
            hparams = HParams(hyperparameters(config, self.settings(changed=True)))
            callbacks += [LearningRateMonitor("step"), Throughput(), GradientNorm(), hparams]
            callbacks.append(FitPictures())
            self.model.observers += [hparams.observe, draw_validation]
        if given.enable_checkpointing is not False and not given.barebones:
            if self.datamodule.has_validation and given.limit_val_batches != 0:
                callbacks.append(_checkpoint("best", monitor="val/loss"))
            callbacks.append(_checkpoint("last", save_on_train_epoch_end=True))
        return callbacks

    def fit(self, **kwargs: Any) -> None:
        """Train in a run directory."""
        checkpoint = (self.checkpoint, self.state) if self.checkpoint else None
        fit = Fit(
            self.trainer,
            self.settings(),
            self.log_dir(),
            loggers=self._given_loggers if self.logs else None,
            tensorboard=self.config_init.fit.trainer.logger is not False,
            checkpoint=checkpoint,
        )
        fit(**kwargs)

    def _given_loggers(self, run: Path | None) -> list[Logger]:
        given = self.config_init[self.command].trainer.logger
        makers = [] if isinstance(given, bool) else _listed(given)
        ids = recorded_run_ids(run) if run else {}
        return start_loggers(makers, run, self.log_dir(), ids, self.until_end)

    def _evaluated_run(self) -> Path | None:
        """Return the directory of the run whose checkpoint is evaluated; None on other ranks."""
        run = runs.run_of(self.members[0])
        return (
            run
            if len(self.members) == 1 and is_run(run) and not getattr(rank_zero_only, "rank", 0)
            else None
        )

    def validate(self, **kwargs: Any) -> None:
        """Validate; ``Results`` replaces Lightning's table."""
        if not self.datamodule.has_validation:
            raise InputError(
                "data.val_size is 0: there are no validation images.",
                "Use test, or give another --data.val_size.",
            )
        self.trainer.validate(verbose=False, ckpt_path=self.checkpoint, **kwargs)

    def test(self, model: DigitClassifier, datamodule: OwnDigitsDataModule) -> None:
        """Test a checkpoint, or each of several and their ensemble."""
        if len(self.members) == 1:
            self.trainer.test(model, datamodule, ckpt_path=self.checkpoint, verbose=False)
            _print_own_digits(model, datamodule)
            return
        members = load_members([str(path) for path in self.members])
        evaluated: list[dict[str, Any]] = []

        def observe(_: DigitClassifier, split: str, evaluation: Evaluation) -> None:
            path = members[len(evaluated)].path
            evaluated.append(identity(path) | finite(evaluation.scores))

        for member in members:
            member.model.observers.append(observe)
            self.trainer.test(member.model, datamodule, verbose=False)
        rank_zero_only(print)(members_table(evaluated))
        ensemble = joined(members)
        self.results.evaluated = {"members": evaluated}
        ensemble.observers = model.observers
        self.trainer.test(ensemble, datamodule, verbose=False)
        _print_own_digits(ensemble, datamodule)

    def predict(self, **kwargs: Any) -> None:
        """Predict with the checkpoint."""
        self.trainer.predict(ckpt_path=self.checkpoint, **kwargs)


def _print_own_digits(model: DigitClassifier, data: OwnDigitsDataModule) -> None:
    """Print the accuracy on the own digits that are never trained on."""
    if data.own_dir and model.trainer.is_global_zero:
        scores = {"own digits, held out": [accuracy(model.cpu().eval(), data.own_val_set)]}
        print(f"\n{table(scores, [''])}")


def _checkpoint(name: str, **when: Any) -> ModelCheckpoint:
    return ModelCheckpoint(filename=name, enable_version_counter=False, **when)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]
