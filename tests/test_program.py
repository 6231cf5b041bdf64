"""The real program in processes of its own."""

import gc
import os
import pty
import re
import shlex
import shutil
import signal
import subprocess
import sys
import termios
import time
import weakref
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from mnist_lit import __version__
from mnist_lit.__main__ import COMMANDS, main
from mnist_lit.checkpoints import load_checkpoint
from mnist_lit.module import DigitClassifier
from tests.conftest import FEW, SMALL, Command, finish, start
from tests.support.waiting import wait_until

LAST = Path("lightning_logs/version_0/checkpoints/last.ckpt")


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_help_is_a_table_of_the_commands_and_two_examples(
    capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert main(arguments) == 0
    out = capsys.readouterr().out
    for command, (_, purpose) in COMMANDS.items():
        assert re.search(rf"^  {command} +{purpose}$", out, re.MULTILINE)
    assert out.count("\n  python -m mnist_lit ") == 2


def test_help_and_version_answer_without_torch() -> None:
    code = (
        "import sys; from mnist_lit.__main__ import main; main(['--help']); main(['--version']);"
        "assert not {'torch', 'lightning', 'numpy'} & sys.modules.keys()"
    )
    out = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert out.endswith(f"mnist_lit {__version__}\n")


def test_an_unknown_command_is_an_error_that_lists_the_known(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["train"]) == 2
    assert capsys.readouterr().err == (
        f"error: Unknown command 'train'.\nThe first argument is one of {', '.join(COMMANDS)}.\n"
    )


def test_a_stop_that_a_module_in_c_makes_an_import_error_of_is_a_stop(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped_while_it_imports(args: list[str]) -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        except BaseException as stopped:
            raise ImportError("initialization failed") from stopped

    monkeypatch.setattr("mnist_lit.reading.command.main", stopped_while_it_imports)
    assert main(["read"]) == 143
    assert capsys.readouterr().err == "Stopped by SIGTERM.\n"


def test_commands_called_in_turn_free_their_memory(mnist_lit: Command, run: Path) -> None:
    test = ["test", "--ckpt_path=best", "--trainer.limit_test_batches=1"]
    mnist_lit(*test)
    models = [weakref.ref(each) for each in gc.get_objects() if type(each) is DigitClassifier]
    assert models
    mnist_lit(*test)
    gc.collect()
    assert not any(model() for model in models)


def test_a_normal_run_and_its_test_say_nothing_beside_their_business(
    tmp_path: Path, data_dir: Path
) -> None:
    fit = finish(start("fit", *SMALL, *FEW, f"--data.data_dir={data_dir}", cwd=tmp_path))
    limit = "--trainer.limit_test_batches=1"
    test = finish(start("test", "--ckpt_path=best", limit, cwd=tmp_path))
    assert (fit[0], fit[2], test[0], test[2]) == (0, "", 0, "")
    assert len(fit[1].splitlines()) == 8
    assert len(test[1].splitlines()) == 13


@pytest.mark.parametrize(
    ("signum", "status"),
    [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)],
)
def test_a_stopped_fit_names_what_survives_and_how_to_go_on(
    tmp_path: Path, data_dir: Path, mnist_lit: Command, signum: signal.Signals, status: int
) -> None:
    arguments = [*SMALL, f"--data.data_dir={data_dir}", "--trainer.max_epochs=10000"]
    process = start("fit", *arguments, cwd=tmp_path)
    wait_until((tmp_path / LAST).exists, process)
    process.send_signal(signum)
    code, _, err = finish(process)
    assert code == status
    lines = err.splitlines()
    kept = re.fullmatch(rf"Saved: {LAST} \(epoch (\d+)\)", lines[0])
    assert kept
    assert lines[1:] == [
        f"To resume: python -m mnist_lit fit --ckpt_path {LAST}",
        f"Stopped by {signum.name}.",
    ]
    resume = [*lines[1].split()[5:], f"--trainer.max_epochs={int(kept[1]) + 1}"]
    assert f"epoch {int(kept[1]) + 1}/" in mnist_lit(*resume).out


def test_a_fit_stopped_before_its_first_epoch_ends_says_there_is_nothing(
    tmp_path: Path, data_dir: Path
) -> None:
    arguments = [*SMALL, f"--data.data_dir={data_dir}", "--trainer.limit_train_batches=1.0"]
    process = start("fit", *arguments, "--data.batch_size=1", cwd=tmp_path)
    wait_until(lambda: list(tmp_path.glob("lightning_logs/version_0/events*")), process)
    time.sleep(0.5)
    process.terminate()
    code, _, err = finish(process)
    assert code == 143
    assert err.splitlines()[0] == "No epoch was completed, so there is no checkpoint."


@pytest.mark.slow
def test_two_fits_at_once_in_an_empty_directory_both_succeed(tmp_path: Path) -> None:
    processes = [start("fit", *SMALL, cwd=tmp_path) for _ in range(2)]
    assert [finish(process)[0] for process in processes] == [0, 0]
    for version in (0, 1):
        run = tmp_path / "lightning_logs" / f"version_{version}"
        assert {"config.yaml", "metrics.csv"} <= {path.name for path in run.iterdir()}
        assert len(list(run.glob("events*"))) == 1


def test_on_a_terminal_there_is_a_progress_bar(tmp_path: Path, data_dir: Path) -> None:
    terminal, end = pty.openpty()
    termios.tcsetwinsize(end, (24, 100))
    command = [sys.executable, "-m", "mnist_lit", "fit", *SMALL, *FEW]
    command += [f"--data.data_dir={data_dir}"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=end, stderr=end)
    os.close(end)
    shown = b""
    try:
        while chunk := os.read(terminal, 65536):
            shown += chunk
    except OSError:  # the other end is closed
        pass
    assert process.wait() == 0
    # Lightning's own bar, or the one that it takes where rich is installed.
    assert re.search(r"Epoch 1(: 100%|/1 .* 2/2)", shown.decode())
    assert "epoch 1/2  train/loss" in shown.decode()


def test_the_console_script_finds_a_network_in_the_working_directory(
    tmp_path: Path, data_dir: Path
) -> None:
    script = shutil.which("mnist-lit", path=str(Path(sys.executable).parent))
    assert script
    (tmp_path / "own.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Sequential):\n"
        "    def __init__(self): super().__init__(nn.Flatten(), nn.Linear(784, 10))\n"
    )
    options = ["--model.network=own.Net", "--trainer.fast_dev_run=1"]
    command = [script, "fit", *SMALL, f"--data.data_dir={data_dir}", *options]
    out = subprocess.check_output(command, cwd=tmp_path, text=True)
    assert "Net, 7,850 parameters" in out


CLOSED = [">&-", ">&- 2>&-", "<&- >&- 2>&-"]


@pytest.mark.parametrize(
    ("arguments", "redirection"),
    [*product(["--help", "runs ."], CLOSED), ("fit --help", CLOSED[-1])],
)
def test_closed_streams_are_no_error(tmp_path: Path, arguments: Any, redirection: Any) -> None:
    command = f'"{sys.executable}" -m mnist_lit {arguments} {redirection}'
    done = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, timeout=100)
    assert done.returncode == (2 if arguments == "runs ." else 0)
    assert b"Traceback" not in done.stderr


def test_a_fit_with_closed_streams_leaves_a_sound_run(tmp_path: Path, data_dir: Path) -> None:
    arguments = shlex.join([*SMALL, *FEW, f"--data.data_dir={data_dir}"])
    command = f'"{sys.executable}" -m mnist_lit fit {arguments} <&- >&- 2>&-'
    assert subprocess.run(command, shell=True, cwd=tmp_path, timeout=300).returncode == 0
    load_checkpoint(tmp_path / LAST)


@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
    ids=["streams", "locale"],
)
def test_an_ascii_terminal_gets_escapes_instead_of_a_traceback(
    finished: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    for seed in (1, 2):  # two seeds make a line with "±"
        run = tmp_path / "Prüfung" / f"version_{seed}"
        shutil.copytree(finished / "lightning_logs/version_0", run)
        config = (run / "config.yaml").read_text()
        (run / "config.yaml").write_text(config.replace("everything: 7", f"everything: {seed}"))
    command = [sys.executable, "-m", "mnist_lit"]
    settings: dict[str, Any] = {
        "cwd": tmp_path,
        "env": os.environ | environment,
        "capture_output": True,
    }
    runs = subprocess.run([*command, "runs", "Prüfung"], **settings)
    assert (runs.returncode, runs.stderr) == (0, b"")
    assert rb"mean \xb1" in runs.stdout
    name = os.fsdecode(b"\xff\xc3\xbc.png")
    gone = subprocess.run([*command, "read", name], **settings)
    assert gone.returncode == 2
    assert gone.stderr.startswith(b"error: The picture \\udcff\\")
    assert gone.stderr.isascii()


def test_a_name_that_cannot_be_encoded_is_told_in_two_lines(
    mnist_lit: Command, data_dir: Path
) -> None:
    outcome = mnist_lit("fit", *SMALL, "--data.data_dir=\ud800")
    assert outcome.status == 2
    what, what_to_do = outcome.err.splitlines()
    assert what == r"error: '\ud800' cannot be encoded in utf-8."
    assert "UTF-8 locale" in what_to_do
