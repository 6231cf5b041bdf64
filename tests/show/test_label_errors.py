"""Planted label errors are found by the checkpoints of a cross-validation."""

import csv
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mnist_lit.show.label_errors import find_label_errors
from tests.conftest import Command
from tests.test_datasets import TRAIN_SIZE, write_dataset, write_idx

CODE = """
from torch import nn

class Corner(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(784, 10))
"""
PLANTED = {17: 2, 120: 9, 241: 0}  # index: wrong label; the images show the index's last digit


@pytest.fixture
def folds(run: Path, tmp_path: Path) -> list[Path]:
    """A checkpoint for each of three folds of a data set with three wrong labels.

    Their network tells the digit by the brightness of the image's corner, which is 20 times the
    digit; it depends on the training images as little as a perfect one.
    """
    write_dataset("KMNIST", tmp_path / "data")
    labels = np.arange(TRAIN_SIZE, dtype=np.uint8) % 10
    labels[[*PLANTED]] = [*PLANTED.values()]
    write_idx(tmp_path / "data/KMNIST/raw/train-labels-idx1-ubyte", labels)
    (tmp_path / "corner.py").write_text(CODE)
    state = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    state["hyper_parameters"]["network"] = {"class_path": "corner.Corner"}
    means = torch.arange(10) * 20 / 255
    weight = torch.zeros(10, 784)
    weight[:, 27] = 2 * 1000 * means
    state["state_dict"] = {"network.1.weight": weight, "network.1.bias": -1000 * means**2}
    return [save(state, tmp_path / f"{fold}.ckpt", fold=fold) for fold in range(3)]


def save(state: dict[str, dict[str, object]], path: Path, **settings: object) -> Path:
    data = {"dataset": "KMNIST", "folds": 3, "split_seed": 4, **settings}
    torch.save(state | {"config": state["config"] | {"data": data}}, path)
    return path


def copy_with(path: Path, **settings: object) -> Path:
    state = torch.load(path, weights_only=True)
    return save(state, path.with_name("changed.ckpt"), **settings)


def test_planted_label_errors_are_found_with_their_true_digits(
    mnist_lit: Command, folds: list[Path], tmp_path: Path
) -> None:
    paths = [str(folds[fold]) for fold in (2, 0, 1)]  # in any order
    options = ["--data_dir=data", "--output=errors.png"]
    outcome = mnist_lit("show", "--label-errors", "--ckpt_path", *paths, *options)
    assert (outcome.status, outcome.err) == (0, "")
    count = "3 of 300 labels may be wrong; showing 1 to 3 by margin."
    assert count in outcome.out.splitlines()
    assert outcome.out.splitlines()[-1] == "Figure: errors.png"
    with (tmp_path / "errors.csv").open(newline="") as file:
        heading, *rows = csv.reader(file)
    assert heading == ["index", "label", "suggestion", "probability", "margin"]
    found = {int(row[0]): (int(row[1]), int(row[2])) for row in rows}
    assert found == {index: (label, index % 10) for index, label in PLANTED.items()}
    for row in rows:
        assert float(row[3]) > 0.98
        assert float(row[4]) == pytest.approx(-float(row[3]), abs=0.01)
        assert [*row[:3], f"{float(row[3]):.2%}"] in [
            line.split()[:4] for line in outcome.out.splitlines()
        ]
    with Image.open(tmp_path / "errors.png") as image:
        assert image.width == 700


def test_index_selects_among_the_label_errors_and_the_table_has_all(
    mnist_lit: Command, folds: list[Path], tmp_path: Path
) -> None:
    options = ["--ckpt_path", *map(str, folds), "--data_dir=data", "--output=errors.svg"]
    outcome = mnist_lit("show", "--label-errors", "--index=1:9", *options)
    assert "showing 2 to 3 by margin." in outcome.out
    text = (tmp_path / "errors.svg").read_text(encoding="utf-8")
    table = (tmp_path / "errors.csv").read_text().splitlines()
    assert len(table) == 4
    changes = [f"✗ {row.split(',')[1]}→{row.split(',')[2]}<" for row in table[1:]]
    assert [change in text for change in changes] == [False, True, True]
    outcome = mnist_lit("show", "--label-errors", "--index=3", *options)
    assert outcome.status == 0
    assert "none left at --index 3." in outcome.out
    (tmp_path / "errors.csv").write_text("mine")
    outcome = mnist_lit("show", "--label-errors", "--index=3", *options)
    assert outcome.status == 2
    assert outcome.err.startswith("error: The table of label errors would replace errors.csv.\n")
    assert (tmp_path / "errors.csv").read_text() == "mine"


@pytest.mark.parametrize(
    ("given", "settings", "what", "what_to_do"),
    [
        ([0, 2], None, "Of 3 folds, these are missing: 1.", "--data.folds 3 --data.fold N"),
        ([0, 1, 1, 2], None, "more than one checkpoint of fold 1.", "one for each fold"),
        ([0, 1], {"fold": 2, "split_seed": 5}, "differ in data.split_seed: 4, 5.", "of one cross"),
        ([0, 1], {"fold": 2, "folds": 4}, "differ in data.folds: 3, 4.", "of one cross"),
        (
            [0, 1],
            {"fold": 2, "dataset": "MNIST"},
            "trained on KMNIST and MNIST.",
            "of one data set",
        ),
        ([], {"folds": 0}, "were not trained on folds.", "--data.folds 10 --data.fold N"),
        ([], {"folds": 1000}, "these are missing: 1, 2, 3", "--data.fold N"),
    ],
)
def test_other_checkpoints_than_one_for_each_fold_are_refused(
    mnist_lit: Command,
    folds: list[Path],
    given: list[int],
    settings: dict[str, object] | None,
    what: str,
    what_to_do: str,
) -> None:
    paths = [folds[fold] for fold in given]
    if settings is not None:
        paths.append(copy_with(folds[0], **settings))
    outcome = mnist_lit("show", "--label-errors", "--data_dir=data", "--ckpt_path", *paths)
    assert outcome.status == 2
    first, second = outcome.err.splitlines()
    assert what in first
    assert what_to_do in second


def test_a_model_that_diverged_is_refused(mnist_lit: Command, folds: list[Path]) -> None:
    state = torch.load(folds[1], weights_only=True)
    state["state_dict"]["network.1.bias"] *= math.nan
    torch.save(state, folds[1])
    outcome = mnist_lit("show", "--label-errors", "--data_dir=data", "--ckpt_path", *folds)
    assert outcome.status == 2
    assert "1.ckpt gives logits that are not finite." in outcome.err


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (["--label-errors"], "--label-errors needs a checkpoint."),
        (["--label-errors", "--split=val", "--ckpt_path=a"], "--label-errors shows training"),
        (["--label-errors", "--explain", "--ckpt_path=a"], "--label-errors shows training"),
        (["--label-errors", "--wrong", "--ckpt_path=a"], "not allowed with"),
        (["--ckpt_path", "a", "b"], "--ckpt_path names several checkpoints."),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    mnist_lit: Command, options: list[str], what: str
) -> None:
    outcome = mnist_lit("show", *options)
    assert outcome.status == 2
    assert what in outcome.err.splitlines()[0]
    assert len(outcome.err.splitlines()) == 2


def test_label_errors_agree_with_a_computation_by_hand() -> None:
    generator = torch.Generator().manual_seed(3)
    labels = torch.randint(9, (400,), generator=generator)  # without images of 9
    logits = torch.randn(400, 10, generator=generator)
    logits[range(400), labels] += 2
    probabilities = logits.softmax(dim=1)

    given = probabilities.numpy().astype(float)
    thresholds = [given[labels.numpy() == digit, digit].mean() for digit in range(9)]
    expected = []
    for index, label in enumerate(labels.tolist()):
        prediction = given[index].argmax()
        if prediction not in (label, 9) and given[index, prediction] >= thresholds[prediction]:
            expected.append((given[index, label] - given[index, prediction], index))
    assert len(expected) > 10

    found, margins = find_label_errors(labels, probabilities)
    assert found.tolist() == [index for _, index in sorted(expected)]
    assert margins.tolist() == pytest.approx([margin for margin, _ in sorted(expected)])
