"""The command runs, mostly on run directories made of text files alone."""

import copy
import csv
import io
import json
import math
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from mnist_lit.runs.directories import training_lock
from mnist_lit.runs.table import table
from tests.conftest import Command

COLUMNS = "name when status seed epochs val_loss val_accuracy test_accuracy test_loss duration"
CONFIG: dict[str, Any] = {
    "seed_everything": 1,
    "trainer": {"max_epochs": 3, "callbacks": None, "default_root_dir": None},
    "model": {
        "network": {"class_path": "mnist_lit.networks.TutorialCNN"},
        "optimizer": {"class_path": "torch.optim.Adam", "init_args": {"lr": 0.001, "eps": 1e-8}},
        "scheduler": None,
        "class_weights": None,
    },
    "data": {"data_dir": "data", "batch_size": 64, "eval_batch_size": 500, "split_seed": 1998}
    | {"folds": 0, "fold": 0, "num_workers": 0},
    "name": "",
    "ckpt_path": None,
}
SLOW = {"model.optimizer.init_args.lr": 0.0001}
SGD = {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.1, "momentum": 0.9}}

Make = Callable[..., Path]


@pytest.fixture(autouse=True)
def _wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Write what fit and test would leave, in ``lightning_logs/NAME``, a minute later each time."""
    made = iter(range(60))

    def write(
        name: str,
        settings: dict[str, Any] | None = None,
        *,
        losses: tuple[float, ...] = (0.3, 0.1, 0.2),
        test: dict[str, Any] | None = None,
        **status: Any,
    ) -> Path:
        path = tmp_path / "lightning_logs" / name
        path.mkdir(parents=True)
        config = copy.deepcopy(CONFIG)
        for key, value in (settings or {}).items():
            *parents, last = key.split(".")
            place = config
            for parent in parents:
                place = place[parent]
            place[last] = value
        (path / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
        lines = ["epoch,lr-Adam,step,train/loss_epoch,val/accuracy,val/loss"]
        for epoch, loss in enumerate(losses):
            step = 10 * epoch + 9
            lines += [f",0.001,{step},,,", f"{epoch},,{step},,{1 - loss / 10},{loss}"]
            lines += [f"{epoch},,{step},0.5,,"]
        (path / "metrics.csv").write_text("\r\n".join([*lines, ""]), newline="")
        started = datetime(2026, 11, 25, 14, next(made), tzinfo=UTC).isoformat()
        known = {"status": "finished", "started": started, "updated": started, "seconds": 83.4}
        known |= {"epochs": len(losses), "pid": os.getpid(), "host": socket.gethostname()}
        (path / "status.json").write_text(json.dumps(known | status))
        if test:
            (path / "test.json").write_text(json.dumps({"date": started} | test))
        return path

    return write


def lines(table: str) -> list[list[str]]:
    """The cells of a table, and of what comes below it."""
    return [re.split(r"  +", line) for line in table.splitlines()]


def column(table: str, heading: str) -> list[str]:
    head, *rows = lines(table.partition("\n\n")[0])
    return [row[head.index(heading)] for row in rows]


@pytest.fixture
def _in_tokyo(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "JST-9")
        time.tzset()
        yield
    time.tzset()


def test_only_an_accuracy_without_an_error_is_shown_as_100_percent() -> None:
    shown = {1: "100.00 %", 0.99996: "99.99 %", 0.98765: "98.76 %", 0.0003: "0.03 %", 0: "0.00 %"}
    rows = [{"test_accuracy": share} for share in shown]
    assert table(rows, {}).splitlines()[1:] == [text.rjust(13) for text in shown.values()]


@pytest.mark.usefixtures("_in_tokyo")
def test_a_run_is_a_line_with_start_best_epoch_test_and_duration(
    mnist_lit: Command, make: Make
) -> None:
    make("version_0", test={"accuracy": 0.99035, "loss": 0.030149})
    outcome = mnist_lit("runs")
    assert (outcome.status, outcome.err) == (0, "")
    assert lines(outcome.out) == [
        COLUMNS.split(),
        [
            *("version_0", "2026-11-25 23:00", "finished", "1", "3"),
            *("0.1000", "99.00 %", "99.04 %", "0.0301", "0:01:23"),
        ],
    ]


def test_numbers_stand_below_each_other_at_the_right(mnist_lit: Command, make: Make) -> None:
    make("version_0", {"seed_everything": 12345}, seconds=36061)
    make("a_name/version_1")
    head, *rows = mnist_lit("runs").out.splitlines()[:3]
    assert rows[0].endswith(" 10:01:01")
    assert {len(line) for line in (head, *rows)} == {len(head)}
    end = head.index("seed") + 4
    assert [row[:end].split()[-1] for row in rows] == ["12345", "1"]


def test_what_an_untested_run_does_not_have_is_a_dash(mnist_lit: Command, make: Make) -> None:
    make("version_0", losses=())
    out = mnist_lit("runs").out
    assert column(out, "status") == ["finished"]
    assert lines(out)[1][4:] == ["0", "-", "-", "-", "-", "0:01:23"]


def test_a_run_that_diverged_has_the_best_of_its_numbers(mnist_lit: Command, make: Make) -> None:
    make("version_0", losses=(0.4, math.nan, math.nan))
    make("version_1", losses=(math.nan, math.inf))
    out = mnist_lit("runs").out
    assert column(out, "val_loss") == ["0.4000", "-"]
    assert column(out, "status") == ["finished", "finished"]


def test_runs_are_found_at_any_depth_and_one_alone_by_its_own_directory(
    mnist_lit: Command, make: Make
) -> None:
    for name in ("version_0", "wide/version_0", "studies/wide/version_10"):
        path = make(name)
    (path / "files").mkdir()
    (path / "files" / "config.yaml").write_text("another: program's")
    names = ["version_0", "wide/version_0", "studies/wide/version_10"]
    assert column(mnist_lit("runs").out, "name") == names
    assert column(mnist_lit("runs", "lightning_logs/studies").out, "name") == ["wide/version_10"]
    assert column(mnist_lit("runs", path).out, "name") == ["version_10"]


def test_a_setting_has_a_column_if_runs_differ_in_it(mnist_lit: Command, make: Make) -> None:
    make("version_0")
    elsewhere = {"name": "x", "data.data_dir": "y", "trainer.default_root_dir": "z"}
    make("version_1", {"seed_everything": 2, "ckpt_path": "a", **elsewhere})
    assert lines(mnist_lit("runs").out)[0] == COLUMNS.split()
    make("version_2", {"data.batch_size": 128, "model.optimizer.init_args.lr": 0.01})
    out = mnist_lit("runs").out
    assert lines(out)[0][3:7] == ["seed", "lr", "batch_size", "epochs"]
    assert column(out, "lr") == ["0.001", "0.001", "0.01"]
    assert column(out, "batch_size") == ["64", "64", "128"]


def test_a_heading_is_as_long_as_it_takes_to_tell_it_from_others(
    mnist_lit: Command, make: Make
) -> None:
    network = {"class_path": "own.Net", "init_args": {"lr": 1, "seed": 5, "n": 1}}
    make("version_0", {"model.network": network})
    other = {"class_path": "own.Net", "init_args": {"lr": 2, "seed": 6, "n": 2}}
    make("version_1", {"model.network": other, "model.optimizer.init_args.lr": 0.5})
    headings = ["network.lr", "network.seed", "network.n", "optimizer.lr"]
    assert lines(mnist_lit("runs").out)[0][4:8] == headings


def test_another_class_is_one_column_and_not_one_for_each_of_its_arguments(
    mnist_lit: Command, make: Make
) -> None:
    make("version_0")
    scheduler = {"class_path": "torch.optim.lr_scheduler.StepLR", "init_args": {"step_size": 1}}
    make("version_1", {"model.optimizer": SGD, "model.scheduler": scheduler})
    out = mnist_lit("runs").out
    assert lines(out)[0][4:8] == ["optimizer", "lr", "scheduler", "epochs"]
    assert column(out, "optimizer") == ["Adam", "SGD"]
    assert column(out, "scheduler") == ["-", "StepLR"]
    faster = {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.1, "momentum": 0.5}}
    make("version_2", {"model.optimizer": faster, "model.scheduler": scheduler})
    assert column(mnist_lit("runs").out, "momentum") == ["-", "0.9", "0.5"]


def test_classes_of_one_name_are_told_apart(mnist_lit: Command, make: Make) -> None:
    make("version_0", {"model.network": {"class_path": "mine.networks.CNN"}})
    make("version_1", {"model.network": {"class_path": "yours.CNN"}})
    assert column(mnist_lit("runs").out, "network") == ["networks.CNN", "yours.CNN"]


def test_a_setting_that_one_run_does_not_know_is_a_dash(mnist_lit: Command, make: Make) -> None:
    make("version_0")
    make("version_1", {"model.label_smoothing": 0.1})
    assert column(mnist_lit("runs").out, "label_smoothing") == ["-", "0.1"]


def test_one_and_all_are_different_limits(mnist_lit: Command, make: Make) -> None:
    make("version_0", {"trainer.limit_train_batches": 1})
    make("version_1", {"trainer.limit_train_batches": 1.0})
    assert column(mnist_lit("runs").out, "limit_train_batches") == ["1", "1.0"]


def test_a_long_setting_is_cut_in_the_table_only(mnist_lit: Command, make: Make) -> None:
    stop = {"class_path": "lightning.EarlyStopping", "init_args": {"monitor": "val/loss"}}
    make("version_0", {"model.class_weights": [1.0] * 10, "trainer.callbacks": [stop]})
    make("version_1", {"model.class_weights": "two\nlines"})
    out = mnist_lit("runs").out
    assert column(out, "class_weights") == ["[1.0,1.0,1.0,1.0,1.0,...", '"two\\nlines"']
    assert column(out, "callbacks") == ["[EarlyStopping{monito...", "-"]
    runs = json.loads(mnist_lit("runs", "--format=json").out)["runs"]
    assert runs[0]["class_weights"] == [1.0] * 10
    assert runs[0]["callbacks"] == [stop]


def test_runs_that_differ_only_in_the_seed_are_summed_up(mnist_lit: Command, make: Make) -> None:
    losses, accuracies = (0.051, 0.043, 0.047), (0.9891, 0.9904, 0.9899)
    for seed, (loss, accuracy) in enumerate(zip(losses, accuracies, strict=True)):
        test = {"accuracy": accuracy, "loss": 0.1}
        make(f"version_{seed}", {"seed_everything": seed}, losses=(loss,), test=test)
    blank, title, head, group = lines(mnist_lit("runs").out)[-4:]
    assert blank == [""]
    assert title == ["Over 3 seeds, mean ± sample standard deviation:"]
    assert head == ["name", "n", "val_loss", "val_accuracy", "test_accuracy"]
    mean, sd = statistics.mean(accuracies), statistics.stdev(accuracies)
    assert group[:3] == ["all runs", "3", "0.0470 ± 0.0040"]
    assert group[4] == f"{100 * mean:.2f} ± {100 * sd:.2f} %"
    (exact,) = json.loads(mnist_lit("runs", "--format=json").out)["groups"]
    assert exact["val_loss"]["mean"] == pytest.approx(statistics.mean(losses))
    assert exact["val_loss"]["sd"] == pytest.approx(statistics.stdev(losses))
    assert exact["test_accuracy"] == {
        "mean": pytest.approx(mean),
        "sd": pytest.approx(sd),
        "n": 3,
    }
    assert exact["n"] == 3


def test_a_group_is_named_by_its_settings_and_one_run_is_no_group(
    mnist_lit: Command, make: Make
) -> None:
    for seed in (1, 2):
        make(f"adam/version_{seed}", {"seed_everything": seed})
        make(f"sgd/version_{seed}", {"seed_everything": seed, "model.optimizer": SGD})
    make("version_0", {"data.batch_size": 8})
    head, *groups = lines(mnist_lit("runs").out)[-3:]
    assert head[:4] == ["optimizer", "lr", "batch_size", "n"]
    assert [group[:4] for group in groups] == [
        ["Adam", "0.001", "64", "2"],
        ["SGD", "0.1", "64", "2"],
    ]


def test_a_mean_is_over_finished_runs_and_says_so_if_they_are_fewer(
    mnist_lit: Command, make: Make
) -> None:
    test = {"accuracy": 0.5, "loss": 1.0}
    make("version_0", {"seed_everything": 0}, losses=(0.2,))
    make("version_1", {"seed_everything": 1}, losses=(0.4,), test=test)
    make("version_2", {"seed_everything": 2}, losses=(9.0,), status="running")
    make("version_3", {"seed_everything": 3}, losses=(9.0,), status="stopped")
    broken = make("version_4", {"seed_everything": 4}, losses=(9.0,))
    (broken / "test.json").write_text("{")
    group = lines(mnist_lit("runs").out)[-1]
    assert group[:3] == ["all runs", "5", "0.3000 ± 0.1414 (n=2)"]
    assert group[4] == "50.00 % (n=1)"


def test_a_seed_that_ran_twice_counts_once_with_its_newest_run(
    mnist_lit: Command, make: Make
) -> None:
    make("version_0", losses=(0.9,))
    make("version_1", losses=(0.2,))
    assert "The same" not in mnist_lit("runs").out
    make("version_2", {"seed_everything": 2}, losses=(0.4,))
    for order in ("when", "-when"):
        out = mnist_lit("runs", f"--sort={order}").out
        assert lines(out)[-1][:3] == ["all runs", "2", "0.3000 ± 0.1414"]


@pytest.mark.parametrize(
    ("repeats", "title"),
    [
        ([(1, 0), (1, 1), (1, 2)], "Over 3 folds"),
        ([(1, 0), (2, 1), (3, 2)], "Over 3 folds"),
        ([(1, 2), (2, 2), (3, 2)], "Over 3 seeds"),
        ([(1, 0), (2, 0), (1, 1)], "Over 3 runs"),
    ],
)
def test_the_folds_of_a_cross_validation_are_summed_up_like_seeds(
    mnist_lit: Command, make: Make, repeats: list[tuple[int, int]], title: str
) -> None:
    make("version_0", {"data.folds": 3}, losses=(9.0,))
    for loss, (seed, fold) in zip((0.1, 0.2, 0.6), repeats, strict=True):
        settings = {"seed_everything": seed, "data.folds": 3, "data.fold": fold}
        make(f"kfold/version_{loss}", settings, losses=(loss,))
    shutil.rmtree("lightning_logs/version_0")
    out = mnist_lit("runs").out
    assert lines(out)[-3] == [f"{title}, mean ± sample standard deviation:"]
    assert lines(out)[-1][:3] == ["all runs", "3", "0.3000 ± 0.2646"]
    (group,) = json.loads(mnist_lit("runs", "--format=json").out)["groups"]
    assert f"Over {group['n']} {group['over']}" == title


def test_a_fold_that_ran_twice_counts_once_and_other_settings_stay_apart(
    mnist_lit: Command, make: Make
) -> None:
    folds = {"data.folds": 2}
    for name, fold, loss in (("old", 0, 9.0), ("new", 0, 0.1), ("other", 1, 0.3)):
        make(name, folds | {"data.fold": fold}, losses=(loss,))
        make(f"sgd/{name}", folds | {"data.fold": fold, "model.optimizer": SGD}, losses=(loss,))
    for seed in (1, 2, 3):
        make(f"version_{seed}", {"seed_everything": seed})
    out = mnist_lit("runs").out
    assert column(out, "fold") == [*"000011", *"000"]
    title, head, *groups = lines(out)[-5:]
    assert title == ["Over n runs, mean ± sample standard deviation:"]
    assert head[:5] == ["optimizer", "lr", "folds", "n", "val_loss"]
    assert [group[:5] for group in groups] == [
        ["Adam", "0.001", "2", "2", "0.2000 ± 0.1414"],
        ["SGD", "0.1", "2", "2", "0.2000 ± 0.1414"],
        ["Adam", "0.001", "0", "3", "0.1000 ± 0.0000"],
    ]


def test_what_cannot_change_a_result_has_no_column_and_makes_no_group(
    mnist_lit: Command, make: Make
) -> None:
    make("version_0")
    idle = {"data.num_workers": 2, "data.eval_batch_size": 100, "trainer.logger": [1]}
    idle |= {"trainer.log_every_n_steps": 1, "trainer.enable_progress_bar": False}
    make("version_1", idle | {"trainer.profiler": "simple", "seed_everything": 2})
    out = mnist_lit("runs").out
    assert lines(out)[0] == COLUMNS.split()
    assert "Over 2 seeds" in out
    out = mnist_lit("runs", "--columns=data.num_workers").out
    assert out.split()[:3] == ["data.num_workers", "0", "2"]


def test_the_best_run_has_the_lowest_loss_of_the_finished_ones_shown(
    mnist_lit: Command, make: Make
) -> None:
    make("version_0", losses=(0.3,))
    assert "Best" not in mnist_lit("runs").out
    make("version_1", losses=(0.2,), test={"accuracy": 0.991, "loss": 0.1})
    make("version_2", losses=(0.1,), status="stopped")
    best = "\n\nBest: version_1, val_loss 0.2000, val_accuracy 98.00 %, test_accuracy 99.10 %\n"
    assert f"{mnist_lit('runs').out}\n".count(best) == 1
    assert json.loads(mnist_lit("runs", "--format=json").out)["best"] == "version_1"
    make("version_3", {"data.split_seed": 1, "model.optimizer": SGD}, losses=(0.05,))
    out = mnist_lit("runs").out
    assert (
        "Best: version_3, val_loss 0.0500, val_accuracy 99.50 % (validation images differ)\n" in out
    )
    assert "Best: version_1, " in mnist_lit("runs", "--where=optimizer=Adam").out


def many_settings(make: Make) -> None:
    """Six runs that differ in a dozen settings: the later ones of these in more runs."""
    for number in range(6):
        settings: dict[str, Any] = {
            f"trainer.setting_{place}": number < place for place in range(1, 6)
        }
        settings |= {"model.label_smoothing": number / 10, "seed_everything": number % 2}
        make(f"a/rather_long/version_{number}", settings, losses=(0.1 + number,))


@pytest.mark.parametrize("width", [60, 80, 100, 160])
def test_the_table_fits_the_terminal_and_says_what_it_left_out(
    mnist_lit: Command, make: Make, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    many_settings(make)
    every = lines(mnist_lit("runs", "--columns=all").out)[0]
    assert len(mnist_lit("runs", "--columns=all").out.splitlines()[0]) > 160
    monkeypatch.setenv("COLUMNS", str(width))
    *shown, note = mnist_lit("runs").out.partition("\n\n")[0].splitlines()
    assert max(map(len, shown)) <= width
    head = lines(shown[0])[0]
    assert {"name", "status", "val_loss"} <= set(head)
    [left_out] = re.findall(r"^Left out: (.+) \(shown with --columns all\)$", note)
    assert sorted([*head, *left_out.split(", ")]) == sorted(every)
    for option in ("--columns=all", "--format=csv", "--format=json"):
        out = mnist_lit("runs", option).out
        assert "Left out" not in out
        assert all(heading in out for heading in every)


def test_columns_that_tell_least_are_left_out_first(
    mnist_lit: Command, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    many_settings(make)
    left_out: list[str] = []
    for width in (170, 150, 130, 100, 70):
        monkeypatch.setenv("COLUMNS", str(width))
        note = mnist_lit("runs").out.partition("\n\n")[0].splitlines()[-1]
        before, left_out = left_out, note.removeprefix("Left out: ").split(" (")[0].split(", ")
        assert left_out[: len(before)] == before
    assert left_out[:6] == ["epochs", "test_loss", "duration", "test_accuracy", "when", "setting_1"]


def test_the_column_sorted_by_is_not_left_out(
    mnist_lit: Command, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    many_settings(make)
    monkeypatch.setenv("COLUMNS", "60")
    for heading in ("test_loss", "duration", "setting_1", "seed"):
        assert heading in lines(mnist_lit("runs", f"--sort=-{heading}").out)[0]


def test_without_a_terminal_the_table_has_100_columns(
    mnist_lit: Command, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    many_settings(make)
    monkeypatch.delenv("COLUMNS")
    monkeypatch.setattr(sys, "__stdout__", io.StringIO())
    shown = mnist_lit("runs").out.partition("\n\n")[0].splitlines()[:-1]
    assert 80 < max(map(len, shown)) <= 100


def test_the_table_of_groups_fits_too(
    mnist_lit: Command, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(8):
        settings = {f"trainer.quite_a_long_setting_{place}": number // 2 for place in range(9)}
        make(f"version_{number}", settings | {"seed_everything": number})
    monkeypatch.setenv("COLUMNS", "100")
    _, head, *groups, note = mnist_lit("runs").out.split("\n\n")[-1].splitlines()
    assert max(map(len, (head, *groups))) <= 100
    assert {"n", "val_loss"} < set(lines(head)[0])
    assert note.startswith("Left out: val_accuracy, test_accuracy, quite_a_long_setting_0, ")


def test_columns_are_shown_as_asked_in_every_format(mnist_lit: Command, make: Make) -> None:
    make("version_0", {"trainer.max_epochs": 3})
    make("version_1", {"model.optimizer": SGD}, status="failed", reason="ValueError: no luck")
    names = "val_loss,model.optimizer,lr,max_epochs,name"
    head, *rows = mnist_lit("runs", f"--columns={names}").out.splitlines()[:3]
    assert head.split() == names.split(",")
    assert [row.split() for row in rows] == [
        ["0.1000", "Adam", "0.001", "3", "version_0"],
        ["0.1000", "SGD", "0.1", "3", "version_1"],
    ]
    out = mnist_lit("runs", f"--columns={names},reason", "--format=csv").out
    assert out.splitlines()[::2] == [
        f"{names},reason",
        "0.1,torch.optim.SGD,0.1,3,version_1,ValueError: no luck",
    ]
    run, _ = json.loads(mnist_lit("runs", "--columns=lr", "--format=json").out)["runs"]
    assert run == {"lr": 0.001}


@pytest.mark.parametrize(
    ("conditions", "numbers"),
    [
        (["status=finished"], "012"),
        (["status=finished", "seed=2"], "12"),
        (["lr=0.1"], "23"),
        (["model.optimizer.lr=1e-1"], "23"),
        (["optimizer=SGD"], "23"),
        (["model.optimizer=torch.optim.SGD"], "23"),
        (["momentum=null"], "01"),
        (["data.num_workers=4"], "1"),
        (["network=TutorialCNN"], "0123"),
        (["test_accuracy=99.04 %"], "0"),
        (["name=version_3"], "3"),
        (["limit_val_batches=1"], "0"),
        (["limit_val_batches=1.0"], "2"),
        (["val_loss=0.1000"], "0123"),
    ],
)
def test_runs_are_filtered_by_columns_and_settings(
    mnist_lit: Command, make: Make, conditions: list[str], numbers: str
) -> None:
    test = {"accuracy": 0.99035, "loss": 0.030149}
    make("version_0", {"trainer.limit_val_batches": 1}, test=test)
    make("version_1", {"seed_everything": 2, "data.num_workers": 4})
    sgd = {"model.optimizer": SGD, "trainer.limit_val_batches": 1.0}
    make("version_2", sgd | {"seed_everything": 2})
    make("version_3", {"model.optimizer": SGD}, status="stopped")
    outcome = mnist_lit("runs", *(f"--where={condition}" for condition in conditions))
    assert column(outcome.out, "name") == [f"version_{number}" for number in numbers]


def test_only_differences_between_the_runs_shown_have_a_column(
    mnist_lit: Command, make: Make
) -> None:
    for seed in (1, 2):
        make(f"version_{seed}", {"seed_everything": seed})
        make(f"sgd/version_{seed}", {"seed_everything": seed, "model.optimizer": SGD})
    out = mnist_lit("runs", "--where=optimizer=SGD").out
    assert lines(out)[0] == COLUMNS.split()
    assert lines(out)[-1][:2] == ["all runs", "2"]


@pytest.mark.parametrize(
    ("option", "what", "what_to_do"),
    [
        ("--columns=name,x", "Unknown column x.", "The columns are name, when, status, seed, lr, "),
        ("--where=x=1", "Unknown column x.", "The columns are name, when, status, seed, lr, "),
        ("--where=lr=7", "None of the 2 runs has lr=7.", "Leave out --where"),
        ("--where=lr", "--where lr is not NAME=VALUE.", "Give a column and its value, such as "),
        (
            "--columns=class",
            "Several settings are called class.",
            "Give one of model.a.class, model.b.class.",
        ),
    ],
)
def test_what_cannot_be_selected_is_an_error(
    mnist_lit: Command, make: Make, option: str, what: str, what_to_do: str
) -> None:
    make("version_0", {"model.a": {"class": 1}, "model.b": {"class": 2}})
    make("version_1", {"model.a": {"class": 1}, "model.b": {"class": 2}} | SLOW)
    outcome = mnist_lit("runs", option)
    assert (outcome.status, outcome.out) == (2, "")
    first, second = outcome.err.splitlines()
    assert first == f"error: {what}"
    assert second.startswith(what_to_do)


@pytest.mark.parametrize(
    ("order", "names"),
    [
        ("when", ["version_10", "version_9", "version_8", "version_7"]),
        ("-when", ["version_8", "version_9", "version_10", "version_7"]),
        ("name", ["version_7", "version_8", "version_9", "version_10"]),
        ("-test_accuracy", ["version_8", "version_10", "version_9", "version_7"]),
        ("test_accuracy", ["version_10", "version_8", "version_9", "version_7"]),
        ("lr", ["version_9", "version_10", "version_8", "version_7"]),
    ],
)
def test_runs_are_sorted_by_any_column_with_the_missing_last(
    mnist_lit: Command, make: Make, order: str, names: list[str]
) -> None:
    make("version_10", test={"accuracy": 0.98, "loss": 0.1})
    make("version_9", {"model.optimizer.init_args.lr": 0.0001})
    make("version_8", {"model.optimizer": SGD}, test={"accuracy": 0.99, "loss": 0.1})
    shutil.rmtree(make("version_7"))
    Path("lightning_logs/version_7").mkdir()
    assert column(mnist_lit("runs", f"--sort={order}").out, "name") == names


def test_an_unknown_column_is_an_error_that_lists_the_known(mnist_lit: Command, make: Make) -> None:
    make("version_0")
    outcome = mnist_lit("runs", "--sort=-accuracy")
    assert (outcome.status, outcome.out) == (2, "")
    assert outcome.err == (
        f"error: Unknown column accuracy.\nThe columns are {', '.join(COLUMNS.split())}, reason.\n"
    )


def test_csv_and_json_give_the_same_columns_with_every_digit(
    mnist_lit: Command, make: Make
) -> None:
    make("version_0", {"model.class_weights": [1, 2]}, losses=(1 / 3,))
    make("version_1", {"data.batch_size": 8}, test={"accuracy": 2 / 3, "loss": 1 / 7})
    table = lines(mnist_lit("runs").out)[0]
    head, *rows = csv.reader(io.StringIO(mnist_lit("runs", "--format=csv").out))
    runs = json.loads(mnist_lit("runs", "--format=json").out)["runs"]
    assert [*table, "reason"] == head == list(runs[0]) == list(runs[1])
    first, second = (dict(zip(head, row, strict=True)) for row in rows)
    assert first["when"] == runs[0]["when"] == "2026-11-25T14:00:00+00:00"
    assert float(first["val_loss"]) == runs[0]["val_loss"] == 1 / 3
    assert float(second["test_accuracy"]) == runs[1]["test_accuracy"] == 2 / 3
    assert float(first["duration"]) == runs[0]["duration"] == 83.4
    assert (first["test_loss"], runs[0]["test_loss"]) == ("", None)
    assert json.loads(first["class_weights"]) == runs[0]["class_weights"] == [1, 2]


def test_a_run_is_running_only_while_a_process_holds_its_lock(
    mnist_lit: Command, make: Make
) -> None:
    make("version_0", status="running")
    held = make("version_1", status="running", pid=1, host="elsewhere")
    resumed = make("version_2", status="finished")
    make("version_3", status="stopped")
    make("version_4", status="failed", reason="ValueError: no luck")
    (resumed.parent / "version_5").mkdir()
    statuses = ["killed", "running", "running", "stopped", "failed", "running"]
    with training_lock(held), training_lock(resumed), training_lock(resumed.parent / "version_5"):
        assert column(mnist_lit("runs").out, "status") == statuses
    table = mnist_lit("runs").out
    statuses = ["killed", "killed", "finished", "stopped", "failed", "broken"]
    assert column(table, "status") == statuses
    assert table.endswith("\n\nversion_4 failed: ValueError: no luck\n")


@pytest.mark.parametrize(
    "content",
    [None, b"", b"\xff\x00\x01junk", b"{", b"[1, 2]", b"null", b"&a [*a]", b'{"status": 1}'],
)
@pytest.mark.parametrize("file", ["status.json", "config.yaml", "metrics.csv", "test.json"])
def test_a_damaged_file_makes_a_broken_run_and_no_harm_to_others(
    mnist_lit: Command, make: Make, file: str, content: bytes | None
) -> None:
    make("version_0", {"data.batch_size": 32})
    damaged = make("version_1", {"seed_everything": 2}, test={"accuracy": 0.5, "loss": 1.0})
    (damaged / file).unlink()
    if content is not None:
        (damaged / file).write_bytes(content)
    outcome = mnist_lit("runs", "--sort=name")
    assert (outcome.status, outcome.err) == (0, "")
    may_be_missing = content is None and file in ("metrics.csv", "test.json")
    assert column(outcome.out, "status") == ["finished", "finished" if may_be_missing else "broken"]
    readable = {
        "seed": ("config.yaml", "2"),
        "epochs": ("status.json", "3"),
        "val_loss": ("metrics.csv", "0.1000"),
        "test_accuracy": ("test.json", "50.00 %"),
    }
    for heading, (source, shown) in readable.items():
        assert column(outcome.out, heading)[1] == ("-" if source == file else shown)


def test_a_config_whose_aliases_stand_for_a_million_values_is_broken(
    mnist_lit: Command, make: Make
) -> None:
    config = make("version_0") / "config.yaml"
    bomb = "".join(f"x{n}: &x{n} [*x{n - 1}, *x{n - 1}]\n" for n in range(1, 20))
    config.write_text(f"x0: &x0 [1]\n{bomb}{config.read_text()}")
    assert column(mnist_lit("runs").out, "status") == ["broken"]


@pytest.mark.parametrize(
    "of_other_images", [{"images": 500, "of_images": 10_000}, {"dataset": "QMNIST"}]
)
def test_a_test_on_a_part_or_on_other_images_is_not_the_runs(
    mnist_lit: Command, make: Make, of_other_images: dict[str, Any]
) -> None:
    whole = {"images": 10_000, "of_images": 10_000, "dataset": "MNIST", "accuracy": 0.5, "loss": 1}
    make("version_0", test=whole)
    make("version_1", test=whole | of_other_images)
    assert column(mnist_lit("runs").out, "test_accuracy") == ["50.00 %", "-"]


@pytest.mark.parametrize("wrong", ['"much"', "true", "NaN", "[]", "Infinity", f"1{'0' * 400}"])
@pytest.mark.parametrize(
    ("file", "key", "heading"),
    [
        ("test.json", "accuracy", "test_accuracy"),
        ("test.json", "loss", "test_loss"),
        ("status.json", "seconds", "duration"),
        ("status.json", "epochs", "epochs"),
    ],
)
def test_a_figure_that_is_no_number_is_not_shown(
    mnist_lit: Command, make: Make, file: str, key: str, heading: str, wrong: str
) -> None:
    run = make("version_0", test={"accuracy": 0.5, "loss": 1.0})
    text = re.sub(rf'"{key}": [\d.]+', f'"{key}": {wrong}', (run / file).read_text())
    (run / file).write_text(text)
    out = mnist_lit("runs").out
    assert column(out, "status") == ["broken"]
    assert column(out, heading) == ["-"]
    assert column(out, "val_loss") == ["0.1000"]


@pytest.mark.parametrize(
    ("status", "shown"), [("finished", "broken"), ("stopped", "stopped"), ("running", "killed")]
)
def test_half_a_line_is_damage_only_at_the_end_of_a_finished_run(
    mnist_lit: Command, make: Make, status: str, shown: str
) -> None:
    run = make("version_0", status=status)
    with (run / "metrics.csv").open("a") as file:
        file.write("3,,39,,0.99,0.0")
    out = mnist_lit("runs").out
    assert column(out, "status") == [shown]
    assert column(out, "val_loss") == ["0.1000"]


def test_a_version_without_any_file_is_broken_and_another_directory_no_run(
    mnist_lit: Command, make: Make
) -> None:
    make("version_0")
    Path("lightning_logs/version_1").mkdir()
    Path("lightning_logs/notes").mkdir()
    out = mnist_lit("runs").out
    assert column(out, "name") == ["version_0", "version_1"]
    assert lines(out)[2] == ["version_1", "-", "broken", *7 * ["-"]]


@pytest.mark.parametrize("directory", ["lightning_logs", "nowhere"])
def test_no_runs_is_an_error_that_says_how_to_get_one(
    mnist_lit: Command, tmp_path: Path, directory: str
) -> None:
    (tmp_path / "lightning_logs").mkdir()
    outcome = mnist_lit("runs", *([] if directory == "lightning_logs" else [directory]))
    assert (outcome.status, outcome.out) == (2, "")
    assert outcome.err == (
        f"error: No runs found in {directory}.\n"
        "Train one: python -m mnist_lit fit --config configs/default.yaml\n"
    )


def test_the_test_of_a_run_that_was_trained_further_since_is_not_shown(
    make: Make, mnist_lit: Command
) -> None:
    make("version_0", test={"accuracy": 0.5, "loss": 1.0, "date": "2026-11-25T13:00:00+00:00"})
    assert column(mnist_lit("runs").out, "test_accuracy") == ["-"]


def test_a_real_run_tells_what_it_printed(mnist_lit: Command, run: Path) -> None:
    mnist_lit("test", "--ckpt_path=best")
    (record,) = json.loads(mnist_lit("runs", "--format=json").out)["runs"]
    results = json.loads((run / "test.json").read_text())
    with (run / "metrics.csv").open(newline="") as file:
        judged = [row for row in csv.DictReader(file) if row["val/loss"]]
    best = min(judged, key=lambda row: float(row["val/loss"]))
    status = json.loads((run / "status.json").read_text())
    assert record == {
        "name": "version_0",
        "when": status["started"],
        "status": "finished",
        "seed": 7,
        "epochs": 2,
        "val_loss": float(best["val/loss"]),
        "val_accuracy": float(best["val/accuracy"]),
        "test_accuracy": results["accuracy"],
        "test_loss": results["loss"],
        "duration": status["seconds"],
        "reason": None,
    }


def test_it_answers_without_torch_and_into_a_closed_pipe(make: Make, tmp_path: Path) -> None:
    make("version_0")
    code = (
        "import sys; from mnist_lit.__main__ import main; status = main(['runs']);"
        "assert not {'torch', 'lightning', 'torchmetrics', 'numpy'} & sys.modules.keys();"
        "sys.exit(status)"
    )
    read, write = os.pipe()
    os.close(read)
    process = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, stdout=write, stderr=subprocess.PIPE, check=True
    )
    os.close(write)
    assert process.stderr == b""


def test_a_run_from_python_is_unrecorded_rather_than_broken(mnist_lit: Command) -> None:
    Path("lightning_logs/version_0/checkpoints").mkdir(parents=True)
    table = mnist_lit("runs").out
    assert column(table, "status") == ["unrecorded"]
    reason = "version_0 unrecorded: Trained from Python, which leaves no record."
    assert table.endswith(f"\n\n{reason}\n")
