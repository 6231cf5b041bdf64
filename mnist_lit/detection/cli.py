"""The commands fit, validate and test: LightningCLI for DigitDetector and PageDataModule."""

import os
import sys
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from mnist_lit.detection.checkpoints import verified_checkpoint
from mnist_lit.detection.data import PageDataModule
from mnist_lit.detection.module import DigitDetector
from mnist_lit.detection.pictures import ValidationPages
from mnist_lit.detection.progress import EpochLines
from mnist_lit.errors import InputError
from mnist_lit.options import parse
from mnist_lit.training.environment import prepare
from mnist_lit.training.failures import reported
from mnist_lit.training.loggers import AtomicCheckpointIO
from mnist_lit.training.restoring import cannot_be_resumed, damage, verify_training_state
from mnist_lit.training.resuming import changes
from mnist_lit.training.trainer import RunTrainer

PROGRAM = "python -m mnist_lit.detection"

DESCRIPTIONS = {
    "fit": "Train a detector on synthetic pages.",
    "validate": "Evaluate a checkpoint on the validation pages.",
    "test": "Evaluate a checkpoint on the test pages.",
}

# Runs have a directory of their own: the classifier's commands look for theirs in lightning_logs.
DEFAULTS = {"default_root_dir": "detector", "enable_model_summary": False}


def main(args: list[str]) -> None:
    """Run ``fit``, ``validate`` or ``test``.

    Raises:
        InputError: If an option or a file it names is invalid.
    """
    prepare()
    with reported(f"{PROGRAM} {args[0]}"):
        DetectorCLI(args)


class DetectorCLI(LightningCLI):
    """Connects model, data and Trainer; each of their arguments is a command-line option.

    Args:
        args: The command and its options.
    """

    def __init__(self, args: list[str]) -> None:
        self.command = args[0]
        self.checkpoint: Path | None = None
        strict = {"exit_on_error": False}
        command = {
            "usage": f"{PROGRAM} {self.command} [--config FILE ...] [options]",
            "description": DESCRIPTIONS[self.command],
        }
        super().__init__(
            DigitDetector,
            PageDataModule,
            trainer_class=RunTrainer,
            args=args,
            parser_kwargs={
                **{"prog": PROGRAM, "allow_abbrev": False, **strict},
                self.command: {**command, **strict},
            },
            trainer_defaults={"callbacks": _callbacks(), **DEFAULTS},
            seed_everything_default=0,
            auto_configure_optimizers=False,  # DigitDetector does it
            load_from_checkpoint_support=False,  # so does DigitDetector
        )

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]
        """Only the command that is called, with a ``--ckpt_path`` of its own."""
        skipped = {"ckpt_path", "weights_only", "verbose"}
        return {self.command: LightningCLI.subcommands()[self.command] | skipped}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add ``--ckpt_path``."""
        self.command_parser = parser
        fit = self.command == "fit"
        text = "Resume from this checkpoint." if fit else "Required. The checkpoint to evaluate."
        parser.add_argument("--ckpt_path", type=str | None, help=text)

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse the options, and verify the checkpoint.

        Raises:
            InputError: If one is invalid, or if a checkpoint is needed and none is given.
        """
        keys = self.command_parser.get_defaults().keys()
        self.config = parse(parser, args, keys, f"{PROGRAM} {self.command}")
        given = self.config[self.command]
        if given.ckpt_path:
            self.checkpoint = Path(given.ckpt_path)
            self._verify(self.checkpoint)
            given.ckpt_path = None  # or LightningCLI would merge its settings
        elif self.command != "fit":
            what = f"{self.command} needs a checkpoint."
            raise InputError(what, "Give its file by --ckpt_path FILE.")

    def _verify(self, path: Path) -> None:
        checkpoint, then = verified_checkpoint(path)
        if self.command != "fit":
            return
        verify_training_state(checkpoint, path, schedules=1)
        text = self.command_parser.dump(self.config[self.command], skip_unset=False)
        for key, old, new in changes(then, yaml.safe_load(text)["model"], "model."):
            what = f"{key} is {old} in the checkpoint and {new} in your options."
            raise InputError(what, "Give the options that its training has begun with.")
        epochs, most = checkpoint["epoch"] + 1, self.config.fit.trainer.max_epochs
        if most in range(epochs + 1):
            what = f"{path} is of a training that is finished: max_epochs is {most}."
            raise InputError(what, "Start a new one, without --ckpt_path.")

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Create a Trainer that saves checkpoints atomically and loads nothing but tensors."""
        checkpoint_io = AtomicCheckpointIO()
        if self.config_init[self.subcommand].trainer.enable_progress_bar is None:
            kwargs["enable_progress_bar"] = sys.stdout.isatty()
        trainer = super().instantiate_trainer(plugins=[checkpoint_io], **kwargs)
        checkpoint_io.callbacks = trainer.checkpoint_callbacks
        return trainer

    def fit(self, model: LightningModule, datamodule: LightningDataModule) -> None:
        """Train, from the checkpoint if there is one, and say what can be done with the result."""
        try:
            self.trainer.fit(model, datamodule=datamodule, ckpt_path=self.checkpoint)
        except BaseException as error:
            if self.checkpoint and (why := damage(error)):
                raise cannot_be_resumed(self.checkpoint, why) from error
            if not isinstance(error, InputError) and (saved := self._saved()):
                print(f"To resume: {PROGRAM} fit [options] --ckpt_path {saved}", file=sys.stderr)
            raise
        if saved := self._saved():
            print(f"Checkpoint: {saved}\nTo test: {PROGRAM} test --ckpt_path {saved}")

    def validate(self, model: LightningModule, datamodule: LightningDataModule) -> None:
        """Evaluate the checkpoint on the validation pages."""
        self.trainer.validate(model, datamodule, ckpt_path=self.checkpoint)

    def test(self, model: LightningModule, datamodule: LightningDataModule) -> None:
        """Evaluate the checkpoint on the test pages."""
        self.trainer.test(model, datamodule, ckpt_path=self.checkpoint)

    def _saved(self) -> str:
        """Return the path of this run's last checkpoint; "" if there is none yet."""
        paths = [
            str(getattr(each, "best_model_path", "")) for each in self.trainer.checkpoint_callbacks
        ]
        last = [path for path in paths if Path(path).name == "last.ckpt" and Path(path).is_file()]
        return os.path.relpath(last[0]) if last and self.trainer.is_global_zero else ""


def _callbacks() -> list[Any]:
    metric = "val/average_precision"
    return [
        EpochLines(),
        LearningRateMonitor("step"),
        ModelCheckpoint(filename="best", monitor=metric, mode="max", enable_version_counter=False),
        ModelCheckpoint(filename="last", enable_version_counter=False),
        ValidationPages(),
    ]
