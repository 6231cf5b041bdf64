"""Multi-process training: processes start, resume and end together."""

import signal
from pathlib import Path
from typing import Any

from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch import Callback, LightningModule, Trainer

from mnist_lit.errors import InputError
from mnist_lit.files import sha256
from mnist_lit.training.environment import kill_launched_processes

PROGRAM = "python -m mnist_lit"


def program() -> str:
    """Return how this program was launched, for the command that resumes it."""
    if TorchElasticEnvironment.detect():
        return "torchrun ... -m mnist_lit"
    return f"srun ... {PROGRAM}" if SLURMEnvironment.detect() else PROGRAM


def check_number(trainer: Trainer) -> None:
    """Check that torchrun or SLURM started as many processes as the Trainer expects.

    Raises:
        InputError: If the number is not devices times machines.
    """
    for environment in (TorchElasticEnvironment, SLURMEnvironment):
        if environment.detect():
            try:
                environment().validate_settings(trainer.num_devices, trainer.num_nodes)
            except ValueError as error:
                raise InputError(
                    " ".join(str(error).split()),
                    "Set --trainer.devices to the number of processes per machine, and "
                    "--trainer.num_nodes to the number of machines.",
                ) from error
            return


class ProcessSync(Callback):
    """Makes all processes resume from the same checkpoint, and end together."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._on_sigterm = signal.getsignal(signal.SIGTERM)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore the program's SIGTERM handler, which Lightning has replaced.

        Lightning's waits for the other processes, which may be waiting for this one (its issue
        20806).
        """
        signal.signal(signal.SIGTERM, self._on_sigterm)

    on_validation_start = on_test_start = on_predict_start = on_train_start

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Check that every machine has the same checkpoint.

        Raises:
            InputError: If this machine's differs from that of rank 0.
        """
        own = sha256(Path(str(trainer.ckpt_path)))
        if trainer.strategy.broadcast(own) != own:
            raise InputError(
                f"{trainer.ckpt_path} differs from the file on the first machine.",
                "Copy it from the first machine to the same path on the others.",
            )

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Kill the processes that this one started, which would wait for it."""
        kill_launched_processes(trainer)
