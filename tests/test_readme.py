"""The commands and examples of the README and docs/training.md run as they stand, cut short."""

import re
import shlex
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch
import pytest

from mnist_lit.__main__ import COMMANDS
from mnist_lit.detection import __main__ as detection
from tests.conftest import Command

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
TRAINING = (ROOT / "docs" / "training.md").read_text("utf-8")
LIMITS = {"max_epochs": 1, "limit_train_batches": 2, "limit_val_batches": 1}
TRAINED = [f"--trainer.{name}={value}" for name, value in LIMITS.items()]
TRAINED += ["--data.eval_batch_size=100"]
SHORT = {
    "fit": TRAINED,
    "sweep": TRAINED,
    "test": ["--trainer.limit_test_batches=1"],
}


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def commands(text: str) -> list[list[str]]:
    """The options of the commands in the code blocks that end by themselves.

    Without those that need the network, or packages for which there are marked tests.
    """
    lines = "\n".join(blocks(text, "bash")).replace("\\\n", " ")
    calls = re.findall(r"^python -m mnist_lit (.*)$", lines, re.MULTILINE)
    here = [call for call in calls if not re.search("^serve|download|trainer.logger", call)]
    return [shlex.split(call, comments=True) for call in here]


@pytest.fixture
def directory(tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory as the README assumes it: a clone, with its example files beside it."""
    for folder in ("configs", "docs"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    (tmp_path / "data").symlink_to(data_dir)
    for block in blocks(README, "(?:python|yaml)"):
        if named := re.match(r"# (\S+\.(?:py|yaml))\n", block):
            (tmp_path / named[1]).write_text(block)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop("mynet", None)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(README, id="README.md"),
        pytest.param(TRAINING, id="docs/training.md", marks=pytest.mark.slow),
    ],
)
def test_every_command_works(mnist_lit: Command, directory: Path, text: str) -> None:
    assert len(commands(text)) >= 4
    if text is TRAINING:  # which begins after the README's training
        assert mnist_lit("fit", "--config=configs/default.yaml", *SHORT["fit"]).status == 0
    for command in commands(text):
        outcome = mnist_lit(*command, *SHORT.get(command[0], []))
        assert outcome.status == 0, (command, outcome.err)


@pytest.mark.slow
def test_every_command_of_the_detector_works(directory: Path) -> None:
    few = ["--data.num_workers=0", "--data.batch_size=4"]
    short = {"fit": [*TRAINED[:3], *few], "test": ["--trainer.limit_test_batches=1", *few]}
    text = (ROOT / "docs" / "detection.md").read_text("utf-8")
    calls = re.findall(r"^python -m mnist_lit\.detection (.*)$", text, re.MULTILINE)
    assert [call.split()[0] for call in calls] == ["fit", "test", "export", "pages"]
    for call in calls:
        command = call.split()
        assert detection.main([*command, *short.get(command[0], [])]) == 0, call
    assert (directory / "detector.onnx").exists()


@pytest.mark.filterwarnings("ignore")  # Lightning's advice, such as on a training this short
def test_the_examples_in_python_work(
    directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    short = partial(lightning.pytorch.Trainer, limit_test_batches=1, accelerator="cpu")
    monkeypatch.setattr(lightning.pytorch, "Trainer", lambda **options: short(**options | LIMITS))
    names: dict[str, Any] = {}
    for block in blocks(README, "python"):
        exec(compile(block, "README.md", "exec"), names)
    assert type(names["model"].network).__name__ == "MyNet"
    assert names["model"].network.width == 128
    assert capsys.readouterr().out.endswith("20251\n7403986\n")


def test_the_readme_names_every_command() -> None:
    for command in COMMANDS:
        assert re.search(rf"(`|mnist_lit ){command}[ `]", README), command


@pytest.mark.parametrize(
    "document",
    [
        "README.md",
        "MODEL_CARD.md",
        "benchmarks/README.md",
        *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").glob("*.md")),
    ],
)
def test_links_between_documents_lead_somewhere(document: Any) -> None:
    path = ROOT / document
    for link in re.findall(r"\]\((?!http|#)([^)#]+)[^)]*\)", path.read_text("utf-8")):
        assert (path.parent / link).exists(), link


def test_the_readme_is_short() -> None:
    assert len(README.split()) <= 900


@pytest.mark.parametrize("document", ["CHANGELOG.md", "docs/experiments.md", "LICENSE"])
def test_the_other_documents_are_there(document: str) -> None:
    assert (ROOT / document).stat().st_size > 500
