"""The loggers of a run, its own and those of the configuration, and atomic checkpoints."""

import csv
import io
import signal
import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.loggers import (
    CSVLogger,
    Logger,
    MLFlowLogger,
    TensorBoardLogger,
    WandbLogger,
)
from matplotlib.figure import Figure
from PIL import Image
from torch.utils.tensorboard import SummaryWriter

from mnist_lit.checkpoints import load_checkpoint
from mnist_lit.errors import InputError, first_line
from mnist_lit.files import atomic_write, remove_partials

# The arguments by which a logger continues an earlier run of its service.
RUN_IDS: dict[type[Logger], str] = {WandbLogger: "id", MLFlowLogger: "run_id"}


class RunTable(CSVLogger):
    """CSVLogger that no signal interrupts, since it rewrites the file when a column is added."""

    def save(self) -> None:
        """Write what was logged; a signal takes effect afterwards."""
        unblocked = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
        try:
            super().save()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)


def run_loggers(run: Path, step: int = 0, *, tensorboard: bool = True) -> list[Logger]:
    """Create the TensorBoard and CSV loggers of the run in directory ``run``.

    Args:
        run: An existing directory.
        step: The step at which a run resumes; what was logged from there on is dropped.
        tensorboard: Whether to create the TensorBoard logger.

    Raises:
        InputError: If its ``metrics.csv`` is damaged.
    """
    for directory in (run, run / "checkpoints"):
        remove_partials(directory)
    place: dict[str, Any] = {"save_dir": run.parent, "name": "", "version": run.name}
    events = TensorBoardLogger(**place, default_hp_metric=False, purge_step=step or None)
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
    return [events, table] if tensorboard else [table]


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


def start_loggers(
    given: Sequence[partial[Logger] | Logger],
    run: Path | None,
    log_dir: Path,
    ids: dict[str, str],
    until_end: ExitStack,
) -> list[Logger]:
    """Create the loggers of the configuration, and start or continue the runs of their services.

    Args:
        given: Classes with their arguments; objects if a function has created them.
        run: Directory of the run, where W&B puts its files by default; None except on rank 0.
        log_dir: Directory of all runs. A CSVLogger or TensorBoardLogger there is left out, since
            every run has these.
        ids: The services' runs to continue, by the name of the logger's class.
        until_end: Ends the runs of W&B.

    Raises:
        InputError: If a logger or its run cannot be created, or would delete files.
    """
    started: list[Logger] = []
    for make in given:
        try:
            logger = make if isinstance(make, Logger) else _created(make, run, ids)
            if run and isinstance(logger, CSVLogger | TensorBoardLogger):
                if Path(logger.root_dir).resolve().is_relative_to(log_dir.resolve()):
                    continue
                _check_unused(logger)
            getattr(logger, "experiment", None)  # starts the run
            if run and isinstance(logger, WandbLogger):
                until_end.push(partial(_finish, logger))
        except InputError:
            raise
        except Exception as error:
            kind = type(make) if isinstance(make, Logger) else make.func
            raise cannot_be_created(kind, error) from error
        started.append(logger)
    return started


def _created(make: partial[Logger], run: Path | None, ids: dict[str, str]) -> Logger:
    """Create a logger that continues its run, and whose files are in ``run`` if it is W&B's."""
    kind, given = make.func, make.keywords
    assert isinstance(kind, type)
    more: dict[str, Any] = {}
    for service, name in RUN_IDS.items():
        if issubclass(kind, service) and not given.get(name) and kind.__name__ in ids:
            more[name] = ids[kind.__name__]
    if issubclass(kind, WandbLogger):
        if run and given.get("save_dir") == ".":
            more["save_dir"] = str(run)
        if not given.get("resume"):
            more["resume"] = "allow"  # Lightning's default, which the parser's replaces
    return make(**more)


def _check_unused(logger: CSVLogger | TensorBoardLogger) -> None:
    directory = Path(logger.log_dir)
    if isinstance(logger, CSVLogger) and directory.is_dir() and any(directory.iterdir()):
        raise InputError(
            f"CSVLogger would replace files: {directory} is not empty.",
            "Give it another save_dir, name or version.",
        )


def _finish(logger: WandbLogger, kind: type[BaseException] | None, *_: object) -> None:
    """End the run of W&B, since a process has only one at a time."""
    logger.experiment.finish(exit_code=int(kind is not None))


def cannot_be_created(kind: Callable[..., object], error: Exception) -> InputError:
    """Return the error for an object of the configuration whose constructor has failed."""
    return InputError(
        f"{getattr(kind, '__name__', kind)} cannot be created: {first_line(error)}",
        "Check its arguments, and that its packages are installed.",
    )


def run_ids(trainer: Trainer) -> dict[str, str]:
    """Return the runs of services that a resumed run continues, by the name of their logger."""
    ids: dict[str, str] = {}
    for logger in trainer.loggers:
        if isinstance(logger, tuple(RUN_IDS)) and logger.version:
            ids.setdefault(type(logger).__name__, str(logger.version))
    return ids


def run_directory(trainer: Trainer) -> Path | None:
    """Return the directory of the trainer's run; None if it has none, and except on rank 0."""
    tables = [each for each in trainer.loggers if isinstance(each, RunTable)]
    return Path(tables[0].log_dir) if tables and trainer.is_global_zero else None


def image_loggers(trainer: Trainer) -> list[Logger]:
    """Return the trainer's loggers that accept images; none except on rank 0.

    TensorBoardLogger, MLFlowLogger, and any with a ``log_image`` like that of WandbLogger.
    """
    if not trainer.is_global_zero:
        return []
    return [
        each
        for each in trainer.loggers
        if isinstance(each, TensorBoardLogger | MLFlowLogger) or hasattr(each, "log_image")
    ]


def log_figure(logger: Logger, tag: str, figure: Figure, step: int) -> None:
    """Log a figure.

    Args:
        logger: One of :func:`image_loggers`.
        tag: Name of the figure, such as ``val/digits``.
        figure: The figure.
        step: The step that it belongs to.
    """
    if isinstance(logger, TensorBoardLogger):
        logger.experiment.add_figure(tag, figure, step)
    elif isinstance(logger, MLFlowLogger):
        logger.experiment.log_figure(logger.run_id, figure, f"{tag}_{step}.png")
    else:
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
        logger.log_image(tag, [Image.open(buffer)], step)  # type: ignore[attr-defined]


def best_epoch(metrics: Path) -> str | None:
    """Return a line on the epoch with the lowest validation loss; None without a finite one.

    Args:
        metrics: The ``metrics.csv`` of a run.
    """
    rows = _logged(metrics)
    validated = [row for row in rows if row.get("val/loss") and isfinite(float(row["val/loss"]))]
    if not validated:
        return None
    best = min(validated, key=lambda row: float(row["val/loss"]))
    epochs = max(int(row["epoch"]) for row in rows if row.get("epoch")) + 1
    return (
        f"Best epoch: {int(best['epoch']) + 1} of {epochs}, val/loss "
        f"{float(best['val/loss']):.4f}, val/accuracy {100 * float(best['val/accuracy']):.2f} %"
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
        self.saved.add(Path(path).resolve())

    def __init__(self) -> None:
        super().__init__()
        self.callbacks: list[Checkpoint] = []  # whose directories are this run's
        self.saved: set[Path] = set()  # also elsewhere, by BatchSizeFinder

    def remove_checkpoint(self, path: str | Path) -> None:
        """Remove a file of this run's; a resumed checkpoint may name any other, or a folder."""
        own = [getattr(callback, "dirpath", None) for callback in self.callbacks]
        file = Path(path).resolve()
        if file in self.saved or file.parent in [Path(each).resolve() for each in own if each]:
            with suppress(OSError):  # it is gone, or a folder
                Path(path).unlink()

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        return load_checkpoint(Path(path))
