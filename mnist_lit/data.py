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
from torchvision.datasets import MNIST

from mnist_lit.assets import unpack
from mnist_lit.errors import InputError

Batch = tuple[Tensor, Tensor]  # images and labels

TRAIN_SIZE = 60_000


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
    """MNIST with the official 60,000/10,000 split; validation images are taken from the 60,000.

    Batches arrive at the model as ``float32 (n, 1, 28, 28)`` in [0, 1], ink 1, with labels
    ``int64 (n,)``. Nothing is downloaded: the package contains the archives.

    Args:
        data_dir: Directory of the unpacked data, in torchvision's layout (``MNIST/raw``).
        batch_size: Training images per step and device.
        eval_batch_size: Images per step and device in validation, test and prediction.
        val_size: Number of the 60,000 images held out for validation; 0 trains on all of them.
        split_seed: Seed of the validation split; the global seed does not affect it.
        num_workers: Worker processes. 0 is fastest, since fetching a batch is one index operation.

    Raises:
        InputError: If ``val_size`` leaves no training images, or the data cannot be unpacked.
    """

    def __init__(
        self,
        data_dir: str = "data",
        batch_size: PositiveInt = 64,
        eval_batch_size: PositiveInt = 500,
        val_size: NonNegativeInt = 5000,
        split_seed: NonNegativeInt = 1998,
        num_workers: NonNegativeInt = 0,
    ) -> None:
        super().__init__()
        if val_size >= TRAIN_SIZE:
            raise InputError(
                f"data.val_size is {val_size}, of {TRAIN_SIZE:,} images.", "Give a smaller number."
            )
        self.data_dir = data_dir
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.val_size = val_size
        self.split_seed = split_seed
        self.num_workers = num_workers
        self.seed = 0

    def prepare_data(self) -> None:
        """Unpack the archives missing from ``data_dir``; runs in one process per machine."""
        unpack(Path(self.data_dir))

    def setup(self, stage: str) -> None:
        """Load the tensors that ``stage`` needs, unless already loaded.

        Args:
            stage: ``fit``, ``validate``, ``test`` or ``predict``.
        """
        if self.trainer is not None:
            self.seed = self.trainer.strategy.broadcast(torch.initial_seed())
        if stage in ("fit", "validate") and not hasattr(self, "train_set"):
            mnist = MNIST(self.data_dir, train=True)
            digits = DigitDataset(mnist.data, mnist.targets)
            generator = torch.Generator().manual_seed(self.split_seed)
            order = torch.randperm(len(digits), generator=generator).tolist()
            self.val_set = Subset(digits, sorted(order[: self.val_size]))
            self.train_set = Subset(digits, sorted(order[self.val_size :]))
        if stage in ("test", "predict") and not hasattr(self, "test_set"):
            mnist = MNIST(self.data_dir, train=False)
            self.test_set = DigitDataset(mnist.data, mnist.targets)

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
        return self._eval_loader(self.val_set) if self.val_size else []

    def test_dataloader(self) -> DataLoader[Batch]:
        """Return the 10,000 test images in the order of the archive."""
        return self._eval_loader(self.test_set)

    def predict_dataloader(self) -> DataLoader[Batch]:
        """Return the same batches as :meth:`test_dataloader`."""
        return self._eval_loader(self.test_set)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Scale the images on the device."""
        images, labels = batch
        return scaled(images), labels

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
