"""Load the settings, status and results of runs from their files, without torch."""

import csv
import fcntl
import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import isfinite
from pathlib import Path
from typing import Any

import yaml

# Settings that may differ between two runs of the same experiment.
IGNORED_SETTINGS = (
    *("seed_everything", "name", "ckpt_path", "config"),
    *("data.data_dir", "data.download", "trainer.default_root_dir"),
)
# Beginnings of other settings that cannot change what a run learns or scores.
WITHOUT_EFFECT = (
    *("data.num_workers", "data.eval_batch_size", "trainer.logger", "trainer.profiler"),
    *("trainer.log_every_n_steps", "trainer.enable_", "trainer.detect_anomaly"),
    *("trainer.num_sanity_val_steps", "trainer.inference_mode", "trainer.model_registry"),
    *("trainer.limit_test_batches", "trainer.limit_predict_batches"),
)

LOCK = ".mnist_lit.lock"  # in the directory of a run, held during training
STUDY = "study.json"  # in the directory of a sweep's study


@dataclass
class Run:
    """A run as recorded in its files; what they do not record is None or absent.

    Args:
        name: Path of its directory relative to that of all runs.
        when: Its start, in UTC, as ISO 8601.
        updated: When its status was last written.
        status: ``running``, ``finished``, ``stopped``, ``failed``, ``killed``, ``broken`` or
            ``unrecorded``.
        reason: Why it failed or is unrecorded, in one line.
        seed: The global seed.
        settings: By dotted key, without those in ``IGNORED_SETTINGS``.
        metrics: By the names in ``runs.table.METRICS``; losses in nats, accuracies in [0, 1],
            duration in seconds.
    """

    name: str
    when: str | None = None
    updated: datetime | None = None
    status: str = "broken"
    reason: str | None = None
    seed: int | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)

    def set_metrics(self, **metrics: object) -> None:
        """Add the finite metrics; a value that is neither finite nor None marks the run broken."""
        for name, value in metrics.items():
            if isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value):
                self.metrics[name] = value
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
    """Read all runs in or below a directory, oldest first; those of unknown age come last."""
    found = []
    for path in run_directories(directory):
        name = path.relative_to(directory).as_posix()
        found.append(read_run(path, path.resolve().name if path == directory else name))
    return sorted(found, key=lambda run: (run.when is None, run.when, natural_key(run.name)))


def read_run(path: Path, name: str) -> Run:
    """Read as much as possible of the run in directory ``path``."""
    run = Run(name)
    for read in (_read_status, _read_config, _read_metrics, _read_test):
        try:
            read(run, path)
        except Exception:  # parsing a damaged file may raise anything
            run.status = "broken"
    if in_training(path):
        run.status = "running"  # its files may be out of date
    recorded = any((path / name).exists() for name in ("status.json", "config.yaml"))
    if not recorded and (path / "checkpoints").is_dir():
        run.status, run.reason = "unrecorded", "Trained from Python, which leaves no record."
    return run


def in_training(path: Path) -> bool:
    """Whether a process holds the lock of the run in directory ``path``."""
    try:
        file = os.open(path / LOCK, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    except OSError:  # there is no lock
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: several may test it at once
    except BlockingIOError:
        return True
    except OSError:  # the file system does not support locks
        return False
    finally:
        os.close(file)  # releases the lock
    return False


def is_run(path: Path) -> bool:
    """Whether ``fit`` created the directory ``path``, so that its files may be replaced.

    It contains a lock or, from older versions, a valid status and configuration.
    """
    if (path / LOCK).is_file() and not (path / LOCK).is_symlink():
        return True
    try:
        status = _json(_text(path / "status.json"))
        _read_config(Run(path.name), path)
        return bool(status["started"] and status["command"].startswith("python -m mnist_lit fit"))
    except Exception:  # a damaged file, or another program's
        return False


def was_deleted(path: Path) -> bool:
    """Whether the directory ``path`` of a run was deleted or replaced during training."""
    return not ((path / LOCK).exists() or (path / "config.yaml").exists())


def has_started(path: Path) -> bool:
    """Whether the run in directory ``path`` has at least recorded its settings."""
    return any((path / name).exists() for name in ("config.yaml", "status.json", "checkpoints"))


def start_key(path: Path) -> tuple[float, list[str | int]]:
    """Return a key that sorts run directories by the start of the run.

    It comes from the status, which copying does not change, or else from a file's timestamp.
    """
    try:
        status = _json(_text(path / "status.json"))
        start = datetime.fromisoformat(status["started"]).timestamp()
    except Exception:  # parsing a damaged file may raise anything
        places = (path / "config.yaml", path)
        start = next((place.stat().st_mtime for place in places if place.exists()), 0.0)
    return start, natural_key(path.as_posix())


def best_run(runs: Iterable[Run]) -> Run | None:
    """Return the run with the lowest validation loss, if any has one.

    Unfinished runs count only if there are no finished ones.
    """
    validated = [run for run in runs if "val_loss" in run.metrics]
    finished = [run for run in validated if run.status == "finished"]
    return min(finished or validated, key=lambda run: run.metrics["val_loss"], default=None)


def best_of_study(directory: Path) -> Run | None:
    """The best run in the directory of a study, as :func:`best_run` chooses it.

    Returns:
        A run whose name is relative to ``directory``; None if this is not the directory of a
        study, or no run in it has a best checkpoint.
    """
    if not (directory / STUDY).is_file():
        return None
    runs = read_runs(directory)
    return best_run(
        run for run in runs if (directory / run.name / "checkpoints/best.ckpt").is_file()
    )


def _read_status(run: Run, path: Path) -> None:
    status = _json(_text(path / "status.json"))
    started = datetime.fromisoformat(status["started"]).astimezone()
    run.when = started.astimezone(UTC).isoformat()
    run.updated = datetime.fromisoformat(status["updated"])
    run.status = status["status"]
    if run.status not in ("running", "finished", "stopped", "failed"):
        raise ValueError(run.status)
    if run.status == "running":
        run.status = "killed"  # unless its lock turns out to be held
    if run.status == "failed":
        run.reason = str(status.get("reason", "")) or None
    run.set_metrics(epochs=status["epochs"], duration=status["seconds"])


def _read_config(run: Run, path: Path) -> None:
    config = _yaml(_text(path / "config.yaml"))
    config = _json(json.dumps(config, default=str))  # to JSON's types, which compare
    if not all(isinstance(config[part], dict) for part in ("trainer", "model", "data")):
        raise TypeError("not written by fit")
    run.seed = int(config["seed_everything"])
    run.settings = {key: value for key, value in flat(config) if key not in IGNORED_SETTINGS}


def _read_metrics(run: Run, path: Path) -> None:
    path /= "metrics.csv"
    if not path.exists():  # nothing logged yet
        return
    text, _, incomplete_line = _text(path).rpartition("\n")
    if incomplete_line and run.status == "finished":
        run.status = "broken"
    rows = csv.DictReader(text.splitlines())
    if "step" not in (rows.fieldnames or ()):
        raise ValueError("not written by fit")
    validated = [(float(row["val/loss"]), row) for row in rows if row.get("val/loss")]
    finite = [each for each in validated if isfinite(each[0])]  # a diverged run logs nan
    if finite:
        loss, row = min(finite, key=lambda each: each[0])
        run.set_metrics(val_loss=loss)
        run.set_metrics(val_accuracy=float(row["val/accuracy"]))


def _read_test(run: Run, path: Path) -> None:
    path /= "test.json"
    if path.exists():
        results = _json(_text(path))
        if run.updated and datetime.fromisoformat(results["date"]) < run.updated:
            return  # of a checkpoint from before the run was resumed
        dataset = run.settings.get("data.dataset", "MNIST")
        part = results.get("images", 0) < results.get("of_images", 0)
        if part or results.get("dataset", dataset) != dataset:
            return
        run.set_metrics(test_accuracy=results["accuracy"], test_loss=results["loss"])


def _text(path: Path) -> str:
    """The contents of a regular file: a pipe would never end.

    Raises:
        OSError: If it is not a regular file, or cannot be read.
    """
    if path.exists() and not path.is_file():
        raise OSError(f"{path} is not a file")
    return path.read_text("utf-8")


def _json(text: str) -> Any:
    return json.loads(text, parse_constant=str)  # NaN is not valid JSON


def _yaml(text: str) -> Any:
    """Parse YAML without aliases: ``fit`` writes none, and a few may stand for billions of values.

    Raises:
        ValueError: If there is an alias.
        YAMLError: If it is not YAML.
    """
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast, if available
    if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, loader)):
        raise ValueError("an alias")
    return yaml.load(text, loader)


def flat(settings: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted key and the value of each setting."""
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def natural_key(text: str) -> list[str | int]:
    """Return a key that sorts ``version_2`` before ``version_10``."""
    parts = re.split(r"(\d+)", text)  # text and digits alternate
    return [int(part) if place % 2 else part for place, part in enumerate(parts)]
