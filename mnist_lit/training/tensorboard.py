"""Figures of a run for every logger; curves, graph and embedding for TensorBoard."""

import copy
import logging
import re
import warnings
from collections.abc import Callable
from contextlib import suppress
from itertools import product
from pathlib import Path

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.profilers import PyTorchProfiler
from matplotlib import rc_context
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import Dataset
from torch.utils.tensorboard import SummaryWriter

from mnist_lit.data import Batch, scaled
from mnist_lit.datasets import class_legend
from mnist_lit.files import atomic_write
from mnist_lit.metrics import SCALARS, Evaluation
from mnist_lit.module import DigitClassifier
from mnist_lit.show import figures
from mnist_lit.training.evaluation import worst_errors
from mnist_lit.training.hparams import add_test
from mnist_lit.training.loggers import image_loggers, log_figure, writers

log = logging.getLogger(__name__)

SHOWN_INPUTS = 64
SHOWN_DIGITS = 16
EMBEDDED_DIGITS = 1000
EMBEDDING_SIZE = 50

# Files that a test may write to the directory of a run: figures, and data for the projector.
FIGURES = (
    *("digits", "confusion_matrix", "accuracy_by_digit"),
    *("worst_errors", "reliability", "filters"),
)
PROJECTOR = "00000/test"
PROJECTOR_FILES = ("tensors.tsv", "metadata.tsv", "sprite.png")


class FitPictures(Callback):
    """Logs the first training inputs, and adds the network's graph to TensorBoard."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, DigitClassifier)
        profiler = trainer.profiler  # type: ignore[attr-defined]  # set late
        if not isinstance(profiler, PyTorchProfiler):  # its hooks cannot be copied
            for writer in writers(trainer):
                _add_graph(writer, pl_module.network)
        if image_loggers(trainer):
            _draw_next_inputs(pl_module, _step(trainer))


def draw_validation(model: DigitClassifier, split: str, evaluation: Evaluation) -> None:
    """Log the figures of a validation, and its curves to TensorBoard; an observer of the model."""
    trainer = model.trainer
    loggers = image_loggers(trainer)
    if not loggers:
        return
    dataset = trainer.datamodule.val_set  # type: ignore[attr-defined]
    with rc_context({"text.hinting": "none"}):  # six times as fast
        legend = class_legend(trainer.datamodule.class_names)  # type: ignore[attr-defined]
        drawn = evaluation_figures(evaluation, model.network, dataset, legend)
        for logger, (name, figure) in product(loggers, drawn.items()):
            log_figure(logger, f"{split}/{name}", figure, _step(trainer))
    for writer in writers(trainer):
        _add_precision_recall(writer, split, evaluation, _step(trainer))


class TestPictures:
    """Writes the results of a test to TensorBoard, PNG files and loggers; observes the model.

    Those of an earlier test are replaced.

    Args:
        directory: Returns the directory of the run, or else of the results.
        step: The last step before the checkpoint.
    """

    def __init__(self, directory: Callable[[], Path], step: int) -> None:
        self.directory = directory
        self.step = step

    def __call__(self, model: DigitClassifier, split: str, evaluation: Evaluation) -> None:
        """Observe an evaluation."""
        if not model.trainer.is_global_zero:
            return
        dataset = model.trainer.datamodule.test_set  # type: ignore[attr-defined]
        legend = class_legend(model.trainer.datamodule.class_names)  # type: ignore[attr-defined]
        drawn = evaluation_figures(evaluation, model.network, dataset, legend)
        run = self.directory()
        for name in FIGURES:
            (run / f"test_{name}.png").unlink(missing_ok=True)
        for name, figure in drawn.items():
            with atomic_write(run / f"test_{name}.png") as partial:
                figure.savefig(partial, format="png")
        model.print(f"Figures: {run / 'test_*.png'}")
        for logger, (name, figure) in product(image_loggers(model.trainer), drawn.items()):
            log_figure(logger, f"test/{name}", figure, self.step)

        suffix = f".test_{self.step}"
        for events in run.iterdir():  # of an earlier test of the same checkpoint
            if re.fullmatch(rf"events\.out\.tfevents\.\d+\..+{re.escape(suffix)}", events.name):
                events.unlink()
        with SummaryWriter(str(run), filename_suffix=suffix) as writer:
            for name in SCALARS:
                writer.add_scalar(f"test/{name}", evaluation.scores[name], self.step)
            for name, figure in drawn.items():
                writer.add_figure(f"test/{name}", figure, self.step)
            _add_precision_recall(writer, "test", evaluation, self.step)
            if evaluation.logits.isfinite().all():
                _add_embedding(writer, model, evaluation, dataset)
        add_test(run, evaluation.scores, self.step)


def evaluation_figures(
    evaluation: Evaluation, network: nn.Module, dataset: Dataset[Batch], legend: str = ""
) -> dict[str, Figure]:
    """Draw the figures of a validation or test.

    Args:
        evaluation: The results.
        network: The evaluated network.
        dataset: The images it was evaluated on.
        legend: The names of the classes, unless they are digits.

    Returns:
        Figures by name. ``filters`` is missing if the first layer has no single-channel filters,
        ``worst_errors`` if there are no errors, ``reliability`` if a logit is not finite.
    """
    indices, labels, logits = evaluation.indices, evaluation.labels, evaluation.logits
    probabilities = logits.softmax(dim=1)
    losses = cross_entropy(logits, labels, reduction="none")
    confusion = torch.tensor(evaluation.scores["confusion"])

    def draw(chosen: Tensor, losses: Tensor | None = None) -> Figure:
        images = _images(dataset, indices[chosen])
        return figures.digits_figure(images, labels[chosen], probabilities[chosen], losses)

    drawn = {
        "digits": draw(torch.arange(len(labels))[:SHOWN_DIGITS]),
        "confusion_matrix": figures.confusion_figure(confusion),
        "accuracy_by_digit": figures.accuracy_by_digit_figure(confusion),
    }
    worst = worst_errors(labels, logits)[:SHOWN_DIGITS]
    if len(worst):
        drawn["worst_errors"] = draw(worst, losses[worst])
    for figure in drawn.values() if legend else ():
        figures.add_legend(figure, legend)
    if logits.isfinite().all():
        drawn["reliability"] = figures.reliability_figure(probabilities, labels)
    filters = _first_filters(network)
    if filters is not None:
        drawn["filters"] = figures.filters_figure(filters)
    return drawn


def _step(trainer: Trainer) -> int:
    return max(trainer.global_step - 1, 0)  # the step at which Lightning logs


def _images(dataset: Dataset[Batch], indices: Tensor) -> Tensor:
    return scaled(torch.stack([dataset[index][0] for index in indices.tolist()]))


def _add_graph(writer: SummaryWriter, network: nn.Module) -> None:
    # Trace a copy: tracing in training mode would update batch norm statistics.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the tracer
        try:
            copied = copy.deepcopy(network).cpu().float().eval()
            writer.add_graph(copied, torch.zeros(1, 1, 28, 28))
        except Exception as error:  # copying and tracing run the user's code
            what = str(error).strip().partition("\n")[0]
            log.warning(
                "Cannot add the graph of %s to TensorBoard: %s", type(network).__name__, what
            )


def _draw_next_inputs(model: DigitClassifier, step: int) -> None:
    def draw(_: nn.Module, inputs: tuple[object, ...]) -> None:
        if not isinstance(inputs[0], Tensor):
            return  # DDP first calls the model with the whole batch, to run its training_step
        handle.remove()
        figure = figures.images_figure(inputs[0][:SHOWN_INPUTS])
        for logger in image_loggers(model.trainer):
            log_figure(logger, "train/inputs", figure, step)

    # A hook on the network would be compiled with it.
    handle = model.register_forward_pre_hook(draw)


def _add_precision_recall(
    writer: SummaryWriter, split: str, evaluation: Evaluation, step: int
) -> None:
    probabilities = evaluation.logits.softmax(dim=1).nan_to_num(0)
    for digit in range(10):
        tag = f"{split}/precision_recall/{digit}"
        writer.add_pr_curve(tag, evaluation.labels == digit, probabilities[:, digit], step)


def _add_embedding(
    writer: SummaryWriter, model: DigitClassifier, evaluation: Evaluation, dataset: Dataset[Batch]
) -> None:
    """Add the last layer's inputs for test digits, as principal components, to the projector."""
    labels, logits = evaluation.labels[:EMBEDDED_DIGITS], evaluation.logits[:EMBEDDED_DIGITS]
    images = _images(dataset, evaluation.indices[:EMBEDDED_DIGITS])
    features = _last_features(model.network, images.to(model.device)).cpu()
    left, scale, _ = torch.linalg.svd(features - features.mean(dim=0), full_matrices=False)
    predictions = logits.argmax(dim=1)
    columns = [labels.tolist(), predictions.tolist(), (predictions != labels).int().tolist()]
    if not _clear_projector(Path(writer.log_dir)):
        log.warning("No embedding was written: %s is a symbolic link.", PROJECTOR)
        return
    writer.add_embedding(
        (left * scale)[:, :EMBEDDING_SIZE],
        metadata=list(zip(*columns, strict=True)),
        metadata_header=["digit", "prediction", "wrong"],
        label_img=images,
        tag="test",
    )


def _clear_projector(run: Path) -> bool:
    """Remove an earlier test's projector files; return False if a symbolic link leads elsewhere."""
    directory = run / PROJECTOR
    if directory.is_symlink() or directory.parent.is_symlink():
        return False
    for path in (run / "projector_config.pbtxt", *(directory / name for name in PROJECTOR_FILES)):
        path.unlink(missing_ok=True)
    for path in (directory, directory.parent):
        with suppress(OSError):  # it does not exist, or contains other files
            path.rmdir()
    return True


@torch.inference_mode()
def _last_features(network: nn.Module, images: Tensor) -> Tensor:
    seen: list[Tensor] = []
    linear = [module for module in network.modules() if isinstance(module, nn.Linear)]
    if linear:
        handle = linear[-1].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        network(images)
        handle.remove()
    else:
        seen.append(network(images))
    return seen[-1].flatten(1).float()


def _first_filters(network: nn.Module) -> Tensor | None:
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.in_channels == 1:
            return module.weight[:64]
        if isinstance(module, nn.Linear) and module.in_features == 28 * 28:
            return module.weight[:64].view(-1, 1, 28, 28)
    return None
