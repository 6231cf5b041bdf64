"""What the libraries still make necessary; a test that fails names what can be removed."""

import platform
import re
import resource
import shutil
import subprocess
import sys
import threading
import warnings
from datetime import timedelta
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import torch.distributed as dist
from lightning.fabric.utilities.warnings import PossibleUserWarning
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import model_checkpoint
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.summary.writer.event_file_writer import EventFileWriter
from torch import zeros

from mnist_lit.errors import InputError
from mnist_lit.module import DigitClassifier
from mnist_lit.sweep.settings import settings_of
from mnist_lit.training import environment
from mnist_lit.training.environment import IGNORED_WARNINGS, broken_connection
from mnist_lit.training.processes import ProcessSync
from mnist_lit.training.trainer import RunTrainer
from tests.conftest import Command

ON_GPUS = ".*TensorFloat32 tensor cores .* not enabled"


def test_lightning_still_raises_the_warnings_that_are_ignored(
    mnist_lit: Command, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "IGNORED_WARNINGS", ())
    monkeypatch.setattr(environment, "disable_possible_user_warnings", lambda: None)
    model_checkpoint.warning_cache.clear()  # or an earlier warning would not come again
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        moved = f"--ckpt_path={run / 'checkpoints/last.ckpt'}"
        assert mnist_lit("fit", moved, "--trainer.max_epochs=3").status == 0  # in a new directory
        assert mnist_lit("fit", "--ckpt_path=last", "--trainer.max_epochs=4").status == 0  # in it
        test = mnist_lit("test", "--ckpt_path=best", "--trainer.limit_test_batches=1")
        assert test.status == 0
        config, rare = f"--config={run / 'config.yaml'}", "--trainer.log_every_n_steps=50"
        assert mnist_lit("fit", config, "--trainer.max_steps=1", rare).status == 0
    texts = [str(each.message) for each in caught]
    for message in set(IGNORED_WARNINGS) - {ON_GPUS}:
        assert any(re.match(message, text) for text in texts), message
    assert any(each.category is PossibleUserWarning for each in caught)


def test_lightning_still_sets_what_torch_asks_nvml_for() -> None:
    code = "import os, lightning.pytorch; print(os.environ['PYTORCH_NVML_BASED_CUDA_CHECK'])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "1\n"


def test_jsonargparse_still_does_not_know_the_type_of_torchvisions_options() -> None:
    code = (
        "from numbers import Number\n"
        "from jsonargparse import ArgumentParser\n"
        "parser = ArgumentParser(exit_on_error=False)\n"
        "parser.add_argument('--degrees', type=Number)\n"
        "parser.parse_args(['--degrees=10'])\n"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert process.returncode != 0


def test_tensorboard_still_raises_an_error_of_its_writer_in_a_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", seen.append)
    writer = EventFileWriter(str(tmp_path / "events"))
    shutil.rmtree(tmp_path / "events")

    def write() -> None:
        for _ in range(100):
            writer.add_event(Event(step=1))
            writer.flush()

    with pytest.raises(FileNotFoundError):
        write()
    assert [args.exc_type for args in seen] == [FileNotFoundError]


def test_a_limit_of_one_batch_is_not_taken_for_all_batches() -> None:
    for option in ("limit_train_batches", "overfit_batches"):
        for text, value in (("1", 1), ("1.0", 1.0)):
            parsed = settings_of([f"--trainer.{option}={text}"])["trainer"][option]
            assert (parsed, type(parsed)) == (value, type(value))
    ours = get_type_hints(RunTrainer.__init__)
    for name, hint in get_type_hints(Trainer.__init__).items():
        if {int, float} <= set(get_args(hint)) and name != "gradient_clip_val":
            assert get_args(ours[name])[:2] == (int, float), name


def test_processes_that_this_one_has_launched_end_with_it() -> None:
    trainer = Trainer(accelerator="cpu", devices=2, strategy="ddp", logger=False)
    launched = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    launcher: Any = trainer.strategy.launcher
    launcher.procs.append(launched)
    ProcessSync().on_exception(trainer, DigitClassifier(), InputError("what", "what to do"))
    assert launched.wait(60) != 0
    assert launcher.procs == []


def test_gloo_still_raises_errors_of_no_type_of_their_own() -> None:
    store = dist.HashStore()  # type: ignore[attr-defined]
    groups: list[Any] = []

    def join(rank: int) -> None:
        groups.append(dist.ProcessGroupGloo(store, rank, 2, timedelta(seconds=5)))

    threads = [threading.Thread(target=join, args=(rank,)) for rank in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with pytest.raises(RuntimeError) as caught:
        groups[0].recv([zeros(1)], 1 - groups[0].rank(), 0).wait(timedelta(milliseconds=10))
    assert type(caught.value) is RuntimeError
    assert str(broken_connection(caught.value)).startswith(
        "The connection between the processes broke: Timed out "
    )


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="this is a setting of glibc")
def test_the_memory_of_tensors_is_reused_instead_of_mapped_anew() -> None:
    environment.keep_freed_memory()
    faults = []
    for _ in range(20):  # each time 8 tensors of 780 pages
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        [zeros(800_000) for _ in range(8)]
        faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    assert sum(faults[1:]) < 10_000
