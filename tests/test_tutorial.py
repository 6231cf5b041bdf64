"""docs/tutorial.md: its examples run, its commands exist, and what it says of the loss holds."""

import doctest
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from mnist_lit.__main__ import COMMANDS
from mnist_lit.data import MNISTDataModule
from mnist_lit.networks import TutorialCNN
from mnist_lit.training.environment import IGNORED_WARNINGS

ROOT = Path(__file__).parents[1]
TUTORIAL = ROOT / "docs" / "tutorial.md"


@pytest.mark.filterwarnings(
    *(f"ignore:{message}" for message in IGNORED_WARNINGS),  # as the commands do
    "ignore::lightning.fabric.utilities.warnings.PossibleUserWarning",
)
def test_examples_of_the_tutorial_print_what_it_shows(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("JSONARGPARSE_DEPRECATION_WARNINGS", "off")  # of Lightning's calls
    results = doctest.testfile(
        str(TUTORIAL),
        module_relative=False,
        globs={"data_dir": str(data_dir), "run_dir": str(tmp_path)},
        encoding="utf-8",
    )
    assert results.attempted > 10
    assert results.failed == 0


@pytest.mark.parametrize(
    "options",
    [{}, {"weight": torch.linspace(0.5, 5, 10)}, {"reduction": "none"}],
    ids=["unweighted", "weighted", "per image"],
)
def test_cross_entropy_is_log_softmax_and_negative_log_likelihood(
    data_dir: Path, options: dict[str, Any]
) -> None:
    digits = MNISTDataModule(str(data_dir), batch_size=256)
    digits.setup("fit")
    batch = next(iter(digits.train_dataloader()))
    images, labels = digits.on_after_batch_transfer(batch, 0)
    torch.manual_seed(0)
    logits = TutorialCNN()(images)
    in_one = nn.CrossEntropyLoss(**options)(logits, labels)
    in_two = nn.NLLLoss(**options)(nn.LogSoftmax(dim=1)(logits), labels)
    torch.testing.assert_close(in_one, in_two)


def test_commands_of_the_tutorial_and_their_configurations_exist() -> None:
    fences = re.findall(r"^```bash\n(.*?)^```", TUTORIAL.read_text("utf-8"), re.M | re.S)
    lines = [line for fence in fences for line in fence.splitlines()]
    commands = [line.split()[3] for line in lines if line.startswith("python -m mnist_lit ")]
    configs = re.findall(r"--config[ =](\S+)", "\n".join(lines))
    assert {"fit", "test", "predict"} <= set(commands)
    assert set(commands) <= COMMANDS.keys()
    assert configs
    assert [path for path in configs if not (ROOT / path).is_file()] == []
