"""Data sets other than MNIST, from small files in their format."""

import struct
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torchvision

from mnist_lit.data import MNISTDataModule
from mnist_lit.datasets import class_legend, class_names
from mnist_lit.errors import InputError
from tests.conftest import Command

TRAIN_SIZE, TEST_SIZE = 300, 100
OTHERS = ("FashionMNIST", "KMNIST", "QMNIST", "EMNIST")


def write_idx(path: Path, values: np.ndarray) -> None:
    """Write the format of the MNIST archives: type, dimensions, sizes and values, big-endian."""
    code = {"uint8": 8, "int32": 12}[values.dtype.name]
    head = struct.pack(f">BBBB{values.ndim}I", 0, 0, code, values.ndim, *values.shape)
    path.write_bytes(head + values.astype(values.dtype.newbyteorder(">")).tobytes())


def write_dataset(name: str, data_dir: Path) -> None:
    """Write a data set whose images show their label as the brightness of the top right corner."""
    raw = data_dir / name / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    prefix = {"QMNIST": "qmnist-", "EMNIST": "emnist-digits-"}.get(name, "")
    test = "test" if prefix else "t10k"
    for part, size in (("train", TRAIN_SIZE), (test, TEST_SIZE)):
        labels = np.arange(size, dtype=np.uint8) % 10
        images = np.zeros((size, 28, 28), np.uint8)
        images[:, 0, 27] = labels * 20
        images = images.transpose(0, 2, 1) if name == "EMNIST" else images
        write_idx(raw / f"{prefix}{part}-images-idx3-ubyte", images)
        if name == "QMNIST":  # eight numbers about each digit, of which the first is its label
            details = np.zeros((size, 8), np.int32)
            details[:, 0], details[:, 2] = labels, 1234
            write_idx(raw / f"{prefix}{part}-labels-idx2-int", details)
        else:
            write_idx(raw / f"{prefix}{part}-labels-idx1-ubyte", labels)


@pytest.mark.parametrize("name", OTHERS)
def test_each_data_set_is_read_upright_with_its_labels(tmp_path: Path, name: Any) -> None:
    write_dataset(name, tmp_path)
    datamodule = MNISTDataModule(str(tmp_path), name, val_size=50)
    datamodule.prepare_data()
    for stage in ("fit", "test"):
        datamodule.setup(stage)
    assert len(datamodule.train_set) == TRAIN_SIZE - 50
    assert len(datamodule.val_set) == 50
    images, labels = next(iter(datamodule.test_dataloader()))
    assert (images.dtype, images.shape) == (torch.uint8, (TEST_SIZE, 28, 28))
    assert (labels.dtype, labels.shape) == (torch.int64, (TEST_SIZE,))
    assert torch.equal(images[:, 0, 27].long(), labels * 20)


@pytest.mark.parametrize("name", OTHERS)
def test_a_missing_data_set_is_an_error_that_says_where_it_belongs(
    tmp_path: Path, name: Any
) -> None:
    with pytest.raises(InputError) as error:
        MNISTDataModule(str(tmp_path), name).prepare_data()
    assert str(tmp_path / name / "raw") in error.value.args[0]
    assert "--data.download true" in error.value.args[1]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("damage", [b"", b"\0\0\x08", b"x" * 100, None])
def test_a_damaged_file_is_an_error(tmp_path: Path, damage: bytes | None) -> None:
    write_dataset("KMNIST", tmp_path)
    images = tmp_path / "KMNIST/raw/train-images-idx3-ubyte"
    images.write_bytes(images.read_bytes()[:-1] if damage is None else damage)
    with pytest.raises(InputError, match=r"^KMNIST cannot be read from .*\n.*Delete damaged ones"):
        MNISTDataModule(str(tmp_path), "KMNIST").prepare_data()


@pytest.mark.parametrize(
    ("images", "labels"),
    [((10, 28, 28), range(11)), ((10, 14, 14), range(10)), ((10, 28, 28), [*range(9), 10])],
)
def test_other_shapes_and_labels_are_refused(
    tmp_path: Path, images: tuple[int, int, int], labels: Any
) -> None:
    write_dataset("FashionMNIST", tmp_path)
    raw = tmp_path / "FashionMNIST/raw"
    write_idx(raw / "t10k-images-idx3-ubyte", np.zeros(images, np.uint8))
    write_idx(raw / "t10k-labels-idx1-ubyte", np.array(labels, np.uint8))
    with pytest.raises(InputError, match=r"^FashionMNIST cannot be read from "):
        MNISTDataModule(str(tmp_path), "FashionMNIST").prepare_data()


def test_torchvision_downloads_what_is_missing_if_told_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        torchvision.datasets.KMNIST,
        "download",
        lambda self: write_dataset("KMNIST", Path(self.root)),
    )
    MNISTDataModule(str(tmp_path), "KMNIST", download=True).prepare_data()
    assert (tmp_path / "KMNIST/raw/train-images-idx3-ubyte").exists()


def test_a_failed_download_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(self: object) -> None:
        raise URLError("Name or service not known")

    monkeypatch.setattr(torchvision.datasets.KMNIST, "download", unreachable)
    with pytest.raises(InputError, match=r"^KMNIST cannot be read from .*service not known"):
        MNISTDataModule(str(tmp_path), "KMNIST", download=True).prepare_data()


def test_classes_have_names() -> None:
    assert class_names("MNIST") == class_names("EMNIST") == list("0123456789")
    assert class_names("FashionMNIST")[9] == "Ankle boot"
    assert class_names("KMNIST")[:2] == ["o", "ki"]
    assert class_legend(class_names("QMNIST")) == ""


def test_a_model_is_trained_and_tested_on_another_data_set(
    mnist_lit: Command, tmp_path: Path
) -> None:
    write_dataset("FashionMNIST", tmp_path)
    data = [f"--data.data_dir={tmp_path}", "--data.dataset=FashionMNIST", "--data.val_size=50"]
    outcome = mnist_lit("fit", *data, "--trainer.max_epochs=1")
    assert outcome.status == 0, outcome.err
    outcome = mnist_lit("test", "--ckpt_path=best")
    assert outcome.status == 0, outcome.err
    assert f"images             {TEST_SIZE}\n" in outcome.out
    assert "classes            0 T-shirt/top, 1 Trouser, " in outcome.out
    outcome = mnist_lit("show", "--split=test", "--ckpt_path=best", "--output=shown.png")
    assert "Classes: 0 T-shirt/top, 1 Trouser, " in outcome.out
