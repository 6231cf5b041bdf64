"""Write a run to disk: TensorBoard and CSV loggers, and atomic checkpoints."""

import csv
import io
import signal
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from torch.utils.tensorboard import SummaryWriter

from mnist_lit.checkpoints import load_checkpoint
from mnist_lit.errors import InputError
from mnist_lit.files import atomic_write, remove_partials


class RunTable(CSVLogger):
    """CSVLogger that no signal interrupts, since it rewrites the file when a column is added."""

    def save(self) -> None:
        """Write what was logged; a signal takes effect afterwards."""
        unblocked = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
        try:
            super().save()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)


def run_loggers(run: Path, step: int = 0) -> list[Logger]:
    """Create the TensorBoard and CSV loggers of the run in directory ``run``.

    Args:
        run: An existing directory.
        step: The step at which a run resumes; what was logged from there on is dropped.

    Raises:
        InputError: If its ``metrics.csv`` is damaged.
    """
    for directory in (run, run / "checkpoints"):
        remove_partials(directory)
    place: dict[str, Any] = {"save_dir": run.parent, "name": "", "version": run.name}
    tensorboard = TensorBoardLogger(**place, default_hp_metric=False, purge_step=step or None)
    table = RunTable(**place)
    metrics, earlier = run / "metrics.csv", run / "metrics_before_resume.csv"
    rows = _logged(earlier if earlier.exists() else metrics)
    if metrics.exists() and not earlier.exists():
        metrics.rename(earlier)  # or Lightning would delete it, and a kill would lose the rows
    with warnings.catch_warnings():
        # The directory is new, or what it logged is in ``rows``.
        warnings.filterwarnings("ignore", ".*Experiment logs directory")
        table.experiment  # noqa: B018  # opens the file
    for row in rows:
        if row["step"].isdecimal() and int(row["step"]) < step:
            values = {name: value for name, value in row.items() if name and value}
            table.experiment.log_metrics(values, int(values.pop("step")))
    if rows:
        table.save()
    earlier.unlink(missing_ok=True)
    return [tensorboard, table]


def _logged(metrics: Path) -> list[dict[str, str]]:
    """Return the rows of a ``metrics.csv``; after a kill the last may be incomplete."""
    if not metrics.exists():
        return []
    try:
        with metrics.open(newline="", encoding="utf-8", errors="replace") as file:
            reader = csv.DictReader(file, restkey="", restval="")
            rows = list(reader)
    except csv.Error as error:
        raise _damaged(metrics) from error
    if "step" not in (reader.fieldnames or ("step",)):
        raise _damaged(metrics)
    return rows


def _damaged(metrics: Path) -> InputError:
    return InputError(
        f"{metrics} is damaged: it is not a table with a column step.",
        "Restore it, or move it away to resume without the earlier metrics.",
    )


def writers(trainer: Trainer) -> list[SummaryWriter]:
    """Return the trainer's TensorBoard writers; none except on rank 0."""
    if not trainer.is_global_zero:
        return []
    return [each.experiment for each in trainer.loggers if isinstance(each, TensorBoardLogger)]


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's checkpoint IO with atomic writes: a failed one leaves the old file intact."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        buffer = io.BytesIO()  # torch.save to a file would not raise OSError
        torch.save(checkpoint, buffer)
        with atomic_write(Path(path)) as partial:
            partial.write_bytes(buffer.getbuffer())

    def __init__(self) -> None:
        super().__init__()
        self.callbacks: list[Checkpoint] = []  # whose directories are this run's

    def remove_checkpoint(self, path: str | Path) -> None:
        """Remove a file of this run's; a resumed checkpoint may name any other, or a folder."""
        own = [getattr(callback, "dirpath", None) for callback in self.callbacks]
        if Path(path).resolve().parent in [Path(each).resolve() for each in own if each]:
            with suppress(OSError):  # it is gone, or a folder
                Path(path).unlink()

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        return load_checkpoint(Path(path))
