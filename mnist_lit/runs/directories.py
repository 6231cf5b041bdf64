"""Run directories: how they are named, and what lies in them."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from mnist_lit.errors import InputError
from mnist_lit.files import refusals
from mnist_lit.runs.files import LOCK, begun, best_of_study, by_age, is_run, run_directories

LOG_DIR = "lightning_logs"


def new_run(log_dir: Path, name: str) -> Path:
    """Make the directory of a new run, ``log_dir/version_N`` or ``log_dir/name/version_N``.

    Safe beside other processes that do the same. The path is absolute, as Lightning knows a
    resumed run's checkpoints again by their directory.
    """
    return _numbered((log_dir / name).resolve(), "version_")


def _numbered(parent: Path, prefix: str) -> Path:
    """Make a directory that did not exist, ``prefix`` and the next number its name."""
    parent.mkdir(parents=True, exist_ok=True)
    numbers = [path.name.removeprefix(prefix) for path in parent.glob(f"{prefix}*")]
    taken = [int(number) for number in numbers if number.isdecimal()]
    for number in count(max(taken, default=-1) + 1):
        try:
            directory = parent / f"{prefix}{number}"
            directory.mkdir()
            return directory
        except FileExistsError:
            continue
    raise AssertionError


@contextmanager
def training(run: Path) -> Iterator[None]:
    """Hold the lock of a run for as long as it is trained.

    The system releases it when the process ends, in whatever way.

    Raises:
        InputError: If another process holds it, or the directory cannot be written to.
    """
    lock = FileLock(run / LOCK, timeout=2)  # whoever only looks at it holds it for a moment
    with refusals(run):
        try:
            lock.acquire()
        except Timeout as error:
            raise InputError(
                f"{run} is being trained by another process.",
                "Wait until it ends, or stop it; the lock ends with the process.",
            ) from error
    try:
        yield
    finally:
        lock.release()


def results_directory(checkpoint: Path, log_dir: Path, command: str) -> Path:
    """Where the results of a checkpoint belong.

    Returns:
        The directory of its run; for a checkpoint anywhere else a new one, ``log_dir/COMMAND_N``,
        so that no file is replaced that a run has not written.
    """
    run = run_of(checkpoint)
    return run if run != checkpoint.parent and is_run(run) else _numbered(log_dir, f"{command}_")


def run_of(checkpoint: Path) -> Path:
    """The directory of the run that wrote ``checkpoint``, or else the one it lies in."""
    parent = checkpoint.parent
    return parent.parent if parent.name == "checkpoints" else parent


def resumable(checkpoint: Path, state: dict[str, Any]) -> Path | None:
    """The directory of the run that goes on from ``checkpoint``, unless it has to be a new one.

    A run is resumed in its own directory from its last checkpoint. From an earlier one, or after
    the directory was moved, it would overwrite what it does not know.

    Args:
        checkpoint: Where the run goes on.
        state: What this file holds.
    """
    run = run_of(checkpoint).resolve()
    known = [callback.get("dirpath") for callback in state.get("callbacks", {}).values()]
    its_own = checkpoint.name == "last.ckpt" and str(run / "checkpoints") in known
    return run if its_own and is_run(run) else None


def checkpoints(log_dir: Path, pattern: str = "*") -> list[Path]:
    """The checkpoints of all runs below ``log_dir`` whose name fits, those of the newest first."""
    found = log_dir.glob(f"**/checkpoints/{pattern}.ckpt")
    return sorted(found, key=lambda path: (by_age(run_of(path)), _mtime(path)), reverse=True)


def _mtime(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # removed meanwhile
        return 0.0


def find_checkpoint(which: str, log_dir: Path, *, of_newest: bool = False) -> Path:
    """Find the checkpoint meant by a file's path, ``best`` or ``last``.

    Args:
        which: A path, or ``best`` or ``last`` of the newest run that has one. If this is a trial
            of a sweep, ``best`` is that of the best trial.
        log_dir: Directory of the runs.
        of_newest: Refuse to take that of another run if the newest has none.

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
    newest = run_of(found[0])
    if of_newest:
        newest = max([newest, *filter(begun, run_directories(log_dir))], key=by_age)
    if which == "best" and (best := best_of_study(newest.parent)):
        return newest.parent / best.name / "checkpoints" / "best.ckpt"
    if run_of(found[0]) != newest:
        raise InputError(
            f"The newest run, {newest}, has no {which} checkpoint.",
            f"Resume an older run, as with --ckpt_path {found[0]}, or train without --ckpt_path.",
        )
    return found[0]


def label(checkpoint: Path) -> str:
    """A checkpoint's path, and that it is the best of a study if it is."""
    run = run_of(checkpoint)
    best = best_of_study(run.parent) if checkpoint.name == "best.ckpt" else None
    if best is None or run != run.parent / best.name:
        return str(checkpoint)
    loss = best.figures["val_loss"]
    return f"{checkpoint}, the best of the study {run.parent.name} (val/loss {loss:.4f})"


def check_name(name: str) -> None:
    """Refuse a run's name that would not be one directory.

    Raises:
        InputError: If it is not made of letters, digits, ``.``, ``_`` and ``-``.
    """
    if name and not re.fullmatch(r"\w[\w.-]*", name):
        raise InputError(f"A run cannot be named {name!r}.", "Use letters, digits, '.', '_', '-'.")
