"""The record of a run: settings, status and environment, on disk and in TensorBoard."""

import json
import os
import platform
import re
import shlex
import socket
import subprocess
import time
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import yaml
from lightning.pytorch import Callback, LightningModule, Trainer

from mnist_lit import __version__
from mnist_lit.errors import InputError
from mnist_lit.files import atomic_write
from mnist_lit.module import DigitClassifier
from mnist_lit.runs.files import LOCK, has_started, read_run, was_deleted
from mnist_lit.training.loggers import run_directory, run_ids, writers

PACKAGES = ("torch", "torchvision", "lightning", "torchmetrics")

SHOWN_STATUS = ("started", "command", "commit", "device", "parameters")


class RunEndedError(Exception):
    """Ends a run that has not failed, such as a pruned trial."""


class RunRecord(Callback):
    """Records a run's settings and status in its directory, its checkpoints and TensorBoard.

    ``config.yaml`` and ``checkpoint["config"]`` contain all settings. ``status.json`` contains the
    status (``running``, ``finished``, ``stopped`` or ``failed``) with the reason of a failure, the
    start, the completed epochs, the seconds of training including resumptions, and the
    environment, and the runs of W&B and MLflow.

    Args:
        config: All settings of the run, as primitives.
        args: The command line.
    """

    def __init__(self, config: dict[str, Any], args: list[str]) -> None:
        self.config = config
        self.args = args
        self.status: dict[str, Any] = {}
        self.path: Path | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        run = run_directory(trainer)
        if not run:
            return
        earlier = _earlier(run)
        self.path = run / "status.json"
        self._write_config()
        self.start = time.monotonic() - earlier.get("seconds", 0)
        self.status = {
            "started": earlier.get("started", _now("auto")),
            "epochs": earlier.get("epochs", 0),
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "command": shlex.join(["python", "-m", "mnist_lit", *self.args]),
            **environment(trainer),
            "loggers": run_ids(trainer),
        }
        self._write("running")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, DigitClassifier)
        if not self.path:
            return
        self._record_batch_size(trainer)
        parameters = sum(parameter.numel() for parameter in pl_module.network.parameters())
        text = f"```yaml\n{yaml.safe_dump(self.config, sort_keys=False)}```"
        table = _markdown_table({**self.status, "parameters": f"{parameters:,}"})
        for writer in writers(trainer):
            writer.add_text("configuration", text)
            writer.add_text("environment", table)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.status["epochs"] = trainer.current_epoch + trainer.is_last_batch  # unless cut short
        self._write("running")

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self.path:
            return
        self._write("finished")

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        failed = isinstance(exception, Exception) and not isinstance(exception, RunEndedError)
        with suppress(InputError):  # perhaps a full disk; the exception is reported anyway
            if failed:
                self._write("failed", reason=_reason(exception))
            else:
                self._write("stopped")

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        checkpoint["config"] = self.config
        epochs, steps = trainer.current_epoch + 1, trainer.global_step
        long_enough = epochs >= (trainer.min_epochs or 0) and steps >= (trainer.min_steps or 0)
        checkpoint["stopped_early"] = trainer.should_stop and long_enough

    def _record_batch_size(self, trainer: Trainer) -> None:
        """Record the batch size that BatchSizeFinder has found."""
        found = trainer.datamodule.batch_size  # type: ignore[attr-defined]
        if self.config["data"]["batch_size"] != found:
            self.config["data"]["batch_size"] = found
            self._write_config()

    def _write_config(self) -> None:
        assert self.path
        with atomic_write(self.path.with_name("config.yaml")) as partial:
            partial.write_text(yaml.safe_dump(self.config, sort_keys=False))

    def _write(self, status: str, **more: str) -> None:
        if self.path and was_deleted(self.path.parent):
            raise deleted_error(self.path.parent)  # instead of recreating it
        if self.path:
            seconds = round(time.monotonic() - self.start, 1)
            now = {"status": status, **more, "updated": _now(), "seconds": seconds}
            with atomic_write(self.path) as partial:
                partial.write_text(json.dumps(now | self.status, indent=2) + "\n")


def deleted_error(run: Path) -> InputError:
    """Return the error for a run whose directory has disappeared."""
    return InputError(
        f"The directory of the run, {run}, was deleted or replaced during training.",
        "Train again, and leave the directory in place until the run ends.",
    )


def remove_unrecorded(run: Path) -> None:
    """Remove the directory of a new run that ended before its settings were recorded."""
    if has_started(run) or not (run / LOCK).exists():
        return
    for path in (run / LOCK, *run.glob("events.out.tfevents.*")):
        path.unlink()
    with suppress(OSError):  # another logger has written to it
        run.rmdir()


def _earlier(path: Path) -> dict[str, Any]:
    """Return start, epochs and seconds of a resumed run; nothing if the status is damaged."""
    run = read_run(path, path.name)
    if not (run.when and {"epochs", "duration"} <= run.metrics.keys()):
        return {}
    return {
        "started": run.when,
        "epochs": run.metrics["epochs"],
        "seconds": run.metrics["duration"],
    }


def recorded_run_ids(run: Path) -> dict[str, str]:
    """Return the runs of W&B and MLflow in the record of a run; none if it is damaged."""
    try:
        ids = json.loads((run / "status.json").read_text())["loggers"].items()
        return {name: value for name, value in ids if re.fullmatch(r"[\w-]{1,64}", value)}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return {}


def _reason(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [""]
    kind = "" if isinstance(error, InputError) else f"{type(error).__name__}: "
    return f"{kind}{lines[0]}"[:200]


def versions() -> dict[str, str]:
    """Return the versions of Python, of this package and of those that affect results."""
    own = {"python": platform.python_version(), "mnist-lit": __version__}
    return own | {name: version(name) for name in PACKAGES}


def environment(trainer: Trainer) -> dict[str, Any]:
    """Return the commit of the working directory, the device and the versions."""
    git = ["git", "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        commit = subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):  # git is missing, or there is no repository
        commit = "none"
    device = trainer.strategy.root_device
    on_gpu = device.type == "cuda"
    name = torch.cuda.get_device_name(device) if on_gpu else f"{torch.get_num_threads()} threads"
    return {
        "commit": commit,
        "device": f"{trainer.world_size} x {device.type} ({name})",
        "versions": versions(),
    }


def _markdown_table(status: dict[str, Any]) -> str:
    rows = {name: value for name, value in status.items() if name in SHOWN_STATUS}
    rows |= status["versions"]
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {rows[name]} |" for name in rows)])


def _now(precision: str = "seconds") -> str:
    return datetime.now(UTC).isoformat(timespec=precision)
