"""Several processes that work as one: how they are started, go on and end together."""

import re
import signal
from pathlib import Path
from typing import Any

from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher
from torch.distributed import DistError

from mnist_lit.errors import InputError
from mnist_lit.files import sha256

PROGRAM = "python -m mnist_lit"


def program() -> str:
    """The program with what started it, for a command that is to be started alike."""
    if TorchElasticEnvironment.detect():
        return "torchrun ... -m mnist_lit"
    return f"srun ... {PROGRAM}" if SLURMEnvironment.detect() else PROGRAM


def check_number(trainer: Trainer) -> None:
    """Refuse to work in another number of processes than torchrun or SLURM has started.

    Raises:
        InputError: If it is not the trainer's devices times its machines.
    """
    for environment in (TorchElasticEnvironment, SLURMEnvironment):
        if environment.detect():
            try:
                environment().validate_settings(trainer.num_devices, trainer.num_nodes)
            except ValueError as error:
                raise InputError(
                    " ".join(str(error).split()),
                    "Give --trainer.devices the number of processes on each machine, "
                    "--trainer.num_nodes that of the machines.",
                ) from error
            return


def broken_connection(error: BaseException) -> str | None:
    """What to say of an error by which a process learns that it has lost another one.

    Args:
        error: Any; torch's for a closed connection or one that timed out.

    Returns:
        A sentence, or None for another error.
    """
    if not isinstance(error, DistError) and "/gloo/" not in str(error):
        return None
    text = re.sub(r"^\[\S+\] ", "", str(error))  # without the place in torch's source
    why = text.splitlines()[0].partition(". This is typically")[0].rstrip(".")
    return f"The connection between the processes broke: {why}."


class Together(Callback):
    """Lets the processes of a training go on from the same checkpoint, and end together."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._on_sigterm = signal.getsignal(signal.SIGTERM)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the program's own handler of SIGTERM back in the place of Lightning's.

        Lightning's waits for the other processes, and these may wait for this one.
        """
        signal.signal(signal.SIGTERM, self._on_sigterm)

    on_validation_start = on_test_start = on_predict_start = on_train_start

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Compare the checkpoints of the machines.

        Raises:
            InputError: If this one's is another than the first one's.
        """
        own = sha256(Path(str(trainer.ckpt_path)))
        if trainer.strategy.broadcast(own) != own:
            raise InputError(
                f"{trainer.ckpt_path} is not the same file as on the first machine.",
                "Copy the first machine's to the same path on every other one.",
            )

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """End the processes that this one has started: they would wait for it."""
        launcher = trainer.strategy.launcher
        if isinstance(launcher, _SubprocessScriptLauncher):
            started = launcher.procs[:]
            launcher.procs.clear()  # or Lightning's observer kills this process, which has to speak
            for process in started:
                process.kill()
