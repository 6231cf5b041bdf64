"""Run directories: create, lock and find them and their checkpoints."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from mnist_lit.errors import InputError
from mnist_lit.files import write_errors
from mnist_lit.runs.files import (
    LOCK,
    best_of_study,
    has_started,
    is_run,
    read_runs,
    run_directories,
    start_key,
)

LOG_DIR = "lightning_logs"


def new_run(log_dir: Path, name: str) -> Path:
    """Create the directory of a new run, ``log_dir/version_N`` or ``log_dir/name/version_N``.

    Safe if other processes do the same. The path is absolute, since Lightning identifies the
    checkpoints of a resumed run by their directory.
    """
    return _numbered((log_dir / name).resolve(), "version_")


def _numbered(parent: Path, prefix: str) -> Path:
    """Create a new directory, named ``prefix`` and the next free number."""
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
def training_lock(run: Path) -> Iterator[None]:
    """Hold the lock of a run during training.

    The operating system releases it when the process ends, even if it is killed.

    Raises:
        InputError: If another process holds it, or the directory cannot be written to.
    """
    lock = FileLock(run / LOCK, timeout=2)  # a process that tests the lock holds it for a moment
    with write_errors(run):
        try:
            lock.acquire()
        except Timeout as error:
            raise InputError(
                f"Another process is training {run}.",
                "Wait for it to finish, or stop it.",
            ) from error
    try:
        yield
    finally:
        lock.release()


def results_directory(checkpoints: Sequence[Path], log_dir: Path, command: str) -> Path:
    """Return the directory for the results of a checkpoint, or of an ensemble of several.

    Returns:
        That of its run. For an ensemble or a checkpoint from elsewhere a new one,
        ``log_dir/COMMAND_N``, so that only files written by a run are ever replaced.
    """
    run = run_of(checkpoints[0])
    its_own = len(checkpoints) == 1 and run != checkpoints[0].parent and is_run(run)
    return run if its_own else _numbered(log_dir, f"{command}_")


def run_of(checkpoint: Path) -> Path:
    """Return the directory of the run that wrote ``checkpoint``, or else the checkpoint's own."""
    parent = checkpoint.parent
    return parent.parent if parent.name == "checkpoints" else parent


def resumable(checkpoint: Path, state: dict[str, Any]) -> Path | None:
    """Return the directory in which to resume from ``checkpoint``; None if it must be a new one.

    Only from its last checkpoint is a run resumed in its own directory. From an earlier one, or
    after the directory was moved, it would overwrite later results.

    Args:
        checkpoint: The file to resume from.
        state: The contents of the file.
    """
    run = run_of(checkpoint).resolve()
    known = [callback.get("dirpath") for callback in state.get("callbacks", {}).values()]
    its_own = checkpoint.name == "last.ckpt" and str(run / "checkpoints") in known
    return run if its_own and is_run(run) else None


def checkpoints(log_dir: Path, pattern: str = "*") -> list[Path]:
    """List the checkpoints below ``log_dir`` whose name matches, those of the newest run first."""
    found = log_dir.glob(f"**/checkpoints/{pattern}.ckpt")
    return sorted(found, key=lambda path: (start_key(run_of(path)), _mtime(path)), reverse=True)


def _mtime(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # removed in the meantime
        return 0.0


def find_checkpoint(which: str, log_dir: Path, *, of_newest: bool = False) -> Path:
    """Find a checkpoint by its path, or the ``best`` or ``last`` one of the newest run.

    Args:
        which: A path, or ``best`` or ``last`` for the newest run that has one. If that run is a
            trial of a sweep, ``best`` means the best trial.
        log_dir: Directory of the runs.
        of_newest: Whether only the newest run counts, even if an older one has such a checkpoint.

    Raises:
        InputError: If there is no such checkpoint.
    """
    if which not in ("best", "last"):
        return _existing(Path(which), log_dir)
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
        newest = max([newest, *filter(has_started, run_directories(log_dir))], key=start_key)
    if which == "best" and (best := best_of_study(newest.parent)):
        return newest.parent / best.name / "checkpoints" / "best.ckpt"
    if run_of(found[0]) != newest:
        raise InputError(
            f"The newest run, {newest}, has no {which} checkpoint.",
            f"Resume an older run, as with --ckpt_path {found[0]}, or train without --ckpt_path.",
        )
    return found[0]


def find_checkpoints(names: Sequence[str], log_dir: Path) -> list[Path]:
    """Find checkpoints by path, as ``best`` or ``last``, or by the name of several runs.

    Args:
        names: The name of a study, or of runs that were given the same name, means the ``best``
            checkpoint of each finished one.
        log_dir: Directory of the runs.

    Raises:
        InputError: If there is no such checkpoint.
    """
    found = []
    for name in names:
        directory = log_dir / name
        if name in ("best", "last") or Path(name).exists() or not directory.is_dir():
            found.append(find_checkpoint(name, log_dir))
            continue
        finished = [run.name for run in read_runs(directory) if run.status == "finished"]
        saved = [directory / run / "checkpoints" / "best.ckpt" for run in finished]
        if not any(path.is_file() for path in saved):
            what = f"No finished run in {directory} has a best checkpoint."
            raise InputError(what, "Wait for one, or give the path of a checkpoint.")
        found += filter(Path.is_file, saved)
    return found


def _existing(path: Path, log_dir: Path) -> Path:
    if path.is_file():
        return path
    found = checkpoints(path) or checkpoints(log_dir)
    raise InputError(
        f"{path} is a directory." if path.is_dir() else f"There is no checkpoint {path}.",
        f"The newest is {found[0]}." if found else f"There are none in {log_dir} either.",
    )


def describe_checkpoint(checkpoint: Path) -> str:
    """Return a checkpoint's path, with a note if it is the best of a study."""
    run = run_of(checkpoint)
    best = best_of_study(run.parent) if checkpoint.name == "best.ckpt" else None
    if best is None or run != run.parent / best.name:
        return str(checkpoint)
    loss = best.metrics["val_loss"]
    return f"{checkpoint}, best of study {run.parent.name} (val/loss {loss:.4f})"


def check_name(name: str) -> None:
    """Check that a run's name is a single directory name, and not that of a run directory.

    Raises:
        InputError: If it contains anything but letters, digits, ``.``, ``_`` and ``-``, or is
            ``version_N``.
    """
    if re.fullmatch(r"version_\d+", name):
        hint = "Give another name. To resume a run, give its last.ckpt: --ckpt_path FILE"
        raise InputError(f"{name} is a name that directories of runs get.", hint)
    if name and not re.fullmatch(r"\w[\w.-]*", name):
        what = f"{name!r} is not a valid run name."
        raise InputError(what, "Use letters, digits, '.', '_' and '-'.")
