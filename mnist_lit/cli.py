"""DigitsCLI: LightningCLI for DigitClassifier and MNISTDataModule."""

from typing import Any

from lightning.pytorch.cli import LightningCLI

from mnist_lit.data import MNISTDataModule
from mnist_lit.module import DigitClassifier


class DigitsCLI(LightningCLI):
    """Wires model, data and Trainer; every one of their arguments is an option.

    ``training/command.py`` adds what a run needs besides: its directory, its record, resuming.

    Args:
        args: Command and options, as they would be typed.
        kwargs: Further arguments of LightningCLI.
    """

    def __init__(self, args: list[str], **kwargs: Any) -> None:
        settings: dict[str, Any] = {
            "datamodule_class": MNISTDataModule,
            "trainer_defaults": {"max_epochs": 10, "enable_model_summary": False},
            "auto_configure_optimizers": False,  # DigitClassifier creates its own
            "save_config_callback": None,  # the run's record holds the configuration
            "load_from_checkpoint_support": False,  # DigitClassifier does it
        }
        super().__init__(DigitClassifier, **(settings | kwargs), args=args)
