"""What a run says of itself: settings, state and environment, on disk and in TensorBoard."""

import json
import os
import platform
import shlex
import socket
import subprocess
import time
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import yaml
from lightning.pytorch import Callback, LightningModule, Trainer

from mnist_lit.errors import InputError
from mnist_lit.files import whole
from mnist_lit.module import DigitClassifier
from mnist_lit.runs.directories import training
from mnist_lit.runs.files import in_training, is_gone, is_run, read_run
from mnist_lit.training.loggers import writers

PACKAGES = ("mnist-lit", "torch", "torchvision", "lightning", "torchmetrics")

SHOWN_STATUS = ("started", "command", "commit", "device", "parameters")


class RunEndedError(Exception):
    """An exception that ends a run without being a failure of it."""


class RunRecord(Callback):
    """Keeps a run's settings and state in its directory, its checkpoints and TensorBoard.

    ``config.yaml`` and ``checkpoint["config"]`` hold all settings. ``status.json`` says whether
    the run is ``running``, ``finished``, ``stopped`` or ``failed`` and for what reason, since when,
    its finished epochs, the seconds that it has taken over all resumptions, and in which
    environment. The lock of the run is held while it is trained.

    Args:
        config: All settings of the run, in primitives.
        args: The command line that gave them.
    """

    def __init__(self, config: dict[str, Any], args: list[str]) -> None:
        self.config = config
        self.args = args
        self.status: dict[str, Any] = {}
        self.path: Path | None = None
        self._lock = ExitStack()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        log_dir = trainer.log_dir  # all ranks have to ask
        if not (trainer.is_global_zero and trainer.loggers and log_dir):
            return
        run = Path(log_dir)
        if not is_run(run) and any(
            (run / name).exists() for name in ("config.yaml", "status.json")
        ):
            pl_module.print(f"No config.yaml and status.json: those in {log_dir} are not of a run.")
            return
        run.mkdir(parents=True, exist_ok=True)
        if not in_training(run):  # a directory that a logger of the user's has chosen
            self._lock.enter_context(training(run))
        earlier = _earlier(run)
        with whole(run / "config.yaml") as path:
            path.write_text(yaml.safe_dump(self.config, sort_keys=False))
        self.path = run / "status.json"
        self.start = time.monotonic() - earlier.get("seconds", 0)
        self.status = {
            "started": earlier.get("started", _now("auto")),
            "epochs": earlier.get("epochs", 0),
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "command": shlex.join(["python", "-m", "mnist_lit", *self.args]),
            **environment(trainer),
        }
        self._write("running")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, DigitClassifier)
        if not self.path:
            return
        parameters = sum(parameter.numel() for parameter in pl_module.network.parameters())
        text = f"```yaml\n{yaml.safe_dump(self.config, sort_keys=False)}```"
        table = _markdown_table({**self.status, "parameters": f"{parameters:,}"})
        for writer in writers(trainer):
            writer.add_text("configuration", text)
            writer.add_text("environment", table)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.status["epochs"] = trainer.current_epoch + 1
        self._write("running")

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self.path:
            return
        self._write("finished")

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        failed = isinstance(exception, Exception) and not isinstance(exception, RunEndedError)
        with suppress(InputError):  # a full disk, perhaps; the exception says more
            if failed:
                self._write("failed", reason=_reason(exception))
            else:
                self._write("stopped")
        self._lock.close()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._lock.close()

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        checkpoint["config"] = self.config
        epochs, steps = trainer.current_epoch + 1, trainer.global_step
        long_enough = epochs >= (trainer.min_epochs or 0) and steps >= (trainer.min_steps or 0)
        checkpoint["stopped_early"] = trainer.should_stop and long_enough

    def _write(self, status: str, **more: str) -> None:
        if self.path and is_gone(self.path.parent):
            raise gone(self.path.parent)  # rather than make it anew
        if self.path:
            seconds = round(time.monotonic() - self.start, 1)
            now = {"status": status, **more, "updated": _now(), "seconds": seconds}
            with whole(self.path) as partial:
                partial.write_text(json.dumps(now | self.status, indent=2) + "\n")


def gone(run: Path) -> InputError:
    """What to say of a run whose directory is no longer there."""
    return InputError(
        f"The directory of the run, {run}, was deleted or replaced during the training.",
        "Train again, and leave it in its place until the end.",
    )


def _earlier(path: Path) -> dict[str, Any]:
    """What the status of a resumed run tells; nothing if it is missing or damaged."""
    run = read_run(path, path.name)
    if not (run.when and {"epochs", "duration"} <= run.figures.keys()):
        return {}
    return {
        "started": run.when,
        "epochs": run.figures["epochs"],
        "seconds": run.figures["duration"],
    }


def _reason(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [""]
    kind = "" if isinstance(error, InputError) else f"{type(error).__name__}: "
    return f"{kind}{lines[0]}"[:200]


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that a result depends on."""
    return {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}


def environment(trainer: Trainer) -> dict[str, Any]:
    """Where a run takes place: commit of the working directory, versions, device."""
    git = ["git", "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        commit = subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):  # no git, or no repository
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
