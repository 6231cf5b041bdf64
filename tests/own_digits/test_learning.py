"""Own digits in training and evaluation."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DistributedSampler

from mnist_lit.data import MNISTDataModule
from mnist_lit.errors import InputError
from mnist_lit.module import DigitClassifier
from mnist_lit.own_digits.accuracy import Accuracy
from mnist_lit.own_digits.adaptation import PACKAGED, warnings
from mnist_lit.own_digits.data import OwnDigitsDataModule
from mnist_lit.own_digits.folder import load_own_digits
from mnist_lit.reading.reader import Reader
from tests.conftest import CONFIGS, FEW, SMALL, Command, weights
from tests.own_digits.conftest import Write
from tests.support import paper

ADAPT = [f"--config={CONFIGS / 'adapt.yaml'}", *FEW, "--data.val_size=100"]


def loaded(folder: Path, data_dir: Path, **settings: float) -> OwnDigitsDataModule:
    data = OwnDigitsDataModule(own_dir=str(folder), data_dir=str(data_dir), **settings)
    data.prepare_data()
    data.setup("fit")
    return data


# ---- folders ----


def test_a_fifth_is_held_out_whatever_is_added(write: Write) -> None:
    few = load_own_digits(write(150))
    many = load_own_digits(write(300))
    assert (len(few.labels), len(many.labels)) == (150, 300)
    assert 0.12 < many.held_out.mean() < 0.28
    held_out = {image.tobytes() for image in many.images[many.held_out]}
    for image, is_held_out in zip(few.images, few.held_out, strict=True):
        assert (image.tobytes() in held_out) == is_held_out


def test_several_hands_are_one_set_without_repeats(write: Write) -> None:
    write(20)
    write(30, "hands/ben")
    hands = load_own_digits(write(0, "hands"))
    images, labels = paper.mnist()
    assert {image.tobytes() for image in hands.images} == {image.tobytes() for image in images[:30]}
    assert sorted(hands.labels) == sorted(labels[:30])


def test_any_picture_in_a_folder_of_its_digit_is_an_own_digit(tmp_path: Path) -> None:
    folder = tmp_path / "4"
    folder.mkdir()
    images, labels = paper.mnist()
    digit = images[labels == 4][0]
    ink = paper.digit(digit, 90)
    ink = paper.put(ink, 160, 160, 40, 30)
    Image.fromarray(paper.develop(paper.sheet(ink), np.random.default_rng(0))).save(
        folder / "large.jpg"
    )
    Image.fromarray(255 - digit).save(folder / "dark_on_light.png")
    (folder / "notes.txt").write_text("mine")
    Image.new("L", (200, 200), 250).save(folder / "blank.png")
    own = load_own_digits(tmp_path)
    assert own.labels.tolist() == [4, 4]
    assert np.abs(own.images.astype(float) - digit).mean() < 25
    assert own.images[:, 0].max() == 0
    [message] = own.messages
    assert message.startswith("Skipped: ")
    assert "blank.png shows no digit" in message


@pytest.mark.parametrize("name", ["", "7", "seven/x.png"])
def test_a_folder_without_digits_is_an_error(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir(parents=True, exist_ok=True)
    with pytest.raises(InputError, match="There are no digits in"):
        load_own_digits(tmp_path)


def test_an_image_with_two_labels_counts_once(write: Write) -> None:
    folder = write(5, label=7)
    first = sorted((folder / "7").glob("*.png"))[0]
    (folder / "1").mkdir()
    (folder / "1" / first.name).write_bytes(first.read_bytes())
    own = load_own_digits(folder)
    assert len(own.labels) == 5
    assert "is labeled otherwise elsewhere" in own.messages[0]


# ---- batches ----


def test_a_share_of_each_batch_is_own_digits_and_none_is_held_out(
    write: Write, data_dir: Path
) -> None:
    data = loaded(write(100), data_dir, own_share=0.3, batch_size=1000)
    own = {image.numpy().tobytes() for image in data.own_train_set.images}
    held_out = {image.numpy().tobytes() for image in data.own_val_set.images}
    assert len(own) + len(held_out) == 100
    seen: set[bytes] = set()
    for number, (images, _) in enumerate(data.train_dataloader()):
        of_batch = [image.numpy().tobytes() for image in images]
        assert 0.24 < np.mean([image in own for image in of_batch]) < 0.36
        seen |= set(of_batch)
        if number == 3:
            break
    assert own <= seen
    assert not held_out & seen


def test_batches_depend_on_seed_and_epoch_alone(write: Write, data_dir: Path) -> None:
    folder = write(40)

    def epoch(number: int) -> list[int]:
        sampler = loaded(folder, data_dir).train_dataloader().sampler
        assert isinstance(sampler, DistributedSampler)
        sampler.set_epoch(number)
        return list(sampler)

    assert epoch(2) == epoch(2)
    assert epoch(2) != epoch(3)


def test_without_own_digits_it_is_mnist(data_dir: Path) -> None:
    batches = []
    for data in (OwnDigitsDataModule(data_dir=str(data_dir)), MNISTDataModule(str(data_dir))):
        data.setup("fit")
        batches.append(next(iter(data.train_dataloader())))
    assert torch.equal(batches[0][0], batches[1][0])


def test_own_digits_go_with_digits_only(write: Write) -> None:
    with pytest.raises(InputError, match="FashionMNIST has no digits"):
        OwnDigitsDataModule(own_dir=str(write(5)), dataset="FashionMNIST")


# ---- adapting ----


def test_the_packaged_checkpoint_is_the_packaged_model() -> None:
    model = DigitClassifier.load_from_checkpoint(PACKAGED).eval()
    images = (paper.mnist()[0][:64] / 255).astype(np.float32)
    with torch.no_grad():
        logits = model(torch.from_numpy(images)[:, None])
    expected, _ = Reader().classify(images)
    assert np.abs(logits.numpy() - expected).max() < 1e-4
    assert not str(torch.load(PACKAGED, weights_only=True)).count("/work")


def test_adapting_starts_from_the_packaged_model_and_says_what_changed(
    mnist_lit: Command, write: Write, data_dir: Path
) -> None:
    folder = write(60)
    outcome = mnist_lit("fit", *ADAPT, f"--data.own_dir={folder}", f"--data.data_dir={data_dir}")
    assert (outcome.status, outcome.err) == (0, "")
    lines = outcome.out.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("accuracy"))
    assert lines[start].split() == ["accuracy", "images", "before", "after"]
    own, mnist = lines[start + 1], lines[start + 2]
    assert own.startswith("own digits, held out")
    held_out = int(load_own_digits(folder).held_out.sum())
    assert own.split()[4] == str(held_out)
    assert mnist.split()[:3] == ["MNIST,", "validation", "100"]
    assert float(mnist.split()[3].removesuffix("%")) >= 98
    assert lines[start + 3].startswith(f"Note: {held_out} held-out digits tell little")
    checkpoint = Path("lightning_logs/version_0/checkpoints/last.ckpt")
    before, after = weights(PACKAGED), weights(checkpoint)
    name = "network.0.weight"
    assert not torch.equal(before[name], after[name])
    assert (before[name] - after[name]).abs().max() < 0.05

    test = mnist_lit("test", "--ckpt_path=last", f"--data.own_dir={folder}")
    assert test.status == 0
    assert test.out.splitlines()[-1].split()[4] == str(held_out)
    assert "own digits" not in mnist_lit("test", "--ckpt_path=last").out
    resumed = mnist_lit("fit", "--ckpt_path=last")
    assert resumed.status == 2
    assert resumed.err.splitlines()[1].endswith("give their folder again: --data.own_dir FOLDER")
    export = mnist_lit("export", "--ckpt_path=last", "--output=own.onnx", "--weights=own.ckpt")
    assert (export.status, export.err) == (0, "")
    assert "hands" not in json.dumps(Reader("own.onnx").metadata)
    assert torch.equal(weights(Path("own.ckpt"))[name], after[name])
    assert Path("own.ckpt").stat().st_size < checkpoint.stat().st_size / 2


def test_another_network_cannot_start_from_these_weights(
    mnist_lit: Command, write: Write, data_dir: Path
) -> None:
    options = [f"--data.own_dir={write(30)}", f"--data.data_dir={data_dir}"]
    outcome = mnist_lit("fit", *ADAPT, *options, "--model.network=mnist_lit.networks.TutorialCNN")
    assert outcome.status == 2
    assert "do not fit this network" in outcome.err
    assert outcome.err.splitlines()[-1] == "Use its network, StrongCNN, with the same arguments."


def test_training_from_scratch_takes_own_digits_too(
    mnist_lit: Command, write: Write, data_dir: Path
) -> None:
    options = [f"--data.own_dir={write(30)}", f"--data.data_dir={data_dir}"]
    outcome = mnist_lit("fit", *SMALL, *FEW, *options)
    assert (outcome.status, outcome.err) == (0, "")
    shown = mnist_lit("show", *options[:1], "--ckpt_path=last", "--index=0:4", "--output=own.png")
    assert shown.out.splitlines()[1].startswith("train image  label")
    wrong = mnist_lit("show", *options, "--split=test")
    assert (wrong.status, wrong.err.splitlines()[-1]) == (2, "Choose --split train or val.")


def test_a_warning_says_when_mnist_has_lost() -> None:
    scores = {
        "own digits, held out": (Accuracy(80, 100), Accuracy(99, 100)),
        "MNIST, validation": (Accuracy(4990, 5000), Accuracy(4980, 5000)),
    }
    [line] = warnings(scores)
    assert line.startswith("Warning: MNIST lost 0.20 points.")
    scores["MNIST, validation"] = (Accuracy(4990, 5000), Accuracy(4986, 5000))
    assert not warnings(scores)


def test_an_interval_stands_beside_each_accuracy() -> None:
    assert str(Accuracy(90, 100)) == "90.00% (82.6% to 94.5%)"
    assert str(Accuracy(0, 0)) == "-"


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="There is no folder"):
        load_own_digits(tmp_path / "hands")


def test_there_is_no_adaptation_without_own_digits(mnist_lit: Command, data_dir: Path) -> None:
    outcome = mnist_lit("fit", *ADAPT, f"--data.data_dir={data_dir}")
    assert outcome.status == 2
    assert outcome.err.splitlines()[-1] == "Add --data.own_dir FOLDER."
