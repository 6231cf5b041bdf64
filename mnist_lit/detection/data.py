"""PageDataModule: pages drawn while the detector trains, from MNIST's training images."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from jsonargparse.typing import NonNegativeInt, PositiveInt
from lightning.pytorch import LightningDataModule
from lightning.pytorch.overrides.distributed import UnrepeatedDistributedSampler
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler, Subset

from mnist_lit.augment.pen import VALIDATION_PEN, Pen, choose_forms, draw
from mnist_lit.data import Batch, DigitDataset, MNISTDataModule
from mnist_lit.detection.pages.numbers import DigitImages
from mnist_lit.detection.pages.page import draw_page
from mnist_lit.detection.targets import Targets, page_targets
from mnist_lit.errors import InputError

TRAINING, VALIDATION, TEST = range(3)  # part of every seed, so that no two pages are equal

DRAWN = 70  # MNIST's digits per drawn form of each digit, so that one in eight is drawn

Key = tuple[int, int]  # epoch and index


class PageSample(NamedTuple):
    """A page: ``uint8 (1, 256, 256)``, its targets, boxes, labels, and the boxes to ignore."""

    image: Tensor
    targets: Targets
    boxes: Tensor
    labels: Tensor
    ignored: Tensor


class PageBatch(NamedTuple):
    """n pages; boxes, labels and ignored boxes differ in number, so they are lists."""

    images: Tensor
    targets: Targets
    boxes: list[Tensor]
    labels: list[Tensor]
    ignored: list[Tensor]


class PageDataset(Dataset[PageSample]):
    """Draws the page of an epoch and index, or of an index alone, whenever it is asked for it.

    Args:
        digits: What to write with.
        seed: Numbers that, with the key, determine a page.
        pages: How many there are in an epoch.
    """

    def __init__(self, digits: DigitImages, seed: tuple[int, ...], pages: int) -> None:
        self.digits = digits
        self.seed = seed
        self.pages = pages

    def __len__(self) -> int:
        return self.pages

    def __getitem__(self, key: Key | int) -> PageSample:
        epoch, index = (0, key) if isinstance(key, int) else key
        page = draw_page(np.random.default_rng([*self.seed, epoch, index]), self.digits)
        boxes, labels, ignored = map(torch.from_numpy, (page.boxes, page.labels, page.ignored))
        targets = page_targets(boxes, labels, ignored, *page.image.shape)
        return PageSample(torch.from_numpy(page.image)[None], targets, boxes, labels, ignored)


class EpochSampler(DistributedSampler[Any]):
    """Yields epoch and index of each page of a process; Lightning tells it the epoch."""

    def __iter__(self) -> Iterator[Key]:
        return ((self.epoch, index) for index in super().__iter__())


class PageDataModule(LightningDataModule):
    """Synthetic pages; those of an epoch are a function of the global seed and the epoch.

    Training pages are written with the 55,000 digits that a classifier trains on, validation and
    test pages with the 5,000 held out. MNIST's test images are never used.

    Args:
        data_dir: Directory of the unpacked MNIST.
        pages: Training pages in an epoch.
        val_pages: Validation pages, always the same.
        test_pages: Test pages, always the same.
        batch_size: Pages per step and device.
        num_workers: Processes that draw pages; 0 draws them between the steps.
    """

    def __init__(
        self,
        data_dir: str = "data",
        pages: PositiveInt = 8192,
        val_pages: PositiveInt = 512,
        test_pages: PositiveInt = 1000,
        batch_size: PositiveInt = 16,
        num_workers: NonNegativeInt = 1,
    ) -> None:
        super().__init__()
        self.mnist = MNISTDataModule(data_dir=data_dir)
        self.pages = {TRAINING: pages, VALIDATION: val_pages, TEST: test_pages}
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.seed = 0

    def prepare_data(self) -> None:
        """Unpack MNIST; runs in one process per machine."""
        self.mnist.prepare_data()

    def setup(self, stage: str) -> None:
        """Load MNIST's training images, for all stages."""
        if self.trainer is not None:
            self.seed = self.trainer.strategy.broadcast(torch.initial_seed())
        self.mnist.setup("fit")

    def train_dataloader(self) -> DataLoader[PageSample]:
        """Return pages that are new in every epoch."""
        return self._loader(self.mnist.train_set, Pen(), (TRAINING, self.seed))

    def val_dataloader(self) -> DataLoader[PageSample]:
        """Return the validation pages."""
        return self._loader(self.mnist.val_set, VALIDATION_PEN, (VALIDATION,))

    def test_dataloader(self) -> DataLoader[PageSample]:
        """Return the test pages."""
        return self._loader(self.mnist.val_set, VALIDATION_PEN, (TEST,))

    def state_dict(self) -> dict[str, Any]:
        """Return what decides the training pages, for checkpoints."""
        return {  # plain integers: checkpoints hold only primitives
            "seed_everything": int(self.seed),
            "data.pages": int(self.pages[TRAINING]),
            "data.batch_size": int(self.batch_size),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Refuse to resume a training with other pages.

        Raises:
            InputError: If what decides them differs from the checkpoint's.
        """
        if self.trainer is None or self.trainer.state.fn != TrainerFn.FITTING:
            return
        for key, now in self.state_dict().items():
            if (then := state_dict.get(key, now)) != now:
                raise InputError(
                    f"{key} is {then} in the checkpoint and {now} in your options.",
                    "Give the options that its training has begun with.",
                )

    def _loader(
        self, digits: Subset[Batch], pen: Pen, seed: tuple[int, ...]
    ) -> DataLoader[PageSample]:
        # A worker has one core, and if OpenCV has started threads here, it waits for them forever.
        cv2.setNumThreads(1)
        dataset = PageDataset(digit_images(digits, pen), seed, self.pages[seed[0]])
        world, rank = (
            (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)
        )
        training = seed[0] == TRAINING
        sampler = EpochSampler if training else UnrepeatedDistributedSampler
        return DataLoader(
            dataset,
            batch_size=self.batch_size,
            sampler=sampler(dataset, world, rank, shuffle=False),
            num_workers=self.num_workers,
            persistent_workers=training and self.num_workers > 0,
            prefetch_factor=8 if self.num_workers else None,
            collate_fn=collated,
            generator=torch.Generator(),  # or iterators would draw from the global one
        )


def digit_images(digits: Subset[Batch], pen: Pen) -> DigitImages:
    """Return the digits of a part of MNIST to write with, and regional forms, drawn by a pen."""
    whole = digits.dataset
    assert isinstance(whole, DigitDataset)
    chosen = torch.tensor(digits.indices)
    labels = torch.arange(10).repeat(len(chosen) // DRAWN)
    generator = torch.Generator().manual_seed(0)
    forms = torch.split(choose_forms(labels, generator), 1000)
    drawn = torch.cat([draw(each, pen, generator) for each in forms]).squeeze(1)
    drawn = (255 * drawn).round().byte()
    images = torch.cat([whole.images[chosen].view(-1, *drawn.shape[1:]), drawn])
    return DigitImages(images.numpy(), torch.cat([whole.labels[chosen], labels]).numpy())


def collated(samples: list[PageSample]) -> PageBatch:
    """Put pages into a batch."""
    images, targets, *rest = zip(*samples, strict=True)
    stacked = Targets(*(torch.stack(maps) for maps in zip(*targets, strict=True)))
    return PageBatch(torch.stack(images), stacked, *(list(each) for each in rest))
