"""Training images whose labels may be wrong, by the models of a cross-validation."""

import csv
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from mnist_lit.checkpoints import instantiate
from mnist_lit.data import DigitDataset
from mnist_lit.errors import InputError
from mnist_lit.files import atomic_write
from mnist_lit.own_digits.data import OwnDigitsDataModule
from mnist_lit.training.evaluation import load_members, outputs

HEADING = ("index", "label", "suggestion", "probability", "margin")


def find_label_errors(labels: Tensor, probabilities: Tensor) -> tuple[Tensor, Tensor]:
    """Find wrong labels by confident learning, those with the lowest margins first.

    As in Northcutt, Jiang and Chuang, "Confident Learning: Estimating Uncertainty in Dataset
    Labels", JAIR 2021, the threshold of a class is its mean probability for the images with its
    label. A label may be wrong if the prediction is another one, above its threshold.

    Args:
        labels: ``int64 (n,)`` in 0..9, as given.
        probabilities: ``float32 (n, 10)``, each row by a model that was not trained on the image.

    Returns:
        Indices ``int64 (m,)``, and margins ``(m,)`` in [-1, 0]: the probability of the label minus
        that of the prediction.
    """
    probabilities = probabilities.double()  # or the mean of equal ones may exceed them
    given = probabilities.gather(1, labels[:, None]).squeeze(1)
    # Without images the threshold is nan, which no probability reaches.
    thresholds = labels.bincount(given, minlength=10) / labels.bincount(minlength=10)
    likeliest, predictions = probabilities.max(dim=1)
    confident = likeliest >= thresholds[predictions]
    found = (confident & (predictions != labels)).nonzero().flatten()
    margins, order = (given - likeliest)[found].sort(stable=True)
    return found[order], margins


def out_of_fold(which: list[str], data_dir: str | None) -> tuple[DigitDataset, Tensor, list[str]]:
    """Compute the logits of each training image by the model that was not trained on it.

    Args:
        which: The checkpoints of a cross-validation, one for each fold, or the name of its study.
        data_dir: Directory of the data, if not that of the checkpoints.

    Returns:
        The training images, their ``float32 (n, 10)`` logits, and the names of the classes.

    Raises:
        InputError: If the checkpoints are not one for each fold of the same cross-validation.
    """
    models = load_members(which)
    given = {"data_dir": data_dir} if data_dir else {}
    modules = [instantiate(OwnDigitsDataModule, model.data | given) for model in models]
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
        parts.append(logits)
    digits = data.val_set.dataset
    assert isinstance(digits, DigitDataset)
    return digits, torch.cat(parts)[torch.tensor(indices).argsort()], data.class_names


def _check_folds(modules: list[OwnDigitsDataModule]) -> None:
    for name in ("folds", "split_seed"):
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


def check_table(path: Path) -> None:
    """Refuse to replace a file that is not an earlier table of label errors.

    Raises:
        InputError: If it is another file.
    """
    heading = ",".join(HEADING).encode()
    if path.exists() and not (path.is_file() and path.read_bytes().startswith(heading)):
        what = f"The table of label errors would replace {path}."
        raise InputError(what, "Give another --output; the table has the same name with .csv.")


def write_table(
    path: Path, indices: Tensor, labels: Tensor, probabilities: Tensor, margins: Tensor
) -> None:
    """Write a CSV file with a row for each of m label errors.

    Args:
        path: The file; an earlier one is replaced.
        indices: ``int64 (m,)``, among the training images.
        labels: ``int64 (m,)`` in 0..9, as given.
        probabilities: ``float32 (m, 10)``; the most probable label is the suggestion.
        margins: ``(m,)`` in [-1, 0].

    Raises:
        InputError: If it cannot be written.
    """
    likeliest, suggestions = probabilities.max(dim=1)
    columns = (part.tolist() for part in (indices, labels, suggestions, likeliest, margins))
    with atomic_write(path) as partial, partial.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(HEADING)
        for *numbers, probability, margin in zip(*columns, strict=True):
            writer.writerow([*numbers, f"{probability:.6f}", f"{margin:.6f}"])
