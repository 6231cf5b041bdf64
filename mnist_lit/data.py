"""MNISTDataModule: the four official archives become uint8 tensors, and these become batches."""

import gzip
import logging
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from lightning.pytorch import LightningDataModule
from lightning.pytorch.overrides.distributed import UnrepeatedDistributedSampler
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler, Subset
from torchvision.datasets import MNIST
from torchvision.datasets.utils import check_integrity

from mnist_lit.errors import InputError

log = logging.getLogger(__name__)

ASSETS = Path(__file__).parent / "assets"

# Of the unpacked files; of the archives torchvision publishes its own (MNIST.resources).
RAW_MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}

Batch = tuple[Tensor, Tensor]

UNLABELLED = -100  # the label that torch's cross-entropy leaves out


class DigitDataset(Dataset[Batch]):
    """Images and labels as whole tensors, of which a loader fetches a batch at a time.

    Args:
        images: ``(n, 28, 28)``, ink 255, background 0; MNIST's are ``uint8``.
        labels: ``int64 (n,)`` in 0..9, or ``UNLABELLED``.
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
    """MNIST with its official 60,000 / 10,000 division, and validation images out of the 60,000.

    Batches arrive at the model as ``float32 (n, 1, 28, 28)`` in [0, 1], ink 1, with labels
    ``int64 (n,)``. Nothing is downloaded: the archives come with the package.

    Args:
        data_dir: Directory for the unpacked data, in torchvision's layout (``MNIST/raw``).
        batch_size: Training images per step and device.
        eval_batch_size: Images per step and device when validating, testing and predicting.
        val_size: Number of the 60,000 images held out for validation; 0 trains on all of them.
        split_seed: Seed of the validation split, which the global seed never moves.
        num_workers: Processes that fetch batches. 0 is fastest: a fetch is one indexing operation.
        predict_dir: Folder with the pictures whose digits ``predict`` reads; null for the test
            images. Probabilities are the network's own; ``export`` calibrates those of ``read``.

    Raises:
        InputError: If a number is out of range, or the data is neither complete nor restorable.
    """

    def __init__(
        self,
        data_dir: str = "data",
        batch_size: int = 64,
        eval_batch_size: int = 500,
        val_size: int = 5000,
        split_seed: int = 1998,
        num_workers: int = 0,
        predict_dir: str | None = None,
    ) -> None:
        super().__init__()
        for name, value, low, high in (
            ("batch_size", batch_size, 1, 60_000),
            ("eval_batch_size", eval_batch_size, 1, 60_000),
            ("val_size", val_size, 0, 59_999),
            ("split_seed", split_seed, 0, 2**64 - 1),
            ("num_workers", num_workers, 0, 1024),
        ):
            if not low <= value <= high:
                raise InputError(
                    f"data.{name} is {value}.", f"Give a number from {low:,} to {high:,}."
                )
        self.data_dir = data_dir
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.val_size = val_size
        self.split_seed = split_seed
        self.num_workers = num_workers
        self.predict_dir = predict_dir
        self.places: list[tuple[str, int, int, int, int, int]] = []  # of the digits in predict_dir
        self.skipped = 0  # pictures there that cannot be read
        self.seed = 0

    def prepare_data(self) -> None:
        """Unpack what ``data_dir`` lacks; runs on one process of each machine."""
        unpack(Path(self.data_dir))

    def setup(self, stage: str) -> None:
        """Load the tensors that ``stage`` needs and has not yet got.

        Args:
            stage: ``fit``, ``validate``, ``test`` or ``predict``.

        Raises:
            InputError: If ``predict_dir`` has no digits, or is given to another stage.
        """
        if self.predict_dir and stage != "predict":
            raise InputError(
                "data.predict_dir only has an effect in predict.", "Leave it out of this command."
            )
        if self.trainer is not None:
            self.seed = self.trainer.strategy.broadcast(torch.initial_seed())
        if stage in ("fit", "validate") and not hasattr(self, "train_set"):
            mnist = MNIST(self.data_dir, train=True)
            digits = DigitDataset(mnist.data, mnist.targets)
            generator = torch.Generator().manual_seed(self.split_seed)
            order = torch.randperm(len(digits), generator=generator).tolist()
            self.val_set = Subset(digits, sorted(order[: self.val_size]))
            self.train_set = Subset(digits, sorted(order[self.val_size :]))
        if self.predict_dir:
            from mnist_lit.reading.folder import find_glyphs  # other commands do not need it

            found = find_glyphs(Path(self.predict_dir))
            self.places, self.skipped = found.places, found.skipped
            for line in found.messages:
                rank_zero_only(print)(line, file=sys.stderr)
            images = torch.from_numpy(found.images)
            processes, _ = self._world()
            if len(images) < processes:
                raise InputError(
                    f"There are fewer digits than processes: {len(images)} for {processes}.",
                    "Take one: --trainer.devices 1",
                )
            self.predict_set = DigitDataset(images, torch.full((len(images),), UNLABELLED))
        elif stage in ("test", "predict") and not hasattr(self, "test_set"):
            mnist = MNIST(self.data_dir, train=False)
            self.test_set = DigitDataset(mnist.data, mnist.targets)

    def train_dataloader(self) -> DataLoader[Batch]:
        """Batches in an order that is a function of the global seed and the epoch."""
        replicas, rank = self._world()
        # DistributedSampler permutes by seed + epoch: neighbouring seeds are driven apart first.
        seed = int(np.random.SeedSequence(self.seed).generate_state(1)[0])
        sampler: DistributedSampler[Batch] = DistributedSampler(
            self.train_set, replicas, rank, shuffle=True, seed=seed
        )
        return self._loader(self.train_set, sampler, self.batch_size)

    def val_dataloader(self) -> DataLoader[Batch] | list[DataLoader[Batch]]:
        """The validation images in the order of the archive; no loader when there are none."""
        return self._eval_loader(self.val_set) if self.val_size else []

    def test_dataloader(self) -> DataLoader[Batch]:
        """The 10,000 test images in the order of the archive."""
        return self._eval_loader(self.test_set)

    def predict_dataloader(self) -> DataLoader[Batch]:
        """The digits in ``predict_dir``; without it the same as :meth:`test_dataloader`."""
        return self._eval_loader(self.predict_set if self.predict_dir else self.test_set)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Scale the images, on the device."""
        images, labels = batch
        return scaled(images), labels

    def _eval_loader(self, dataset: Dataset[Batch]) -> DataLoader[Batch]:
        # Unrepeated: several devices share the images without a padding that counts some twice.
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
            collate_fn=tuple,  # a fetch is a batch already
            generator=torch.Generator(),  # or a new iterator would draw from the epoch's own
        )

    def _world(self) -> tuple[int, int]:
        return (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)


def scaled(images: Tensor) -> Tensor:
    """Turn ``(n, 28, 28)`` from 0 to 255 into a network's ``float32 (n, 1, 28, 28)`` in [0, 1]."""
    return images.unsqueeze(1).to(torch.float32, copy=True).div_(255)


def unpack(data_dir: Path) -> None:
    """Make ``data_dir`` hold MNIST as torchvision reads it, every file verified by checksum.

    Writes only what is missing or damaged, each file atomically, one process at a time; a
    complete directory may be read-only.

    Raises:
        InputError: If a file cannot be written, or no sound archive of it is found.
    """
    raw = data_dir / "MNIST" / "raw"
    if not _unsound(raw):
        return
    try:
        raw.mkdir(parents=True, exist_ok=True)
        with FileLock(raw / ".lock"):
            for name in _unsound(raw):
                if (raw / name).exists():
                    log.warning("%s is damaged; restoring it from its archive.", raw / name)
                _unpack_archive(_find_archive(name, [ASSETS, raw, data_dir]), raw / name)
    except OSError as error:
        raise InputError(
            f"MNIST cannot be unpacked into {data_dir}: {error.strerror or error}.",
            "Choose a directory that can be written to with --data.data_dir, or make room there.",
        ) from error


def _unsound(raw: Path) -> Sequence[str]:
    return [name for name, md5 in RAW_MD5.items() if not check_integrity(str(raw / name), md5)]


def _find_archive(name: str, places: Sequence[Path]) -> Path:
    md5 = dict(MNIST.resources)[f"{name}.gz"]
    archives = [place / f"{name}.gz" for place in places]
    for archive in archives:
        if check_integrity(str(archive), md5):
            return archive
    raise InputError(
        f"No sound archive of {name}; looked at {', '.join(map(str, archives))}.",
        f"Install the package anew, or put the official {name}.gz (MD5 {md5}) at one of these.",
    )


def _unpack_archive(archive: Path, target: Path) -> None:
    partial = target.with_name(f".{target.name}.partial")
    try:
        with gzip.open(archive) as source, partial.open("wb") as sink:
            shutil.copyfileobj(source, sink)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
