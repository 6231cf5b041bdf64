"""CheckpointModule: a LightningModule whose checkpoints describe it completely."""

from pathlib import Path
from typing import Any, Self

import torch
from lightning.pytorch import LightningModule
from torch import nn

from mnist_lit.checkpoints.archive import load_checkpoint
from mnist_lit.checkpoints.building import TRAINING_ONLY, instantiate, verify_weights
from mnist_lit.checkpoints.description import UNRECORDED, describe
from mnist_lit.checkpoints.settings import recorded_settings, too_large
from mnist_lit.errors import InputError


class Unrecorded(nn.Module):
    """Placeholder for an argument of a model that the checkpoint does not record.

    Args:
        name: The argument's name.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, *args: Any) -> Any:
        """Raise an InputError, since there is nothing to call."""
        raise InputError(
            f"The checkpoint does not record its {self.name}, which was given as an object.",
            f"Give it when loading: load_from_checkpoint(path, {self.name}=...)",
        )


class CheckpointModule(LightningModule):
    """A LightningModule with self-contained checkpoints, which may come from anyone."""

    def record_hyperparameters(self, /, **hyperparameters: Any) -> None:
        """Record the hyperparameters as primitives, so that checkpoints are self-contained.

        Args:
            hyperparameters: The constructor's arguments, or simply all its ``locals()``.
        """
        described = {
            name: describe(value)
            for name, value in hyperparameters.items()
            if name not in ("self", "__class__")
        }
        self.save_hyperparameters(described, logger=False)

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]  # files and weights only
        cls,
        checkpoint_path: str | Path,
        map_location: torch.device | str = "cpu",
        weights_only: bool | None = None,
        **kwargs: Any,
    ) -> Self:
        """Load a model from a checkpoint, which may come from anyone.

        It names the classes it was trained with. They are imported only if they belong to torch,
        torchvision, Lightning or this package, or if Python finds them in the working directory;
        others must have been imported before.

        Args:
            checkpoint_path: The file.
            map_location: The device of the model.
            weights_only: Ignored: only tensors and primitives are ever loaded.
            kwargs: Constructor arguments that replace the recorded ones.

        Raises:
            InputError: If the file is damaged, names other code, or does not match its network.
        """
        path = Path(checkpoint_path)
        checkpoint = load_checkpoint(path)
        recorded = checkpoint[cls.CHECKPOINT_HYPER_PARAMS_KEY]
        unrecorded = [n for n in TRAINING_ONLY if str(recorded.get(n)).endswith(UNRECORDED)]
        given = {name: Unrecorded(name) for name in unrecorded} | kwargs
        settings = recorded_settings(checkpoint, path, sections=["model"], without=given)["model"]
        verify_weights(cls, settings, checkpoint, path, **given)
        model = instantiate(cls, settings, **given)
        model.on_load_checkpoint(checkpoint)
        model.load_state_dict(checkpoint["state_dict"])
        return model.to(map_location)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the recorded hyperparameters; drop the weights of modules that were not built."""
        self.record_hyperparameters(**checkpoint[self.CHECKPOINT_HYPER_PARAMS_KEY])
        for name in list(checkpoint["state_dict"]):
            if getattr(self, name.partition(".")[0], None) is None:
                del checkpoint["state_dict"][name]

    def on_fit_start(self) -> None:
        """Refuse to train a network whose checkpoints could not be loaded.

        Raises:
            InputError: If the arguments of the network cannot be recorded.
        """
        network = self.hparams.get("network")
        if not self.trainer.checkpoint_callbacks:
            return
        if isinstance(network, str):
            raise InputError(
                f"A checkpoint of {network} could not be loaded: its arguments are unknown.",
                "Make it a class in a module that can be imported, and store each argument in an "
                "attribute of the same name (self.width = width); or train without checkpoints.",
            )
        if reason := too_large({"model": {"network": network}}):
            what = f"A checkpoint of this network could not be loaded: {reason}."
            raise InputError(what, "Give a smaller number, or train without checkpoints.")
