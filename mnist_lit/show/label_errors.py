"""Training images whose labels are probably wrong, by the models of a cross-validation."""

import csv
from dataclasses import astuple, dataclass, fields
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from mnist_lit.checkpoints import instantiate
from mnist_lit.data import DigitDataset, MNISTDataModule
from mnist_lit.errors import InputError
from mnist_lit.files import atomic_write
from mnist_lit.training.evaluation import load_trained_model, outputs


@dataclass(frozen=True)
class LabelError:
    """A training image whose label is probably wrong.

    Args:
        index: Among the training images.
        label: The given label, in 0..9.
        suggestion: The suggested label, in 0..9.
        probability: Of the suggestion, in [0, 1].
        margin: The label's probability minus the highest other one, in [-1, 1].
    """

    index: int
    label: int
    suggestion: int
    probability: float
    margin: float


def find_label_errors(labels: Tensor, probabilities: Tensor) -> list[LabelError]:
    """Find wrong labels by confident learning, those with the lowest margins first.

    As in Northcutt, Jiang and Chuang, "Confident Learning: Estimating Uncertainty in Dataset
    Labels", JAIR 2021, the threshold of a class is its mean probability for the images with its
    label. A label is probably wrong if another class is the likeliest of those above their
    thresholds.

    Args:
        labels: ``int64 (n,)`` in 0..9, as given.
        probabilities: ``float32 (n, 10)``, each row by a model that was not trained on the image.
    """
    probabilities = probabilities.double()  # or the mean of equal ones may exceed them
    given = probabilities.gather(1, labels[:, None]).squeeze(1)
    # Without images the threshold is nan, which no probability reaches.
    thresholds = labels.bincount(given, minlength=10) / labels.bincount(minlength=10)
    likeliest, suggestions = probabilities.where(probabilities >= thresholds, -1).max(dim=1)
    margins = given - probabilities.scatter(1, labels[:, None], -1).amax(dim=1)
    found = ((likeliest >= 0) & (suggestions != labels)).nonzero().flatten()
    found = found[margins[found].argsort(stable=True)]
    columns = (found, labels[found], suggestions[found], likeliest[found], margins[found])
    return [LabelError(*row) for row in zip(*(part.tolist() for part in columns), strict=True)]


def out_of_fold(which: list[str], data_dir: str | None) -> tuple[DigitDataset, Tensor]:
    """Compute the probabilities of each training image by the model that was not trained on it.

    Args:
        which: The checkpoints of a cross-validation, one for each fold.
        data_dir: Directory of the data, if not that of the checkpoints.

    Returns:
        The training images, and ``float32 (n, 10)`` probabilities in [0, 1].

    Raises:
        InputError: If the checkpoints are not one for each fold of the same cross-validation.
    """
    models = [load_trained_model(each) for each in which]
    given = {"data_dir": data_dir} if data_dir else {}
    modules = [instantiate(MNISTDataModule, model.data | given) for model in models]
    _check_folds(modules)
    indices: list[int] = []
    parts = []
    for model in models:
        data = modules.pop(0)  # frees the images of the one before
        data.prepare_data()
        data.setup("validate")
        _, logits = outputs(model.model, data.val_set, data.eval_batch_size)
        if not logits.isfinite().all():
            raise InputError(f"{model.path} gives logits that are not finite.", "Train it again.")
        indices += data.val_set.indices
        parts.append(logits.softmax(dim=1))
    digits = data.val_set.dataset
    assert isinstance(digits, DigitDataset)
    return digits, torch.cat(parts)[torch.tensor(indices).argsort()]


def _check_folds(modules: list[MNISTDataModule]) -> None:
    for name in ("dataset", "folds", "split_seed"):
        values = sorted({getattr(data, name) for data in modules})
        if len(values) > 1:
            what = f"The checkpoints differ in data.{name}: {', '.join(map(str, values))}."
            raise InputError(what, "Give the checkpoints of one cross-validation.")
    folds, given = modules[0].folds, [data.fold for data in modules]
    train = f"Train a model for each: fit --data.folds {folds or 10} --data.fold N"
    if not folds:
        raise InputError("The checkpoints were not trained on folds.", train)
    if repeated := {fold for fold in given if given.count(fold) > 1}:
        what = f"There is more than one checkpoint of fold {min(repeated)}."
        raise InputError(what, "Give one for each fold.")
    if missing := [*islice((str(n) for n in range(folds) if n not in given), 20)]:
        raise InputError(f"Of {folds} folds, these are missing: {', '.join(missing)}.", train)


def write_table(errors: list[LabelError], path: Path) -> None:
    """Write a CSV file with a row for each label error.

    Raises:
        InputError: If it cannot be written.
    """
    with atomic_write(path) as partial, partial.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(column.name for column in fields(LabelError))
        for *numbers, probability, margin in map(astuple, errors):
            writer.writerow([*numbers, f"{probability:.6f}", f"{margin:.6f}"])
