"""The command sweep: mostly with a stand-in for the trainings, at the end with real ones."""

import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
import yaml
from optuna.trial import Trial, TrialState

from mnist_lit.__main__ import main
from mnist_lit.errors import InputError
from mnist_lit.sweep.settings import settings_of
from mnist_lit.sweep.worker import DivergedError, train
from tests.conftest import CONFIGS, Command, Outcome, scalars, start
from tests.support.studies import POSTGRES, new_database
from tests.support.waiting import wait_until

GRID = """
space:
  model.optimizer.lr: {choices: [0.001, 0.01]}
  seed_everything: {choices: [0, 1, 2]}
sampler: {name: GridSampler}
heartbeat: 2
"""
SEEDS = "space: {seed_everything: {choices: [0, 1]}}\nsampler: {name: GridSampler}\nheartbeat: 2\n"
RANGE = """
space:
  model.optimizer.lr: {low: 1e-4, high: 1e-1, log: true}
  data.batch_size: {choices: [32, 64, 128]}
sampler: {name: TPESampler, seed: 1, n_startup_trials: 2}
"""
SWEEP = ["sweep", f"--config={CONFIGS / 'default.yaml'}", "--space=space.yaml"]
TINY = [
    "--trainer.max_epochs=1",
    "--trainer.limit_train_batches=2",
    "--trainer.limit_val_batches=1",
    "--trainer.log_every_n_steps=1",
]
STUDY = Path("lightning_logs/sweep")

Sweep = Callable[..., Outcome]
Training = Callable[[Trial, list[str]], float]


def loss_of(params: dict[str, Any]) -> float:
    """What the stand-in for a training gives: lowest at a learning rate of 0.004 with seed 2."""
    loss = 1 + abs(math.log10(params["model.optimizer.lr"] / 0.004))
    return float(loss - 0.01 * params.get("seed_everything", 0))


@pytest.fixture
def sweep(
    request: pytest.FixtureRequest,
    mnist_lit: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Sweep:
    """Sweep over a space with a stand-in for the trainings."""
    if "pictures" not in request.fixturenames:
        monkeypatch.setattr("mnist_lit.sweep.report.figures", lambda _: ())

    def call(
        space: str, *options: str, training: Training = lambda trial, _: loss_of(trial.params)
    ) -> Outcome:
        Path("space.yaml").write_text(space)
        monkeypatch.setattr("mnist_lit.sweep.worker.train", training)
        return mnist_lit(*SWEEP, *options)

    return call


@pytest.fixture(scope="module")
def finished_study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A directory with a study over the range, of five trials without trainings, and its output."""
    path = tmp_path_factory.mktemp("study")
    (path / "space.yaml").write_text(RANGE)
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(StringIO()) as out:
        patch.chdir(path)
        patch.setattr("mnist_lit.sweep.worker.train", lambda trial, _: loss_of(trial.params))
        assert main([*SWEEP, "--trials=5", "--trainer.max_epochs=7"]) == 0
    return path, out.getvalue()


@pytest.fixture
def told(finished_study: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """What that study said; the test has a copy of it."""
    path, out = finished_study
    shutil.copytree(path, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return out


def trials(url: str = f"sqlite:///{STUDY / 'study.db'}") -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(study_name="sweep", storage=url).trials


def loss(trial: optuna.trial.FrozenTrial) -> float:
    assert trial.value is not None
    return trial.value


def best_trial() -> optuna.trial.FrozenTrial:
    return min(trials(), key=loss)


def states() -> str:
    """The first letters of the trials' states: complete, fail, pruned, running, waiting."""
    return "".join(trial.state.name[0] for trial in trials())


def lines_of(out: str) -> list[list[str]]:
    """The cells of the lines about trials."""
    return [re.split("  +", line) for line in out.splitlines() if line.startswith("trial ")]


# ---- the study ----


def test_a_sweep_tells_each_trial_and_at_the_end_the_best(told: str) -> None:
    first, *rest = told.splitlines()
    assert first == "Study sweep: 0 of 5 trials, sqlite:///lightning_logs/sweep/study.db"
    lines, table = lines_of(told)[:5], lines_of(told)[5:]
    for number, (cells, trial) in enumerate(zip(lines, trials(), strict=True)):
        lr, size = trial.params["model.optimizer.lr"], trial.params["data.batch_size"]
        params = [f"lr {float(f'{lr:.4g}')}", f"batch_size {size}"]
        result = f"val/loss {trial.value:.4f}"
        assert cells == [f"trial {number}", result, *params, "-", f"({number + 1} of 5)"]
    assert table == [["trial", "val_loss", "lr", "batch_size", "name"]]
    assert "5 trials complete, 0 pruned, 0 failed. The best:" in rest
    best = best_trial()
    first_row = rest[rest.index("trial  val_loss         lr  batch_size  name") + 1]
    assert first_row.split()[0] == str(best.number)
    assert {path.name for path in STUDY.iterdir()} == {
        *("study.db", "study.db.lock", "study.json", "best.yaml"),
        *("history.png", "slices.png", "importance.png"),
    }
    for path in STUDY.glob("*.png"):
        assert path.read_bytes().startswith(b"\x89PNG")


def test_the_first_trial_has_the_settings_given_and_the_end_compares_with_them(
    told: str, sweep: Sweep
) -> None:
    given, *_ = trials()
    assert given.params == {"model.optimizer.lr": 0.001, "data.batch_size": 64}
    gain = 1 - loss(best_trial()) / loss(given)
    assert f"(trial 0): val/loss {loss(given):.4f}; the best trial is {gain:.0%} lower." in told
    best = sweep(RANGE, "--study=best", "--trials=2", "--model.optimizer.lr=0.004")
    assert "No trial is better than your own settings (trial 0)." in best.out
    beyond = sweep(RANGE, "--study=beyond", "--trials=2", "--data.batch_size=100")
    assert "Your own settings were not tried: batch_size outside of the space." in beyond.out

    def training(trial: Trial, _: list[str]) -> float:
        if trial.number == 0:
            raise DivergedError("diverged")
        return loss_of(trial.params)

    failed = sweep(RANGE, "--study=failed", "--trials=2", training=training)
    assert "Your own settings (trial 0): failed." in failed.out


@pytest.mark.usefixtures("told")
def test_the_best_configuration_is_that_of_the_best_trial() -> None:
    best = best_trial()
    command, _, about, *_ = (STUDY / "best.yaml").read_text().splitlines()
    assert command == f"# python -m mnist_lit fit --config {STUDY / 'best.yaml'}"
    assert f"Trial {best.number} of the study sweep: val/loss {best.value:.4f}" in about
    settings = yaml.safe_load((STUDY / "best.yaml").read_text())
    assert settings["model"]["optimizer"]["init_args"]["lr"] == best.params["model.optimizer.lr"]
    assert settings["data"]["batch_size"] == best.params["data.batch_size"]
    assert (settings["trainer"]["max_epochs"], settings["seed_everything"]) == (7, 0)


def test_a_resumed_study_has_so_many_trials_and_draws_what_it_would_have(
    sweep: Sweep, finished_study: tuple[Path, str]
) -> None:
    path, _ = finished_study
    drawn = [trial.params for trial in trials(f"sqlite:///{path / STUDY / 'study.db'}")]
    assert len({json.dumps(params) for params in drawn}) == 5
    for goal, before, after in ((2, 0, 2), (3, 2, 3), (2, 3, 3)):
        outcome = sweep(RANGE, f"--trials={goal}", "--trainer.max_epochs=7")
        assert f"Study sweep: {before} of {after} trials" in outcome.out
        assert f"{after} trials complete" in outcome.out
        assert [trial.params for trial in trials()] == drawn[:after]


def test_a_grid_tries_each_combination_once_and_sums_up_the_seeds(sweep: Sweep) -> None:
    outcome = sweep(GRID)
    points = [tuple(trial.params.values()) for trial in trials()]
    assert points == [(lr, seed) for lr in (0.001, 0.01) for seed in (0, 1, 2)]
    _, table = outcome.out.split("Over 3 seeds, mean ± sample standard deviation:\n")
    rows = [re.split("  +", row.strip()) for row in table.splitlines()[:3]]
    assert rows == [
        ["lr", "n", "val_loss"],
        ["0.01", "3", "1.3879 ± 0.0100"],
        ["0.001", "3", "1.5921 ± 0.0100"],
    ]


@pytest.mark.usefixtures("told")
def test_a_study_has_one_space_and_one_set_of_settings(sweep: Sweep) -> None:
    same = ["--trials=5", "--trainer.max_epochs=7"]
    outcome = sweep(RANGE, *same, "--trainer.max_epochs=3")
    assert outcome.status == 2
    assert outcome.err.startswith(
        "error: trainer.max_epochs is 7 in the study sweep and 3 in your options.\n"
    )
    outcome = sweep(RANGE.replace("1e-4", "1e-3"), *same)
    assert outcome.status == 2
    assert outcome.err == (
        "error: The study sweep has another space: model.optimizer.lr differs.\n"
        "Change it back, or start another study: --study NAME.\n"
    )
    assert sweep(RANGE, *same, "--data.data_dir=elsewhere").status == 0
    assert sweep(GRID, "--study=other", "--trials=1").status == 0


# ---- trials that do not end well ----


def test_a_trial_that_fails_is_told_in_one_line_and_the_sweep_continues(sweep: Sweep) -> None:
    def training(trial: Trial, args: list[str]) -> float:
        if trial.number == 1:
            raise DivergedError("diverged: val/loss nan in validation 2")
        if trial.number == 2:
            raise torch.OutOfMemoryError("CUDA out of memory.\nTry this, or that.")
        if trial.number == 3:
            raise InputError("model.network: there is no argument width.", "Did you mean x?")
        return 1.0

    outcome = sweep(RANGE, "--trials=5", training=training)
    assert (outcome.status, outcome.err) == (0, "")
    assert [cells[1] for cells in lines_of(outcome.out)[:5]] == [
        "val/loss 1.0000",
        "failed: diverged: val/loss nan in validation 2.",
        "failed: OutOfMemoryError: CUDA out of memory.",
        "failed: model.network: there is no argument width.",
        "val/loss 1.0000",
    ]
    assert "2 trials complete, 0 pruned, 3 failed" in outcome.out


def test_if_every_trial_fails_the_command_does_with_the_reason(sweep: Sweep) -> None:
    def training(trial: Trial, args: list[str]) -> float:
        raise ValueError("Expected more.")

    outcome = sweep(RANGE, "--trials=2", training=training)
    assert outcome.status == 2
    assert outcome.err == (
        "error: 0 of 2 trials completed: ValueError: Expected more.\n"
        "Change the space or the options, and start another study: --study NAME.\n"
    )


def test_a_mistake_that_shows_in_the_first_trial_ends_the_sweep_and_can_be_fixed(
    sweep: Sweep,
) -> None:
    def training(trial: Trial, args: list[str]) -> float:
        raise InputError("data.val_size is 60001.", "Give less.")

    outcome = sweep(RANGE, "--trials=2", "--data.val_size=60001", training=training)
    assert outcome.status == 2
    assert outcome.err == "error: data.val_size is 60001.\nGive less.\n"
    assert sweep(RANGE, "--trials=2").status == 0
    assert states() == "FCC"


def test_a_full_disk_ends_the_sweep_and_is_no_fault_of_the_trial(sweep: Sweep) -> None:
    def training(trial: Trial, args: list[str]) -> float:
        if trial.number == 1:
            raise InputError("A log cannot be written.", "Make room.") from OSError()
        return 1.0

    outcome = sweep(RANGE, "--trials=3", training=training)
    assert outcome.status == 2
    assert outcome.err.startswith("error: A log cannot be written.\n")
    assert states() == "CFW"
    assert sweep(RANGE, "--trials=3").status == 0
    assert states() == "CFCC"
    assert trials()[1].params == trials()[2].params


TWO = "space: {model.optimizer.lr: {low: 0.1, high: 1}, data.batch_size: {low: 1, high: 9}}"


def test_a_package_that_a_sampler_needs_ends_the_sweep_if_it_is_missing(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "scipy", None)
    outcome = sweep(f"{TWO}\nsampler: {{name: GPSampler, n_startup_trials: 1}}", "--trials=3")
    assert outcome.status == 2
    what, what_to_do = outcome.err.splitlines()
    assert "scipy" in what
    assert what_to_do == "Install what is missing, or change the sweep file."


def test_a_sampler_that_fails_after_some_trials_ends_the_sweep_and_can_be_corrected(
    sweep: Sweep,
) -> None:
    wrong = f"{TWO}\nsampler: {{name: TPESampler, n_startup_trials: 1, n_ei_candidates: 0}}"
    outcome = sweep(wrong, "--trials=4")
    assert outcome.status == 2
    assert outcome.err.startswith("error: TPESampler fails: ")
    assert sweep(TWO, "--trials=4").status == 0


@pytest.mark.parametrize(
    ("sampler", "what"),
    [
        ("name: TPESampler, n_startup_trials: '5'", "TPESampler cannot search this space: '<' not"),
        (
            "name: PartialFixedSampler, fixed_params: {}, base_sampler: TPESampler",
            "PartialFixedSampler cannot search this space: 'str' object",
        ),
        ("name: CmaEsSampler", "CmaEsSampler would run code that is stored in the database."),
    ],
)
def test_a_sampler_that_cannot_be_used_is_refused_at_once(
    sweep: Sweep, sampler: str, what: str
) -> None:
    outcome = sweep(f"{TWO}\nsampler: {{{sampler}}}")
    assert outcome.status == 2
    assert what in outcome.err.splitlines()[0]


def test_a_database_lies_in_the_directory_of_its_study_whatever_its_name(sweep: Sweep) -> None:
    assert sweep(RANGE, "--trials=1", "--trainer.default_root_dir=what? 100%25").status == 0
    assert Path("what? 100%25/lightning_logs/sweep/study.db").is_file()
    assert not Path("what").exists()


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_sweep_begins_with_the_same_trial_again(
    sweep: Sweep, signum: signal.Signals, status: int
) -> None:
    def training(trial: Trial, args: list[str]) -> float:
        if trial.number == 1:
            os.kill(os.getpid(), signum)
        return loss_of(trial.params)

    outcome = sweep(RANGE, "--trials=3", training=training)
    assert outcome.status == status
    assert outcome.err == (
        f"To resume the study, run the same command again.\nStopped by {signum.name}.\n"
    )
    assert states() == "CFW"
    assert "Study sweep: 1 of 3 trials" in sweep(RANGE, "--trials=3").out
    assert states() == "CFCC"
    assert trials()[1].params == trials()[2].params


def test_a_trial_that_went_to_another_worker_is_left_to_it(sweep: Sweep) -> None:
    def training(trial: Trial, args: list[str]) -> float:
        if trial.number == 0:
            study = optuna.load_study(study_name="sweep", storage=url)
            study.tell(0, state=TrialState.FAIL)
            trial.report(1.0, 0)
        return 1.0

    url = f"sqlite:///{STUDY / 'study.db'}"
    outcome = sweep(RANGE, "--trials=2", training=training)
    assert (outcome.status, outcome.err) == (0, "")
    assert "A trial was reassigned: its heartbeats had stopped.\n" in outcome.out
    assert states() == "FCC"


# ---- what cannot be ----


@pytest.mark.parametrize(
    ("options", "what", "what_to_do"),
    [
        (["--trials=0"], "Argument --trials: invalid PositiveInt value: '0'.", "--help"),
        (["--jobs=-1"], "Argument --jobs: invalid PositiveInt value: '-1'.", "--help"),
        (["--study=a/b"], "'a/b' is not a valid run name.", "Use letters"),
        (["--trial=3"], "There is no option trial.", "All options"),
        (["--trainer.max_epoch=3"], "There is no option trainer.max_epoch.", "max_epochs?"),
        (["--ckpt_path=best"], "No run in lightning_logs has a best checkpoint.", ""),
        (["--name=x"], "Runs are named after the study.", "Give --study"),
        (["--trainer.barebones=true"], "The trials would leave no runs.", "trainer.barebones"),
        (["--trainer.fast_dev_run=true"], "The trials would leave no runs.", "trainer.barebones"),
        (["--data.val_size=0"], "There are no validation images", "data.val_size"),
        (["--trainer.devices=2"], "A trial trains on one device.", "--jobs"),
        (["--storage=redis://x"], "The database cannot be opened: Can't load", "--storage takes"),
    ],
)
def test_options_that_do_not_go_together_with_a_sweep(
    sweep: Sweep, options: list[str], what: str, what_to_do: str
) -> None:
    outcome = sweep(RANGE, *options)
    assert outcome.status == 2
    first, second = outcome.err.splitlines()
    assert first.startswith(f"error: {what}")
    assert what_to_do in second


@pytest.mark.parametrize(
    ("key", "values", "what", "what_to_do"),
    [
        ("model.labelsmoothing", "{low: 0, high: 1}", "There is no option model.labels", "mean mo"),
        ("lr", "{low: 0.1, high: 1}", "There is no option lr.", "Did you mean model.optimizer.lr?"),
        ("model.optimizer.lrr", "{low: 0.1, high: 1}", "model.optimizer has no option lrr", "help"),
        ("data.batch_size", "{low: 0.5, high: 1}", "data.batch_size: Not of type Pos", "--help"),
        ("data.batch_size", "{choices: [1, x]}", "data.batch_size: Not of type Pos", "--help"),
        ("model.network", "{choices: [no.Net]}", "model.network: ", "PYTHONPATH"),
    ],
)
def test_a_key_that_fit_does_not_have_is_refused_before_the_first_trial(
    sweep: Sweep, key: str, values: str, what: str, what_to_do: str
) -> None:
    outcome = sweep(f"space:\n  {key}: {values}\n")
    assert outcome.status == 2
    first, second = outcome.err.splitlines()
    assert first.startswith(f"error: {what}")
    assert what_to_do in second
    assert not STUDY.exists()


def test_choices_that_do_not_go_together_are_failed_trials(sweep: Sweep) -> None:
    def training(trial: Trial, args: list[str]) -> float:
        settings_of(args)
        return 1.0

    outcome = sweep(
        "space:\n"
        "  model.optimizer: {choices: [torch.optim.SGD, torch.optim.Adam]}\n"
        "  model.optimizer.momentum: {choices: [0.9, 0.8]}\n"
        "sampler: {name: RandomSampler, seed: 0}\n",
        "--trials=4",
        training=training,
    )
    assert (outcome.status, outcome.err) == (0, "")
    told = [cells[1:3] for cells in lines_of(outcome.out)[:4]]
    assert told[0] == ["failed: model.optimizer has no option momentum.", "optimizer Adam"]
    assert ["val/loss 1.0000", "optimizer SGD"] in told


def test_without_optuna_it_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in list(sys.modules):
        if name.startswith("mnist_lit.sweep"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert main(["sweep", "--help"]) == 2
    assert capsys.readouterr().err == (
        "error: Sweeps need Optuna, which is not installed.\n"
        "In the project's directory: pip install '.[sweep]'\n"
    )


# ---- real trainings ----


def test_a_trial_is_a_run_like_any_other_and_its_configuration_repeats_it(
    mnist_lit: Command, tmp_path: Path, data_dir: Path
) -> None:
    (tmp_path / "space.yaml").write_text(GRID)
    outcome = mnist_lit(*SWEEP, *TINY, f"--data.data_dir={data_dir}", "--trials=2")
    assert (outcome.status, outcome.err) == (0, "")
    assert [cells[4] for cells in lines_of(outcome.out)[:2]] == [
        f"{STUDY}/version_0",
        f"{STUDY}/version_1",
    ]
    runs = json.loads(mnist_lit("runs", "--format=json").out)["runs"]
    assert [run["name"] for run in runs] == ["sweep/version_0", "sweep/version_1"]
    assert [run["status"] for run in runs] == ["finished", "finished"]
    assert [run["val_loss"] for run in runs] == [trial.value for trial in trials()]
    status = json.loads((STUDY / "version_0/status.json").read_text())
    assert status["command"].startswith("python -m mnist_lit fit --")
    assert "--model.optimizer.lr=0.001" in status["command"]
    assert not list(tmp_path.rglob("test*"))  # the test images were not touched
    command = (STUDY / "best.yaml").read_text().splitlines()[0]
    assert mnist_lit(*command.removeprefix("# python -m mnist_lit ").split()).status == 0
    best = best_trial().number
    assert scalars(tmp_path / "lightning_logs/version_0") == scalars(STUDY / f"version_{best}")


def real(tmp_path: Path, pruner: optuna.pruners.BasePruner, *options: str) -> Trial:
    """A trial of a study in memory, and the training for it."""
    trial = optuna.create_study(pruner=pruner).ask()
    train(trial, [f"--config={CONFIGS / 'default.yaml'}", *TINY, *options])
    return trial


@pytest.mark.usefixtures("mnist_lit")
def test_a_pruned_run_is_a_stopped_one_with_all_its_files(
    tmp_path: Path, data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pruner = optuna.pruners.ThresholdPruner(upper=0.0)
    with pytest.raises(optuna.TrialPruned):
        real(tmp_path, pruner, "--trainer.max_epochs=3", f"--data.data_dir={data_dir}")
    run = tmp_path / "lightning_logs" / "version_0"
    status = json.loads((run / "status.json").read_text())
    assert (status["status"], status["epochs"]) == ("stopped", 1)
    assert {path.name for path in (run / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    assert [row["val/loss"] != "" for row in scalars(run)].count(True) == 1
    assert capsys.readouterr() == ("", "")


@pytest.mark.usefixtures("mnist_lit")
def test_a_run_that_diverges_is_ended(tmp_path: Path, data_dir: Path) -> None:
    options = ["--trainer.max_epochs=3", f"--data.data_dir={data_dir}"]
    options += ["--model.optimizer=torch.optim.SGD", "--model.optimizer.lr=1e30"]
    with pytest.raises(DivergedError, match=r"^diverged: val/loss nan in validation 1$"):
        real(tmp_path, optuna.pruners.NopPruner(), *options)
    status = json.loads((tmp_path / "lightning_logs/version_0/status.json").read_text())
    assert (status["status"], status["epochs"]) == ("failed", 1)
    assert status["reason"] == "DivergedError: diverged: val/loss nan in validation 1"


# ---- its files ----


@pytest.mark.parametrize("name", ["best.yaml", "history.png", "slices.png", "importance.png"])
@pytest.mark.usefixtures("pictures")
def test_a_report_replaces_no_file_of_the_users(sweep: Sweep, name: str) -> None:
    STUDY.mkdir(parents=True)
    (STUDY / name).write_text("mine")
    outcome = sweep(RANGE, "--trials=2")
    assert outcome.status == 2
    assert outcome.err == (
        f"error: lightning_logs/sweep/{name} was not written by this study.\n"
        "Move it elsewhere, or give the study another name: --study NAME.\n"
    )
    assert (STUDY / name).read_text() == "mine"
    (STUDY / name).unlink()
    assert sweep(RANGE, "--trials=2").status == 0
    assert sweep(RANGE, "--trials=3").status == 0  # which replaces its own


# ---- several workers ----


def running(process: subprocess.Popen[str], count: int) -> list[int]:
    """Wait for so many runs in training, and give the processes that train them."""

    def pids() -> list[int]:
        found = [json.loads(path.read_text()) for path in STUDY.glob("version_*/status.json")]
        return [status["pid"] for status in found if status["status"] == "running"]

    wait_until(lambda: len(pids()) == count, process)
    return pids()


def test_a_worker_does_what_one_that_was_killed_has_left(
    mnist_lit: Command, tmp_path: Path, data_dir: Path
) -> None:
    (tmp_path / "space.yaml").write_text(SEEDS)
    command = [*SWEEP, *TINY, f"--data.data_dir={data_dir}"]
    process = start(*command, cwd=tmp_path)
    running(process, 1)
    process.kill()
    process.communicate()
    outcome = mnist_lit(*command)
    assert (outcome.status, outcome.err) == (0, "")
    assert "2 trials complete, 0 pruned, 0 failed" in outcome.out
    assert states() == "FCC"
    assert sorted(trial.params["seed_everything"] for trial in trials()[1:]) == [0, 1]
    runs = json.loads(mnist_lit("runs", "--format=json").out)["runs"]
    assert [run["status"] for run in runs] == ["killed", "finished", "finished"]


@pytest.mark.parametrize("kind", [pytest.param("sqlite", marks=pytest.mark.slow), POSTGRES])
def test_a_killed_worker_loses_nothing_and_another_does_its_trial(
    mnist_lit: Command, tmp_path: Path, data_dir: Path, kind: Any
) -> None:
    (tmp_path / "space.yaml").write_text(SEEDS)
    url = new_database(kind, tmp_path)
    options = [f"--data.data_dir={data_dir}", f"--storage={url}", "--jobs=2"]
    process = start(*SWEEP, *TINY, *options, cwd=tmp_path)
    os.kill(running(process, 1)[0], signal.SIGKILL)
    out, err = process.communicate(timeout=300)
    assert (process.returncode, err) == (0, "A worker was ended by SIGKILL.\n")
    left = [trial for trial in trials(url) if trial.state != TrialState.COMPLETE]
    assert {trial.state for trial in left} == {TrialState.FAIL}
    complete = [trial for trial in trials(url) if trial.state == TrialState.COMPLETE]
    assert sorted(trial.params["seed_everything"] for trial in complete) == [0, 1]
    assert "2 trials complete, 0 pruned, 0 failed" in out
    runs = json.loads(mnist_lit("runs", "--format=json").out)["runs"]
    assert [run["status"] for run in runs].count("killed") == 1


@pytest.mark.slow
@pytest.mark.usefixtures("mnist_lit")
def test_stopping_a_sweep_stops_its_workers_and_leaves_no_trial_behind(
    tmp_path: Path, data_dir: Path
) -> None:
    (tmp_path / "space.yaml").write_text(GRID)
    long = ["--trainer.max_epochs=10000", f"--data.data_dir={data_dir}"]
    process = start(*SWEEP, *TINY, *long, "--jobs=2", cwd=tmp_path)
    pids = running(process, 2)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=100)
    assert process.returncode == 130
    assert err == ("To resume the study, run the same command again.\nStopped by SIGINT.\n")
    assert states() == "FFWWWWWW"
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


@pytest.mark.slow
@pytest.mark.usefixtures("mnist_lit")
def test_workers_end_after_their_trial_when_the_command_is_killed(
    tmp_path: Path, data_dir: Path
) -> None:
    (tmp_path / "space.yaml").write_text(GRID)
    longer = ["--trainer.max_epochs=20", f"--data.data_dir={data_dir}"]
    process = start(*SWEEP, *TINY, *longer, "--jobs=2", cwd=tmp_path)
    pids = running(process, 2)
    process.kill()
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))
    process.communicate()
    assert states() == "CCWWWW"
