"""Run directories: how they are named, and what lies in them."""

import csv
import io
import re
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from torch.utils.tensorboard import SummaryWriter

from mnist_lit.checkpoints import load_checkpoint
from mnist_lit.errors import InputError
from mnist_lit.files import whole

LOG_DIR = "lightning_logs"


def new_run(log_dir: Path, name: str) -> Path:
    """Make the directory of a new run, ``log_dir/version_N`` or ``log_dir/name/version_N``.

    Safe beside other processes that do the same. The path is absolute, as Lightning knows a
    resumed run's checkpoints again by their directory.
    """
    parent = (log_dir / name).resolve()
    parent.mkdir(parents=True, exist_ok=True)
    taken = [int(path.name[8:]) for path in parent.glob("version_*") if path.name[8:].isdigit()]
    version = max(taken, default=-1) + 1
    while True:
        try:
            run = parent / f"version_{version}"
            run.mkdir()
            return run
        except FileExistsError:
            version += 1


def run_of(checkpoint: Path) -> Path:
    """The directory of the run that wrote ``checkpoint``, or else the one it lies in."""
    parent = checkpoint.parent
    return parent.parent if parent.name == "checkpoints" else parent


def resumable(checkpoint: Path, state: dict[str, Any]) -> Path | None:
    """The directory of the run that goes on from ``checkpoint``, unless it has to be a new one.

    A run goes on in its own directory from its last checkpoint. From an earlier one, or after a
    move, it would overwrite what it does not know.

    Args:
        checkpoint: Where the run goes on.
        state: What this file holds.
    """
    run = run_of(checkpoint).resolve()
    known = [callback.get("dirpath") for callback in state.get("callbacks", {}).values()]
    its_own = checkpoint.name == "last.ckpt" and str(run / "checkpoints") in known
    return run if its_own else None


def checkpoints(log_dir: Path, pattern: str = "*") -> list[Path]:
    """The checkpoints of all runs below ``log_dir`` whose name fits, the newest first."""
    found = log_dir.glob(f"**/checkpoints/{pattern}.ckpt")
    return sorted(found, key=lambda path: path.stat().st_mtime_ns, reverse=True)


def find_checkpoint(which: str, log_dir: Path) -> Path:
    """Find the checkpoint meant by a file's path, ``best`` or ``last``.

    Args:
        which: A path, or ``best`` or ``last`` of the newest run that has one.
        log_dir: Directory of the runs.

    Raises:
        InputError: If there is none.
    """
    if which not in ("best", "last"):
        if Path(which).is_file():
            return Path(which)
        found = checkpoints(Path(which)) or checkpoints(log_dir)
        raise InputError(
            f"{which} is a directory."
            if Path(which).is_dir()
            else f"There is no checkpoint {which}.",
            f"The newest is {found[0]}." if found else f"There are none in {log_dir} either.",
        )
    found = checkpoints(log_dir, which)
    if not found:
        others = checkpoints(log_dir)
        raise InputError(
            f"No run in {log_dir} has a {which} checkpoint.",
            f"The newest checkpoint is {others[0]}."
            if others
            else "Train one: python -m mnist_lit fit --config configs/default.yaml",
        )
    return found[0]


def loggers(run: Path, step: int = 0) -> list[Logger]:
    """The TensorBoard and CSV logs of the run in directory ``run``.

    Args:
        run: An existing directory.
        step: Where a resumed run goes on; what it logged from there before is dropped.
    """
    for partial in run.rglob(".*.partial"):
        partial.unlink()  # of a killed run
    place: dict[str, Any] = {"save_dir": run.parent, "name": "", "version": run.name}
    tensorboard = TensorBoardLogger(**place, default_hp_metric=False, purge_step=step or None)
    table = CSVLogger(**place)
    metrics = run / "metrics.csv"
    if metrics.exists():
        with metrics.open(newline="") as file:
            rows = list(csv.DictReader(file, restval=""))  # a killed run ends within a line
        for row in rows:  # Lightning empties the file, so what stays is logged again
            if row["step"].isdecimal() and int(row["step"]) < step:
                kept = {name: value for name, value in row.items() if value and name != "step"}
                table.experiment.log_metrics(kept, int(row["step"]))
        table.save()
    return [tensorboard, table]


def writers(trainer: Trainer) -> list[SummaryWriter]:
    """What writes a trainer's TensorBoard events; none but on the first process."""
    if not trainer.is_global_zero:
        return []
    return [each.experiment for each in trainer.loggers if isinstance(each, TensorBoardLogger)]


class WholeCheckpointIO(TorchCheckpointIO):
    """Lightning's own way to checkpoints, but a killed or failed write leaves the old one."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        buffer = io.BytesIO()  # a failed write into a file of its own would not be an OSError
        torch.save(checkpoint, buffer)
        with whole(Path(path)) as partial:
            partial.write_bytes(buffer.getbuffer())

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        return load_checkpoint(Path(path))


def check_name(name: str) -> None:
    """Refuse a run's name that would not be one directory.

    Raises:
        InputError: If it is not made of letters, digits, ``.``, ``_`` and ``-``.
    """
    if name and not re.fullmatch(r"\w[\w.-]*", name):
        raise InputError(f"A run cannot be named {name!r}.", "Use letters, digits, '.', '_', '-'.")
