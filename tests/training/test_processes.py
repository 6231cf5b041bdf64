"""Several processes and machines."""

import csv
import json
import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from lightning.pytorch import LightningModule

from mnist_lit.errors import InputError
from mnist_lit.files import sha256
from mnist_lit.training.environment import broken_connection
from mnist_lit.training.processes import ProcessSync
from tests.conftest import CONFIGS, SMALL, Command, finish, start
from tests.support.faults import fault

LAST = Path("lightning_logs/version_0/checkpoints/last.ckpt")
TOGETHER = [*SMALL, f"--config={CONFIGS / 'ddp.yaml'}"]
BROKEN = "error: The connection between the processes broke: "


def losses(run: Path) -> list[float]:
    """All that a run has logged of its losses, step by step."""
    with (run / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = ("step", "train/loss", "train/loss_epoch", "val/loss")
    return [float(row[name]) for row in rows if row["epoch"] for name in names if row[name]]


@pytest.mark.slow
def test_two_processes_train_one_run_as_one_process_does(
    tmp_path: Path, data_dir: Path, mnist_lit: Command
) -> None:
    options = [f"--data.data_dir={data_dir}", "--data.val_size=1001", "--seed_everything=3"]
    options += ["--trainer.limit_val_batches=1.0", "--trainer.log_every_n_steps=1"]
    code, out, err = finish(start("fit", *TOGETHER, *options, cwd=tmp_path))
    assert (code, err) == (0, "")
    assert out.count("Run: ") == 1
    assert mnist_lit("fit", *SMALL, *options).status == 0
    first, second = sorted((tmp_path / "lightning_logs").iterdir())
    assert len(list(first.glob("events*"))) == 1
    assert len(losses(first)) > 80
    assert losses(first) == pytest.approx(losses(second), rel=1e-3)
    table = mnist_lit("validate", "--ckpt_path", LAST).out
    [loss] = re.findall(r"^loss +(\S+) ", table, re.MULTILINE)
    [errors] = re.findall(r"^errors +(\d+)$", table, re.MULTILINE)
    [validated] = re.findall(r"epoch 2/2 .* val/loss (\S+)  val/accuracy (\S+)", out)
    assert validated == (loss, f"{1 - int(errors) / 1001:.4f}")


@pytest.mark.slow
def test_each_image_is_judged_once_on_any_number_of_devices(run: Path, tmp_path: Path) -> None:
    results = []
    for devices in (3, 1):
        options = ["--ckpt_path=last", f"--trainer.devices={devices}"]
        code, out, err = finish(start("test", *options, cwd=tmp_path), 600)
        assert (code, err) == (0, "")
        assert out.count("accuracy ") == 1
        results.append(json.loads((run / "test.json").read_text()))
    three, one = results
    assert three["images"] == 10_000
    for name in ("images", "errors", "confusion", "wrong"):
        assert three[name] == one[name], name
    assert three["loss"] == pytest.approx(one["loss"], rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rank", "signum", "minutes", "status", "messages"),
    [
        (1, signal.SIGKILL, 9, 2, [BROKEN + ".+"]),
        (1, signal.SIGSTOP, 2, 2, [BROKEN + "Timed out .+"]),
        (0, signal.SIGTERM, 9, 143, [rf"Saved: {LAST} \(epoch 1\)"]),
    ],
    ids=["killed", "hung", "stopped"],
)
def test_a_process_that_ends_or_hangs_ends_the_others_and_the_run_goes_on(
    tmp_path: Path,
    data_dir: Path,
    mnist_lit: Command,
    rank: int,
    signum: signal.Signals,
    minutes: int,
    status: int,
    messages: list[str],
) -> None:
    arguments = [
        *TOGETHER,
        f"--data.data_dir={data_dir}",
        f"--trainer.strategy.timeout=0:0{minutes}:00",
    ]
    process = start("fit", *arguments, fault(tmp_path, rank, signum), cwd=tmp_path)
    code, out, err = finish(process, 1800)  # which waits for all that hold its output
    assert (code, out.count("Run: ")) == (status, 1)
    messages = [*messages, f"To resume: python -m mnist_lit fit --ckpt_path {LAST}"]
    messages += ["Stopped by SIGTERM."] if signum == signal.SIGTERM else []
    assert len(err.splitlines()) == len(messages), err
    for line, message in zip(err.splitlines(), messages, strict=True):
        assert re.fullmatch(message, line), err
    one = ["--trainer.devices=1", "--trainer.strategy=auto"]
    outcome = mnist_lit("fit", "--ckpt_path", LAST, *one)
    assert (outcome.status, outcome.err) == (0, "")
    assert "Resuming at the start of epoch 2\n" in outcome.out


def torchrun(node: int, port: int, *args: str, cwd: Path) -> subprocess.Popen[str]:
    """Start the program as on one of two machines."""
    options = ["--nnodes=2", f"--node-rank={node}", "--nproc-per-node=1"]
    options += ["--master-addr=127.0.0.1", f"--master-port={port}"]
    command = [sys.executable, "-m", "torch.distributed.run", *options, "-m", "mnist_lit", *args]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=cwd, stdout=pipe, stderr=pipe, text=True)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.mark.slow
def test_two_machines_train_one_run_survive_a_kill_and_equal_one_process(
    tmp_path: Path, mnist_lit: Command
) -> None:
    run = tmp_path / LAST.parent.parent
    options = ["--trainer.devices=1", "--trainer.num_nodes=2", "--trainer.log_every_n_steps=1"]
    options += ["--data.val_size=1000", "--trainer.limit_val_batches=1.0"]
    options += [fault(tmp_path, 0, signal.SIGKILL)]
    # Without a seed; both unpack the data; the second machine starts first.
    port = free_port()
    second = torchrun(1, port, "fit", *TOGETHER, *options, cwd=tmp_path)
    first = torchrun(0, port, "fit", *TOGETHER, *options, cwd=tmp_path)
    outcomes = [finish(machine, 1800) for machine in (first, second)]
    assert all(code != 0 for code, _, _ in outcomes)
    go_on = f"To resume: torchrun ... -m mnist_lit fit --ckpt_path {LAST}\n"
    assert re.search(rf"^{BROKEN}.+\n{re.escape(go_on)}", outcomes[1][2], re.MULTILINE)
    assert "mnist_lit/training/command.py" not in outcomes[1][2]  # no traceback of ours
    port = free_port()
    machines = [torchrun(node, port, "fit", "--ckpt_path=last", cwd=tmp_path) for node in (0, 1)]
    (status, out, _), (other_status, other_out, _) = [finish(each, 1800) for each in machines]
    assert (status, other_status, other_out) == (0, 0, "")
    assert "Resuming at the start of epoch 2\n" in out
    assert [path.name for path in run.parent.iterdir()] == [run.name]
    assert len(list(run.glob("events*"))) == 2  # the killed one's and its successor's
    alone = ["--trainer.devices=1", "--trainer.num_nodes=1", "--trainer.strategy=auto"]
    alone += ["--data.batch_size=64", f"--config={run / 'config.yaml'}"]
    outcome = mnist_lit("fit", alone.pop(), *alone)
    assert (outcome.status, outcome.err) == (0, "")
    assert len(losses(run)) > 80
    assert losses(run) == pytest.approx(losses(run.with_name("version_1")), rel=1e-3)


@pytest.mark.parametrize(
    ("started", "what"),
    [
        ({"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "2", "RANK": "0"}, "the world size (2)"),
        ({"SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2"}, "tasks per node configured in SLURM"),
    ],
    ids=["torchrun", "SLURM"],
)
def test_another_number_of_processes_than_was_started_is_refused(
    mnist_lit: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    started: dict[str, str],
    what: str,
) -> None:
    slurm = {"SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0", "LOCAL_RANK": "0"}
    for name, value in (slurm | started).items():
        monkeypatch.setenv(name, value)
    outcome = mnist_lit("fit", *SMALL)
    assert outcome.status == 2
    lines = outcome.err.splitlines()
    assert lines[0].startswith("error: You set `devices=1`")
    assert what in lines[0]
    assert lines[1].startswith("Set --trainer.devices to the number of processes per machine")
    assert len(lines) == 2
    assert not (tmp_path / "lightning_logs").exists()


def test_another_checkpoint_than_the_first_machines_is_refused(run: Path) -> None:
    last = run / "checkpoints" / "last.ckpt"
    for first in (sha256(last), "0" * 64):
        strategy = SimpleNamespace(broadcast=lambda own, first=first: first)
        trainer: Any = SimpleNamespace(ckpt_path=last, strategy=strategy)
        with nullcontext() if first == sha256(last) else pytest.raises(InputError, match="Copy"):
            ProcessSync().on_load_checkpoint(trainer, LightningModule(), {})


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (
            RuntimeError(
                "[/torch/third_party/gloo/gloo/transport/tcp/pair.cc:545] Read error "
                "[127.0.0.1]:1: Connection reset by peer. This is typically caused by a remote one."
            ),
            "Read error [127.0.0.1]:1: Connection reset by peer. This is typically caused by a "
            "remote one",
        ),
        (
            torch.distributed.DistStoreError("Timed out after 61 seconds. 1/2 clients joined."),
            "Timed out after 61 seconds. 1/2 clients joined",
        ),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), None),
        (ValueError("gloo"), None),
    ],
)
def test_a_broken_connection_is_said_in_one_line(error: Any, why: str | None) -> None:
    said = why and f"The connection between the processes broke: {why}."
    assert broken_connection(error) == said


# What SLURM does for one machine with two tasks: srun starts them, scontrol requeue ends them.
SRUN = """#!/bin/bash
rm -f tasks
shift  # --kill-on-bad-exit=1
for ((i = 0; i < SLURM_NTASKS; i++)); do
    SLURM_PROCID=$i SLURM_LOCALID=$i "$@" &
    echo $! >> tasks
done
for task in $(cat tasks); do wait $task || status=$?; done
exit ${status:-0}
"""
SCONTROL = """#!/bin/bash
[ "$*" = "requeue 4711" ] && kill -TERM $(cat tasks)
"""


@pytest.mark.slow
def test_the_script_for_slurm_trains_is_requeued_and_goes_on(
    tmp_path: Path, data_dir: Path
) -> None:
    document = (CONFIGS.parent / "docs" / "devices.md").read_text("utf-8")
    [script] = re.findall(r"^```bash\n(#!/bin/bash\n.*?)^```", document, re.M | re.S)
    (tmp_path / "digits.sbatch").write_text(script)
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    config = yaml.safe_load((CONFIGS / "default.yaml").read_text())
    config["trainer"] = {"max_epochs": 2, "limit_train_batches": 20, "limit_val_batches": 2}
    config["trainer"]["callbacks"] = [{"class_path": "fault.Fault"}]
    config["data"]["data_dir"] = str(data_dir)
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "default.yaml").write_text(yaml.safe_dump(config))
    (tmp_path / "configs" / "ddp.yaml").symlink_to(CONFIGS / "ddp.yaml")
    path = f"{tmp_path}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    slurm = {"SLURM_JOB_ID": "4711", "SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2"}
    slurm |= {"SLURM_NNODES": "1", "SLURM_NODEID": "0", "MASTER_ADDR": "127.0.0.1", "PATH": path}

    def job() -> subprocess.Popen[str]:
        environment = os.environ | slurm | {"MASTER_PORT": str(free_port())}
        pipe = subprocess.PIPE
        command = ["bash", "digits.sbatch"]
        return subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdout=pipe, stderr=pipe, text=True
        )

    first = job()
    fault(tmp_path, 0, signal.SIGUSR1, first.pid)  # where SLURM would say that time is over
    _, out, err = finish(first, 1800)
    run = tmp_path / "lightning_logs" / "job_4711" / "version_0"
    assert out.count("Run: lightning_logs/job_4711/version_0\n") == 1
    assert "Stopped by SIGTERM.\n" in err
    assert json.loads((run / "status.json").read_text())["status"] == "stopped"
    code, out, err = finish(job(), 1800)
    assert (code, err) == (0, "")
    assert "Resuming at the start of epoch 2\n" in out
    assert json.loads((run / "status.json").read_text())["status"] == "finished"
    assert [path.name for path in run.parent.iterdir()] == ["version_0"]
