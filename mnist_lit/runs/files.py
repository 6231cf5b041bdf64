"""What the files of runs tell of them, read without torch."""

import csv
import fcntl
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import isfinite
from pathlib import Path
from typing import Any

import yaml

# What may differ between two runs of the same experiment.
NO_DIFFERENCE = (
    *("seed_everything", "name", "ckpt_path", "config"),
    *("data.data_dir", "trainer.default_root_dir"),
)

LOCK = ".mnist_lit.lock"  # in the directory of a run, held for as long as it is trained
STUDY = "study.json"  # in the directory of a sweep's study


@dataclass
class Run:
    """What the files of a run tell; what they do not tell is None or absent.

    Args:
        name: Path of its directory below that of all runs.
        when: Its start, ISO 8601 in UTC.
        updated: When its status was last written.
        status: ``running``, ``finished``, ``stopped``, ``failed``, ``killed`` or ``broken``.
        reason: Why it failed, in one line.
        seed: Of everything.
        settings: By dotted keys, without those in ``NO_DIFFERENCE``.
        figures: By the names in ``FIGURES``: nats, shares in [0, 1], seconds.
    """

    name: str
    when: str | None = None
    updated: datetime | None = None
    status: str = "broken"
    reason: str | None = None
    seed: int | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    figures: dict[str, float] = field(default_factory=dict)

    def take(self, **figures: object) -> None:
        """Keep the figures that are finite numbers; what is neither that nor None is damage."""
        for name, value in figures.items():
            if isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value):
                self.figures[name] = value
            elif value is not None:
                self.status = "broken"


def run_directories(directory: Path) -> Iterator[Path]:
    """Find the directories of all runs in or below a directory."""
    for place, below, files in os.walk(directory):
        path = Path(place)
        if "config.yaml" in files or re.fullmatch(r"version_\d+", path.name):
            yield path
            below.clear()


def read_runs(directory: Path) -> list[Run]:
    """Read all runs in or below a directory, the oldest first, and last those of unknown age."""
    found = []
    for path in run_directories(directory):
        name = path.relative_to(directory).as_posix()
        found.append(read_run(path, path.resolve().name if path == directory else name))
    return sorted(found, key=lambda run: (run.when is None, run.when, natural(run.name)))


def read_run(path: Path, name: str) -> Run:
    """Read the run in directory ``path``, as much of it as can be read."""
    run = Run(name)
    for read in (_read_status, _read_config, _read_metrics, _read_test):
        try:
            read(run, path)
        except Exception:  # a damaged file makes its reader raise anything
            run.status = "broken"
    if in_training(path):
        run.status = "running"  # whatever its files say, which it may not have written yet
    return run


def in_training(path: Path) -> bool:
    """Whether a process holds the lock of the run in directory ``path``."""
    try:
        file = os.open(path / LOCK, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    except OSError:  # there is none
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # two that look do not see each other
    except BlockingIOError:
        return True
    except OSError:  # the file system has no locks
        return False
    finally:
        os.close(file)  # which releases it
    return False


def is_run(path: Path) -> bool:
    """Whether ``fit`` has made the directory ``path``, so that its files may be replaced.

    The sign is the lock; a run from before there was one has a sound status and configuration.
    """
    if (path / LOCK).is_file() and not (path / LOCK).is_symlink():
        return True
    try:
        status = _json(_text(path / "status.json"))
        _read_config(Run(path.name), path)
        return bool(status["started"] and status["command"].startswith("python -m mnist_lit fit"))
    except Exception:  # a damaged file, or one of another program
        return False


def is_gone(path: Path) -> bool:
    """Whether the directory ``path`` of a run in training is no longer there, or another one."""
    return not ((path / LOCK).exists() or (path / "config.yaml").exists())


def begun(path: Path) -> bool:
    """Whether the run in directory ``path`` has got as far as its settings, or further."""
    return any((path / name).exists() for name in ("config.yaml", "status.json", "checkpoints"))


def by_age(path: Path) -> tuple[float, list[str | int]]:
    """A key that sorts the directories of runs by their start.

    That is what their status says; copying does not change it. Without one, a file's age has to do.
    """
    try:
        status = _json(_text(path / "status.json"))
        start = datetime.fromisoformat(status["started"]).timestamp()
    except Exception:  # a damaged file makes its reader raise anything
        places = (path / "config.yaml", path)
        start = next((place.stat().st_mtime for place in places if place.exists()), 0.0)
    return start, natural(path.as_posix())


def best_of_study(directory: Path) -> Run | None:
    """The run with the lowest validation loss in the directory of a study.

    Runs that are not finished count only if none is.

    Returns:
        A run whose name is relative to ``directory``; None if that is not a study's, or if no run
        in it has a best checkpoint.
    """
    if not (directory / STUDY).is_file():
        return None
    judged = [
        run
        for run in read_runs(directory)
        if "val_loss" in run.figures and (directory / run.name / "checkpoints/best.ckpt").is_file()
    ]
    finished = [run for run in judged if run.status == "finished"]
    return min(finished or judged, key=lambda run: run.figures["val_loss"], default=None)


def _read_status(run: Run, path: Path) -> None:
    status = _json(_text(path / "status.json"))
    started = datetime.fromisoformat(status["started"]).astimezone()  # local, as it will be shown
    run.when = started.astimezone(UTC).isoformat()
    run.updated = datetime.fromisoformat(status["updated"])
    run.status = status["status"]
    if run.status not in ("running", "finished", "stopped", "failed"):
        raise ValueError(run.status)
    if run.status == "running":
        run.status = "killed"  # unless its lock is held
    if run.status == "failed":
        run.reason = str(status.get("reason", "")) or None
    run.take(epochs=status["epochs"], duration=status["seconds"])


def _read_config(run: Run, path: Path) -> None:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast where there is one
    config = yaml.load(_text(path / "config.yaml"), loader)
    config = _json(json.dumps(config, default=str))  # YAML has more types, which do not compare
    if not all(isinstance(config[part], dict) for part in ("trainer", "model", "data")):
        raise TypeError("not written by fit")
    run.seed = int(config["seed_everything"])
    run.settings = {key: value for key, value in flat(config) if key not in NO_DIFFERENCE}


def _read_metrics(run: Run, path: Path) -> None:
    path /= "metrics.csv"
    if not path.exists():  # nothing was logged yet
        return
    text, _, cut = _text(path).rpartition("\n")
    if cut and run.status == "finished":  # any other run may end within a line
        run.status = "broken"
    rows = csv.DictReader(text.splitlines())
    if "step" not in (rows.fieldnames or ()):
        raise ValueError("not written by fit")
    judged = [(float(row["val/loss"]), row) for row in rows if row.get("val/loss")]
    finite = [each for each in judged if isfinite(each[0])]  # a run that diverged logs nan
    if finite:
        loss, row = min(finite, key=lambda each: each[0])
        run.take(val_loss=loss)
        run.take(val_accuracy=float(row["val/accuracy"]))


def _read_test(run: Run, path: Path) -> None:
    path /= "test.json"
    if path.exists():
        results = _json(_text(path))
        if run.updated and datetime.fromisoformat(results["date"]) < run.updated:
            return  # a checkpoint of the run before it was trained further
        run.take(test_accuracy=results["accuracy"], test_loss=results["loss"])


def _text(path: Path) -> str:
    """The contents of a regular file: a pipe would never end.

    Raises:
        OSError: If it is none, or cannot be read.
    """
    if path.exists() and not path.is_file():
        raise OSError(f"{path} is not a file")
    return path.read_text("utf-8")


def _json(text: str) -> Any:
    return json.loads(text, parse_constant=str)  # JSON has no NaN: not a number for us either


def flat(settings: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Give dotted key and value of each setting."""
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def natural(text: str) -> list[str | int]:
    """A key that sorts ``version_2`` before ``version_10``."""
    parts = re.split(r"(\d+)", text)  # text and digits in turn, so that 2 comes before 10
    return [int(part) if place % 2 else part for place, part in enumerate(parts)]
