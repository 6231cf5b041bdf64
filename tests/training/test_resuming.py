"""The same run again: resumed, killed, repeated."""

import json
import random
import re
import resource
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mnist_lit.checkpoints import load_checkpoint
from tests.conftest import (
    CONFIGS,
    OWN_NETWORK,
    SMALL,
    Command,
    scalars,
    start,
)
from tests.support.waiting import wait_until

# Dropout, an augmentation that draws from torch, NumPy and Python, averaged weights, a schedule by
# the step, and a limit of steps.
EVERYTHING = [
    "--model.network=own_network.OwnNetwork",
    "--model.augmentation=own_network.Noise",
    "--trainer.callbacks+=EMAWeightAveraging",
    "--trainer.callbacks.decay=0.9",
    "--model.scheduler=OneCycleLR",
    "--model.scheduler.max_lr=0.01",
    "--model.scheduler.total_steps=60",
    "--model.scheduler_interval=step",
    "--trainer.max_steps=60",
]
WORKER = "--data.num_workers=1"  # no setting that a checkpoint decides
BY_EPOCH = ["--model.scheduler=StepLR", "--model.scheduler.step_size=1"]
ON_PLATEAU = [
    "--model.scheduler=torch.optim.lr_scheduler.ReduceLROnPlateau",
    "--model.scheduler.patience=0",
    "--model.scheduler.threshold=10",  # so that no loss is low enough
]


# With seed 0; processors and versions of torch differ in the fifth digit.
FIRST_LOSSES = [
    *(2.28994, 2.27183, 2.24776, 2.25644, 2.19118, 2.22276, 2.02963, 2.09761, 2.09070, 1.96457),
    *(1.94615, 1.88046, 1.94439, 1.85105, 1.84664, 1.73743, 1.64789, 1.61054, 1.47628, 1.41052),
]


def assert_equal_states(one: Path, other: Path) -> None:
    """Weights, averages, optimizer and schedule of two checkpoints are equal bit for bit."""
    states = [torch.load(path, weights_only=True) for path in (one, other)]
    for part in ("state_dict", "current_model_state", "optimizer_states", "lr_schedulers"):
        values = [state.get(part) for state in states]
        flat = [torch.utils._pytree.tree_flatten(value) for value in values]
        assert flat[0][1] == flat[1][1], part
        for a, b in zip(flat[0][0], flat[1][0], strict=True):
            assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b, part


def event_scalars(run: Path) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(run), {"scalars": 0}).Reload()
    return {
        tag: [(event.step, event.value) for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
        if tag != "train/images_per_second"
    }


@pytest.mark.parametrize(
    "options",
    [pytest.param(BY_EPOCH, marks=pytest.mark.slow), ON_PLATEAU, EVERYTHING],
    ids=["by epoch", "on plateau", "everything"],
)
def test_a_resumed_run_equals_an_uninterrupted_one(
    mnist_lit: Command, tmp_path: Path, data_dir: Path, options: Any
) -> None:
    (tmp_path / "own_network.py").write_text(OWN_NETWORK)
    arguments = [*SMALL, f"--data.data_dir={data_dir}", "--seed_everything=5", *options, WORKER]
    mnist_lit("fit", *arguments, "--trainer.max_epochs=3", "-n", "straight")
    mnist_lit("fit", *arguments, "--trainer.max_epochs=1", "-n", "resumed")
    logs = tmp_path / "lightning_logs"
    straight, resumed = logs / "straight/version_0", logs / "resumed/version_0"
    last = resumed / "checkpoints" / "last.ckpt"
    outcome = mnist_lit("fit", "--ckpt_path", last, "--trainer.max_epochs=3", WORKER)
    assert (outcome.status, outcome.err) == (0, "")
    assert "Resuming at the start of epoch 2\n" in outcome.out
    for name in ("best.ckpt", "last.ckpt"):
        assert_equal_states(straight / "checkpoints" / name, resumed / "checkpoints" / name)
    averages = options == EVERYTHING
    assert ("current_model_state" in load_checkpoint(last)) == averages
    assert scalars(straight) == scalars(resumed)
    assert event_scalars(straight) == event_scalars(resumed)


def test_a_run_ended_in_the_middle_of_an_epoch_begins_this_epoch_again(
    mnist_lit: Command, run: Path, data_dir: Path
) -> None:
    steps = ["--trainer.max_epochs=9", "--trainer.max_steps=30"]
    first = mnist_lit("fit", f"--config={run / 'config.yaml'}", *steps, "-n", "cut")
    assert "Stopped by max_steps 30\n" in first.out
    assert "epoch 2/9  train/loss" in first.out
    assert first.out.count("  val/loss") == 1  # epoch 2 was not validated
    outcome = mnist_lit("fit", "--ckpt_path=last", "--trainer.max_steps=70")
    assert (outcome.status, outcome.err) == (0, "")
    again = "Resuming at the start of epoch 2, which the checkpoint had not completed\n"
    assert again in outcome.out
    assert re.findall(r"^epoch (\d)/9", outcome.out, re.MULTILINE) == ["2", "3"]
    last = load_checkpoint(run.parent / "cut/version_0/checkpoints/last.ckpt")
    assert last["global_step"] == 70


def test_a_run_stopped_early_says_why(mnist_lit: Command, run: Path, data_dir: Path) -> None:
    stopping = ["--trainer.callbacks+=EarlyStopping", "--trainer.callbacks.monitor=val/accuracy"]
    stopping += ["--trainer.callbacks.mode=max", "--trainer.callbacks.stopping_threshold=0.1"]
    config = ["fit", f"--config={run / 'config.yaml'}"]
    outcome = mnist_lit(*config, *stopping)
    assert re.search(r"^Stopped early: .*threshold", outcome.out, re.MULTILINE)
    assert outcome.out.count("epoch 1/2") == 1
    stopping[1] = "--trainer.callbacks.monitor=val_accuracy"
    outcome = mnist_lit(*config, *stopping)
    assert outcome.status == 2
    assert "conditioned on metric `val_accuracy` which is not available" in outcome.err
    assert "Traceback" not in outcome.err


def test_the_saved_config_repeats_the_run_exactly(mnist_lit: Command, run: Path) -> None:
    assert mnist_lit("fit", f"--config={run / 'config.yaml'}").status == 0
    again = run.parent / "version_1"
    assert_equal_states(run / "checkpoints/last.ckpt", again / "checkpoints/last.ckpt")
    assert scalars(again) == scalars(run)
    assert event_scalars(again) == event_scalars(run)
    assert (again / "config.yaml").read_text() == (run / "config.yaml").read_text()


def killed(run: Path, arguments: list[str], cwd: Path, seconds: float) -> None:
    """Fit, and kill -9 it some time after it has made its directory."""
    process = start("fit", *arguments, cwd=cwd)
    status = run / "status.json"
    wait_until(
        lambda: status.exists() and json.loads(status.read_text())["pid"] == process.pid, process
    )
    time.sleep(seconds)
    process.kill()
    process.communicate()


def test_a_run_that_is_still_in_training_is_not_resumed_beside(
    tmp_path: Path, data_dir: Path, mnist_lit: Command
) -> None:
    arguments = [*SMALL, f"--data.data_dir={data_dir}", "--trainer.max_epochs=1000"]
    process = start("fit", *arguments, cwd=tmp_path)
    last = tmp_path / "lightning_logs" / "version_0" / "checkpoints" / "last.ckpt"
    wait_until(last.exists, process)
    outcome = mnist_lit("fit", f"--ckpt_path={last}")
    process.kill()
    process.communicate()
    assert outcome.status == 2
    assert "Another process is training " in outcome.err


@pytest.mark.slow
def test_twenty_kills_at_random_moments_change_nothing(
    tmp_path: Path, data_dir: Path, mnist_lit: Command
) -> None:
    (tmp_path / "own_network.py").write_text(OWN_NETWORK)
    large = ["--model.network.width=1000"]  # so that the checkpoints take time to write
    arguments = [*SMALL, f"--data.data_dir={data_dir}", "--seed_everything=6", *EVERYTHING[:4]]
    arguments += [*large, "--trainer.limit_train_batches=5", "--trainer.max_epochs=1000"]
    run = tmp_path / "lightning_logs" / "killed" / "version_0"
    last = run / "checkpoints" / "last.ckpt"
    moments = random.Random(20)
    killed(run, [*arguments, "-n", "killed"], tmp_path, 6)
    for _ in range(19):
        killed(run, [f"--ckpt_path={last}"], tmp_path, moments.uniform(0, 2))
        load_checkpoint(last)
        load_checkpoint(last.with_name("best.ckpt"))
    epochs = load_checkpoint(last)["epoch"] + 3
    outcome = mnist_lit("fit", f"--ckpt_path={last}", f"--trainer.max_epochs={epochs}")
    assert outcome.status == 0, outcome.err
    assert not list(run.rglob("*.partial"))
    mnist_lit("fit", *arguments, f"--trainer.max_epochs={epochs}", "-n", "straight")
    assert_equal_states(last, tmp_path / "lightning_logs/straight/version_0/checkpoints/last.ckpt")


@pytest.mark.parametrize(
    "limit",
    [pytest.param(100_000, marks=pytest.mark.slow), 300_000],
    ids=["log", "checkpoint"],
)
def test_a_full_disk_is_a_clear_error_and_the_earlier_checkpoint_stays(
    run: Path, tmp_path: Path, limit: int
) -> None:
    last = run / "checkpoints" / "last.ckpt"
    before = last.read_bytes()
    process = start("fit", "--ckpt_path=last", "--trainer.max_epochs=3", cwd=tmp_path)
    # The system refuses to let any file of the process grow larger, as a full disk would.
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (limit, limit))
    _, err = process.communicate(timeout=100)
    assert process.returncode == 2
    what, what_to_do = err.splitlines()[-2:]
    assert re.match(r"error: (A log|.*\.ckpt) cannot be (written|used): File too large\.", what)
    assert what_to_do.startswith("Check the free space")
    assert "Traceback" not in err
    assert last.read_bytes() == before
    assert not list(run.rglob("*.partial"))


def test_the_first_losses_of_the_default_configuration_are_the_known_ones(
    mnist_lit: Command, tmp_path: Path, data_dir: Path
) -> None:
    arguments = ["--seed_everything=0", "--trainer.max_epochs=1", f"--data.data_dir={data_dir}"]
    arguments += ["--trainer.limit_train_batches=20", "--trainer.log_every_n_steps=1"]
    mnist_lit("fit", f"--config={CONFIGS / 'default.yaml'}", *arguments)
    rows = scalars(tmp_path / "lightning_logs" / "version_0")
    losses = [float(row["train/loss"]) for row in rows if row["train/loss"]]
    assert losses == pytest.approx(FIRST_LOSSES, rel=1e-3)
