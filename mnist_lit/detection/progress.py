"""Training progress: a line for each epoch, for output that is not a terminal."""

from lightning.pytorch import Callback, LightningModule, Trainer

METRICS = ("train/loss", "val/loss", "val/average_precision")


class EpochLines(Callback):
    """Prints the metrics of each epoch."""

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        known = trainer.callback_metrics
        texts = [f"{name} {known[name]:.4f}" for name in METRICS if name in known]
        pl_module.print(f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}", *texts, sep="  ")
