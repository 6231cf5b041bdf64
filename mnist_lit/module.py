"""DigitClassifier: a network with its loss, metrics and optimiser, as a LightningModule."""

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR
from torchmetrics import MeanMetric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from mnist_lit.checkpoints import (
    UNRECORDED,
    Unrecorded,
    describe,
    instantiate,
    load_checkpoint,
    recorded_settings,
    verify_weights,
)
from mnist_lit.data import Batch
from mnist_lit.errors import InputError
from mnist_lit.judging import SCALARS, Answers, judge
from mnist_lit.networks import TutorialCNN

# What torch's schedules call the number of steps after which they end.
SCHEDULE_LENGTHS = ("total_steps", "T_max", "total_iters")


class DigitClassifier(LightningModule):
    """Trains and judges a network that tells the ten digits apart.

    The training loss is cross-entropy with the given weights and smoothing; validation and test
    report the plain mean cross-entropy, the negative log-likelihood in nats, so that runs compare.

    Args:
        network: From ``float32 (n, 1, 28, 28)`` in [0, 1] to ``(n, 10)`` logits; the tutorial's
            network if none is given.
        augmentation: From a training batch on the device, images and labels, to images and
            targets, which are labels or probabilities, as torchvision's v2 transforms do. Pictures
            that are no digits may follow the digits.
        optimizer: Called with the parameters.
        scheduler: Called with the optimiser. Its total_steps, T_max or total_iters, if null or -1,
            becomes the length of the training.
        scheduler_interval: Whether the schedule advances every step or every epoch.
        class_weights: Ten factors of the digits' training losses; all equal if none are given. As
            in ``CrossEntropyLoss`` a batch's mean is divided by the weights of its labels, so they
            need batches of more than one image.
        label_smoothing: In [0, 1): share of the target spread evenly over the ten digits
            (Szegedy et al., "Rethinking the Inception architecture", 2016).
        compile: Whether fit compiles the network with ``torch.compile``; for GPUs.

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
        self.describe(
            network=network,
            augmentation=augmentation,
            optimizer=optimizer,
            scheduler=scheduler,
            scheduler_interval=scheduler_interval,
            class_weights=class_weights,
            label_smoothing=label_smoothing,
            compile=compile,
        )
        # Channels last: the faster layout for the convolutions of CPUs and GPUs alike.
        self.network = network.to(memory_format=torch.channels_last)
        self.augmentation = augmentation
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.scheduler_interval = scheduler_interval
        self.compiles = compile
        self._logits_of = _logits_of  # compiled by fit, if it is to be
        self.loss = _training_loss(class_weights, label_smoothing)
        self.train_metrics = MetricCollection(
            {
                "accuracy": MulticlassAccuracy(10, average="micro"),
                "loss": MeanMetric(nan_strategy="disable"),  # a loss that is not a number shows
            },
            prefix="train/",
            postfix="_epoch",
        )
        # Indices, labels and logits of the latest validation or test, and what they are worth.
        self.answers: tuple[Tensor, ...] = ()
        self.judgement: dict[str, Any] = {}
        self._answers = Answers()
        self._unlogged: list[tuple[Tensor, Tensor, Tensor]] = []  # of the steps since the last log
        self._seed = 0

    def describe(self, **hyperparameters: Any) -> None:
        """Record the hyperparameters in primitives, so that every checkpoint loads by itself."""
        described = {name: describe(value) for name, value in hyperparameters.items()}
        self.save_hyperparameters(described, logger=False)

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]  # files only, and nothing but weights
        cls,
        checkpoint_path: str | Path,
        map_location: torch.device | str = "cpu",
        weights_only: bool | None = None,
        **kwargs: Any,
    ) -> Self:
        """Load a model from a checkpoint, which may come from anyone.

        A checkpoint names the classes that it was trained with; they are imported if they belong
        to torch, torchvision, Lightning or this package, lie in the working directory, or have
        been imported before.

        Args:
            checkpoint_path: The file.
            map_location: The device of the model.
            weights_only: Whatever it is, only tensors and primitives are loaded.
            kwargs: Arguments of the constructor that replace the recorded ones.

        Raises:
            InputError: If the file is damaged, names other code, or does not fit its network.
        """
        path = Path(checkpoint_path)
        checkpoint = load_checkpoint(path)
        recorded = checkpoint[cls.CHECKPOINT_HYPER_PARAMS_KEY]
        given = {
            name: Unrecorded(name)
            for name in ("augmentation", "optimizer", "scheduler")
            if str(recorded.get(name)).endswith(UNRECORDED)
        } | kwargs
        settings = recorded_settings(checkpoint, path, sections=["model"], without=given)["model"]
        verify_weights(cls, settings, checkpoint, path, **given)
        model = instantiate(cls, settings, **given)
        model.on_load_checkpoint(checkpoint)
        model.load_state_dict(checkpoint["state_dict"])
        return model.to(map_location)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the description in the checkpoint, and leave out an augmentation not needed."""
        self.describe(**checkpoint[self.CHECKPOINT_HYPER_PARAMS_KEY])
        if self.augmentation is None:
            for name in list(checkpoint["state_dict"]):
                if name.startswith("augmentation."):
                    del checkpoint["state_dict"][name]

    def forward(self, images: Tensor) -> Tensor:
        """Give ``float32 (n, 10)`` logits for ``float32 (n, 1, 28, 28)`` images in [0, 1].

        Raises:
            InputError: If the network gives another shape.
        """
        logits = self._logits_of(self.network, images)
        if logits.shape != (len(images), 10):
            raise InputError(
                f"The network gives {tuple(logits.shape)} for {len(images)} images.",
                "Let it give (n, 10) logits, one for each digit.",
            )
        return logits.float()

    def on_fit_start(self) -> None:
        """Note the seed of the run, the first process's on all.

        Raises:
            InputError: If class weights would have no effect, or checkpoints could not be loaded.
        """
        network = self.hparams["network"]
        if isinstance(network, str) and self.trainer.checkpoint_callbacks:
            raise InputError(
                f"No checkpoint of {network} could be loaded: it does not tell its arguments.",
                "Keep each in an attribute of its name, self.width = width, in a class that can "
                "be imported.",
            )
        datamodule = getattr(self.trainer, "datamodule", None)
        if self.loss.weight is not None and getattr(datamodule, "batch_size", None) == 1:
            raise InputError(
                "model.class_weights has no effect with data.batch_size 1.",
                "Leave it out, or choose a larger batch.",
            )
        self._seed = self.trainer.strategy.broadcast(torch.initial_seed())
        if self.compiles:
            self._logits_of = torch.compile(_logits_of)

    def on_train_epoch_start(self) -> None:
        """Make the epoch's randomness a function of seed, epoch and rank, also when resumed."""
        entropy = np.random.SeedSequence([self._seed, self.current_epoch, self.global_rank])
        torch.manual_seed(int(entropy.generate_state(1, np.uint64)[0]))
        self._unlogged.clear()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        images, labels = batch
        targets = labels
        if self.augmentation is not None:
            images, targets = self.augmentation(images, labels)
        logits = self(images)
        # Logging and metrics cost more than a tenth of a step: they take many steps at once.
        self._unlogged.append((logits.detach(), targets, labels))
        if self._logs_this_step():
            self._log_training(on_step=True, on_epoch=False)
        loss: Tensor = self.loss(logits, targets)
        return loss

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Log the gradients' norm before they are clipped, as often as the training loss."""
        if self._logs_this_step() or self.trainer.is_last_batch:
            gradients = [each.grad for each in self.parameters() if each.grad is not None]
            self._gradient_norm = get_total_norm(gradients) / self._gradient_scale(optimizer)
        if self._logs_this_step():
            self.log("train/gradient_norm", self._gradient_norm)

    def _gradient_scale(self, optimizer: Optimizer) -> float:
        """The factor that 16-mixed puts on gradients; a fused optimizer removes it in its step."""
        scaler = self.trainer.scaler
        return scaler.get_scale() if scaler and optimizer.defaults.get("fused") else 1.0

    def on_train_epoch_end(self) -> None:
        if self._unlogged:
            self._log_training(on_step=False, on_epoch=True)
            if self.trainer.is_last_batch:
                self.log("train/gradient_norm", self._gradient_norm)
        self.log_dict(self.train_metrics)

    def on_validation_epoch_start(self) -> None:
        self._answers.reset()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self._answer(batch)

    def on_validation_epoch_end(self) -> None:
        self._judge("val")

    def on_test_epoch_start(self) -> None:
        self._answers.reset()

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self._answer(batch)

    def on_test_epoch_end(self) -> None:
        self._judge("test")

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Give label, prediction, its probability and the loss of each image, all ``(n,)``."""
        images, labels = batch
        logits = self(images)
        probability, prediction = logits.softmax(dim=1).max(dim=1)
        return {
            "label": labels,
            "prediction": prediction,
            "probability": probability,
            "loss": cross_entropy(logits, labels, reduction="none"),
        }

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Make the optimiser and its schedule.

        Raises:
            InputError: If torch refuses their arguments, or the schedule would end too early.
        """
        try:
            optimizer = self.optimizer(self.parameters())
            if self.scheduler is None:
                return optimizer
            scheduler = self._with_length(self.scheduler)(optimizer)
        except (TypeError, ValueError, ZeroDivisionError) as error:
            raise InputError(
                f"Optimiser and schedule cannot be made: {error}.",
                "Mend model.optimizer or model.scheduler.",
            ) from error
        self._check_length(scheduler)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {
                "scheduler": scheduler,
                "interval": self.scheduler_interval,
                "monitor": "val/loss",  # for ReduceLROnPlateau
            },
        }

    def _with_length(self, scheduler: Callable[..., LRScheduler]) -> Callable[..., LRScheduler]:
        given = getattr(scheduler, "keywords", {})
        unset = [name for name in SCHEDULE_LENGTHS if given.get(name, 0) in (None, -1)]
        if not unset:
            return scheduler
        length = self._training_length()
        if length in (None, -1, float("inf")):
            raise InputError(
                f"The schedule needs its {unset[0]}, but the training has no end.",
                f"Give it as model.scheduler.init_args.{unset[0]}, or set trainer.max_epochs.",
            )
        return partial(scheduler, **dict.fromkeys(unset, length))

    def _check_length(self, scheduler: LRScheduler) -> None:
        """Refuse a OneCycleLR shorter than the training; torch would fail in the middle of it."""
        if not isinstance(scheduler, OneCycleLR):
            return
        length = self._training_length()
        if length is None or length <= scheduler.total_steps:
            return
        unit = "steps" if self.scheduler_interval == "step" else "epochs"
        end = "never" if length == float("inf") else f"after {length:,}"
        raise InputError(
            f"The schedule ends after {scheduler.total_steps:,} {unit}, the training {end}.",
            "Set model.scheduler.init_args.total_steps to -1: it then becomes the length of the "
            "training.",
        )

    def _training_length(self) -> int | float | None:
        """In steps or epochs, as the schedule counts; None or -1 if unknown, inf without an end."""
        if self.scheduler_interval == "step":
            return self.trainer.estimated_stepping_batches
        return self.trainer.max_epochs

    def _logs_this_step(self) -> bool:
        interval: int = self.trainer.log_every_n_steps  # type: ignore[attr-defined]  # set late
        return (self.global_step + 1) % interval == 0

    def _log_training(self, *, on_step: bool, on_epoch: bool) -> None:
        logits, targets, labels = (torch.cat(parts) for parts in zip(*self._unlogged, strict=True))
        digits = torch.cat([steps_logits[: len(of)] for steps_logits, _, of in self._unlogged])
        self._unlogged.clear()
        loss = self.loss(logits, targets)
        losses = loss.expand(len(targets))  # each image counts, whatever the size of the batch
        latest = self.train_metrics(preds=digits, target=labels, value=losses)
        scalars = {name.removesuffix("_epoch"): value for name, value in latest.items()}
        # The devices have as many images each, so the mean of their means is that of all.
        self.log_dict(scalars, on_step=on_step, on_epoch=on_epoch, prog_bar=True, sync_dist=True)

    def _answer(self, batch: Batch) -> None:
        images, labels = batch
        logits = self(images)
        # The devices take the images in turn (UnrepeatedDistributedSampler).
        seen = sum(map(len, self._answers.labels))
        places = torch.arange(seen, seen + len(labels), device=labels.device)
        indices = places * self.trainer.world_size + self.trainer.global_rank
        self._answers.update(indices, labels, logits)

    def _judge(self, split: str) -> None:
        # All processes have all answers, so their figures need no averaging.
        indices, labels, logits = self._answers.compute()
        # torchmetrics squeezes what has one element.
        self.answers = (indices.reshape(-1).cpu(), labels.reshape(-1).cpu(), logits.cpu())
        self.judgement = judge(*self.answers)
        self.log_dict({f"{split}/{name}": self.judgement[name] for name in SCALARS})


def _logits_of(network: nn.Module, images: Tensor) -> Tensor:
    """Call the network.

    Compiled instead of the network itself: the weights keep their names, and a network whose
    ``forward`` is torch's own, as that of ``nn.Sequential`` is, is compiled too.
    ``nn.Module.compile`` leaves those as they are, and does not say so, in torch 2.11
    (https://github.com/pytorch/pytorch/issues/150915).
    """
    logits: Tensor = network(images)
    return logits


def _training_loss(
    class_weights: list[float] | None, label_smoothing: float
) -> nn.CrossEntropyLoss:
    if class_weights is not None and (len(class_weights) != 10 or min(class_weights) <= 0):
        raise InputError(
            f"model.class_weights is {class_weights}.", "Give ten positive numbers, one a digit."
        )
    if not 0 <= label_smoothing < 1:
        raise InputError(
            f"model.label_smoothing is {label_smoothing}.", "Give a number from 0 to less than 1."
        )
    weight = None if class_weights is None else torch.tensor(class_weights)
    return nn.CrossEntropyLoss(weight, label_smoothing=label_smoothing)
