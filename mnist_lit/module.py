"""DigitClassifier: a network with its loss, metrics and optimizer, as a LightningModule."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Literal

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torchmetrics import MeanMetric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from mnist_lit.augment import apply
from mnist_lit.checkpoints import CheckpointModule
from mnist_lit.data import Batch
from mnist_lit.errors import InputError, first_line, place
from mnist_lit.metrics import SCALARS, Evaluation, Outputs, evaluate
from mnist_lit.networks import TutorialCNN

# The arguments of torch's schedulers that set their length.
SCHEDULE_LENGTHS = ("total_steps", "T_max", "total_iters")

# Called with the module, ``val`` or ``test``, and the results.
Observer = Callable[["DigitClassifier", str, Evaluation], None]


class DigitClassifier(CheckpointModule):
    """Trains and evaluates a network that classifies the ten digits.

    The training loss is cross-entropy with the given weights and smoothing; ``train/loss`` is its
    mean over the steps since the last log. Validation and test report plain cross-entropy, the
    mean negative log-likelihood in nats, so that runs compare.

    Args:
        network: A module from ``float32 (n, 1, 28, 28)`` in [0, 1] to ``(n, 10)`` logits;
            TutorialCNN if not given.
        augmentation: Called with images and labels of a training batch, on the device; returns
            images and targets, which are labels or probabilities, like torchvision's v2
            transforms. Images that are not digits may follow the digits.
        optimizer: Its class, or another callable, called with the parameters.
        scheduler: The same, called with the optimizer. A total_steps, T_max or total_iters of
            null or -1 is replaced by the length of the training.
        scheduler_interval: Whether the scheduler advances every step or every epoch.
        class_weights: Ten weights of the digits in the training loss, a weighted mean as in
            ``CrossEntropyLoss``.
        label_smoothing: In [0, 1): share of the target distributed evenly over the ten digits
            (Szegedy et al., "Rethinking the Inception architecture", 2016).
        compile: Whether fit compiles the network with ``torch.compile``; useful on GPUs.

    Attributes:
        observers: Called with the results of every validation and test, as a value.

    Raises:
        InputError: If the weights or the smoothing are out of range.
    """

    def __init__(
        self,
        network: nn.Module | None = None,
        augmentation: nn.Module | None = None,
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer] = torch.optim.Adam,
        scheduler: Callable[[Optimizer], LRScheduler] | None = None,
        scheduler_interval: Literal["step", "epoch"] = "epoch",
        class_weights: list[float] | None = None,
        label_smoothing: float = 0.0,
        compile: bool = False,
    ) -> None:
        super().__init__()
        network = TutorialCNN() if network is None else network
        self.record_hyperparameters(**locals())  # save_hyperparameters cannot record modules
        self.network = network.to(memory_format=torch.channels_last)  # faster on CPUs and GPUs
        self.augmentation = augmentation
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.scheduler_interval = scheduler_interval
        self.compile_network = compile
        self.loss = _training_loss(class_weights, label_smoothing)
        self.train_metrics = MetricCollection(
            {
                "accuracy": MulticlassAccuracy(10, average="micro"),
                # Keep a NaN loss visible; "disable" would ignore the weights.
                "loss": MeanMetric(nan_strategy=float("nan")),
            },
            prefix="train/",
            postfix="_epoch",
        )
        self.observers: list[Observer] = []
        self._outputs = Outputs()
        self._unlogged: list[tuple[Tensor, Tensor, Tensor]] = []  # steps since the last log

    def forward(self, images: Tensor) -> Tensor:
        """Compute ``float32 (n, 10)`` logits of ``float32 (n, 1, 28, 28)`` images in [0, 1].

        Raises:
            InputError: If the network fails on the images, or returns another shape.
        """
        try:
            logits = self._network_logits(images.to(self.dtype))  # float64 with precision 64-true
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, TypeError, ValueError) as error:
            raise InputError(
                f"{type(self.network).__name__} fails on images of shape "
                f"{tuple(images.shape)}{place(error)}: {first_line(error)}",
                "It must take (n, 1, 28, 28) float images and return (n, 10) logits.",
            ) from error
        if logits.shape != (len(images), 10):
            raise InputError(
                f"The network returns {tuple(logits.shape)} for {len(images)} images.",
                "It must return (n, 10) logits, one for each digit.",
            )
        return logits.float()

    def on_fit_start(self) -> None:
        super().on_fit_start()
        # nn.Module.compile has no effect on an nn.Sequential (pytorch issue 150915).
        if self.compile_network and "_network_logits" not in vars(self):
            self._network_logits = torch.compile(self._network_logits)  # type: ignore[method-assign]

    def on_train_start(self) -> None:
        self.loss.float()  # bf16-true has converted the class weights; the logits are float32

    def on_train_epoch_start(self) -> None:
        self._unlogged.clear()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        images, labels = batch
        targets = labels
        if self.augmentation is not None:
            images, targets = apply(self.augmentation, images, labels)
        logits = self(images)
        # Logging and metrics take over a tenth of a step, so that they run once for many steps.
        self._unlogged.append((logits.detach(), targets, labels))
        if self._logs_after(batch_idx):
            self._log_training(on_step=True, on_epoch=False)
        loss: Tensor = self.loss(logits, targets)
        return loss

    def on_train_epoch_end(self) -> None:
        if self._unlogged:
            self._log_training(on_step=False, on_epoch=True)
        self.log_dict(self.train_metrics)

    def on_validation_epoch_start(self) -> None:
        self._outputs.reset()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        images, labels = batch
        trainer = self.trainer  # its processes take the images in turn
        self._outputs.update(labels, self(images), trainer.global_rank, trainer.world_size)

    def on_validation_epoch_end(self) -> None:
        self._evaluate("val")

    on_test_epoch_start = on_validation_epoch_start
    test_step = validation_step

    def on_test_epoch_end(self) -> None:
        self._evaluate("test")

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Return label, prediction, its probability and the loss of each image, all ``(n,)``."""
        images, labels = batch
        logits = self(images)
        probability, prediction = logits.softmax(dim=1).max(dim=1)
        loss = cross_entropy(logits, labels, reduction="none")
        return {"label": labels, "prediction": prediction, "probability": probability, "loss": loss}

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Create the optimizer and its schedule.

        Raises:
            InputError: If torch rejects their arguments.
        """
        try:
            optimizer = self.optimizer(self.parameters())
            if self.scheduler is None:
                return optimizer
            scheduler = self._with_length(self.scheduler)(optimizer)
        except (RuntimeError, TypeError, ValueError, ZeroDivisionError) as error:
            raise InputError(
                f"Optimizer and schedule cannot be created: {first_line(error)}",
                "Correct model.optimizer or model.scheduler.",
            ) from error
        return {
            "optimizer": optimizer,
            "lr_scheduler": {
                "scheduler": scheduler,
                "interval": self.scheduler_interval,
                "monitor": "val/loss",  # for ReduceLROnPlateau
            },
        }

    def _network_logits(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images)
        return logits

    def _with_length(self, scheduler: Callable[..., LRScheduler]) -> Callable[..., LRScheduler]:
        given = getattr(scheduler, "keywords", {})
        unset = [name for name in SCHEDULE_LENGTHS if given.get(name, 0) in (None, -1)]
        if not unset:
            return scheduler
        by_step = self.scheduler_interval == "step"
        length = self.trainer.estimated_stepping_batches if by_step else self.trainer.max_epochs
        if length in (None, -1, float("inf")):
            raise InputError(
                f"The scheduler needs {unset[0]}, but the length of the training is unlimited.",
                f"Set model.scheduler.init_args.{unset[0]} or trainer.max_epochs.",
            )
        return partial(scheduler, **dict.fromkeys(unset, length))

    def _logs_after(self, batch_idx: int) -> bool:
        """Whether this batch completes an optimizer step that is logged."""
        interval: int = self.trainer.log_every_n_steps  # type: ignore[attr-defined]  # set late
        if interval <= 0 or (self.global_step + 1) % interval:
            return False
        accumulated = (batch_idx + 1) % self.trainer.accumulate_grad_batches == 0
        return accumulated or self.trainer.is_last_batch

    def _log_training(self, *, on_step: bool, on_epoch: bool) -> None:
        outputs, given, truth = zip(*self._unlogged, strict=True)
        mixed = len({each.ndim for each in given}) > 1  # some labels, some probabilities
        alike = [one_hot(each, 10).float() if mixed and each.ndim == 1 else each for each in given]
        logits, targets, labels = (torch.cat(parts) for parts in (outputs, alike, truth))
        # Images that are not digits have no labels.
        digits = torch.cat([step[: len(of)] for step, _, of in self._unlogged])
        self._unlogged.clear()
        loss = self.loss(logits, targets)
        # The epoch's mean weights each image like this one, by its label.
        by_label = None if targets.is_floating_point() else self.loss.weight
        weight = len(targets) if by_label is None else by_label[targets].sum()
        latest = self.train_metrics(preds=digits, target=labels, value=loss, weight=weight)
        scalars = {name.removesuffix("_epoch"): value for name, value in latest.items()}
        # Devices have equally many images: their mean is exact, but for class weights.
        self.log_dict(scalars, on_step=on_step, on_epoch=on_epoch, prog_bar=True, sync_dist=True)

    def _evaluate(self, split: str) -> None:
        # Every process has all outputs, so the scores need no averaging.
        evaluation = evaluate(*self._outputs.compute())
        # In double precision: a plain number would be rounded to single.
        for name in SCALARS:
            score = torch.tensor(evaluation.scores[name], dtype=torch.double)
            self.log(f"{split}/{name}", score)
        if not self.trainer.sanity_checking:
            for observer in self.observers:
                observer(self, split, evaluation)


def _training_loss(
    class_weights: list[float] | None, label_smoothing: float
) -> nn.CrossEntropyLoss:
    weights = [1.0] * 10 if class_weights is None else class_weights
    if len(weights) != 10 or not all(0 < each < float("inf") for each in weights):
        raise InputError(f"model.class_weights is {class_weights}.", "Give ten positive numbers.")
    if not 0 <= label_smoothing < 1:
        what = f"model.label_smoothing is {label_smoothing}."
        raise InputError(what, "Give a number from 0 to less than 1.")
    weight = None if class_weights is None else torch.tensor(class_weights)
    return nn.CrossEntropyLoss(weight, label_smoothing=label_smoothing)
