"""TensorBoard's HPARAMS tab: a run's settings with the metrics of its best epoch."""

from contextlib import suppress
from math import inf
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import Logger, MLFlowLogger
from torch.utils.tensorboard import FileWriter
from torch.utils.tensorboard.summary import hparams, scalar

from mnist_lit.metrics import Evaluation
from mnist_lit.module import DigitClassifier
from mnist_lit.runs.comparison import option
from mnist_lit.runs.files import flat, read_run
from mnist_lit.runs.table import compact
from mnist_lit.training.loggers import run_directory, writers

# TensorBoard shows the latest value of every scalar in the directory that holds the settings.
# A subdirectory keeps it from showing the last epoch instead of the best.
DIRECTORY = "hparams"
SHOWN = ("loss", "accuracy")

# Shown even at their default, since most comparisons are about them.
ALWAYS = (
    *("seed_everything", "trainer.max_epochs", "data.batch_size"),
    *("model.network.class_path", "model.optimizer.class_path", "model.optimizer.init_args.lr"),
)
# Names and paths, which do not affect training.
NEVER = (
    *("name", "ckpt_path", "config", "data.data_dir", "data.download", "data.predict_dir"),
    *("data.own_dir", "trainer.default_root_dir", "trainer.logger"),
)


class HParams(Callback):
    """Writes a run's settings and the loss and accuracy of its best epoch for HPARAMS.

    The best epoch is the one with the lowest validation loss, as for ``best.ckpt`` and ``runs``.

    Args:
        values: The settings, from :func:`hyperparameters`.
    """

    def __init__(self, values: dict[str, str | float]) -> None:
        self.values = values
        self.best = inf
        self._writers: list[FileWriter] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        run = run_directory(trainer)
        if not run:
            return
        batch_size = trainer.datamodule.batch_size  # type: ignore[attr-defined]
        self.values["data.batch_size"] = batch_size  # BatchSizeFinder may have changed it
        for logger in trainer.loggers:
            _log_settings(logger, self.values)
        # Skip torch's experiment summary: TensorBoard would use the first run's columns for all.
        _, settings, _ = hparams(self.values, {})  # type: ignore[no-untyped-call]
        earlier: dict[str, float] = {}  # of a resumed run
        directory = run / DIRECTORY
        own = any(Path(writer.log_dir) == run for writer in writers(trainer))
        if own and not directory.is_symlink():
            earlier = read_run(run, "").metrics
            for events in directory.glob("events.out.tfevents.*"):
                events.unlink()  # or TensorBoard would show the settings from before the resume
            self._writers.append(FileWriter(str(directory)))
            self._writers[-1].add_summary(settings)
            self._writers[-1].flush()
        if "val_loss" in earlier:
            self._write(earlier["val_loss"], earlier["val_accuracy"], trainer.global_step)

    def observe(self, model: DigitClassifier, split: str, evaluation: Evaluation) -> None:
        """Write loss and accuracy if this epoch is the best so far."""
        loss, accuracy = (evaluation.scores[name] for name in SHOWN)
        if loss < self.best:
            self._write(loss, accuracy, model.trainer.global_step)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._close()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        with suppress(OSError):  # perhaps a full disk; the exception is reported anyway
            self._close()

    def _write(self, loss: float, accuracy: float, steps: int) -> None:
        self.best = loss
        for writer in self._writers:
            _add(writer, "val", {"loss": loss, "accuracy": accuracy}, steps - 1)

    def _close(self) -> None:
        while self._writers:
            self._writers.pop().close()


def _log_settings(logger: Logger, values: dict[str, str | float]) -> None:
    if isinstance(logger, MLFlowLogger):  # an error if a resumed run has another value
        logged = logger.experiment.get_run(logger.run_id).data.params
        values = {name: value for name, value in values.items() if name not in logged}
    logger.log_hyperparams(values)


def add_test(run: Path, scores: dict[str, Any], step: int) -> None:
    """Add test results to the HPARAMS of the run that wrote the checkpoint.

    Args:
        run: Directory of the run; nothing is written if it has no HPARAMS.
        scores: Includes ``loss`` and ``accuracy``.
        step: The last step before the checkpoint.
    """
    if (run / DIRECTORY).is_dir() and not (run / DIRECTORY).is_symlink():
        writer = FileWriter(str(run / DIRECTORY))
        _add(writer, "test", scores, step)
        writer.close()


def _add(writer: FileWriter, split: str, scores: dict[str, Any], step: int) -> None:
    for name in SHOWN:
        writer.add_summary(scalar(f"{split}/{name}", scores[name]), step)  # type: ignore[no-untyped-call]
    writer.flush()  # in case the run is killed


def hyperparameters(config: dict[str, Any], changed: dict[str, Any]) -> dict[str, str | float]:
    """Select the settings that distinguish runs: flat primitives, named like the options.

    Args:
        config: All settings of a run, as primitives.
        changed: Those that differ from their default.
    """
    settings = dict(flat(config))
    keys = [*(key for key in ALWAYS if key in settings), *dict(flat(changed))]
    return {
        option(key): _primitive(key, settings[key])
        for key in dict.fromkeys(keys)
        if not key.startswith(NEVER)
    }


def _primitive(key: str, value: Any) -> str | float:
    if key.endswith(".class_path"):
        return str(value).rpartition(".")[2]
    return value if isinstance(value, int | float) else compact(value)
