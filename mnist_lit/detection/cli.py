"""DetectorCLI: LightningCLI for DigitDetector and PageDataModule."""

import sys
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from mnist_lit.detection.data import PageDataModule
from mnist_lit.detection.module import DigitDetector
from mnist_lit.detection.pictures import ValidationPages
from mnist_lit.detection.progress import EpochLines
from mnist_lit.errors import InputError
from mnist_lit.training.loggers import AtomicCheckpointIO

# Runs have a directory of their own: the classifier's commands look for theirs in lightning_logs.
DEFAULTS = {"default_root_dir": "detector", "enable_model_summary": False}


class DetectorCLI(LightningCLI):
    """Connects model, data and Trainer; each of their arguments is a command-line option.

    Args:
        args: The command and its options.
    """

    def __init__(self, args: list[str]) -> None:
        super().__init__(
            DigitDetector,
            PageDataModule,
            args=args,
            parser_kwargs={"prog": "python -m mnist_lit.detection"},
            trainer_defaults={"callbacks": _callbacks(), **DEFAULTS},
            auto_configure_optimizers=False,  # DigitDetector does it
            load_from_checkpoint_support=False,
        )

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Only those that the detector has."""
        return {name: LightningCLI.subcommands()[name] for name in ("fit", "validate", "test")}

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse the options; Lightning's own would warn of ``args``.

        Raises:
            InputError: If a checkpoint is needed and none is given.
        """
        self.config = parser.parse_args(args)
        command = self.config.subcommand
        if command != "fit" and not self.config[command].ckpt_path:
            raise InputError(f"{command} needs a checkpoint.", "Give its file by --ckpt_path FILE.")

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Create a Trainer that saves checkpoints atomically and loads nothing but tensors."""
        checkpoint_io = AtomicCheckpointIO()
        if self.config_init[self.subcommand].trainer.enable_progress_bar is None:
            kwargs["enable_progress_bar"] = sys.stdout.isatty()
        trainer = super().instantiate_trainer(plugins=[checkpoint_io], **kwargs)
        checkpoint_io.callbacks = trainer.checkpoint_callbacks
        return trainer


def _callbacks() -> list[Any]:
    metric = "val/average_precision"
    return [
        EpochLines(),
        LearningRateMonitor("step"),
        ModelCheckpoint(filename="best", monitor=metric, mode="max", enable_version_counter=False),
        ModelCheckpoint(filename="last", enable_version_counter=False),
        ValidationPages(),
    ]
