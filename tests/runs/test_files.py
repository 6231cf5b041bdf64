"""Run directories on disk: whose files are replaced, who trains, which run is meant, damage."""

import json
import os
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from mnist_lit.errors import InputError
from mnist_lit.files import atomic_write
from mnist_lit.runs.directories import training_lock
from mnist_lit.runs.files import LOCK, in_training
from tests.conftest import FEW, SMALL, Command, finish, start
from tests.support.waiting import wait_until

SHORT = "--trainer.limit_test_batches=1"
LONGER = ["--ckpt_path=last", "--trainer.max_epochs=3", *FEW]

LOGGER = """
from lightning.pytorch.loggers.logger import DummyLogger

class Elsewhere(DummyLogger):
    save_dir = "."
    log_dir = "."
"""

FAULTS = """
import shutil
from pathlib import Path
from lightning.pytorch import Callback

class Remove(Callback):
    def __init__(self, by_file: bool = False, at: int = 25):
        self.by_file, self.at = by_file, at

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == self.at:
            shutil.rmtree("lightning_logs/gone")
            if self.by_file:
                Path("lightning_logs/gone").write_text("a file")

class Fail(Callback):
    def on_train_batch_end(self, *_):
        raise ValueError("no luck\\ntoday")
"""


def move_to(folder: Path, checkpoint: Path) -> None:
    """Let a checkpoint say that it was written in a folder."""
    state = torch.load(checkpoint, weights_only=True)
    for callback in state["callbacks"].values():
        if "dirpath" in callback:
            callback["dirpath"] = str(folder / "checkpoints")
    torch.save(state, checkpoint)


@pytest.fixture
def own(run: Path) -> Path:
    """A finished run that can be resumed where it lies."""
    for checkpoint in (run / "checkpoints").iterdir():
        move_to(run, checkpoint)
    return run


def contents(directory: Path) -> dict[str, bytes]:
    """All files below a directory."""
    files = [path for path in directory.rglob("*") if path.is_file()]
    return {str(path.relative_to(directory)): path.read_bytes() for path in files}


def make_users_folder(checkpoint: Path, folder: Path, place: str) -> Path:
    """A checkpoint among files that have the names of results; give its path."""
    names = ["test.json", "test_digits.png", "test_holiday.png", "predictions.csv", "config.yaml"]
    names += ["00000/thesis.txt", "00000/test/tensors.tsv", "projector_config.pbtxt", "metrics.csv"]
    names += ["status.json", "events.out.tfevents.1.host.1.0.test_39", ".notes.partial"]
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text('{"status": "mine"}')
    (folder / place).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(checkpoint, folder / place)
    return folder / place


@pytest.mark.parametrize("place", ["best.ckpt", "checkpoints/best.ckpt"])
@pytest.mark.usefixtures("pictures")
def test_results_of_a_checkpoint_outside_of_a_run_get_a_directory_of_their_own(
    mnist_lit: Command, run: Path, tmp_path: Path, place: str
) -> None:
    folder = tmp_path / "mine"
    checkpoint = make_users_folder(run / "checkpoints/best.ckpt", folder, place)
    before = contents(folder)
    for number in range(2):
        outcome = mnist_lit("test", f"--ckpt_path={checkpoint}", SHORT)
        assert (outcome.status, outcome.err) == (0, "")
        assert f"Results: lightning_logs/test_{number}/test.json\n" in outcome.out
        results = tmp_path / f"lightning_logs/test_{number}"
        assert {"test.json", "test_digits.png", "00000"} <= {
            path.name for path in results.iterdir()
        }
    outcome = mnist_lit("predict", f"--ckpt_path={checkpoint}", "--trainer.limit_predict_batches=1")
    assert "Predictions: lightning_logs/predict_0/predictions.csv" in outcome.out
    assert contents(folder) == before
    assert [line["name"] for line in runs(mnist_lit)] == ["version_0"]


def runs(mnist_lit: Command) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = json.loads(mnist_lit("runs", "--format=json").out)["runs"]
    return listed


@pytest.mark.usefixtures("pictures")
def test_in_a_run_a_test_replaces_only_files_that_a_test_writes(
    mnist_lit: Command, run: Path
) -> None:
    assert mnist_lit("test", "--ckpt_path=best", SHORT).status == 0
    events = list(run.glob("events*.test_39"))
    users = ("test_holiday.png", "00000/thesis.txt", "events.test_39", "00000/test/mine.tsv")
    for name in users:
        (run / name).write_text("mine")
    outcome = mnist_lit("test", "--ckpt_path=best", SHORT)
    assert (outcome.status, outcome.err) == (0, "")
    assert all((run / name).read_text() == "mine" for name in users)
    assert len(list(run.glob("events.out*.test_39"))) == len(events) == 1


@pytest.mark.usefixtures("pictures")
def test_a_test_does_not_follow_a_link_out_of_the_run(
    mnist_lit: Command, run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "elsewhere" / "test").mkdir(parents=True)
    users = [tmp_path / "elsewhere/test/tensors.tsv", tmp_path / "thesis"]
    for path in users:
        path.write_text("mine")
    (run / "00000").symlink_to(tmp_path / "elsewhere")
    for name in ("projector_config.pbtxt", "test.json", "test_digits.png"):
        (run / name).symlink_to(tmp_path / "thesis")
    assert mnist_lit("test", "--ckpt_path=best", SHORT).status == 0
    assert [path.read_text() for path in users] == ["mine", "mine"]
    assert caplog.messages == ["No embedding was written: 00000/test is a symbolic link."]


@pytest.mark.parametrize("place", ["last.ckpt", "checkpoints/last.ckpt"])
def test_a_folder_that_is_no_run_is_not_trained_in(
    mnist_lit: Command, run: Path, tmp_path: Path, place: str
) -> None:
    folder = tmp_path / "mine"
    checkpoint = make_users_folder(run / "checkpoints/last.ckpt", folder, place)
    move_to(folder, checkpoint)
    before = contents(folder)
    outcome = mnist_lit("fit", *LONGER, f"--ckpt_path={checkpoint}")
    assert (outcome.status, outcome.err) == (0, "")
    assert "Run: lightning_logs/version_1\n" in outcome.out
    assert contents(folder) == before


def test_a_checkpoint_does_not_say_which_files_are_deleted(
    mnist_lit: Command, run: Path, tmp_path: Path
) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.ckpt").write_text("mine")
    state = torch.load(run / "checkpoints/last.ckpt", weights_only=True)
    for callback in state["callbacks"].values():
        for name in {"best_model_path", "kth_best_model_path", "last_model_path"} & callback.keys():
            callback[name] = "lightning_logs/version_1/checkpoints/../../../thesis/thesis.ckpt"
    torch.save(state, tmp_path / "foreign.ckpt")
    outcome = mnist_lit("fit", *LONGER, "--ckpt_path=foreign.ckpt")
    assert (outcome.status, outcome.err) == (0, "")
    assert (tmp_path / "thesis" / "thesis.ckpt").read_text() == "mine"


def test_a_logger_in_the_users_directory_does_not_cost_the_configuration_there(
    mnist_lit: Command, tmp_path: Path, data_dir: Path
) -> None:
    (tmp_path / "elsewhere.py").write_text(LOGGER)
    (tmp_path / "config.yaml").write_text("mine")
    outcome = mnist_lit(
        *("fit", *SMALL, f"--data.data_dir={data_dir}", "--trainer.logger=elsewhere.Elsewhere")
    )
    assert outcome.status == 0, outcome.err
    assert (tmp_path / "config.yaml").read_text() == "mine"
    assert outcome.out.startswith("Run: lightning_logs/version_0\n")


def test_two_that_write_the_same_file_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "best.yaml"
    with atomic_write(path) as one, atomic_write(path) as other:
        one.write_text("one")
        other.write_text("other")
    assert path.read_text() == "one"
    assert list(tmp_path.iterdir()) == [path]


def test_a_resumed_run_removes_what_a_killed_one_has_left_and_nothing_else(
    mnist_lit: Command, own: Path
) -> None:
    left = [own / name for name in ("a", "checkpoints/b")]
    left = [path.with_name(f".mnist_lit-{16 * path.name}.partial") for path in left]
    users = [own / ".notes.partial", own / "mine/.mnist_lit-0123456789abcdef.partial"]
    (own / "mine").mkdir()
    for path in [*left, *users]:
        path.write_text("half")
    assert mnist_lit("fit", *LONGER, "--ckpt_path=best").status == 0  # a new one
    assert all(path.exists() for path in left)
    last = own / "checkpoints/last.ckpt"
    assert mnist_lit("fit", *LONGER, f"--ckpt_path={last}").status == 0
    assert not any(path.exists() for path in left)
    assert all(path.exists() for path in users)


BY_FILE = "--trainer.callbacks.by_file=true"


def vanishing(directory: Path, data_dir: Path, at: int, *options: str) -> list[str]:
    """The arguments of a training whose directory is removed after some steps."""
    (directory / "faults.py").write_text(FAULTS)
    arguments = ["fit", *SMALL, f"--data.data_dir={data_dir}", "-n", "gone"]
    arguments += ["--trainer.max_epochs=4", "--trainer.callbacks+=faults.Remove"]
    return [*arguments, f"--trainer.callbacks.at={at}", *options]


def assert_says_deleted(status: int, err: str) -> None:
    assert status == 2, err
    what, what_to_do = err.splitlines()
    assert what.startswith("error: The directory of the run, ")
    assert what.endswith("/gone/version_0, was deleted or replaced during training.")
    assert what_to_do == "Train again, and leave the directory in place until the run ends."


@pytest.mark.usefixtures("pictures")
@pytest.mark.parametrize(("at", "options"), [(5, []), (5, [BY_FILE]), (25, [])])
def test_a_run_whose_directory_vanishes_ends_in_two_lines(
    mnist_lit: Command, tmp_path: Path, data_dir: Path, at: int, options: list[Any]
) -> None:
    outcome = mnist_lit(*vanishing(tmp_path, data_dir, at, *options))
    assert_says_deleted(outcome.status, outcome.err)


def test_a_process_whose_run_vanishes_says_nothing_else_at_its_end(
    tmp_path: Path, data_dir: Path
) -> None:
    process = start(*vanishing(tmp_path, data_dir, 25, BY_FILE), cwd=tmp_path)
    status, _, err = finish(process, 120)
    assert_says_deleted(status, err)


def test_a_run_is_running_as_long_as_its_lock_is_held(mnist_lit: Command, own: Path) -> None:
    status = json.loads((own / "status.json").read_text())
    before = contents(own)
    with training_lock(own):
        assert [line["status"] for line in runs(mnist_lit)] == ["running"]
        outcome = mnist_lit("fit", *LONGER)
        assert outcome.status == 2
        what, what_to_do = outcome.err.splitlines()
        assert what.startswith("error: Another process is training ")
        assert what_to_do.startswith("Wait for it to finish")
    assert [line["status"] for line in runs(mnist_lit)] == ["finished"]
    (own / "status.json").write_text(json.dumps(status | {"status": "running", "pid": os.getpid()}))
    assert [line["status"] for line in runs(mnist_lit)] == ["killed"]
    assert contents(own) | {"status.json": b""} == before | {"status.json": b""}


def test_looking_at_a_run_does_not_keep_it_from_training(run: Path) -> None:
    end = threading.Event()

    def look() -> None:
        while not end.is_set():
            in_training(run)

    watchers = [threading.Thread(target=look) for _ in range(2)]
    for watcher in watchers:
        watcher.start()
    try:
        for _ in range(20):
            with training_lock(run):
                assert in_training(run)
    finally:
        end.set()
        for watcher in watchers:
            watcher.join()
    assert not in_training(run)


def test_two_fits_that_resume_a_run_at_the_same_moment_do_not_both_train(
    own: Path, tmp_path: Path
) -> None:
    both = [
        start("fit", "--ckpt_path=last", "--trainer.max_epochs=200", cwd=tmp_path) for _ in range(2)
    ]
    wait_until(lambda: any(process.poll() is not None for process in both))
    both.sort(key=lambda process: process.poll() is None)
    code, _, err = finish(both[0])
    both[1].terminate()
    assert (code, len(err.splitlines())) == (2, 2)
    assert "Another process is training " in err
    code, _, err = finish(both[1])
    assert code == 143
    assert "Traceback" not in err


def make_newer(run: Path, name: str, *, checkpoints: bool) -> Path:
    """A run beside another, begun later but with older files."""
    newer = run.with_name(name)
    shutil.copytree(run, newer)
    status = json.loads((newer / "status.json").read_text())
    status["started"] = status["started"].replace("20", "21", 1)
    (newer / "status.json").write_text(json.dumps(status))
    if not checkpoints:
        shutil.rmtree(newer / "checkpoints")
    for path in newer.rglob("*"):
        os.utime(path, (1, 1))
    return newer


def test_the_newest_run_is_the_one_that_was_begun_last(mnist_lit: Command, run: Path) -> None:
    make_newer(run, "another", checkpoints=True)
    for command in (["show", "--output=x.png"], ["test", SHORT], ["fit"], ["export"]):
        outcome = mnist_lit(*command, "--ckpt_path=last")
        checkpoint = "Checkpoint: lightning_logs/another/checkpoints/last.ckpt\n"
        assert outcome.out.startswith(checkpoint), outcome.err


def test_last_for_fit_is_no_older_run_if_the_newest_has_no_checkpoint(
    mnist_lit: Command, run: Path
) -> None:
    make_newer(run, "version_1", checkpoints=False)
    before = contents(run.parent)
    outcome = mnist_lit("fit", *LONGER)
    assert (outcome.status, outcome.out) == (2, "")
    assert outcome.err == (
        "error: The newest run, lightning_logs/version_1, has no last checkpoint.\n"
        "Resume an older run, as with --ckpt_path lightning_logs/version_0/checkpoints/last.ckpt, "
        "or train without --ckpt_path.\n"
    )
    assert contents(run.parent) == before
    outcome = mnist_lit("test", "--ckpt_path=last", SHORT)
    assert outcome.out.startswith("Checkpoint: lightning_logs/version_0/checkpoints/last.ckpt\n")


def test_a_run_that_was_stopped_early_is_finished_unless_what_stops_it_changes(
    mnist_lit: Command, tmp_path: Path, data_dir: Path
) -> None:
    stopping = ["--trainer.callbacks+=EarlyStopping", "--trainer.callbacks.monitor=val/accuracy"]
    stopping += ["--trainer.callbacks.mode=max", "--trainer.callbacks.stopping_threshold=0.01"]
    arguments = [*SMALL, f"--data.data_dir={data_dir}", "--trainer.max_epochs=3", *stopping]
    assert "Stopped early: " in mnist_lit("fit", *arguments).out
    last = "lightning_logs/version_0/checkpoints/last.ckpt"
    outcome = mnist_lit("fit", "--ckpt_path=last")
    assert (outcome.status, outcome.err) == (0, "")
    assert outcome.out == (
        f"Checkpoint: {last}\n"
        "This run is finished: it stopped early, in epoch 1.\n"
        "To continue: "
        f"python -m mnist_lit fit --ckpt_path {last} --trainer.callbacks null\n"
    )
    outcome = mnist_lit("fit", "--ckpt_path=last", "--trainer.callbacks", "null")
    assert (outcome.status, outcome.err) == (0, "")
    assert "epoch 3/3" in outcome.out


def test_min_epochs_postpones_the_end_of_a_run_that_is_stopped_early(
    mnist_lit: Command, tmp_path: Path, data_dir: Path
) -> None:
    (tmp_path / "faults.py").write_text(FAULTS)
    arguments = [*SMALL, f"--data.data_dir={data_dir}", "--trainer.max_epochs=3"]
    arguments += ["--trainer.min_epochs=2", "--trainer.callbacks+=EarlyStopping"]
    arguments += ["--trainer.callbacks.monitor=val/accuracy", "--trainer.callbacks.mode=max"]
    arguments += ["--trainer.callbacks.stopping_threshold=0.01"]
    assert "epoch 2/3" in mnist_lit("fit", *arguments).out
    checkpoints = Path("lightning_logs/version_0/checkpoints")
    stopped = {
        state["epoch"] + 1: state["stopped_early"]
        for state in (torch.load(path, weights_only=True) for path in checkpoints.iterdir())
    }
    assert stopped[2]
    assert not stopped.get(1)


def test_best_within_a_study_is_the_best_of_the_study(mnist_lit: Command, run: Path) -> None:
    study = run.parent / "sweep"
    study.mkdir()
    run.rename(study / "version_0")
    worse = make_newer(study / "version_0", "version_1", checkpoints=True)
    table = (worse / "metrics.csv").read_text().splitlines()
    loss = table[0].split(",").index("val/loss")
    rows = [line.split(",") for line in table[1:]]
    rows = [[*row[:loss], row[loss] and "9.5", *row[loss + 1 :]] for row in rows]
    (worse / "metrics.csv").write_text("\n".join([table[0], *map(",".join, rows), ""]))
    newest = "Checkpoint: lightning_logs/sweep/version_1/checkpoints/best.ckpt\n"
    assert mnist_lit("test", "--ckpt_path=best", SHORT).out.startswith(newest)
    (study / "study.json").write_text("{}")
    best = "lightning_logs/sweep/version_0/checkpoints/best.ckpt"
    lowest = runs(mnist_lit)[0]["val_loss"]
    named = f"Checkpoint: {best}, best of study sweep (val/loss {lowest:.4f})\n"
    for command in (["test", SHORT], ["show", "--output=x.png"]):
        for which in ("best", best):
            assert mnist_lit(*command, f"--ckpt_path={which}").out.startswith(named)
    last = mnist_lit("test", "--ckpt_path=last", SHORT).out
    assert last.startswith("Checkpoint: lightning_logs/sweep/version_1/checkpoints/last.ckpt\n")


def test_a_run_that_fails_is_failed_for_a_reason(
    mnist_lit: Command, tmp_path: Path, data_dir: Path
) -> None:
    (tmp_path / "faults.py").write_text(FAULTS)
    arguments = [*SMALL, f"--data.data_dir={data_dir}", "--trainer.callbacks+=faults.Fail"]
    with pytest.raises(ValueError, match="no luck"):
        mnist_lit("fit", *arguments)
    status = json.loads(Path("lightning_logs/version_0/status.json").read_text())
    assert (status["status"], status["reason"]) == ("failed", "ValueError: no luck")
    (line,) = runs(mnist_lit)
    assert (line["status"], line["reason"]) == ("failed", "ValueError: no luck")
    assert "\n\nversion_0 failed: ValueError: no luck\n" in mnist_lit("runs").out
    assert mnist_lit("runs", "--format=csv").out.splitlines()[0].endswith(",reason")


@pytest.mark.parametrize("content", ["", "[1]", '{"seconds": "x"}', "\0\xff"])
@pytest.mark.parametrize("name", ["status.json", "config.yaml"])
def test_a_damaged_status_or_configuration_is_written_anew_on_resume(
    mnist_lit: Command, own: Path, name: str, content: str
) -> None:
    (own / name).write_text(content, encoding="latin-1")
    outcome = mnist_lit("fit", *LONGER)
    assert (outcome.status, outcome.err) == (0, "")
    assert "Run: lightning_logs/version_0\n" in outcome.out
    (line,) = runs(mnist_lit)
    assert (line["status"], line["epochs"], line["seed"]) == ("finished", 3, 7)


@pytest.mark.parametrize("content", ["nothing\nof it\n", "\0\xff\0", '"a' + "b" * 200_000])
def test_damaged_metrics_are_refused_on_resume_and_kept(
    mnist_lit: Command, own: Path, content: str
) -> None:
    (own / "metrics.csv").write_text(content, encoding="latin-1")
    before = contents(own)
    outcome = mnist_lit("fit", *LONGER)
    assert outcome.status == 2
    assert (
        "version_0/metrics.csv is damaged: it is not a table with a column step.\n" in outcome.err
    )
    assert contents(own) == before
    (own / "metrics.csv").unlink()
    assert mnist_lit("fit", *LONGER).status == 0


def test_a_resume_that_is_killed_at_once_does_not_cost_the_metrics(
    mnist_lit: Command, own: Path
) -> None:
    logged = (own / "metrics.csv").read_text().splitlines()
    (own / "metrics.csv").rename(own / "metrics_before_resume.csv")
    (own / "metrics.csv").write_text(logged[0] + "\n")
    assert mnist_lit("fit", *LONGER).status == 0
    assert (own / "metrics.csv").read_text().splitlines()[: len(logged)] == logged
    assert not (own / "metrics_before_resume.csv").exists()


def test_a_directory_that_cannot_be_locked_is_refused_in_two_lines(run: Path) -> None:
    (run / LOCK).unlink()
    (run / LOCK).mkdir()
    with (
        pytest.raises(InputError, match=r"cannot be written: .*\n.*another directory"),
        training_lock(run),
    ):
        pass
