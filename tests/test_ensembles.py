import json
import re
from pathlib import Path

import pytest
import torch

from mnist_lit.ensembles import Ensemble, mean_logits
from mnist_lit.module import DigitClassifier
from mnist_lit.networks import StrongCNN, TutorialCNN
from mnist_lit.reading.reader import Reader
from tests.conftest import FEW, SMALL, Command


def test_an_ensemble_predicts_the_mean_of_its_members_probabilities() -> None:
    members = [TutorialCNN().eval(), StrongCNN().eval()]
    images = torch.rand(5, 1, 28, 28)
    expected = (members[0](images).softmax(1) + members[1](images).softmax(1)) / 2
    torch.testing.assert_close(Ensemble(members)(images).softmax(1), expected)


def test_the_logits_of_an_ensemble_are_finite_where_its_probabilities_underflow() -> None:
    logits = torch.tensor([[[0.0, -500.0]], [[0.0, -400.0]]])
    assert mean_logits(logits)[0, 1].item() == pytest.approx(-400 - torch.tensor(2.0).log().item())


@pytest.fixture
def cross_validation(mnist_lit: Command, data_dir: Path) -> list[Path]:
    """The best checkpoints of three folds of a small training, called ``folds``."""
    for fold in range(3):
        options = ["--name=folds", "--data.folds=3", f"--data.fold={fold}"]
        assert mnist_lit("fit", *SMALL, *FEW, *options, f"--data.data_dir={data_dir}").status == 0
    paths = sorted(Path("lightning_logs/folds").glob("version_*/checkpoints/best.ckpt"))
    assert len(paths) == 3
    return paths


def test_an_ensemble_is_tested_beside_each_of_its_members(
    mnist_lit: Command, cross_validation: list[Path]
) -> None:
    singles = []
    for path in cross_validation:
        assert mnist_lit("test", f"--ckpt_path={path}").status == 0
        singles.append(json.loads((path.parent.parent / "test.json").read_text()))
    by_name = mnist_lit("test", "--ckpt_path", "folds")
    by_path = mnist_lit("test", "--ckpt_path", *map(str, cross_validation))
    assert (by_name.status, by_name.err) == (by_path.status, by_path.err) == (0, "")
    for path, single in zip(cross_validation, singles, strict=True):
        row = rf"{path} +{single['errors']:,} +{single['accuracy']:.2%} +{single['loss']:.4f}"
        assert re.search(row, by_name.out)
        assert re.search(row, by_path.out)
    results = json.loads(Path("lightning_logs/test_0/test.json").read_text())
    assert [member["sha256"] for member in results["members"]] == [s["sha256"] for s in singles]
    assert results["loss"] < max(single["loss"] for single in singles)
    assert f"Results: {Path('lightning_logs/test_1/test.json')}" in by_path.out


def test_an_ensemble_is_exported_as_one_model(
    mnist_lit: Command, cross_validation: list[Path]
) -> None:
    outcome = mnist_lit("export", "--ckpt_path", "folds", "--output=folds.onnx")
    assert (outcome.status, outcome.err) == (0, "")
    assert "TutorialCNN, 86,814 parameters" in outcome.out
    assert "not fitted: no images were held out from all members" in outcome.out
    reader = Reader(Path("folds.onnx"))
    images = torch.rand(3, 1, 28, 28)
    members = [DigitClassifier.load_from_checkpoint(path).eval() for path in cross_validation]
    expected = torch.stack([member(images).softmax(1) for member in members]).mean(0)
    _, probabilities = reader.classify(images[:, 0].numpy())
    torch.testing.assert_close(torch.from_numpy(probabilities), expected, atol=1e-5, rtol=0)


def test_members_that_hold_out_the_same_images_are_calibrated_on_them(
    mnist_lit: Command, run: Path
) -> None:
    best, last = (str(run / "checkpoints" / name) for name in ("best.ckpt", "last.ckpt"))
    outcome = mnist_lit("export", "--ckpt_path", best, last, "--output=both.onnx")
    assert "fitted to the 5,000 validation images" in outcome.out


def test_a_name_without_finished_runs_is_an_error(mnist_lit: Command, run: Path) -> None:
    Path("lightning_logs/unfinished").mkdir()
    outcome = mnist_lit("test", "--ckpt_path", "unfinished")
    assert outcome.status == 2
    assert outcome.err.startswith("error: No finished run in lightning_logs/unfinished has a best")


def test_members_of_different_data_sets_are_refused(mnist_lit: Command, run: Path) -> None:
    other = Path("other.ckpt")
    state = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    state["config"]["data"]["dataset"] = "KMNIST"
    torch.save(state, other)
    outcome = mnist_lit("export", "--ckpt_path", "best", str(other))
    assert outcome.err == (
        "error: The checkpoints were trained on KMNIST and MNIST.\nGive those of one data set.\n"
    )
