"""What the tests share: unpacked data, the commands called in-process, a small finished run."""

import csv
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from mnist_lit.__main__ import main
from mnist_lit.assets import unpack
from mnist_lit.reading.models import refusal

# The suite runs in two processes on two cores: more threads would only wait for each other.
os.environ["OMP_NUM_THREADS"] = "1"
torch.set_num_threads(1)

CONFIGS = Path(__file__).parent.parent / "configs"

# A training that takes a second: 20 steps an epoch, two epochs.
SMALL = [
    f"--config={CONFIGS / 'default.yaml'}",
    "--trainer.max_epochs=2",
    "--trainer.limit_train_batches=20",
    "--trainer.limit_val_batches=2",
    "--trainer.log_every_n_steps=8",
]
FEW = ["--trainer.limit_train_batches=2", "--trainer.limit_val_batches=1"]


OWN_NETWORK = """
import random

import numpy as np
from torch import nn

class OwnNetwork(nn.Sequential):
    def __init__(self, width: int = 8):
        super().__init__(nn.Flatten(), nn.Dropout(0.5), nn.Linear(784, width), nn.Linear(width, 10))

class Noise(nn.Module):
    def forward(self, images, labels):
        shift = np.random.uniform(0, 0.1) + random.uniform(0, 0.1)
        return images + 0.1 * images.new_empty(images.shape).normal_() + shift, labels
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.timeout(1200))


@dataclass
class Outcome:
    """What a command left: its exit status and what it printed."""

    status: int
    out: str
    err: str


Command = Callable[..., Outcome]


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data")
    unpack(path)
    return path


@pytest.fixture
def pictures() -> None:
    """Let the commands called by ``mnist_lit`` draw their figures for TensorBoard.

    Other tests do without: drawing takes a third of a small training and half of a test.
    """


@pytest.fixture
def mnist_lit(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Command:
    """Call a command as ``python -m mnist_lit`` would, in the test's own directory."""
    monkeypatch.chdir(tmp_path)
    if "pictures" not in request.fixturenames:
        for name in ("draw_validation", "FitPictures.on_train_start", "TestPictures.__call__"):
            monkeypatch.setattr(f"mnist_lit.training.command.{name}", lambda *_: None)
    monkeypatch.setattr(sys, "path", [*sys.path])  # commands add the working directory

    def call(*args: str) -> Outcome:
        capsys.readouterr()
        status = main([str(arg) for arg in args])
        return Outcome(status, *capsys.readouterr())

    return call


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, data_dir: Path) -> Path:
    """A directory with one finished small run, ``lightning_logs/version_0``."""
    path = tmp_path_factory.mktemp("finished")
    before = Path.cwd()
    os.chdir(path)
    try:
        assert main(["fit", *SMALL, f"--data.data_dir={data_dir}", "--seed_everything=7"]) == 0
    finally:
        os.chdir(before)
    return path


@pytest.fixture(scope="session")
def exported(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The best checkpoint of the finished run as an ONNX file.

    The export has checked it. Readers do not check it again: each check starts a process.
    """
    path = tmp_path_factory.mktemp("exported") / "digits.onnx"
    checkpoint = finished / "lightning_logs/version_0/checkpoints/best.ckpt"
    assert main(["export", f"--ckpt_path={checkpoint}", f"--output={path}"]) == 0
    checked = path.read_bytes()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "mnist_lit.reading.models.refusal",
            lambda content: "" if content == checked else refusal(content),
        )
        yield path


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """The test's own copy of the finished run, below the directory that commands run in."""
    shutil.copytree(finished / "lightning_logs", tmp_path / "lightning_logs")
    return tmp_path / "lightning_logs" / "version_0"


def start(*args: str, cwd: Path) -> subprocess.Popen[str]:
    """Start the real program."""
    return subprocess.Popen(
        [sys.executable, "-m", "mnist_lit", *map(str, args)],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str], seconds: float = 300) -> tuple[int, str, str]:
    try:
        out, err = process.communicate(timeout=seconds)
    finally:
        process.kill()
    return process.returncode, out, err


def weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(checkpoint, weights_only=True)["state_dict"]
    return state


def scalars(run: Path) -> list[dict[str, str]]:
    """What a run has logged, but for its speed."""
    with (run / "metrics.csv").open(newline="") as file:
        return [{**row, "train/images_per_second": ""} for row in csv.DictReader(file)]
