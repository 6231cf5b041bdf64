"""The commands on real MNIST, called in-process."""

import csv
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import time
from importlib.metadata import Distribution, PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning.pytorch import Callback
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.plugins import MixedPrecision

from mnist_lit import __version__
from mnist_lit.data import MNISTDataModule
from mnist_lit.metrics import SCALARS
from mnist_lit.module import DigitClassifier
from mnist_lit.networks import TutorialCNN
from mnist_lit.training.progress import cpu_wait_seconds
from tests.conftest import CONFIGS, FEW, OWN_NETWORK, SMALL, Command, weights

LONG = "x" * 300  # more than a file's name may have


class Bystander(Callback):
    """A callback of a user's own."""


class Broken(Callback):
    def __init__(self) -> None:
        raise KeyError("key")


class Unreachable(CSVLogger):
    def __init__(self, save_dir: str = ".") -> None:
        raise ConnectionError("no server\nat this address")


class NoPlugin(MixedPrecision):
    def __init__(self) -> None:
        raise ModuleNotFoundError("needs another package")


class NoNetwork(TutorialCNN):
    def __init__(self, width: int = 8) -> None:
        raise ValueError("width must be even")


PICTURES = (
    "digits",
    "confusion_matrix",
    "accuracy_by_digit",
    "worst_errors",
    "reliability",
    "filters",
)
TEST_FILES = {
    "test.json",
    "events.out.tfevents",
    "projector_config.pbtxt",
    *(f"00000/test/{name}" for name in ("metadata.tsv", "sprite.png", "tensors.tsv")),
    *(f"test_{name}.png" for name in PICTURES),
}


def files(directory: Path) -> set[str]:
    names = {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}
    return {re.sub(r"tfevents.*", "tfevents", name) for name in names}


# ---- fit ----


def test_fit_leaves_a_run_and_says_where(
    mnist_lit: Command, tmp_path: Path, data_dir: Path
) -> None:
    outcome = mnist_lit("fit", *SMALL, f"--data.data_dir={data_dir}", "--seed_everything=3")
    assert outcome.status == 0
    run = tmp_path / "lightning_logs" / "version_0"
    assert files(run) == {
        ".mnist_lit.lock",
        "checkpoints/best.ckpt",
        "checkpoints/last.ckpt",
        "config.yaml",
        "events.out.tfevents",
        "hparams.yaml",
        "hparams/events.out.tfevents",
        "metrics.csv",
        "status.json",
    }
    lines = outcome.out.splitlines()
    assert lines[:2] == [
        "Run: lightning_logs/version_0",
        "TutorialCNN, 28,938 parameters, on cpu, seed 3",
    ]
    assert [line.split("  ")[0] for line in lines[2:4]] == ["epoch 1/2", "epoch 2/2"]
    assert re.fullmatch(
        r"Best epoch: [12] of 2, val/loss \d\.\d{4}, val/accuracy \d\d\.\d\d %", lines[4]
    )
    assert lines[5:] == [
        "Checkpoint: lightning_logs/version_0/checkpoints/best.ckpt",
        "To test: python -m mnist_lit test --ckpt_path "
        "lightning_logs/version_0/checkpoints/best.ckpt",
        "To view: tensorboard --logdir lightning_logs",
    ]
    assert outcome.err == ""


def test_scalars_are_logged_by_step_and_by_epoch(finished: Path) -> None:
    with (finished / "lightning_logs/version_0/metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    steps = {
        name: [int(row["step"]) for row in rows if row[name]] for name in rows[0] if name != "step"
    }
    by_step, by_epoch = [7, 15, 19, 23, 31, 39], [19, 39]
    for name in ("train/loss", "train/accuracy", "train/gradient_norm"):
        assert steps.pop(name) == by_step
    assert steps.pop("lr-Adam") == [7, 15, 23, 31, 39]
    del steps["epoch"]
    by_epoch_names = ["train/loss_epoch", "train/accuracy_epoch", "train/images_per_second"]
    by_epoch_names += [f"val/{name}" for name in SCALARS]
    assert steps == dict.fromkeys(by_epoch_names, by_epoch)


def test_a_checkpoint_holds_model_optimizer_epoch_and_settings(finished: Path) -> None:
    last = finished / "lightning_logs/version_0/checkpoints/last.ckpt"
    checkpoint = torch.load(last, weights_only=True)
    assert (checkpoint["epoch"], checkpoint["global_step"]) == (1, 40)
    assert checkpoint["optimizer_states"][0]["param_groups"][0]["lr"] == 0.001
    assert checkpoint["hyper_parameters"]["network"]["class_path"].endswith("TutorialCNN")
    assert checkpoint["config"]["seed_everything"] == 7
    assert checkpoint["config"]["data"]["batch_size"] == 64
    assert isinstance(DigitClassifier.load_from_checkpoint(last).network, TutorialCNN)


def test_best_is_the_epoch_with_the_lowest_validation_loss(
    mnist_lit: Command, tmp_path: Path, data_dir: Path
) -> None:
    # A learning rate that breaks the network after a first good epoch.
    rising = ["--model.scheduler=StepLR", "--model.scheduler.step_size=1"]
    arguments = [*SMALL, *rising, "--model.scheduler.gamma=1000", f"--data.data_dir={data_dir}"]
    assert mnist_lit("fit", *arguments, "--seed_everything=1").status == 0
    checkpoints = tmp_path / "lightning_logs/version_0/checkpoints"
    epochs = [
        torch.load(checkpoints / f"{name}.ckpt", weights_only=True)["epoch"]
        for name in ("best", "last")
    ]
    assert epochs == [0, 1]


def test_a_run_can_be_named(mnist_lit: Command, tmp_path: Path, data_dir: Path) -> None:
    arguments = [*SMALL, *FEW, f"--data.data_dir={data_dir}", "-n", "wide"]
    for version in (0, 1):
        assert f"lightning_logs/wide/version_{version}" in mnist_lit("fit", *arguments).out


@pytest.mark.parametrize("name", ["../up", "a/b", ".hidden"])
def test_a_name_that_is_no_directory_is_refused(mnist_lit: Command, name: str) -> None:
    outcome = mnist_lit("fit", "-n", name)
    assert outcome.status == 2
    assert outcome.err.startswith(f"error: {name!r} is not a valid run name.\n")


def test_a_run_cannot_be_named_like_the_directory_of_another(mnist_lit: Command) -> None:
    outcome = mnist_lit("fit", "--name=version_0")
    assert outcome.status == 2
    assert outcome.err.splitlines() == [
        "error: version_0 is a name that directories of runs get.",
        "Give another name. To resume a run, give its last.ckpt: --ckpt_path FILE",
    ]


def test_without_a_seed_one_is_drawn_printed_and_saved(
    mnist_lit: Command, tmp_path: Path, data_dir: Path
) -> None:
    seeds = []
    for version in (0, 1):
        outcome = mnist_lit("fit", *SMALL, *FEW, f"--data.data_dir={data_dir}")
        config = tmp_path / f"lightning_logs/version_{version}/config.yaml"
        seeds.append(yaml.safe_load(config.read_text())["seed_everything"])
        assert f"seed {seeds[-1]}\n" in outcome.out
    assert seeds[0] != seeds[1]


def test_callbacks_of_a_config_do_not_displace_the_checkpoints(
    mnist_lit: Command, run: Path, tmp_path: Path
) -> None:
    (tmp_path / "more.yaml").write_text(
        "trainer:\n  callbacks:\n    - class_path: tests.test_cli.Bystander\n"
    )
    outcome = mnist_lit("fit", f"--config={run / 'config.yaml'}", "--config=more.yaml", *FEW)
    assert outcome.status == 0
    assert files(run.parent / "version_1") == files(run)


@pytest.mark.usefixtures("pictures")
def test_a_network_and_augmentation_from_a_users_own_file(
    mnist_lit: Command, tmp_path: Path, data_dir: Path
) -> None:
    (tmp_path / "own_network.py").write_text(OWN_NETWORK)
    own = [
        "--model.network=own_network.OwnNetwork",
        "--model.network.width=16",
        "--model.augmentation=own_network.Noise",
    ]
    outcome = mnist_lit("fit", *SMALL, f"--data.data_dir={data_dir}", *own)
    assert "OwnNetwork, 12,730 parameters" in outcome.out
    best = tmp_path / "lightning_logs/version_0/checkpoints/best.ckpt"
    assert mnist_lit("test", "--ckpt_path", best, "--trainer.limit_test_batches=1").status == 0
    assert DigitClassifier.load_from_checkpoint(best).network.get_submodule("2").out_features == 16


@pytest.mark.parametrize(
    "overlay",
    ["debug.yaml", "fast.yaml", "record.yaml", "speedrun.yaml", "strong.yaml", "tutorial.yaml"],
)
@pytest.mark.usefixtures("pictures")
def test_every_config_fits(mnist_lit: Command, data_dir: Path, overlay: str) -> None:
    config, *short = SMALL
    arguments = [f"--config={CONFIGS / overlay}", *short, *FEW, "--data.eval_batch_size=100"]
    outcome = mnist_lit("fit", config, *arguments, f"--data.data_dir={data_dir}")
    assert (outcome.status, outcome.err) == (0, "")


def test_a_config_begins_with_the_command_that_uses_it() -> None:
    for path in CONFIGS.glob("*.yaml"):
        command = path.read_text().splitlines()[0]
        program = r"# python -m mnist_lit (fit|sweep)|# python -m mnist_lit\.detection fit"
        assert re.match(rf"({program}) --config configs/", command)
        assert f"configs/{path.name}" in command.split()


@pytest.mark.parametrize(
    "options",
    [
        ["--trainer.fast_dev_run=2"],
        ["--trainer.logger=false"],
        ["--data.val_size=0"],
        ["--trainer.max_steps=3"],
    ],
)
@pytest.mark.usefixtures("pictures")
def test_lightnings_own_switches_work(
    mnist_lit: Command, data_dir: Path, options: list[str]
) -> None:
    outcome = mnist_lit("fit", *SMALL, f"--data.data_dir={data_dir}", *options)
    assert (outcome.status, outcome.err) == (0, "")


# ---- resuming ----


def test_a_finished_run_says_so_and_how_to_extend_it(mnist_lit: Command, run: Path) -> None:
    before = files(run.parent)
    outcome = mnist_lit("fit", "--ckpt_path", "last")
    assert outcome.status == 0
    assert "This run is finished: max_epochs is 2.\n" in outcome.out
    assert re.search(r"To continue: .*last.ckpt --trainer.max_epochs 4\n", outcome.out)
    assert files(run.parent) == before


def test_an_epoch_that_was_cut_short_is_repeated_before_the_run_is_finished(
    mnist_lit: Command, tmp_path: Path, data_dir: Path
) -> None:
    few = [*SMALL, f"--data.data_dir={data_dir}", "--trainer.limit_train_batches=4"]
    assert mnist_lit("fit", *few, "--trainer.max_epochs=2", "--trainer.max_steps=6").status == 0
    status = tmp_path / "lightning_logs/version_0/status.json"
    assert json.loads(status.read_text())["epochs"] == 1
    outcome = mnist_lit("fit", "--ckpt_path=last", "--trainer.max_steps=-1")
    assert "Resuming at the start of epoch 2, which the checkpoint had not comp" in outcome.out
    assert json.loads(status.read_text())["epochs"] == 2


def test_an_empty_checkpoint_path_does_not_start_a_new_run(mnist_lit: Command) -> None:
    outcome = mnist_lit("fit", "--ckpt_path=")
    assert outcome.status == 2
    assert len(outcome.err.splitlines()) == 2
    assert not list(Path().glob("lightning_logs/*"))


def test_validating_on_another_split_says_that_it_is_no_validation(
    mnist_lit: Command, run: Path
) -> None:
    short = ["--ckpt_path=best", "--trainer.limit_val_batches=1"]
    assert mnist_lit("validate", *short).err == ""
    noted = mnist_lit("validate", *short, "--data.split_seed=1").err
    note = "Note: the training had another data.split_seed, and may have used these images.\n"
    assert noted == note


@pytest.mark.parametrize(
    ("command", "limit"),
    [
        ("validate", "limit_val_batches"),
        ("test", "limit_test_batches"),
        ("predict", "limit_predict_batches"),
    ],
)
def test_an_evaluation_of_nothing_is_refused(
    mnist_lit: Command, run: Path, command: str, limit: str
) -> None:
    outcome = mnist_lit(command, "--ckpt_path=best", f"--trainer.{limit}=0")
    assert outcome.status == 2
    assert outcome.err.startswith(f"error: trainer.{limit} is 0.\n")


def test_resuming_with_other_settings_names_key_and_both_values(
    mnist_lit: Command, run: Path
) -> None:
    for option, key, values in (
        ("--data.batch_size=32", "data.batch_size", "64 in the checkpoint and 32"),
        ("--model.optimizer.lr=0.1", "model.optimizer.init_args.lr", "0.001 in the checkpoint"),
        ("--seed_everything=8", "seed_everything", "7 in the checkpoint and 8"),
        (
            "--model.augmentation=torchvision.transforms.v2.Identity",
            "model.augmentation",
            "None in the check",
        ),
    ):
        outcome = mnist_lit("fit", "--ckpt_path=last", "--trainer.max_epochs=3", option)
        assert outcome.status == 2
        assert outcome.err.startswith(f"error: {key} is {values}")
        assert len(outcome.err.splitlines()) == 2


def test_a_schedule_made_for_the_length_of_the_run_is_not_stretched(
    mnist_lit: Command, data_dir: Path
) -> None:
    schedule = ["--model.scheduler=CosineAnnealingLR", "--model.scheduler.T_max=-1"]
    mnist_lit("fit", *SMALL, *FEW, f"--data.data_dir={data_dir}", *schedule)
    outcome = mnist_lit("fit", "--ckpt_path=last", "--trainer.max_epochs=5")
    assert outcome.status == 2
    assert outcome.err.startswith("error: trainer.max_epochs is 2 in the checkpoint and 5 in your")


def test_resuming_elsewhere_than_at_the_end_leaves_the_run_as_it_is(
    mnist_lit: Command, run: Path
) -> None:
    kept = weights(run / "checkpoints/last.ckpt")
    shutil.copy(run / "checkpoints/last.ckpt", run / "checkpoints/kept.ckpt")
    outcome = mnist_lit(
        *("fit", "--ckpt_path", run / "checkpoints/kept.ckpt", "--trainer.max_epochs=3"), *FEW
    )
    assert "Run: lightning_logs/version_1\n" in outcome.out
    assert torch.equal(
        kept["network.0.weight"], weights(run / "checkpoints/last.ckpt")["network.0.weight"]
    )


# ---- best and last ----


def test_best_and_last_are_looked_up_in_the_newest_run_and_printed(
    mnist_lit: Command, run: Path
) -> None:
    older = run.parent / "older" / "version_0"
    shutil.copytree(run, older)
    newer = run / "checkpoints" / "best.ckpt"
    newer.touch()
    outcome = mnist_lit("validate", "--ckpt_path=best")
    assert outcome.out.startswith("Checkpoint: lightning_logs/version_0/checkpoints/best.ckpt\n")


@pytest.mark.parametrize("command", ["fit", "test", "validate", "predict"])
def test_a_last_that_does_not_exist_is_an_error(mnist_lit: Command, command: str) -> None:
    outcome = mnist_lit(command, "--ckpt_path=last")
    assert outcome.status == 2
    assert outcome.err.startswith("error: No run in lightning_logs has a last checkpoint.\nTrain")


@pytest.mark.parametrize("command", ["test", "validate", "predict"])
def test_judging_without_a_checkpoint_is_refused_and_the_newest_suggested(
    mnist_lit: Command, run: Path, command: str
) -> None:
    outcome = mnist_lit(command)
    assert outcome.status == 2
    assert re.search(
        rf"For example: .* {command} --ckpt_path lightning_logs/version_0/checkpoints/best.ckpt",
        outcome.err,
    )


# ---- test, validate, predict ----


@pytest.mark.usefixtures("pictures")
def test_test_alone_repeats_the_runs_own_settings(
    mnist_lit: Command, run: Path, data_dir: Path
) -> None:
    before = files(run)
    outcome = mnist_lit("test", "--ckpt_path", run / "checkpoints/best.ckpt")
    assert outcome.status == 0
    assert outcome.err == ""
    assert files(run.parent) == {f"{run.name}/{name}" for name in before | TEST_FILES}
    results = json.loads((run / "test.json").read_text())
    assert results["images"] == 10_000
    assert results["checkpoint"] == str(run / "checkpoints/best.ckpt")
    assert len(results["sha256"]) == 64
    assert {"torch", "lightning", "mnist-lit"} <= results["versions"].keys()
    assert re.match(r"\d{4}-\d\d-\d\dT", results["date"])
    for words in (f"errors +{results['errors']:,}", f"{results['accuracy']:.2%}", "best.ckpt"):
        assert re.search(words, outcome.out)


def test_a_checkout_that_is_not_installed_records_its_version(
    mnist_lit: Command, run: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = Distribution.from_name

    def others(name: str) -> Distribution:
        if name in ("mnist-lit", "mnist_lit"):
            raise PackageNotFoundError(name)
        return installed(name)

    monkeypatch.setattr(Distribution, "from_name", others)
    outcome = mnist_lit("test", "--ckpt_path=last", "--trainer.limit_test_batches=1")
    assert outcome.status == 0, outcome.err
    assert json.loads((run / "test.json").read_text())["versions"]["mnist-lit"] == __version__


def test_the_command_line_overrides_the_runs_data_settings(mnist_lit: Command, run: Path) -> None:
    outcome = mnist_lit("validate", "--ckpt_path=best", "--data.val_size=700")
    assert re.search(r"^images +700$", outcome.out, re.MULTILINE)


def test_another_model_than_the_checkpoints_is_refused(mnist_lit: Command, run: Path) -> None:
    outcome = mnist_lit("test", "--ckpt_path=best", "--model.label_smoothing=0.5")
    assert outcome.status == 2
    assert "model.label_smoothing is 0.0 in the checkpoint and 0.5 in your options" in outcome.err


def test_a_monitor_that_is_not_logged_is_told_in_two_lines(
    mnist_lit: Command, data_dir: Path
) -> None:
    early = "--trainer.callbacks=lightning.pytorch.callbacks.EarlyStopping"
    monitor = "--trainer.callbacks.monitor=val/los"
    outcome = mnist_lit("fit", *SMALL, *FEW, f"--data.data_dir={data_dir}", early, monitor)
    assert outcome.status == 2
    first, second = outcome.err.splitlines()
    assert "val/los" in first
    assert second == "All options: python -m mnist_lit fit --help"


def test_predict_writes_a_table_of_every_test_image(
    mnist_lit: Command, run: Path, data_dir: Path
) -> None:
    outcome = mnist_lit("predict", "--ckpt_path=best")
    assert "lightning_logs/version_0/predictions.csv" in outcome.out
    with (run / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["index", "label", "prediction", "probability", "loss"]
    assert [int(row["index"]) for row in rows] == list(range(10_000))
    digits = MNISTDataModule(str(data_dir))
    digits.setup("test")
    assert [int(row["label"]) for row in rows] == digits.test_set.labels.tolist()
    mnist_lit("test", "--ckpt_path=best")
    wrong = sum(row["label"] != row["prediction"] for row in rows)
    assert json.loads((run / "test.json").read_text())["errors"] == wrong


def test_a_runs_directory_is_no_checkpoint_but_its_own_is_suggested(
    mnist_lit: Command, run: Path
) -> None:
    outcome = mnist_lit("test", "--ckpt_path=lightning_logs/version_0")
    assert outcome.status == 2
    assert re.fullmatch(
        r"error: lightning_logs/version_0 is a directory.\n"
        r"The newest is lightning_logs/version_0/checkpoints/\w+.ckpt.\n",
        outcome.err,
    )


def test_a_checkpoint_made_without_the_command_line_can_be_tested(
    mnist_lit: Command, run: Path, tmp_path: Path
) -> None:
    checkpoint = torch.load(run / "checkpoints/last.ckpt", weights_only=True)
    del checkpoint["config"]
    torch.save(checkpoint, tmp_path / "bare.ckpt")
    assert mnist_lit("test", "--ckpt_path=bare.ckpt", "--trainer.limit_test_batches=1").status == 0
    results = tmp_path / "lightning_logs/test_0/test.json"
    assert json.loads(results.read_text())["images"] == 500


# ---- what Lightning's options print ----


def test_the_profiler_and_verbose_callbacks_report_and_nothing_else(
    mnist_lit: Command, data_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    callbacks = ["--trainer.callbacks+=EarlyStopping", "--trainer.callbacks.monitor=val/loss"]
    callbacks += ["--trainer.callbacks.verbose=true", "--trainer.callbacks+=ModelCheckpoint"]
    callbacks += ["--trainer.callbacks.monitor=train/loss", "--trainer.callbacks.verbose=true"]
    options = [*FEW, f"--data.data_dir={data_dir}", "--trainer.profiler=simple", *callbacks]
    assert mnist_lit("fit", *SMALL, *options).status == 0
    heard = {record.module for record in caplog.records if record.name.startswith("lightning")}
    assert heard == {"profiler", "early_stopping", "model_checkpoint"}


@pytest.mark.parametrize("option", ["max_time=00:00:00:00", "max_epochs=0", "max_steps=0"])
def test_a_run_without_a_step_ends_without_an_error(
    mnist_lit: Command, data_dir: Path, option: str
) -> None:
    outcome = mnist_lit("fit", *SMALL, f"--data.data_dir={data_dir}", f"--trainer.{option}")
    assert (outcome.status, outcome.err) == (0, "")


@pytest.mark.parametrize(
    ("command", "purpose"),
    [
        ("fit", "Train a network. options:"),
        ("validate", "Evaluate a checkpoint on the validation images. options:"),
        ("test", "Evaluate a checkpoint on the test images. options:"),
        ("predict", "Write the predictions of a checkpoint to predictions.csv: "),
    ],
)
def test_help_explains_command_and_ckpt_path_in_the_programs_own_words(
    mnist_lit: Command, capsys: pytest.CaptureFixture[str], command: str, purpose: str
) -> None:
    with pytest.raises(SystemExit):
        mnist_lit(command, "--help")
    text = " ".join(capsys.readouterr().out.split())
    assert purpose in text
    [explained] = re.findall(r"--ckpt_path\+? CKPT_PATH ([^,-].*?) \(type", text)
    assert explained.startswith("Resume from" if command == "fit" else "Required.")
    assert "a file, or " in explained


OPTIMIZER = "its optimizer_states are missing or damaged."
SCHEDULE = "its lr_schedulers are missing or damaged."
SHAPE = "its optimizer_states are damaged: a "
FLAT = torch.zeros(1).expand(16, 1, 5, 5)  # of the right shape, but with one number in memory
OTHER = "its loops, optimizer, schedule or callbacks are damaged: "
BEST = "ModelCheckpoint{'monitor': 'val/loss', 'mode': 'min', 'every_n_train_steps': 0, "
BEST += "'every_n_epochs': 1, 'train_time_interval': None}"


@pytest.mark.parametrize(
    ("place", "value", "why"),
    [
        (["loops"], None, OTHER),
        (["loops", "fit_loop"], "text", OTHER),
        (["loops", "fit_loop", "epoch_progress"], {}, OTHER),
        (["loops", "fit_loop", "epoch_loop.scheduler_progress"], {}, OTHER),
        (["callbacks", BEST], {"current_score": 1}, OTHER),
        (["optimizer_states"], None, OPTIMIZER),
        (["optimizer_states"], [], OPTIMIZER),
        (["optimizer_states", 0], {}, OTHER),
        (["optimizer_states", 0, "state", 0], {"step": torch.tensor(1.0)}, OTHER),
        (["optimizer_states", 0, "state", 0, "exp_avg"], torch.zeros(3), SHAPE),
        (["optimizer_states", 0, "state", 0, "exp_avg"], FLAT, SHAPE),
        (["optimizer_states", 0, "state", 0, "step"], torch.zeros(0), SHAPE),
        (["optimizer_states", 0, "state", 0, "exp_avg"], torch.zeros(1, device="meta"), OTHER),
        (["lr_schedulers"], "text", SCHEDULE),
        (["lr_schedulers"], [{}], SCHEDULE),
    ],
    ids=lambda value: ".".join(map(str, value)) if isinstance(value, list) else "",
)
def test_a_checkpoint_whose_training_state_is_damaged_is_refused_in_two_lines(
    mnist_lit: Command, run: Path, tmp_path: Path, place: list[Any], value: Any, why: Any
) -> None:
    checkpoint = torch.load(run / "checkpoints/last.ckpt", weights_only=True)
    part = checkpoint
    for key in place[:-1]:
        part = part[key]
    assert isinstance(part, list) or place[-1] in part
    part[place[-1]] = value
    path = tmp_path / "damaged.ckpt"
    torch.save(checkpoint, path)
    short = ["--trainer.max_epochs=3", "--trainer.limit_train_batches=3"]
    outcome = mnist_lit("fit", "--ckpt_path", path, *short)
    assert outcome.status == 2
    first, second = outcome.err.splitlines()
    assert first.startswith(f"error: {path} cannot be resumed: {why}")
    assert second == "Give another checkpoint, or train without --ckpt_path."


@pytest.mark.parametrize("hook", ["setup", "on_load_checkpoint", "on_train_batch_start"])
def test_on_resuming_an_error_in_a_users_own_hook_keeps_its_traceback(
    mnist_lit: Command, run: Path, monkeypatch: pytest.MonkeyPatch, hook: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        torch.zeros(2) + torch.zeros(3)

    monkeypatch.setattr(Bystander, hook, fail)
    options = ["--trainer.max_epochs=3", "--trainer.callbacks=tests.test_cli.Bystander"]
    with pytest.raises(RuntimeError, match="must match the size"):
        mnist_lit("fit", "--ckpt_path=last", *options)


# ---- options that work ----


@pytest.mark.parametrize(
    "options",
    [
        ["--trainer.precision=64-true"],
        ["--trainer.precision=bf16-true", f"--model.class_weights={[1.0] * 10}"],
        ["--trainer.log_every_n_steps=0"],
        ["--trainer.callbacks=BatchSizeFinder", "--trainer.callbacks.max_trials=1"],
        [
            "--model.augmentation=torchvision.transforms.v2.RandomRotation",
            "--model.augmentation.degrees=10",
        ],
    ],
    ids=lambda options: options[0],
)
@pytest.mark.usefixtures("pictures")
def test_an_option_works_as_documented(
    mnist_lit: Command, data_dir: Path, options: list[str]
) -> None:
    short = [f"--data.data_dir={data_dir}", "--trainer.max_epochs=1", "--data.eval_batch_size=100"]
    outcome = mnist_lit("fit", *SMALL, *short, "--trainer.limit_train_batches=8", *options)
    assert (outcome.status, outcome.err) == (0, "")
    assert re.search(r"train/loss \d.*val/loss \d", outcome.out)
    assert mnist_lit("validate", "--ckpt_path=best", "--trainer.limit_val_batches=1").status == 0


def test_a_checkpoint_saved_within_an_epoch_is_not_resumed(
    mnist_lit: Command, data_dir: Path
) -> None:
    kept = ["--trainer.callbacks=ModelCheckpoint", "--trainer.callbacks.every_n_train_steps=35"]
    kept += [
        "--trainer.callbacks.filename=kept",
        f"--data.data_dir={data_dir}",
        "--trainer.max_epochs=3",
    ]
    assert mnist_lit("fit", *SMALL, *kept).status == 0
    outcome = mnist_lit("fit", "--ckpt_path=lightning_logs/version_0/checkpoints/kept.ckpt")
    assert outcome.status == 2
    assert re.fullmatch(
        r"error: \S+kept.ckpt was saved in the middle of epoch 2.\n"
        r"Resume from a checkpoint saved at the end of an epoch, such as last.ckpt.\n",
        "".join(outcome.err.splitlines(keepends=True)[-2:]),
    )
    assert "Traceback" not in outcome.err


def test_an_epoch_ended_by_max_steps_does_not_stretch_a_schedule_by_the_step(
    mnist_lit: Command, data_dir: Path
) -> None:
    schedule = ["--model.scheduler=OneCycleLR", "--model.scheduler.max_lr=0.1"]
    schedule += ["--model.scheduler.total_steps=60", "--model.scheduler_interval=step"]
    options = [f"--data.data_dir={data_dir}", "--trainer.max_epochs=3"]
    assert mnist_lit("fit", *SMALL, *schedule, *options, "--trainer.max_steps=30").status == 0
    outcome = mnist_lit("fit", "--ckpt_path=last", "--trainer.max_steps=60")
    assert outcome.status == 2
    assert "its schedule has no steps left to repeat that epoch.\n" in outcome.err


# ---- errors: one line what, one line what to do ----


def test_a_checkpoint_with_an_unknown_setting_is_named_in_one_line(
    mnist_lit: Command, run: Path
) -> None:
    path = run / "checkpoints/last.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["hyper_parameters"]["labelsmoothing"] = 0.1
    torch.save(checkpoint, path)
    outcome = mnist_lit("test", "--ckpt_path=last")
    assert outcome.status == 2
    assert outcome.err == (
        "error: lightning_logs/version_0/checkpoints/last.ckpt: "
        "There is no option model.labelsmoothing.\nDid you mean model.label_smoothing?\n"
    )


@pytest.mark.parametrize("damage", ["text", "truncated", "empty", "other"])
def test_a_file_that_is_no_checkpoint_is_refused_in_one_line(
    mnist_lit: Command, run: Path, tmp_path: Path, damage: str
) -> None:
    path = tmp_path / "broken.ckpt"
    sound = (run / "checkpoints/last.ckpt").read_bytes()
    path.write_bytes({"text": b"hello", "truncated": sound[:9000]}.get(damage, b""))
    if damage == "other":
        torch.save({"weights": torch.zeros(3)}, path)
    outcome = mnist_lit("test", "--ckpt_path", path)
    assert outcome.status == 2
    assert outcome.err.startswith(f"error: {path} is not a checkpoint of this program: ")
    assert len(outcome.err.splitlines()) == 2


def test_a_checkpoint_with_code_in_it_is_refused_and_nothing_runs(
    mnist_lit: Command, tmp_path: Path
) -> None:
    class Malicious:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "executed",)

    torch.save({"state_dict": Malicious()}, tmp_path / "bad.ckpt")
    outcome = mnist_lit("test", "--ckpt_path=bad.ckpt")
    assert outcome.status == 2
    assert len(outcome.err.splitlines()) == 2
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("arguments", "what", "what_to_do"),
    [
        (["--trainer.max_epoch=3"], "There is no option trainer.max_epoch.", "trainer.max_epochs?"),
        (["--model.lr=3"], "There is no option model.lr.", ""),
        (["--lr_scheduler=StepLR"], "There is no option lr_scheduler.", "model.scheduler?"),
        (["--config=typo.yaml"], "There is no option data.batchsize.", "data.batch_size?"),
        (["--config=gone.yaml"], "config: File does not exist", ""),
        (["--config=broken.yaml"], "configuration: Problems parsing config", ""),
        (
            ["--model.optimizer.lrr=1"],
            "model.optimizer has no option lrr.",
            "--model.optimizer.help CLASS",
        ),
        (
            ["--model.network=no.Net"],
            "model.network: Problem with given class_path 'no.Net'",
            "PYTHONPATH",
        ),
        (["--model.scheduler=OneCycleLR"], "model.scheduler: the following arguments are re", ""),
        (
            ["--trainer.max_epochs=x"],
            "trainer.max_epochs: Expected a <class 'int'>;",
            "--help",
        ),
        (
            [f"--model.class_weights={[2.0] * 10}", "--data.batch_size=1"],
            "model.class_weights has no effect with data.batch_size 1.",
            "choose a larger batch",
        ),
        (["--data.batch_size=0"], "data.batch_size: ", ""),
        (["--model.optimizer.lr=-1"], "Optimizer and schedule cannot be created: Invalid", ""),
        (["--trainer.accelerator=gpu"], "No supported gpu backend found!", "--help"),
        (["--ckpt_path=gone.ckpt"], "There is no checkpoint gone.ckpt.", ""),
        (["--trainer.log_every_n_steps=-1"], "trainer.log_every_n_steps: ", "--help"),
        (["--trainer.accumulate_grad_batches=0"], "trainer.accumulate_grad_batches: ", "--help"),
        (["--trainer.check_val_every_n_epoch=0"], "trainer.check_val_every_n_epoch: ", "--help"),
        (["--trainer.val_check_interval=0.0"], "trainer.val_check_interval is 0.0.", "than 0"),
        (["--trainer.gradient_clip_val=-1"], "trainer.gradient_clip_val: ", "--help"),
        (["--trainer.precision=16-true"], "trainer.precision 16-true", "Use 16-mixed"),
        (["--trainer.precision=transformer-engine"], "Requirement 'transformer_engine", "--help"),
        (["--trainer.precision=half"], "trainer.precision: ", "--help"),
        (["--trainer.devices=0"], "`Trainer(devices='0')`", "--help"),
        (["--trainer.devices=-3"], "`devices` selected", "--help"),
        (["--trainer.accelerator=foo"], "You selected an invalid accelerator name", "--help"),
        (["--trainer.strategy=foo"], "You selected an invalid strategy name", "--help"),
        (["--trainer.max_epochs=-5"], "`max_epochs` must be", "--help"),
        (["--trainer.max_time=soon"], "`Timer(duration='soon')` is not a valid", "--help"),
        (["--seed_everything=-1"], "-1 is not in bounds", "--help"),
        (
            [f"--trainer.callbacks{each}" for each in ("=EarlyStopping", ".monitor=a", ".mode=b")],
            "EarlyStopping cannot be created: `mode` can be ",
            "Check its arguments",
        ),
        (["--trainer.logger=tests.test_cli.Unreachable"], "Unreachable cannot be created: no", ""),
        (["--trainer.callbacks=tests.test_cli.Broken"], "Broken cannot be created: 'key'.", ""),
        (["--trainer.plugins=tests.test_cli.NoPlugin"], "NoPlugin cannot be created: needs", ""),
        (["--model.network=tests.test_cli.NoNetwork"], "NoNetwork cannot be created: ", ""),
        (["--config=binary.yaml"], "A configuration cannot be read: 'utf-8'", "UTF-8"),
        (["--config=circular.yaml"], "A configuration cannot be read: maximum recursion", ""),
        (["--config=empty.yaml"], "configuration: Unexpected config", ""),
        (["--config=null.yaml"], "data.data_dir contains a null character.", "Remove it."),
        (["--config=."], "config: Path is not a file", ""),
        ([f"--config={LONG}"], "config: File does not exist", ""),
        ([f"--ckpt_path={LONG}"], f"{LONG} cannot be used: File name too long.", "Check the path"),
        ([f"--data.data_dir={LONG}"], "MNIST cannot be unpacked into", ""),
        ([f"--trainer.default_root_dir={LONG}"], "", "Check the path"),
        ([f"--name={LONG}"], "", "Check the path"),
        (
            ["--data.data_dir=typo.yaml"],
            "MNIST cannot be unpacked into typo.yaml",
            "--data.data_dir",
        ),
    ],
)
def test_a_mistake_is_one_line_what_and_one_line_what_to_do(
    mnist_lit: Command, tmp_path: Path, arguments: list[str], what: str, what_to_do: str
) -> None:
    if torch.cuda.is_available() and "--trainer.accelerator=gpu" in arguments:
        pytest.skip("a GPU is no mistake here")
    (tmp_path / "typo.yaml").write_text("data:\n  batchsize: 3\n")
    (tmp_path / "broken.yaml").write_text("data: [\n")
    (tmp_path / "binary.yaml").write_bytes(b"\xc0\xff\0")
    (tmp_path / "circular.yaml").write_text("trainer: &a [*a]\n")
    (tmp_path / "empty.yaml").touch()
    (tmp_path / "null.yaml").write_text('data:\n  data_dir: "a\\0b"\n')
    outcome = mnist_lit("fit", *arguments)
    assert outcome.status == 2
    lines = outcome.err.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith(f"error: {what}")
    assert what_to_do in lines[1]


@pytest.mark.parametrize(("waited", "epochs"), [(100.0, [1]), (0.0, [])])
def test_an_epoch_that_waited_for_the_processor_says_so_once(
    mnist_lit: Command, run: Path, monkeypatch: pytest.MonkeyPatch, waited: float, epochs: list[int]
) -> None:
    clock = itertools.count()
    monkeypatch.setattr(
        "mnist_lit.training.progress.cpu_wait_seconds", lambda: waited * next(clock)
    )
    outcome = mnist_lit("fit", f"--config={run / 'config.yaml'}", *FEW)
    said = re.findall(r"^Epoch (\d) waited 100 s for a CPU that other", outcome.out, re.MULTILINE)
    assert [int(epoch) for epoch in said] == epochs


@pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="only Linux counts it")
def test_the_time_waited_for_a_processor_is_that_of_the_system() -> None:
    before = cpu_wait_seconds()
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        cpus = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {min(cpus)})
        os.sched_setaffinity(process.pid, {min(cpus)})
        end = time.monotonic() + 60
        while cpu_wait_seconds() < before + 0.1 and time.monotonic() < end:
            pass
    finally:
        os.sched_setaffinity(0, cpus)
        process.kill()
        process.wait()
    assert cpu_wait_seconds() >= before + 0.1


@pytest.mark.parametrize(("policy", "spins"), [("", "10000"), ("ACTIVE", None)])
def test_threads_do_not_spin_for_long_unless_the_user_wants_it(
    mnist_lit: Command, run: Path, monkeypatch: pytest.MonkeyPatch, policy: str, spins: str | None
) -> None:
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.setenv(name, policy)
        if not policy or name == "GOMP_SPINCOUNT":
            monkeypatch.delenv(name)
    assert mnist_lit("runs").status == 0
    assert os.environ.get("GOMP_SPINCOUNT") == spins


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (["--trainer.callbacks=EarlyStopping", "--trainer.callbacks.monitor=a"], "Early stopping"),
        (["--trainer.val_check_interval=100"], "`val_check_interval` (100) must be"),
        (["--model.optimizer=SparseAdam"], "SparseAdam does not support dense gradients"),
        (
            ["--model.optimizer.fused=true", "--model.optimizer.foreach=true"],
            "Optimizer and schedule cannot be created: `fused` and `foreach`",
        ),
        (
            [
                "--model.scheduler=OneCycleLR",
                "--model.scheduler.max_lr=0.1",
                "--model.scheduler.total_steps=2",
                "--model.scheduler_interval=step",
            ],
            "Tried to step 3 times.",
        ),
        (["--model.network=torch.nn.Flatten"], "Optimizer and schedule cannot be created: "),
    ],
)
def test_what_fails_once_training_has_started_is_told_in_two_lines(
    mnist_lit: Command, data_dir: Path, options: list[str], what: str
) -> None:
    outcome = mnist_lit("fit", *SMALL, f"--data.data_dir={data_dir}", *options)
    assert outcome.status == 2
    assert len(outcome.err.splitlines()) == 2
    assert outcome.err.startswith(f"error: {what}")


def test_an_error_in_a_users_own_hook_keeps_its_traceback(
    mnist_lit: Command, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("mine")

    monkeypatch.setattr(Bystander, "on_train_start", fail)
    own = "--trainer.callbacks=tests.test_cli.Bystander"
    with pytest.raises(RuntimeError, match="mine"):
        mnist_lit("fit", *SMALL, f"--data.data_dir={data_dir}", own)


@pytest.mark.parametrize(
    "arguments",
    [
        ["test", "--ckpt_path", LONG],
        ["export", "--ckpt_path", LONG],
        ["show", "--wrong", "--output=x.png", "--ckpt_path", LONG],
        ["read", "x.png", "--model", LONG],
        ["read", "x.png", "--output", LONG],
        ["sweep", "--space", LONG],
        ["runs", LONG],
    ],
)
def test_a_name_longer_than_the_system_allows_is_told_in_two_lines(
    mnist_lit: Command, arguments: list[Any]
) -> None:
    outcome = mnist_lit(*arguments)
    assert outcome.status == 2
    assert len(outcome.err.splitlines()) == 2
