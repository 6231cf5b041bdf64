"""Lightning's own options and callbacks: each has the effect that its documentation names."""

import importlib.util
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from mnist_lit.checkpoints import load_checkpoint
from mnist_lit.networks import TutorialCNN
from tests.conftest import FEW, SMALL, Command, scalars, weights

CALLBACK = "--trainer.callbacks"
FINDER = [f"{CALLBACK}=BatchSizeFinder", f"{CALLBACK}.max_trials=2"]
STOPPING = [f"{CALLBACK}=EarlyStopping", f"{CALLBACK}.monitor=val/loss"]
AVERAGING = [f"{CALLBACK}=StochasticWeightAveraging", f"{CALLBACK}.swa_lrs=0.1"]
DESCENT = ["--model.optimizer=torch.optim.SGD", "--model.optimizer.lr=0.1", "--seed_everything=1"]
HAS_PSUTIL = importlib.util.find_spec("psutil") is not None


@dataclass
class Fitted:
    """What a user sees of a training: what it printed, and its working directory."""

    out: str
    err: str
    directory: Path

    @property
    def run(self) -> Path:
        return self.directory / "lightning_logs" / "version_0"

    @property
    def steps(self) -> int:
        steps: int = load_checkpoint(self.run / "checkpoints/last.ckpt")["global_step"]
        return steps


def says(pattern: str) -> Callable[[Fitted], Any]:
    return lambda fitted: re.search(pattern, fitted.out, re.MULTILINE | re.DOTALL)


def refuses(pattern: str) -> Callable[[Fitted], Any]:
    def holds(fitted: Fitted) -> bool:
        first, _ = fitted.err.splitlines()
        return bool(re.match(f"error: {pattern}", first))

    return holds


def writes_a_trace(fitted: Fitted) -> bool:
    return "aten::conv2d" in fitted.out and any(fitted.run.glob("*.pt.trace.json"))


def leaves_nothing(fitted: Fitted) -> bool:
    return "Run: not logged" in fitted.out and not any(fitted.directory.iterdir())


def learns_its_batch_by_heart(fitted: Fitted) -> bool:
    losses = [row["train/loss_epoch"] for row in scalars(fitted.run) if row["train/loss_epoch"]]
    return fitted.steps == 20 and float(losses[-1]) < 0.5


def takes_two_steps(fitted: Fitted) -> bool:
    return fitted.steps == 2


def has_hardly_moved(fitted: Fitted) -> bool:
    torch.manual_seed(1)
    start = TutorialCNN().state_dict()
    end = weights(fitted.run / "checkpoints/last.ckpt")
    return all(torch.allclose(start[name], end[f"network.{name}"], atol=1e-4) for name in start)


def records_the_batch_size_it_found(fitted: Fitted) -> bool:
    config = yaml.safe_load((fitted.run / "config.yaml").read_text())
    left = [path.name for path in fitted.directory.iterdir()]
    return config["data"]["batch_size"] == 4 and left == ["lightning_logs"]


def logs_the_load(fitted: Fitted) -> bool:
    return any("cpu_percent" in name for name in scalars(fitted.run)[0])


CASES: dict[str, tuple[list[str], Callable[[Fitted], Any]]] = {
    "profiler simple": (["--trainer.profiler=simple"], says("run_training_epoch")),
    "profiler advanced": (["--trainer.profiler=advanced"], says("ncalls +tottime")),
    "profiler pytorch": (
        ["--trainer.profiler=pytorch", "--trainer.limit_train_batches=8"],
        writes_a_trace,
    ),
    "enable_model_summary": (["--trainer.enable_model_summary=true"], says("TutorialCNN +.*28.9")),
    "max_time": (
        ["--trainer.max_time=00:00:00:01", "--trainer.max_epochs=100000"],
        says("^Stopped by max_time 0:00:01$"),
    ),
    "overfit_batches": (
        ["--trainer.overfit_batches=1", "--trainer.max_epochs=20", "--model.optimizer.lr=0.005"],
        learns_its_batch_by_heart,
    ),
    "fast_dev_run": (["--trainer.fast_dev_run=true"], leaves_nothing),
    "barebones": (["--trainer.barebones=true", "--trainer.log_every_n_steps=null"], leaves_nothing),
    "accumulate_grad_batches": (
        ["--trainer.accumulate_grad_batches=4", "--trainer.limit_train_batches=8"],
        takes_two_steps,
    ),
    "gradient_clip_val": (["--trainer.gradient_clip_val=1e-5", *DESCENT], has_hardly_moved),
    "LearningRateFinder": ([f"{CALLBACK}=LearningRateFinder"], refuses("LearningRateFinder ")),
    "BatchSizeFinder": (FINDER, records_the_batch_size_it_found),
    "RichProgressBar": ([f"{CALLBACK}=RichProgressBar"], says("^Epoch 0/0 +━")),
    "RichModelSummary": ([f"{CALLBACK}=RichModelSummary"], says("TutorialCNN +.*28.9")),
    "DeviceStatsMonitor": (
        [f"{CALLBACK}=DeviceStatsMonitor", "--trainer.log_every_n_steps=1"],
        logs_the_load if HAS_PSUTIL else refuses(".*`psutil` is not installed"),
    ),
    "EarlyStopping": (
        [*STOPPING, f"{CALLBACK}.stopping_threshold=5", "--trainer.max_epochs=3"],
        says("^Stopped early: .*^Best epoch: 1 of 1, val/loss"),
    ),
    "StochasticWeightAveraging": (AVERAGING, refuses("StochasticWeightAveraging ")),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.filterwarnings(
    "ignore:You requested to overfit",
    "ignore:You are trying to .self.log",
    "ignore:The PyTorch Profiler default schedule",  # eight steps are few
)
@pytest.mark.usefixtures("pictures")
def test_an_option_of_lightning_does_as_documented_or_is_refused(
    mnist_lit: Command, tmp_path: Path, data_dir: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    options, holds = CASES[name]
    if name.startswith("Rich") and importlib.util.find_spec("rich") is None:
        pytest.skip("needs rich")
    one_epoch = ["--trainer.max_epochs=1", f"--data.data_dir={data_dir}"]
    outcome = mnist_lit("fit", *SMALL, *FEW, *one_epoch, *options)
    assert holds(Fitted(outcome.out + caplog.text, outcome.err, tmp_path)), outcome


@pytest.fixture
def anomaly_mode() -> Iterator[None]:
    before = torch.is_anomaly_enabled()
    yield
    torch.autograd.set_detect_anomaly(before)


@pytest.mark.filterwarnings("ignore:Error detected in")
@pytest.mark.usefixtures("anomaly_mode")
def test_detect_anomaly_names_the_function_that_returned_nan(
    mnist_lit: Command, data_dir: Path
) -> None:
    diverging = ["--model.optimizer=torch.optim.SGD", "--model.optimizer.lr=1e30"]
    options = [*diverging, f"--data.data_dir={data_dir}", "--trainer.detect_anomaly=true"]
    with pytest.raises(RuntimeError, match="returned nan values"):
        mnist_lit("fit", *SMALL, *options)


def test_a_resumed_run_keeps_the_batch_size_that_was_found(
    mnist_lit: Command, tmp_path: Path, data_dir: Path
) -> None:
    mnist_lit("fit", *SMALL, *FEW, f"--data.data_dir={data_dir}", *FINDER)
    outcome = mnist_lit("fit", "--ckpt_path=last", "--trainer.max_epochs=3")
    assert (outcome.status, outcome.err) == (0, "")
    state = load_checkpoint(tmp_path / "lightning_logs/version_0/checkpoints/last.ckpt")
    assert (state["config"]["data"]["batch_size"], state["global_step"]) == (4, 6)
