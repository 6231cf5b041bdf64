"""PageDataModule: which digits are written with, and what a page depends on."""

from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.utils.data import DistributedSampler

from mnist_lit.data import MNISTDataModule
from mnist_lit.detection.data import EpochSampler, PageDataModule, PageDataset


@pytest.fixture(scope="module")
def module(data_dir: Path) -> PageDataModule:
    module = PageDataModule(
        str(data_dir), pages=6, val_pages=4, test_pages=4, batch_size=3, num_workers=0
    )
    module.prepare_data()
    module.setup("fit")
    return module


def epoch(module: PageDataModule, number: int, seed: int = 0) -> torch.Tensor:
    module.seed = seed
    loader = module.train_dataloader()
    assert isinstance(loader.sampler, EpochSampler)
    loader.sampler.set_epoch(number)
    return torch.cat([batch.images for batch in loader])


def test_an_epoch_is_a_function_of_seed_and_epoch(module: PageDataModule) -> None:
    first = epoch(module, 3)
    assert torch.equal(first, epoch(module, 3))
    assert not torch.equal(first, epoch(module, 4))
    assert not torch.equal(first, epoch(module, 3, seed=1))
    assert len(set(rows(first.numpy()))) == 6


def test_validation_and_test_pages_stay_the_same_and_differ(module: PageDataModule) -> None:
    module.seed = 0
    before = [batch.images for batch in module.val_dataloader()]
    module.seed = 9
    loader = module.val_dataloader()
    assert isinstance(loader.sampler, DistributedSampler)
    loader.sampler.set_epoch(3)  # as Lightning does
    after = [batch.images for batch in loader]
    test = [batch.images for batch in module.test_dataloader()]
    assert all(map(torch.equal, before, after))
    assert not any(map(torch.equal, before, test))


def test_devices_share_the_evaluation_pages_without_repeats(module: PageDataModule) -> None:
    shares: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        for rank in range(3):
            patch.setattr(module, "trainer", SimpleNamespace(world_size=3, global_rank=rank))
            shares.extend(module.val_dataloader().sampler)
    assert sorted(shares) == [0, 1, 2, 3]


@pytest.mark.timeout(60)
def test_a_worker_draws_the_same_pages(module: PageDataModule, data_dir: Path) -> None:
    cv2.setNumThreads(2)
    cv2.resize(np.zeros((2048, 2048), np.uint8), (999, 999))  # starts OpenCV's threads
    with_worker = PageDataModule(str(data_dir), pages=6, batch_size=3, num_workers=1)
    with_worker.setup("fit")
    assert torch.equal(epoch(module, 2), epoch(with_worker, 2))


def test_training_and_evaluation_write_with_different_digits_and_never_with_test_images(
    module: PageDataModule, data_dir: Path
) -> None:
    mnist = MNISTDataModule(str(data_dir))
    mnist.setup("test")
    test = rows(mnist.test_set.images.numpy())
    loaders = (module.train_dataloader(), module.val_dataloader(), module.test_dataloader())
    train, val, testing = (
        rows(loader.dataset.digits.images)
        for loader in loaders
        if isinstance(loader.dataset, PageDataset)
    )
    assert (len(train), len(val)) == (55_000 + 7_850, 5_000 + 710)  # and drawn forms
    assert val == testing
    assert not set(train) & set(val)
    assert not set(train + val) & set(test)


def rows(images: NDArray[np.uint8]) -> list[bytes]:
    return [image.tobytes() for image in images]
