"""What TensorBoard shows under HPARAMS, asked of TensorBoard itself."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.hparams import api_pb2
from tensorboard.plugins.hparams.backend_context import Context
from tensorboard.plugins.hparams.list_session_groups import Handler

from mnist_lit.training.hparams import hyperparameters
from tests.conftest import FEW, SMALL, Command, start
from tests.support.waiting import wait_until


def hparams_table(log_dir: Path) -> tuple[set[str], dict[str, dict[str, Any]]]:
    """The columns, and by the session's name its row: settings, and the figures it shows."""
    multiplexer = EventMultiplexer().AddRunsFromDirectory(str(log_dir)).Reload()
    provider = MultiplexerDataProvider(multiplexer, str(log_dir))
    context = Context(TBContext(data_provider=provider))
    request = RequestContext()
    metadata = context.hparams_metadata(request, "")
    experiment = context.experiment_from_metadata(request, "", True, metadata, None)
    columns = {info.name for info in experiment.hparam_infos}
    columns |= {info.name.tag for info in experiment.metric_infos}
    order = [api_pb2.ColParams(hparam=info.name) for info in experiment.hparam_infos]
    order += [api_pb2.ColParams(metric=info.name) for info in experiment.metric_infos]
    every = api_pb2.ListSessionGroupsRequest(
        slice_size=100,
        allowed_statuses=[0, 1, 2, 3],
        aggregation_type=api_pb2.AGGREGATION_AVG,
        include_metrics=True,
        col_params=order,
    )
    answer = Handler(request, context, "", every).run()
    rows = {}
    for group in answer.session_groups:
        [session] = group.sessions  # a row is a run
        rows[session.name] = {
            name: next(getattr(value, kind) for kind in VALUES if value.HasField(kind))
            for name, value in group.hparams.items()
        } | {each.name.tag: each.value for each in session.metric_values}
    return columns, rows


VALUES = ("number_value", "string_value", "bool_value")


def best_epoch(run: Path) -> dict[str, Any]:
    with (run / "metrics.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["val/loss"]]
    best = min(rows, key=lambda row: float(row["val/loss"]))
    assert best is not rows[-1]
    return {name: pytest.approx(float(best[name])) for name in ("val/loss", "val/accuracy")}


@pytest.fixture
def overtrained(mnist_lit: Command, tmp_path: Path, data_dir: Path) -> Path:
    """A run whose second epoch is worse than its first."""
    worse = ["--model.scheduler=StepLR", "--model.scheduler.step_size=1"]
    worse += [
        "--seed_everything=3",
        "--model.scheduler.gamma=1000",
        "--model.label_smoothing=0.125",
    ]
    assert mnist_lit("fit", *SMALL, f"--data.data_dir={data_dir}", *worse).status == 0
    return tmp_path / "lightning_logs" / "version_0"


def test_hparams_has_the_best_epoch_and_every_setting_that_is_no_default(overtrained: Path) -> None:
    columns, rows = hparams_table(overtrained.parent)
    expected = {
        "seed_everything": 3,
        "trainer.max_epochs": 2,
        "trainer.limit_train_batches": 20,
        "trainer.limit_val_batches": 2,
        "trainer.log_every_n_steps": 8,
        "data.batch_size": 64,
        "model.network": "TutorialCNN",
        "model.optimizer": "Adam",
        "model.optimizer.lr": 0.001,
        "model.optimizer.fused": True,
        "model.scheduler": "StepLR",
        "model.scheduler.step_size": 1,
        "model.scheduler.gamma": 1000,
        "model.label_smoothing": 0.125,
        **best_epoch(overtrained),
    }
    assert rows == {"version_0/hparams": expected}
    assert columns == expected.keys()


def test_hparams_has_the_columns_of_all_runs(mnist_lit: Command, run: Path, data_dir: Path) -> None:
    """Also of settings that only later runs have changed."""
    mnist_lit("fit", f"--config={run / 'config.yaml'}", "--data.split_seed=3", *FEW)
    columns, rows = hparams_table(run.parent)
    assert "data.split_seed" in columns
    assert {name: row.get("data.split_seed") for name, row in rows.items()} == {
        "version_0/hparams": None,
        "version_1/hparams": 3,
    }


def test_a_resumed_run_still_shows_its_best_epoch_in_hparams(
    mnist_lit: Command, overtrained: Path
) -> None:
    best = best_epoch(overtrained)
    assert mnist_lit("fit", "--ckpt_path=last", "--trainer.max_epochs=3").status == 0
    _, rows = hparams_table(overtrained.parent)
    [row] = rows.values()
    assert row["trainer.max_epochs"] == 3
    assert {name: row[name] for name in best} == best


def test_a_killed_run_shows_settings_and_best_epoch_in_hparams(
    tmp_path: Path, data_dir: Path
) -> None:
    arguments = [*SMALL, f"--data.data_dir={data_dir}", "--trainer.max_epochs=1000"]
    process = start("fit", *arguments, cwd=tmp_path)
    last = tmp_path / "lightning_logs" / "version_0" / "checkpoints" / "last.ckpt"
    wait_until(last.exists, process)
    process.kill()
    process.communicate()
    _, rows = hparams_table(tmp_path)
    [row] = rows.values()
    assert row["trainer.max_epochs"] == 1000
    assert 0 < row["val/loss"] < 3


@pytest.mark.usefixtures("pictures")
def test_a_test_is_shown_beside_the_settings(mnist_lit: Command, run: Path, data_dir: Path) -> None:
    mnist_lit("test", "--ckpt_path=best", "--trainer.limit_test_batches=1")
    results = json.loads((run / "test.json").read_text())
    _, rows = hparams_table(run.parent)
    assert rows["version_0/hparams"]["test/loss"] == pytest.approx(results["loss"])
    assert rows["version_0/hparams"]["test/accuracy"] == pytest.approx(results["accuracy"])


def test_hparams_follow_no_symbolic_link(mnist_lit: Command, run: Path, tmp_path: Path) -> None:
    (run / "hparams").rename(tmp_path / "elsewhere")
    (run / "hparams").symlink_to(tmp_path / "elsewhere")
    before = {path: path.read_bytes() for path in (tmp_path / "elsewhere").iterdir()}
    assert mnist_lit("fit", "--ckpt_path=last", "--trainer.max_epochs=3").status == 0
    assert mnist_lit("test", "--ckpt_path=last", "--trainer.limit_test_batches=1").status == 0
    assert {path: path.read_bytes() for path in (tmp_path / "elsewhere").iterdir()} == before


def test_hyperparameters_are_flat_primitives_without_paths() -> None:
    config: dict[str, Any] = {
        "seed_everything": 3,
        "name": "mine",
        "trainer": {"max_epochs": 2, "logger": [], "callbacks": None, "default_root_dir": "/tmp"},
        "model": {
            "network": {"class_path": "own.Net", "init_args": {"widths": [8, 16]}},
            "optimizer": {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.1}},
        },
        "data": {"data_dir": "/tmp", "batch_size": 64},
    }
    callbacks = [{"class_path": "a.b.EMA", "init_args": {"decay": 0.9}}]
    config["trainer"]["callbacks"] = callbacks
    changed = {"trainer": config["trainer"], "model": {"network": config["model"]["network"]}}
    assert hyperparameters(config, {**changed, "name": "mine", "data": {"data_dir": "/tmp"}}) == {
        "seed_everything": 3,
        "trainer.max_epochs": 2,
        "data.batch_size": 64,
        "model.network": "Net",
        "model.optimizer": "SGD",
        "model.optimizer.lr": 0.1,
        "trainer.callbacks": "[EMA{decay:0.9}]",
        "model.network.widths": "[8,16]",
    }
