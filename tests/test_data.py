import logging
import shutil
import socket
import subprocess
import sys
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import seed_everything
from torch.utils.data import DistributedSampler
from torchvision.datasets import MNIST
from torchvision.datasets.utils import check_integrity

from mnist_lit import assets
from mnist_lit.assets import ASSETS, RAW_MD5, unpack
from mnist_lit.data import DigitDataset, MNISTDataModule
from mnist_lit.errors import InputError
from tests.conftest import Command

TRAIN_IMAGES = "train-images-idx3-ubyte"


@pytest.fixture
def own_dir(data_dir: Path, tmp_path: Path) -> Path:
    """A copy of the data directory to damage."""
    return Path(shutil.copytree(data_dir, tmp_path / "data"))


def raw(data_dir: Path, name: str = TRAIN_IMAGES) -> Path:
    return data_dir / "MNIST" / "raw" / name


def module(data_dir: Path, stage: str = "fit", **settings: Any) -> MNISTDataModule:
    datamodule = MNISTDataModule(str(data_dir), **settings)
    datamodule.prepare_data()
    datamodule.setup(stage)
    return datamodule


def labels_in_order(datamodule: MNISTDataModule, epoch: int) -> torch.Tensor:
    loader = datamodule.train_dataloader()
    assert isinstance(loader.sampler, DistributedSampler)
    loader.sampler.set_epoch(epoch)
    return torch.cat([labels for _, labels in loader])


def test_the_packaged_archives_are_the_official_ones() -> None:
    for name, md5 in MNIST.resources:
        assert check_integrity(str(ASSETS / name), md5)


def test_data_is_unpacked_without_network_as_torchvision_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "socket", None)
    unpack(tmp_path)
    train, test = MNIST(tmp_path, train=True), MNIST(tmp_path, train=False)
    assert train.data.shape == (60_000, 28, 28)
    assert test.data.shape == (10_000, 28, 28)
    assert {path.name for path in raw(tmp_path).parent.iterdir()} == {*RAW_MD5, ".lock"}


def test_pixels_have_mnists_known_mean_and_deviation(data_dir: Path) -> None:
    pixels = MNIST(data_dir).data.double() / 255
    assert pixels.mean().item() == pytest.approx(0.1307, abs=5e-5)
    assert pixels.std().item() == pytest.approx(0.3081, abs=5e-5)


@pytest.mark.parametrize("damage", ["truncated", "altered", "missing", "empty"])
def test_a_damaged_raw_file_is_named_and_restored(
    own_dir: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    path = raw(own_dir)
    sound = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        content = {"truncated": sound[:-1], "altered": b"x" + sound[1:], "empty": b""}
        path.write_bytes(content[damage])
    with caplog.at_level(logging.WARNING):
        unpack(own_dir)
    assert path.read_bytes() == sound
    assert (str(path) in caplog.text) == (damage != "missing")


def test_a_complete_directory_is_never_written_to(
    own_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assets, "FileLock", None)  # a read-only directory has no room for a lock
    before = {path: path.stat().st_mtime_ns for path in own_dir.rglob("*")}
    unpack(own_dir)
    assert {path: path.stat().st_mtime_ns for path in own_dir.rglob("*")} == before


def test_a_directory_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot be unpacked into .*\n.*--data.data_dir"):
        unpack(tmp_path / "file" / "data")


def test_a_write_that_was_cut_off_does_no_harm(tmp_path: Path) -> None:
    raw(tmp_path).parent.mkdir(parents=True)
    raw(tmp_path, f".{TRAIN_IMAGES}.partial").write_bytes(b"half")
    unpack(tmp_path)
    assert len(MNIST(tmp_path)) == 60_000
    assert not list(raw(tmp_path).parent.glob(".*.partial"))


def test_archives_placed_by_hand_are_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for archive in ASSETS.glob("*.gz"):
        shutil.copy(archive, tmp_path)
    monkeypatch.setattr(assets, "ASSETS", tmp_path / "nowhere")
    unpack(tmp_path)
    assert len(MNIST(tmp_path)) == 60_000


def test_without_any_archive_the_places_looked_at_are_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assets, "ASSETS", tmp_path / "nowhere")
    with pytest.raises(InputError) as error:
        unpack(tmp_path / "data")
    for place in (tmp_path / "nowhere", raw(tmp_path / "data").parent, tmp_path / "data"):
        assert str(place / f"{TRAIN_IMAGES}.gz") in str(error.value)


@pytest.mark.slow
def test_processes_that_start_at_once_in_an_empty_directory_all_succeed(tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from mnist_lit.assets import unpack; "
    command = [sys.executable, "-c", code + "unpack(Path(sys.argv[1]))", str(tmp_path)]
    processes = [subprocess.Popen(command) for _ in range(2)]
    assert [process.wait() for process in processes] == [0, 0]
    assert len(MNIST(tmp_path)) == 60_000


def test_the_splits_are_disjoint_and_complete(data_dir: Path) -> None:
    datamodule = module(data_dir)
    train, val = set(datamodule.train_set.indices), set(datamodule.val_set.indices)
    assert (len(train), len(val)) == (55_000, 5_000)
    assert train | val == set(range(60_000))


def test_the_global_seed_does_not_move_the_validation_split(data_dir: Path) -> None:
    splits = []
    for seed in (0, 1):
        seed_everything(seed, verbose=False)
        splits.append(module(data_dir).val_set.indices)
    assert splits[0] == splits[1]
    assert splits[0] != module(data_dir, split_seed=3).val_set.indices


@pytest.mark.parametrize(("world", "batch_size"), [(1, 64), (2, 64), (3, 64), (3, 7)])
@pytest.mark.parametrize("split", ["val", "test"])
def test_every_image_is_judged_exactly_once(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, split: str, world: int, batch_size: int
) -> None:
    labels = []
    datamodule = module(data_dir, "fit" if split == "val" else "test", eval_batch_size=batch_size)
    for rank in range(world):
        monkeypatch.setattr(datamodule, "_world", lambda rank=rank: (world, rank))
        loader = getattr(datamodule, f"{split}_dataloader")()
        labels.append(torch.cat([labels for _, labels in loader]))
    whole = torch.empty(sum(map(len, labels)), dtype=torch.long)
    for rank in range(world):
        whole[rank::world] = labels[rank]
    dataset: Any = datamodule.val_set if split == "val" else datamodule.test_set
    assert whole.tolist() == dataset[list(range(len(dataset)))][1].tolist()


def test_the_order_of_an_epoch_is_a_function_of_seed_and_epoch(data_dir: Path) -> None:
    datamodule = module(data_dir)
    first = labels_in_order(datamodule, epoch=0)
    assert torch.equal(first, labels_in_order(datamodule, epoch=0))
    second = labels_in_order(datamodule, epoch=1)
    assert not torch.equal(first, second)
    datamodule.seed = 1
    assert not torch.equal(second, labels_in_order(datamodule, epoch=0))


@pytest.mark.parametrize("world", [2, 4])
def test_a_step_of_several_processes_has_the_images_of_one_processs_step(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, world: int
) -> None:
    def steps(world: int) -> list[set[int]]:
        datamodule, batches = module(data_dir, batch_size=64 // world), []
        for rank in range(world):
            monkeypatch.setattr(datamodule, "_world", lambda rank=rank: (world, rank))
            sampler: Any = datamodule.train_dataloader().batch_sampler
            batches.append(list(sampler))
        return [set().union(*step) for step in zip(*batches, strict=True)]

    assert steps(world) == steps(1)


def test_a_batch_is_one_fetch_without_per_image_work(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(DigitDataset, "__getitem__")
    images, labels = next(iter(module(data_dir).train_dataloader()))
    assert (images.shape, images.dtype) == ((64, 28, 28), torch.uint8)
    assert labels.shape == (64,)


def test_workers_fetch_the_same_batches(data_dir: Path) -> None:
    here = module(data_dir, "test", eval_batch_size=3000)
    there = module(data_dir, "test", eval_batch_size=3000, num_workers=2)
    batches = list(zip(here.test_dataloader(), there.test_dataloader(), strict=True))
    assert [len(labels) for (_, labels), _ in batches] == [3000, 3000, 3000, 1000]
    for (images, labels), (fetched_images, fetched_labels) in batches:
        assert torch.equal(images, fetched_images)
        assert torch.equal(labels, fetched_labels)


def test_batches_are_scaled_to_ink_1_on_background_0(data_dir: Path) -> None:
    datamodule = module(data_dir, "test")
    batch = next(iter(datamodule.test_dataloader()))
    images, labels = datamodule.on_after_batch_transfer(batch, 0)
    assert (images.shape, images.dtype) == ((500, 1, 28, 28), torch.float32)
    assert labels.dtype == torch.int64
    assert torch.equal(images[:, 0] * 255, batch[0].float())
    assert images[:, :, 0].max() == 0  # the border is background
    assert images.max() == 1


def test_setting_up_again_changes_nothing(data_dir: Path) -> None:
    datamodule = module(data_dir)
    train_set = datamodule.train_set
    datamodule.setup("fit")
    datamodule.setup("validate")
    assert datamodule.train_set is train_set


def test_all_60_000_images_can_be_trained_on(data_dir: Path) -> None:
    datamodule = module(data_dir, val_size=0)
    assert len(datamodule.train_set) == 60_000
    assert datamodule.val_dataloader() == []


@pytest.mark.parametrize("name", ["batch_size", "eval_batch_size", "val_size", "num_workers"])
def test_a_number_out_of_range_is_refused_by_name(mnist_lit: Command, name: str) -> None:
    outcome = mnist_lit("fit", f"--data.{name}=-1")
    assert outcome.status == 2
    assert outcome.err.startswith(f"error: data.{name}: ")
    assert len(outcome.err.splitlines()) == 2


def test_a_validation_set_of_all_images_is_refused(data_dir: Path) -> None:
    with pytest.raises(InputError, match=r"data\.val_size is 60000.*\nGive a smaller number\."):
        module(data_dir, val_size=60_000)


def test_folds_are_disjoint_complete_and_of_one_size(data_dir: Path) -> None:
    folds = [module(data_dir, folds=7, fold=fold) for fold in range(7)]
    held_out = [fold.val_set.indices for fold in folds]
    assert sorted(chain(*held_out)) == list(range(60_000))
    assert {len(indices) for indices in held_out} == {8571, 8572}
    for fold, indices in zip(folds, held_out, strict=True):
        assert sorted([*fold.train_set.indices, *indices]) == list(range(60_000))


def test_folds_follow_the_split_seed_but_not_the_global_one(data_dir: Path) -> None:
    seed_everything(1, verbose=False)
    first = module(data_dir, folds=10, fold=3).val_set.indices
    seed_everything(2, verbose=False)
    assert module(data_dir, folds=10, fold=3).val_set.indices == first
    assert module(data_dir, folds=10, fold=3, split_seed=4).val_set.indices != first


@pytest.mark.parametrize(("folds", "fold"), [(1, 0), (5, 5), (0, 1), (10**9, 0)])
def test_a_fold_that_does_not_exist_is_refused(folds: int, fold: int) -> None:
    with pytest.raises(InputError, match=rf"^data\.fold is {fold}, of {folds} folds\.\n"):
        MNISTDataModule(folds=folds, fold=fold)
