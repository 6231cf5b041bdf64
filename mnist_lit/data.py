"""MNISTDataModule: from the MNIST archives to uint8 tensors to batches."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jsonargparse.typing import NonNegativeInt, PositiveInt
from lightning.pytorch import LightningDataModule
from lightning.pytorch.overrides.distributed import UnrepeatedDistributedSampler
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler, Subset

from mnist_lit.datasets import DatasetName, class_names, load, prepare
from mnist_lit.errors import InputError

Batch = tuple[Tensor, Tensor]  # images and labels


class DigitDataset(Dataset[Batch]):
    """Images and labels as whole tensors, from which a loader fetches a batch at a time.

    Args:
        images: ``(n, 28, 28)``, ink 255, background 0; MNIST's are ``uint8``.
        labels: ``int64 (n,)`` in 0..9.
    """

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images = images
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Batch:
        return self.images[index], self.labels[index]

    def __getitems__(self, indices: list[int]) -> Batch:
        return self.images[indices], self.labels[indices]


class MNISTDataModule(LightningDataModule):
    """MNIST or a similar data set; the validation images are taken from the training images.

    Batches arrive at the model as ``float32 (n, 1, 28, 28)`` in [0, 1], ink 1, with labels
    ``int64 (n,)``. The package contains MNIST; the other data sets must be in ``data_dir``.

    Args:
        data_dir: Directory of the data, in torchvision's layout (``MNIST/raw``).
        dataset: A data set of torchvision with ten classes; EMNIST means its digits.
        download: Whether torchvision downloads a data set that is missing.
        batch_size: Training images per step and device.
        eval_batch_size: Images per step and device in validation, test and prediction.
        val_size: Number of training images held out for validation; 0 trains on all of them.
        folds: If not 0, the number of folds of a cross-validation, used instead of val_size.
        fold: The fold held out for validation, counted from 0.
        split_seed: Seed of split and folds; the global seed does not affect them.
        num_workers: Worker processes. 0 is fastest, since fetching a batch is one index operation.

    Raises:
        InputError: If no training images or no such fold remain, or the data cannot be read.
    """

    def __init__(
        self,
        data_dir: str = "data",
        dataset: DatasetName = "MNIST",
        download: bool = False,
        batch_size: PositiveInt = 64,
        eval_batch_size: PositiveInt = 500,
        val_size: NonNegativeInt = 5000,
        folds: NonNegativeInt = 0,
        fold: NonNegativeInt = 0,
        split_seed: NonNegativeInt = 1998,
        num_workers: NonNegativeInt = 0,
    ) -> None:
        super().__init__()
        if folds == 1 or folds > 1000 or fold >= max(folds, 1):
            what = f"data.fold is {fold}, of {folds} folds."
            raise InputError(what, "Give 2 to 1,000 folds, and a fold from 0 to folds - 1.")
        self.data_dir = Path(data_dir)
        self.dataset: DatasetName = dataset
        self.download = download
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.val_size = val_size
        self.folds = folds
        self.fold = fold
        self.split_seed = split_seed % 2**64  # torch takes 64 bits
        self.num_workers = num_workers
        self.class_names = class_names(dataset)
        self.has_validation = folds > 0 or val_size > 0
        self.seed = 0

    def prepare_data(self) -> None:
        """Unpack or download what is missing; runs in one process per machine."""
        prepare(self.dataset, self.data_dir, download=self.download)

    def setup(self, stage: str) -> None:
        """Load what ``fit``, ``validate``, ``test`` or ``predict`` needs, unless already loaded."""
        if self.trainer is not None:
            self.seed = self.trainer.strategy.broadcast(torch.initial_seed())
        if stage in ("fit", "validate") and not hasattr(self, "train_set"):
            digits = DigitDataset(*load(self.dataset, self.data_dir, train=True))
            held_out = self._held_out(len(digits))
            self.val_set = Subset(digits, held_out.nonzero().flatten().tolist())
            self.train_set = Subset(digits, held_out.logical_not().nonzero().flatten().tolist())
        if stage in ("test", "predict") and not hasattr(self, "test_set"):
            self.test_set = DigitDataset(*load(self.dataset, self.data_dir, train=False))

    def train_dataloader(self) -> DataLoader[Batch]:
        """Return batches in an order that depends only on the global seed and the epoch."""
        # DistributedSampler adds the epoch to the seed; hashing separates neighboring seeds.
        seed = int(np.random.SeedSequence(self.seed).generate_state(1)[0])
        sampler: DistributedSampler[Batch] = DistributedSampler(
            self.train_set, *self._world(), shuffle=True, seed=seed
        )
        return self._loader(self.train_set, sampler, self.batch_size)

    def val_dataloader(self) -> DataLoader[Batch] | list[Any]:
        """Return the validation images in the order of the archive, or no loader without any."""
        return self._eval_loader(self.val_set) if self.has_validation else []

    def test_dataloader(self) -> DataLoader[Batch]:
        """Return the test images in the order of the archive."""
        return self._eval_loader(self.test_set)

    def predict_dataloader(self) -> DataLoader[Batch]:
        """Return the same batches as :meth:`test_dataloader`."""
        return self._eval_loader(self.test_set)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Scale the images on the device."""
        images, labels = batch
        return scaled(images), labels

    def _held_out(self, size: int) -> Tensor:
        """Mark the validation images among ``size`` training images: ``bool (size,)``."""
        order = torch.randperm(size, generator=torch.Generator().manual_seed(self.split_seed))
        fold = order.tensor_split(self.folds)[self.fold] if self.folds else order[: self.val_size]
        if len(fold) == size:
            what = f"data.val_size is {self.val_size}, of {size:,} images."
            raise InputError(what, "Give a smaller number.")
        return torch.zeros(size, dtype=torch.bool).index_fill(0, fold, True)

    def _eval_loader(self, dataset: Dataset[Batch]) -> DataLoader[Batch]:
        # Unrepeated: devices share the images without padding, so that none is counted twice.
        sampler = UnrepeatedDistributedSampler(dataset, *self._world(), shuffle=False)
        return self._loader(dataset, sampler, self.eval_batch_size)

    def _loader(
        self, dataset: Dataset[Batch], sampler: DistributedSampler[Batch], batch_size: int
    ) -> DataLoader[Batch]:
        return DataLoader(
            dataset,
            batch_size=batch_size,
            sampler=sampler,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            collate_fn=tuple,  # a fetch returns a whole batch
            generator=torch.Generator(),  # or iterators would draw from the global one
        )

    def _world(self) -> tuple[int, int]:
        return (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)


def scaled(images: Tensor) -> Tensor:
    """Scale ``(n, 28, 28)`` in 0..255 to a network's ``float32 (n, 1, 28, 28)`` in [0, 1]."""
    return images.unsqueeze(1).to(torch.float32, copy=True).div_(255)
