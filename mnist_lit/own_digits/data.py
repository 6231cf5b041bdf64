"""OwnDigitsDataModule: MNIST with one's own digits mixed in."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jsonargparse.typing import ClosedUnitInterval
from lightning.pytorch.utilities import rank_zero_only
from torch.utils.data import DataLoader, DistributedSampler, Subset

from mnist_lit.data import Batch, DigitDataset, MNISTDataModule
from mnist_lit.errors import InputError
from mnist_lit.own_digits.folder import load_own_digits


class MixedSampler(DistributedSampler[Batch]):
    """Replaces a share of another sampler's indices by those of own digits, drawn at random.

    Args:
        sampler: Of MNIST's training images; what it yields depends on its seed and epoch.
        own: Number of own digits, which follow MNIST's.
        share: In [0, 1]: share of the own digits in an epoch.
    """

    def __init__(self, sampler: DistributedSampler[Batch], own: int, share: float) -> None:
        super().__init__(sampler.dataset, sampler.num_replicas, sampler.rank, seed=sampler.seed)
        self.own = own
        self.share = share

    def __iter__(self) -> Iterator[Any]:
        indices = np.fromiter(super().__iter__(), np.int64)
        rng = np.random.default_rng([self.seed, self.epoch, self.rank])
        own = len(self.dataset) + rng.integers(self.own, size=len(indices))  # type: ignore[arg-type]
        return iter(np.where(rng.random(len(indices)) < self.share, own, indices).tolist())


class OwnDigitsDataModule(MNISTDataModule):
    """MNISTDataModule that can mix one's own digits into the training images.

    Args:
        own_dir: Folder of own digits: pictures in subfolders 0 to 9, at any depth, as collect
            writes them. A fifth is never trained on.
        own_share: Share of own digits in each training batch, on average.
        kwargs: Arguments of MNISTDataModule.

    Attributes:
        own_train_set: The own digits that are trained on.
        own_val_set: The others; both exist only with ``own_dir``.

    Raises:
        InputError: If there are no own digits to train on, or the data set is not one of digits.
    """

    def __init__(
        self, own_dir: str | None = None, own_share: ClosedUnitInterval = 0.25, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.own_dir = own_dir
        self.own_share = own_share
        if own_dir and self.class_names != [str(digit) for digit in range(10)]:
            raise InputError(f"{self.dataset} has no digits.", "Leave out --data.own_dir.")

    def setup(self, stage: str) -> None:
        """Load what a stage needs, and the own digits."""
        super().setup(stage)
        if not self.own_dir or hasattr(self, "own_train_set"):
            return
        own = load_own_digits(Path(self.own_dir))
        for line in own.messages:
            rank_zero_only(print)(line, file=sys.stderr)
        images, labels = torch.from_numpy(own.images), torch.from_numpy(own.labels)
        held_out = torch.from_numpy(own.held_out)
        if held_out.all():
            what = f"There are too few digits in {self.own_dir} to train on: {len(labels)}."
            raise InputError(what, "Collect some more.")
        self.own_train_set = DigitDataset(images[~held_out], labels[~held_out])
        self.own_val_set = DigitDataset(images[held_out], labels[held_out])

    def train_dataloader(self) -> DataLoader[Batch]:
        """Return the batches of MNISTDataModule, some of whose images are replaced by own ones."""
        loader = super().train_dataloader()
        if not self.own_dir:
            return loader
        mnist, own = self.train_set.dataset, self.own_train_set
        assert isinstance(mnist, DigitDataset)
        assert isinstance(loader.sampler, DistributedSampler)
        mixed = DigitDataset(
            torch.cat([mnist.images, own.images]), torch.cat([mnist.labels, own.labels])
        )
        places = range(len(mnist), len(mixed))
        sampler = MixedSampler(loader.sampler, len(own), self.own_share)
        chosen = Subset(mixed, [*self.train_set.indices, *places])
        return self._loader(chosen, sampler, self.batch_size)
