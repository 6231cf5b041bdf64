"""The data sets: torchvision's classes with MNIST's layout and ten classes."""

from contextlib import nullcontext
from pathlib import Path
from typing import Literal

import torch
from filelock import FileLock
from torch import Tensor
from torchvision import datasets
from torchvision.datasets import MNIST

from mnist_lit.assets import unpack
from mnist_lit.errors import InputError, first_line

DatasetName = Literal["MNIST", "FashionMNIST", "KMNIST", "QMNIST", "EMNIST"]


def prepare(name: DatasetName, data_dir: Path, *, download: bool) -> None:
    """Make sure that ``data_dir`` contains a data set, in torchvision's layout (``NAME/raw``).

    MNIST comes with the package and is unpacked. The others must be there, or are downloaded.

    Raises:
        InputError: If a data set is missing or damaged, or cannot be unpacked or downloaded.
    """
    if name == "MNIST":
        unpack(data_dir)
        return
    raw = data_dir / name / "raw"
    if download:
        raw.mkdir(parents=True, exist_ok=True)
    with FileLock(raw / ".lock") if download else nullcontext():
        for train in (True, False):
            load(name, data_dir, train=train, download=download)


def load(
    name: DatasetName, data_dir: Path, *, train: bool, download: bool = False
) -> tuple[Tensor, Tensor]:
    """Read the training or test images of a data set.

    Returns:
        Images ``uint8 (n, 28, 28)``, upright, ink 255 on background 0, and labels ``int64 (n,)``
        in 0..9. Of EMNIST the digits, of QMNIST all 60,000 test images.

    Raises:
        InputError: If a file is missing or damaged, or cannot be downloaded.
    """
    split = {"split": "digits"} if name == "EMNIST" else {}
    try:
        dataset: MNIST = getattr(datasets, name)(data_dir, train=train, download=download, **split)
        images, labels = dataset.data, dataset.targets
        if labels.ndim == 2:  # QMNIST's labels also name the writer
            labels = labels[:, 0].contiguous()
        if images.dtype != torch.uint8 or images.shape != (len(labels), 28, 28):
            raise ValueError(f"{len(labels)} labels, but images of shape {tuple(images.shape)}")
        if not set(labels.unique().tolist()) <= set(range(10)):
            raise ValueError("some labels are not in 0..9")
    except (AssertionError, IndexError, OSError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(
            f"{name} cannot be read from {data_dir / name / 'raw'}: {first_line(error)}",
            "Put its files there, or download them: --data.download true. Delete damaged ones.",
        ) from error
    if name == "EMNIST":
        images = images.transpose(1, 2).contiguous()  # torchvision's are mirrored and rotated
    return images, labels


def class_names(name: DatasetName) -> list[str]:
    """Return the names of the ten classes; those of digits are ``0`` to ``9``."""
    names: list[str] = getattr(datasets, name).classes
    return [each.partition(" - ")[0] for each in names]  # torchvision's "0 - zero"


def class_legend(names: list[str]) -> str:
    """Say which number means which class, as in ``0 T-shirt/top, 1 Trouser``; not for digits."""
    pairs = [f"{number} {name}" for number, name in enumerate(names) if name != str(number)]
    return ", ".join(pairs)
