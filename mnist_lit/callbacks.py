"""What a run writes besides scalars: its configuration, its progress, results and predictions."""

import csv
import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import (
    BasePredictionWriter,
    LearningRateMonitor,
    ModelCheckpoint,
    Timer,
)
from lightning.pytorch.loops.loop import _Loop
from torch import Tensor

from mnist_lit.data import Batch
from mnist_lit.errors import InputError
from mnist_lit.files import new_file, sha256, whole
from mnist_lit.hparams import HParams, hyperparameters
from mnist_lit.module import DigitClassifier
from mnist_lit.pictures import FitPictures
from mnist_lit.record import RunRecord, versions
from mnist_lit.restoring import verify_optimizer_states

PLACE = ("file", "line", "left", "top", "right", "bottom")  # of a digit in a folder of pictures


def fit_callbacks(
    config: dict[str, Any],
    changed: dict[str, Any],
    args: list[str],
    *,
    logs: bool,
    checkpoints: bool,
    validates: bool,
) -> list[Callback]:
    """The callbacks that every ``fit`` has, whatever its configuration adds.

    Args:
        config: All settings of the run, in primitives.
        changed: Those that differ from their defaults.
        args: The command line that gave them.
        logs: Whether there are loggers.
        checkpoints: Whether checkpoints are kept: the last, after every epoch, and the best.
        validates: Whether there is a validation loss, which the best checkpoint needs.
    """
    callbacks: list[Callback] = [RunRecord(config, args), WholeEpochs(), EpochLines()]
    callbacks.append(BusyProcessor())
    if logs:
        callbacks += [LearningRateMonitor("step"), Throughput(), FitPictures()]
        callbacks.append(HParams(hyperparameters(config, changed)))
    if checkpoints and validates:
        best = ModelCheckpoint(monitor="val/loss", filename="best", enable_version_counter=False)
        callbacks.append(best)
    if checkpoints:
        last = ModelCheckpoint(
            filename="last", save_on_train_epoch_end=True, enable_version_counter=False
        )
        callbacks.append(last)
    return callbacks


class WholeEpochs(Callback):
    """Lets a resumed run go on with the start of an epoch, and says with which.

    An epoch that the checkpoint has only a part of is run again, with the weights as they are.

    Raises:
        InputError: If a schedule that advances by the step would outlive its own length by that.
    """

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        loop = checkpoint["loops"]["fit_loop"]
        progress = loop["epoch_progress"]
        if not progress["current"]["ready"]:  # saved and restored by a tuner before the first epoch
            return
        part = not loop["epoch_loop.batch_progress"]["is_last_batch"]
        assert isinstance(pl_module, DigitClassifier)
        lengths = {"total_steps", "T_max"} & {key for s in checkpoint["lr_schedulers"] for key in s}
        if part and pl_module.scheduler_interval == "step" and lengths:
            raise InputError(
                f"{trainer.ckpt_path} was saved within an epoch, "
                "and its schedule has no steps left to repeat the start of it.",
                "Resume from a checkpoint saved at the end of an epoch, such as last.ckpt.",
            )
        finished = progress["current"]["ready"] - part
        for counts in progress.values():
            counts.update(dict.fromkeys(counts, finished))
        loop["epoch_loop.state_dict"]["_batches_that_stepped"] = checkpoint["global_step"]
        why = ", as the checkpoint lies in the middle of it" if part else ""
        pl_module.print(f"Goes on with the start of epoch {finished + 1}{why}")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # With max_steps Lightning always means to go on in the middle of an epoch.
        _Loop.restarting.fset(trainer.fit_loop, False)  # type: ignore[attr-defined]
        trainer.fit_loop.reset_restart_stage()
        verify_optimizer_states(trainer)


class Throughput(Callback):
    """Logs the images trained on per second, on all devices, over each epoch's steps."""

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._images = 0
        self._start = time.monotonic()

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
    ) -> None:
        self._images += len(batch[1])
        self._end = time.monotonic()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        rate = self._images * trainer.world_size / (self._end - self._start)
        pl_module.log("train/images_per_second", rate)


class EpochLines(Callback):
    """Prints a line an epoch, above the progress bar where there is one."""

    FIGURES = ("train/loss_epoch", "train/accuracy_epoch", "val/loss", "val/accuracy")

    def __init__(self) -> None:
        self._epoch = 0
        self._start = 0.0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._print_finished(trainer, pl_module)
        self._epoch = trainer.current_epoch + 1
        self._validated = False
        self._start = time.monotonic()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._validated = True

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._print_finished(trainer, pl_module)
        if trainer.global_step == trainer.max_steps:
            pl_module.print(f"Stopped by max_steps {trainer.max_steps}")
        for callback in trainer.callbacks:  # type: ignore[attr-defined]  # set late
            remaining = callback.time_remaining() if isinstance(callback, Timer) else None
            if remaining is not None and remaining <= 0:
                limit = timedelta(seconds=round(callback.time_elapsed() + remaining))
                pl_module.print(f"Stopped by max_time {limit}")
        for callback in trainer.early_stopping_callbacks:
            if callback.stopping_reason_message:
                why = " ".join(callback.stopping_reason_message.split())
                pl_module.print(f"Stopped early: {why}")

    def _print_finished(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self._epoch:
            return
        figures = trainer.callback_metrics
        parts = [
            f"{name.removesuffix('_epoch')} {figures[name]:.4f}"
            for name in self.FIGURES
            if name in figures and (self._validated or not name.startswith("val"))
        ]
        seconds = f"{time.monotonic() - self._start:.1f} s"
        pl_module.print("  ".join([f"epoch {self._epoch}/{trainer.max_epochs}", *parts, seconds]))
        sys.stdout.flush()


class BusyProcessor(Callback):
    """Says once if an epoch's threads waited long for a processor that other programs use."""

    SHARE = 0.25  # of an epoch; alone on a machine it is below 0.02
    LEAST = 5.0  # seconds

    def __init__(self) -> None:
        self._said = False

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._start = time.monotonic()
        self._waited = waited_for_processor()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        waited = waited_for_processor() - self._waited
        if self._said or waited < max(self.LEAST, self.SHARE * (time.monotonic() - self._start)):
            return
        self._said = True
        advice = "; OMP_NUM_THREADS=1 may be faster" if torch.get_num_threads() > 1 else ""
        pl_module.print(
            f"Epoch {trainer.current_epoch + 1} waited {waited:.0f} s for a processor, which other "
            f"programs are using{advice}"
        )


def waited_for_processor() -> float:
    """Sum the seconds that this process's threads were ready to run and had no processor.

    From Linux's scheduler statistics; 0 where there are none.
    """
    nanoseconds = 0
    for path in Path("/proc/self/task").glob("*/schedstat"):
        with suppress(OSError, ValueError, IndexError):  # a thread that has just ended
            nanoseconds += int(path.read_text().split()[1])
    return nanoseconds / 1e9


class Results(Callback):
    """Prints what ``validate`` and ``test`` found; ``test`` also writes ``test.json``.

    Args:
        checkpoint: The file whose weights are judged.
        directory: Gives the place of ``test.json``.
    """

    def __init__(self, checkpoint: Path, directory: Callable[[], Path]) -> None:
        self.checkpoint = checkpoint
        self.directory = directory

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        results = self._results(pl_module)
        pl_module.print(results_table(results))

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        results = self._results(pl_module)
        pl_module.print(results_table(results))
        if trainer.is_global_zero:
            path = self.directory() / "test.json"
            with whole(path) as partial:
                partial.write_text(json.dumps(results, indent=2) + "\n")
            pl_module.print(f"Results: {path}")

    def _results(self, pl_module: LightningModule) -> dict[str, Any]:
        assert isinstance(pl_module, DigitClassifier)
        judgement = {  # JSON has no infinity, and nothing that is not a number
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in pl_module.judgement.items()
        }
        return judgement | {
            "checkpoint": str(self.checkpoint),
            "sha256": sha256(self.checkpoint),
            "versions": versions(),
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
        }


def results_table(results: dict[str, Any]) -> str:
    """Lay out the results of a test for reading.

    Args:
        results: As in ``test.json``.
    """
    low, high = results["accuracy_interval"]
    wrong = ", ".join(map(str, results["wrong"][:10])) or "none"
    figures = {
        "images": f"{results['images']:,}",
        "errors": f"{results['errors']:,}",
        "accuracy": f"{results['accuracy']:.2%}, 95% interval {low:.2%} to {high:.2%}",
        "loss": f"{_or_dash(results['loss'], '.4f')} nats, the mean negative log-likelihood",
        "calibration error": _or_dash(results["calibration_error"], ".4f"),
        "Brier score": _or_dash(results["brier_score"], ".4f"),
        "digit": "".join(f"{digit:8}" for digit in range(10)),
        "recall": "".join(_or_dash(x, "8.1%") for x in results["accuracy_by_digit"]),
        "precision": "".join(_or_dash(x, "8.1%") for x in results["precision_by_digit"]),
        "wrong images": wrong + (", ..." if results["wrong"][10:] else ""),
    }
    return "\n".join(f"{name:19}{figure}" for name, figure in figures.items())


def _or_dash(value: float | None, form: str) -> str:
    width = form.partition(".")[0]
    return f"{'-':>{width}}" if value is None else f"{value:{form}}"


class Predictions(BasePredictionWriter):
    """Writes ``predictions.csv``: index, label, prediction, probability and loss of each image.

    Digits in a folder's pictures have no labels: their file, line and box stand there, and
    prediction and probability.

    Args:
        directory: Gives the place of the file. One that is there stays, and the name of the new
            one gets a number.
    """

    def __init__(self, directory: Callable[[], Path]) -> None:
        super().__init__(write_interval="epoch")
        self.directory = directory

    def write_on_epoch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        predictions: Sequence[dict[str, Tensor]],
        batch_indices: Sequence[Sequence[Sequence[int]]],
    ) -> None:
        """Gather the rows of all processes and write them in the order of the images."""
        indices = [index for batch in batch_indices[0] for index in batch]
        columns = {
            name: torch.cat([p[name] for p in predictions]).tolist() for name in predictions[0]
        }
        rows = list(zip(indices, *columns.values(), strict=True))
        if torch.distributed.is_initialized():
            parts: list[list[Any]] = [[] for _ in range(trainer.world_size)]
            torch.distributed.all_gather_object(parts, rows)
            rows = [row for part in parts for row in part]
        if not trainer.is_global_zero:
            return
        rows.sort()
        if places := trainer.datamodule.places:  # type: ignore[attr-defined]  # set late
            heading = [*PLACE, "prediction", "probability"]
            rows = [(*places[index], *answer) for index, _, *answer, _ in rows]
            about = f"digits {len(rows):,}, pictures {len({file for file, *_ in places}):,}"
        else:
            heading = ["index", *columns]
            wrong = sum(label != prediction for _, label, prediction, *_ in rows)
            about = f"images {len(rows):,}, wrong {wrong:,}"
        path = new_file(self.directory() / "predictions.csv")
        with whole(path) as partial, partial.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(heading)
            writer.writerows(rows)
        pl_module.print(f"Predictions: {path} ({about})")
