"""The commands fit, validate, test and predict."""

import os
import secrets
import sys
from argparse import ArgumentError
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import cache, partial
from pathlib import Path
from traceback import walk_tb
from typing import Any

import yaml
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from mnist_lit.checkpoints import TRAINING_ONLY, load_checkpoint, recorded_settings, verify_weights
from mnist_lit.cli import DigitsCLI
from mnist_lit.data import MNISTDataModule
from mnist_lit.errors import InputError, first_line
from mnist_lit.module import DigitClassifier
from mnist_lit.options import explain
from mnist_lit.runs import directories as runs
from mnist_lit.runs.files import was_deleted
from mnist_lit.training.environment import prepare
from mnist_lit.training.hparams import HParams, hyperparameters
from mnist_lit.training.loggers import AtomicCheckpointIO, run_loggers
from mnist_lit.training.predictions import PredictDataModule, Predictions
from mnist_lit.training.processes import (
    PROGRAM,
    ProcessSync,
    broken_connection,
    check_number,
    program,
)
from mnist_lit.training.progress import CPUContention, EpochLines, GradientNorm, Throughput
from mnist_lit.training.restoring import cannot_be_resumed, damage, verify_training_state
from mnist_lit.training.results import Results
from mnist_lit.training.resuming import (
    FREE_WHEN_RESUMED,
    EpochSeed,
    ResumeAtEpochStart,
    bound_settings,
    changes,
)
from mnist_lit.training.run_record import RunRecord, deleted_error
from mnist_lit.training.tensorboard import FitPictures, TestPictures, draw_validation

PREDICT = """\
Write the predictions of a checkpoint to predictions.csv: for the test images or, with
--data.predict_dir FOLDER, for the digits in a folder of images. The probabilities are not
calibrated, unlike those of read. The exit status is 2 if an image could not be read."""

STOPPING_SETTINGS = (
    "trainer.max_",
    "trainer.min_",
    "trainer.callbacks",
)  # settings by which a training ends

CKPT_PATH = {
    "fit": "Resume from this checkpoint, with the settings of its run: a file, or last or best for "
    "the newest run. Default: start a new run.",
    "other": "Required. The checkpoint to evaluate, with the model and data settings of its run: a "
    "file, or best or last for the newest run that has one.",
}

# Trainer options for which Lightning accepts values that fail later or flip the gradients' sign.
POSITIVE = ("accumulate_grad_batches", "check_val_every_n_epoch", "val_check_interval")
NOT_NEGATIVE = ("log_every_n_steps", "gradient_clip_val")

# What Lightning raises for invalid options.
OPTION_ERRORS = (
    MisconfigurationException,
    AttributeError,
    ImportError,
    RuntimeError,
    TypeError,
    ValueError,
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
    try:
        cli = RunCLI(args, callbacks)
        return 2 if getattr(cli.datamodule, "skipped", 0) and cli.trainer.is_global_zero else 0
    except InputError:
        raise
    except OSError as error:
        if error.filename or not error.errno:
            raise
        raise InputError(
            f"A log cannot be written: {error.strerror}.",
            "Check the free space and the permissions; the checkpoints are intact.",
        ) from error
    except Exception as error:
        if lost := broken_connection(error):
            raise InputError(lost, "See above for the reason, and start them again.") from error
        if not _is_option_error(error):
            raise
        raise InputError(first_line(error), f"All options: {PROGRAM} {args[0]} --help") from error


class RunCLI(DigitsCLI):
    """DigitsCLI for a single command, with run directories and resuming.

    Args:
        args: The command and its options.
        callbacks: Added to those of the command and its configuration.
    """

    def __init__(self, args: list[str], callbacks: Sequence[Callback] = ()) -> None:
        self.args = args
        self.command = args[0]
        self.more_callbacks = callbacks
        self.checkpoint: Path | None = None
        self.failure = ""  # why an object could not be created
        self.run: Path | None = None  # directory of the run, on rank 0 only
        super().__init__(
            args,
            datamodule_class=PredictDataModule if self.command == "predict" else MNISTDataModule,
            parser_kwargs={
                "prog": PROGRAM,
                "exit_on_error": False,
                "allow_abbrev": False,
                self.command: {
                    "exit_on_error": False,
                    "usage": f"{PROGRAM} {self.command} [--config FILE ...] [options]",
                    **({"description": PREDICT} if self.command == "predict" else {}),
                },
            },
        )

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]
        """Only the command that is called, since each parser takes time to build."""
        skipped = {"ckpt_path", "weights_only", "verbose"}
        return {self.command: LightningCLI.subcommands()[self.command] | skipped}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add ``--name``, and replace Lightning's ``--ckpt_path``."""
        text = CKPT_PATH.get(self.command, CKPT_PATH["other"])
        parser.add_argument("--ckpt_path", type=str | None, help=text)
        if self.command == "fit":
            parser.add_argument(
                "-n", "--name", default="", help="Name of the run: its directory in lightning_logs."
            )

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse the options on top of the settings recorded in the checkpoint."""
        self.config = self._parse(parser, args)
        log_dir = self._log_dir()
        if which := self.config[self.command].ckpt_path:
            self.checkpoint = runs.find_checkpoint(which, log_dir, of_newest=self.command == "fit")
            self._parse_over_recorded(parser, args)
        elif self.command != "fit":
            found = runs.checkpoints(log_dir, "best") or runs.checkpoints(log_dir)
            newest = found[0] if found else "best"
            raise InputError(
                f"{self.command} needs a checkpoint.",
                f"For example: {PROGRAM} {self.command} --ckpt_path {newest}",
            )
        settings = self.config[self.command]
        if isinstance(settings.seed_everything, bool):  # no seed was given
            # Processes started by Lightning inherit the seed. Those started by torchrun or SLURM
            # draw their own, but weights and batches follow that of rank 0.
            inherited = os.environ.get("PL_GLOBAL_SEED") if "LOCAL_RANK" in os.environ else None
            settings.seed_everything = int(inherited or secrets.randbelow(2**32))
        if self.command == "fit":
            runs.check_name(settings.name)

    def _parse_ckpt_path(self) -> None:
        """Replace Lightning's hook, which would merge the settings again."""

    def _parse(self, parser: LightningArgumentParser, args: list[str], source: str = "") -> Any:
        try:
            config = parser.parse_args(args)
        except (UnicodeError, RecursionError) as error:
            raise InputError(
                f"A configuration cannot be read: {first_line(error)}",
                "Give --config YAML files in UTF-8 without recursive aliases.",
            ) from error
        except ArgumentError as error:
            keys = self._parser(self.command).get_defaults().keys()
            what, hint = explain(str(error), keys, f"{PROGRAM} {self.command}")
            raise InputError(source + what, hint) from error
        for key, value in config.items():
            if isinstance(value, str) and "\0" in value:
                name = key.removeprefix(f"{self.command}.")
                raise InputError(f"{name} contains a null character.", "Remove it.")
        return config

    def _parse_over_recorded(self, parser: LightningArgumentParser, args: list[str]) -> None:
        assert self.checkpoint is not None
        self.state = load_checkpoint(self.checkpoint)
        rank_zero_only(print)(f"Checkpoint: {runs.describe_checkpoint(self.checkpoint)}")
        needed: dict[str, Any] = {}
        if self.command != "fit":
            needed = {"sections": ("model", "data"), "without": TRAINING_ONLY}
        recorded = recorded_settings(
            self.state, self.checkpoint, named_by_user=set(_texts(self.settings())), **needed
        )
        if self.command == "fit":
            config = self.state.get("config", {})
            for name, kind in (("seed_everything", int), ("name", str)):
                if type(config.get(name)) is kind:
                    recorded[name] = config[name]
        base = [self.command, "--config", yaml.safe_dump(recorded)]
        self.config = self._parse(parser, [*base, *args[1:]], f"{self.checkpoint}: ")
        self.config[self.command].ckpt_path = str(self.checkpoint)
        verify_weights(DigitClassifier, recorded["model"], self.state, self.checkpoint)

        bound = bound_settings(recorded["model"]) if self.command == "fit" else ("model.",)
        for key, then, now in changes(recorded, self.settings()):
            if key.startswith(bound) and key not in FREE_WHEN_RESUMED:
                raise InputError(
                    f"{key} is {then} in the checkpoint and {now} in your options.",
                    "Leave it out to use the checkpoint, or start a new run without --ckpt_path.",
                )

    def settings(self, changed: bool = False) -> dict[str, Any]:
        """Return all settings, or only those changed from their default, as primitives."""
        parser = self._parser(self.command)
        config = self.config[self.command]
        text = parser.dump(config, skip_unset=False, skip_default=changed)
        settings: dict[str, Any] = yaml.safe_load(text)
        return settings

    def _log_dir(self) -> Path:
        root = self.config[self.command].trainer.default_root_dir
        return Path(root or ".", runs.LOG_DIR)

    def before_instantiate_classes(self) -> None:
        """Create every object of the configuration with ``_make``."""
        self.parser.add_instantiator(self._make, object)

    def _make(self, kind: type, *args: Any, **kwargs: Any) -> Any:
        try:
            return kind(*args, **kwargs)
        except Exception as error:  # the parser reports it among failures of other types
            self.failure = f"{kind.__name__} cannot be created: {first_line(error)}"
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
            raise InputError(
                self.failure, "Check its arguments, and that its packages are installed."
            ) from error
        self.model.describe(**self.settings()["model"])

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Create the Trainer with the user's callbacks and plugins and those every run needs."""
        self.failure = ""  # all objects of the configuration exist
        given = self.config_init[self.command].trainer
        _check_options(given)
        if self.model.loss.weight is not None and self.datamodule.batch_size == 1:
            raise InputError(
                "model.class_weights has no effect with data.batch_size 1.",
                "Leave it out, or choose a larger batch.",
            )
        own = [*self.more_callbacks, *self._callbacks()]
        callbacks = [ProcessSync(), *_listed(given.callbacks), *own]
        checkpoint_io = AtomicCheckpointIO()
        plugins = [*_listed(given.plugins), checkpoint_io]
        if given.enable_progress_bar is None and not sys.stdout.isatty():
            kwargs["enable_progress_bar"] = False
        # fit creates the run directory and its loggers only after everything else has succeeded.
        self.logs = (
            self.command == "fit" and given.logger in (None, True) and not given.fast_dev_run
        )
        if given.logger in (None, True):
            kwargs["logger"] = False
        if self.command != "fit":
            kwargs["enable_checkpointing"] = False
        trainer = super().instantiate_trainer(callbacks=callbacks, plugins=plugins, **kwargs)
        check_number(trainer)
        checkpoint_io.callbacks = trainer.checkpoint_callbacks
        return trainer

    def _callbacks(self) -> list[Callback]:
        """The command's own callbacks; also registers the observers of evaluations."""
        if self.command == "fit":
            return self._fit_callbacks()
        assert self.checkpoint is not None
        find = partial(runs.results_directory, self.checkpoint, self._log_dir(), self.command)
        directory = cache(find)  # created with the first result
        if self.command == "predict":
            return [Predictions(directory)]
        self.model.observers.append(Results(self.checkpoint, directory))
        if self.command == "test":
            pictures = TestPictures(directory, self.state["global_step"] - 1)
            self.model.observers.append(pictures)
        return []

    def _fit_callbacks(self) -> list[Callback]:
        given = self.config_init.fit.trainer
        config = {**self.settings(), "ckpt_path": None, "config": None}
        callbacks = [RunRecord(config, self.args), EpochSeed(), ResumeAtEpochStart()]
        callbacks += [EpochLines(), CPUContention()]
        if given.logger is not False and not given.fast_dev_run:
            hparams = HParams(hyperparameters(config, self.settings(changed=True)))
            callbacks += [LearningRateMonitor("step"), Throughput(), GradientNorm(), hparams]
            callbacks.append(FitPictures())
            self.model.observers += [hparams.observe, draw_validation]
        if given.enable_checkpointing is not False:
            if self.datamodule.validates and given.limit_val_batches != 0:
                callbacks.append(_checkpoint("best", monitor="val/loss"))
            callbacks.append(_checkpoint("last", save_on_train_epoch_end=True))
        return callbacks

    def validate(self, **kwargs: Any) -> None:
        """Validate; ``Results`` replaces Lightning's table."""
        if not self.datamodule.validates:
            raise InputError(
                "data.val_size is 0: there are no validation images.",
                "Use test, or give another --data.val_size.",
            )
        self.trainer.validate(verbose=False, ckpt_path=self.checkpoint, **kwargs)

    def test(self, **kwargs: Any) -> None:
        """Test; ``Results`` replaces Lightning's table."""
        self.trainer.test(verbose=False, ckpt_path=self.checkpoint, **kwargs)

    def predict(self, **kwargs: Any) -> None:
        """Predict with the checkpoint."""
        self.trainer.predict(ckpt_path=self.checkpoint, **kwargs)

    def fit(self, **kwargs: Any) -> None:
        """Train in a new run directory, or resume in that of the checkpoint."""
        with ExitStack() as until_end:
            self.run = self._resumed_run(until_end)
            if self.checkpoint:
                if self._finished():
                    return
                schedules = int(self.model.scheduler is not None)
                verify_training_state(self.state, self.checkpoint, schedules=schedules)
            if self.logs:
                self.trainer.loggers = self._run_loggers(until_end)
            if self.trainer.is_global_zero:
                network = self.model.network
                parameters = sum(parameter.numel() for parameter in network.parameters())
                print(
                    f"Run: {os.path.relpath(self.run) if self.run else 'not logged'}\n"
                    f"{type(network).__name__}, {parameters:,} parameters, on "
                    f"{self.trainer.strategy.root_device}, seed {self.config.fit.seed_everything}"
                )
            self._train(**kwargs)
        best = self._saved("best") or self._saved("last")
        if self.trainer.is_global_zero and best:
            print(f"Checkpoint: {best}\nTo test: {PROGRAM} test --ckpt_path {best}")
            if self.logs:
                print(f"To view: tensorboard --logdir {self._log_dir()}")

    def _train(self, **kwargs: Any) -> None:
        try:
            self.trainer.fit(ckpt_path=self.checkpoint, **kwargs)
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
        if not (self.checkpoint and self.logs and self.trainer.is_global_zero):
            return None
        run = runs.resumable(self.checkpoint, self.state)
        if run:
            until_end.enter_context(runs.training_lock(run))
            self.state = load_checkpoint(self.checkpoint)  # it may have been replaced
        return run

    def _finished(self) -> bool:
        epochs, steps = self.state["epoch"] + 1, self.state["global_step"]
        max_epochs, max_steps = self.trainer.max_epochs, self.trainer.max_steps
        if max_epochs in range(epochs + 1):
            limit, longer = f"max_epochs is {max_epochs}", f"--trainer.max_epochs {2 * epochs}"
        elif max_steps in range(steps + 1):
            limit, longer = f"max_steps is {max_steps}", f"--trainer.max_steps {2 * steps}"
        elif self.state.get("stopped_early") and not self._stops_otherwise():
            limit, longer = f"it stopped early, in epoch {epochs}", "--trainer.callbacks null"
            if self.config.fit.trainer.max_time and not self.trainer.early_stopping_callbacks:
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
        changed = changes(self.state.get("config", {}), self.settings())
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

    def _run_loggers(self, until_end: ExitStack) -> list[Logger]:
        if not self.trainer.is_global_zero:
            return run_loggers(self._log_dir() / "of_rank_zero")  # nothing is written there
        if self.run:
            return run_loggers(self.run, self.state["global_step"])
        self.run = runs.new_run(self._log_dir(), self.config.fit.name)
        until_end.enter_context(runs.training_lock(self.run))
        return run_loggers(self.run)

    def _saved(self, name: str) -> Path | None:
        """Return the path of this run's checkpoint ``name`` if it exists."""
        for callback in self.trainer.checkpoint_callbacks:
            if isinstance(callback, ModelCheckpoint) and callback.filename == name:
                written = callback.best_model_path or "-"  # by spawned processes
                path = Path(callback.dirpath, f"{name}.ckpt") if callback.dirpath else Path(written)
                return Path(os.path.relpath(path)) if path.is_file() else None
        return None


def _checkpoint(name: str, **when: Any) -> ModelCheckpoint:
    return ModelCheckpoint(filename=name, enable_version_counter=False, **when)


def _is_option_error(error: BaseException) -> bool:
    """Whether ``error`` was raised by Lightning or a torch optimizer, not by code they call."""
    if not isinstance(error, OPTION_ERRORS):
        return False
    *_, (frame, _) = walk_tb(error.__traceback__)
    module: str = frame.f_globals.get("__name__", "")
    return module.startswith(("lightning.", "torch.optim."))


def _check_options(options: Any) -> None:
    if options.precision == "16-true":
        raise InputError(
            "trainer.precision 16-true underflows: small gradients become 0.",
            "Use 16-mixed, or bf16-true.",
        )
    for name in (*POSITIVE, *NOT_NEGATIVE):
        value = options[name]
        if not isinstance(value, int | float) or value > 0:
            continue
        if name in POSITIVE or value < 0:
            wanted = "greater than 0" if name in POSITIVE else "of at least 0"
            raise InputError(f"trainer.{name} is {value}.", f"Give a number {wanted}.")


def _texts(settings: Any) -> Iterator[str]:
    if isinstance(settings, dict | list):
        for value in settings.values() if isinstance(settings, dict) else settings:
            yield from _texts(value)
    elif isinstance(settings, str):
        yield settings


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]
