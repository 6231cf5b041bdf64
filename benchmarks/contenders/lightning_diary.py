"""The diary of both that train with Lightning, as a callback."""

from typing import Any

from diary import Diary
from lightning.pytorch import Callback, LightningModule, Trainer


class Witness(Callback):
    """Tests whenever the training validates, with the weights that are validated.

    Args:
        epochs: See :class:`diary.Diary`.
        fixed: Whether the training takes the epochs of its configuration, whatever they give.
    """

    def __init__(self, epochs: int, fixed: bool = False) -> None:
        self.diary = Diary(epochs)
        self.fixed = fixed

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.diary.note("begin")

    def on_train_batch_end(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        self.diary.stepped()
        if trainer.is_last_batch:
            self.diary.note("trained")

    # Not at the end of the epoch: only here a moving average of the weights is in their place.
    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking:
            return
        self.diary.note("test")
        enough = self.diary.tested(self._accuracy(trainer, pl_module))
        trainer.should_stop |= enough and not self.fixed

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.diary.note("end")

    def _accuracy(self, trainer: Trainer, module: LightningModule) -> float:
        data = trainer.datamodule  # type: ignore[attr-defined]
        if not hasattr(data, "test_set"):
            data.setup("test")
        right = 0
        with trainer.precision_plugin.val_step_context():
            for batch in data.test_dataloader():
                images, labels = trainer.strategy.batch_to_device(batch, dataloader_idx=0)
                right += int((module(images).argmax(dim=1) == labels).sum())
        return right / len(data.test_set)
