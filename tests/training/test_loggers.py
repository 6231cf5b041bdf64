"""The loggers of a run: its own table, and those that the configuration adds."""

import csv
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.loggers import CSVLogger

from mnist_lit.training.loggers import run_loggers
from tests.conftest import FEW, SMALL, Command, Outcome, finish, start

SEVERAL = """
trainer:
  logger:
    - {class_path: CSVLogger, init_args: {save_dir: tables}}
    - {class_path: TensorBoardLogger, init_args: {save_dir: boards}}
"""
RECORD = {"config.yaml", "status.json", "metrics.csv", "best.ckpt", "last.ckpt"}
LOGGER = "--trainer.logger"


class Album(CSVLogger):
    """A logger of a user's own that accepts images."""

    def log_image(self, key: str, images: list[Any], step: int | None = None) -> None:
        print(f"{key} at step {step}: {images[0].width} pixels wide")


def table_here() -> CSVLogger:
    return CSVLogger("made")


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.rglob("*") if path.is_file()}


@pytest.fixture
def fit(mnist_lit: Command, data_dir: Path) -> Command:
    def call(*options: str) -> Outcome:
        return mnist_lit("fit", *SMALL, *FEW, f"--data.data_dir={data_dir}", *options)

    return call


def test_a_signal_waits_until_the_table_of_a_run_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = []
    write = csv.DictWriter.writerows

    def interrupted(self: Any, rows: Any) -> None:
        signal.raise_signal(signal.SIGTERM)
        write(self, rows)
        events.append("written")

    monkeypatch.setattr(csv.DictWriter, "writerows", interrupted)
    before = signal.signal(signal.SIGTERM, lambda *_: events.append("stopped"))
    try:
        _, table = run_loggers(tmp_path)
        table.log_metrics({"train/loss": 1.0}, 0)
        table.save()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert events == ["written", "stopped"]


def test_loggers_that_are_given_are_added_to_those_of_the_run(
    fit: Command, mnist_lit: Command, tmp_path: Path
) -> None:
    (tmp_path / "several.yaml").write_text(SEVERAL)
    assert fit("--config=several.yaml").err == ""
    logs = tmp_path / "lightning_logs"
    assert names(logs / "version_0") >= RECORD
    assert any(logs.rglob("events.out.tfevents*"))
    outcome = mnist_lit("fit", "--ckpt_path=last", "--trainer.max_epochs=3")
    assert (outcome.status, outcome.err) == (0, "")
    assert mnist_lit("test", "--ckpt_path=best", "--trainer.limit_test_batches=1").status == 0
    assert [line.split()[0] for line in mnist_lit("runs").out.splitlines()[1:2]] == ["version_0"]
    for version in ("version_0", "version_1"):  # before and after the run was resumed
        assert (
            "val/loss" in (tmp_path / "tables/lightning_logs" / version / "metrics.csv").read_text()
        )
    assert len([*(tmp_path / "boards").rglob("events.out.tfevents*")]) == 2


@pytest.mark.parametrize("given", ["CSVLogger", "TensorBoardLogger"])
def test_a_logger_in_the_place_of_the_runs_is_the_runs_own(
    fit: Command, tmp_path: Path, given: str
) -> None:
    assert fit(f"{LOGGER}={given}", f"{LOGGER}.save_dir=.").status == 0
    assert [path.name for path in (tmp_path / "lightning_logs").iterdir()] == ["version_0"]
    assert names(tmp_path) >= RECORD


def test_a_logger_may_be_made_by_a_function(fit: Command, tmp_path: Path) -> None:
    assert fit(f"{LOGGER}=tests.training.test_loggers.table_here").status == 0
    assert (tmp_path / "made/lightning_logs/version_0/metrics.csv").exists()


def test_without_loggers_a_run_still_has_its_record(
    fit: Command, mnist_lit: Command, tmp_path: Path
) -> None:
    outcome = fit(f"{LOGGER}=false")
    assert "To view: tensorboard" not in outcome.out
    outcome = mnist_lit("fit", "--ckpt_path=last", "--trainer.max_epochs=3")
    assert "Run: lightning_logs/version_0\n" in outcome.out
    assert names(tmp_path) >= RECORD
    assert not any(tmp_path.rglob("events.out.tfevents*"))


def test_a_logger_does_not_replace_the_users_files(fit: Command, tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("mine")
    place = [f"{LOGGER}.{name}" for name in ("save_dir=.", "name=", "version=")]
    outcome = fit(f"{LOGGER}=CSVLogger", *place)
    assert outcome.err == (
        "error: CSVLogger would replace files: . is not empty.\n"
        "Give it another save_dir, name or version.\n"
    )
    assert (tmp_path / "metrics.csv").read_text() == "mine"
    assert not any((tmp_path / "lightning_logs").iterdir())


@pytest.mark.usefixtures("pictures")
def test_pictures_go_to_every_logger_that_accepts_them(fit: Command, mnist_lit: Command) -> None:
    album = [f"{LOGGER}=tests.training.test_loggers.Album", f"{LOGGER}.save_dir=album"]
    out = fit(*album).out
    assert "train/inputs at step 0: 700 pixels wide\n" in out
    assert out.count("val/confusion_matrix at step") == 2
    short = "--trainer.limit_test_batches=1"
    assert "test/digits at step 3: 700" in mnist_lit("test", "--ckpt_path=last", short, *album).out


def test_a_development_run_leaves_nothing_of_a_logger(fit: Command, tmp_path: Path) -> None:
    outcome = fit("--trainer.fast_dev_run=1", f"{LOGGER}=CSVLogger", f"{LOGGER}.save_dir=x")
    assert (outcome.status, [*tmp_path.iterdir()]) == (0, [])


@pytest.mark.parametrize(
    "option",
    [
        "--data.data_dir=/proc/x",
        "--data.dataset=KMNIST",
        "--data.val_size=60000",
        "--trainer.logger=tests.test_cli.Unreachable",
    ],
)
def test_a_run_that_fails_before_it_starts_leaves_no_directory(
    fit: Command, tmp_path: Path, option: str
) -> None:
    assert fit(option).status == 2
    assert not any((tmp_path / "lightning_logs").iterdir())


def test_the_address_of_a_logger_comes_from_no_other_record_than_the_runs_own(
    mnist_lit: Command, run: Path
) -> None:
    last = run / "checkpoints" / "last.ckpt"
    state = torch.load(last, weights_only=True)
    init_args = {"save_dir": "/tmp/elsewhere"}
    state["config"]["trainer"]["logger"] = {"class_path": "CSVLogger", "init_args": init_args}
    torch.save(state, last)
    outcome = mnist_lit("fit", "--ckpt_path=last", "--trainer.max_epochs=3")
    assert outcome.status == 2
    assert "trainer.logger" in outcome.err
    assert not Path("/tmp/elsewhere").exists()


def test_the_best_epoch_is_named_also_after_resuming(
    fit: Command, mnist_lit: Command, tmp_path: Path
) -> None:
    worse = ["--model.scheduler=StepLR", "--model.scheduler.step_size=1", "--seed_everything=1"]
    first = fit(*worse, "--model.scheduler.gamma=1000", "--trainer.limit_train_batches=20").out
    best = [line for line in first.splitlines() if line.startswith("Best epoch: 1 of 2, val/loss ")]
    resumed = mnist_lit("fit", "--ckpt_path=last", "--trainer.max_epochs=3").out
    assert best[0].replace("of 2", "of 3") in resumed.splitlines()
    with (tmp_path / "lightning_logs/version_0/metrics.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["val/loss"]]
    loss, accuracy = float(rows[0]["val/loss"]), 100 * float(rows[0]["val/accuracy"])
    assert best[0].endswith(f"val/loss {loss:.4f}, val/accuracy {accuracy:.2f} %")


def test_without_validation_no_epoch_is_the_best(fit: Command) -> None:
    assert "Best epoch" not in fit("--data.val_size=0").out


# ---- services: each in a process of its own, as a user would start it ----


def program(directory: Path, *args: str) -> str:
    status, out, err = finish(start(*args, cwd=directory))
    assert status == 0, err
    return out


@pytest.mark.loggers
def test_a_resumed_run_is_one_run_of_wandb(tmp_path: Path, data_dir: Path) -> None:
    pytest.importorskip("wandb")
    options = [f"{LOGGER}=WandbLogger", f"{LOGGER}.offline=true", f"--data.data_dir={data_dir}"]
    program(tmp_path, "fit", *SMALL, *FEW, *options)
    program(tmp_path, "fit", "--ckpt_path=last", "--trainer.max_epochs=3")
    assert [path.name for path in tmp_path.iterdir()] == ["lightning_logs"]
    run = tmp_path / "lightning_logs" / "version_0"
    assert names(run) >= RECORD
    sessions = [path.name for path in (run / "wandb").glob("offline-run-*")]
    assert len(sessions) == 2
    assert len({name.rpartition("-")[2] for name in sessions}) == 1
    pictures = [path.name for path in (run / "wandb").rglob("media/images/*/*.png")]
    assert sum(name.startswith("confusion_matrix") for name in pictures) == 3


@pytest.mark.loggers
def test_wandb_without_a_login_is_told_in_two_lines(
    tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    options = [f"{LOGGER}=WandbLogger", f"--data.data_dir={data_dir}"]
    status, _, err = finish(start("fit", *SMALL, *FEW, *options, cwd=tmp_path))
    assert status == 2
    told = [line for line in err.splitlines() if not line.startswith("wandb: ")]
    assert len(told) == 2
    assert told[0].startswith("error: WandbLogger cannot be created: No API key configured.")
    assert not any((tmp_path / "lightning_logs").iterdir())


@pytest.mark.loggers
@pytest.mark.filterwarnings("ignore")  # MLflow's use of SQLAlchemy
def test_a_resumed_run_is_one_run_of_mlflow(tmp_path: Path, data_dir: Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    store = f"{LOGGER}.tracking_uri=sqlite:///runs.db"
    options = [f"{LOGGER}=MLFlowLogger", store, f"--data.data_dir={data_dir}"]
    program(tmp_path, "fit", *SMALL, *FEW, *options)
    program(tmp_path, "fit", "--ckpt_path=last", "--trainer.max_epochs=3")
    assert names(tmp_path / "lightning_logs" / "version_0") >= RECORD
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'runs.db'}")
    [run] = client.search_runs([each.experiment_id for each in client.search_experiments()])
    assert run.info.status == "FINISHED"
    assert run.data.params["data.batch_size"] == "64"
    losses = client.get_metric_history(run.info.run_id, "val/loss")
    assert [each.step for each in losses] == [1, 3, 5]
    pictures = [each.path for each in client.list_artifacts(run.info.run_id, "val")]
    assert {f"val/confusion_matrix_{step}.png" for step in (1, 3, 5)} <= set(pictures)
