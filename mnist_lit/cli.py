"""DigitsCLI: LightningCLI for DigitClassifier and MNISTDataModule."""

from typing import Any

from lightning.pytorch.cli import LightningCLI

from mnist_lit.data import MNISTDataModule
from mnist_lit.module import DigitClassifier


class DigitsCLI(LightningCLI):
    """Connects model, data and Trainer; each of their arguments is a command-line option.

    Its subclass RunCLI (``training/command.py``) chooses callbacks and checkpoints.

    Args:
        args: The command and its options.
        kwargs: Further arguments of LightningCLI.
    """

    def __init__(self, args: list[str], **kwargs: Any) -> None:
        settings: dict[str, Any] = {
            "datamodule_class": MNISTDataModule,
            "trainer_defaults": {"max_epochs": 10, "enable_model_summary": False},
            "auto_configure_optimizers": False,  # DigitClassifier does it
            "save_config_callback": None,  # the run record contains the configuration
            "load_from_checkpoint_support": False,  # DigitClassifier does it
        }
        super().__init__(DigitClassifier, **(settings | kwargs), args=args)
