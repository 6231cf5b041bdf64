"""The detector's commands, called in-process: fit, resume, test, export, pages."""

import signal
from collections.abc import Callable
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from mnist_lit.detection.__main__ import main
from mnist_lit.detection.data import PageBatch
from mnist_lit.detection.export import OUTPUTS, ExportedDetector, trained_network
from mnist_lit.detection.module import DigitDetector
from mnist_lit.errors import InputError
from mnist_lit.reading.models import open_session
from tests.conftest import CONFIGS, weights

SMALL = [
    f"--config={CONFIGS / 'detector.yaml'}",
    "--data.pages=8",
    "--data.val_pages=4",
    "--data.test_pages=4",
    "--data.batch_size=4",
    "--data.num_workers=0",
    "--trainer.precision=32-true",
    "--seed_everything=7",
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, data_dir: Path) -> Path:
    """The directory of a run of two epochs, two steps each."""
    root = tmp_path_factory.mktemp("detector")
    assert main(["fit", *options(root, data_dir), "--trainer.max_epochs=2"]) == 0
    return root


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory, data_dir: Path) -> Path:
    """The directory of the same run, stopped by Ctrl-C in its second epoch.

    What it said is in the file ``err``.
    """
    root = tmp_path_factory.mktemp("stopped")
    step = DigitDetector.training_step

    def interrupted(self: DigitDetector, batch: PageBatch, batch_idx: int) -> Tensor:
        if self.current_epoch == 1:
            signal.raise_signal(signal.SIGINT)
        return step(self, batch, batch_idx)

    with pytest.MonkeyPatch.context() as patch, (root / "err").open("w") as err:
        patch.setattr(DigitDetector, "training_step", interrupted)
        with redirect_stderr(err):
            assert main(["fit", *options(root, data_dir), "--trainer.max_epochs=2"]) == 130
    return root


def options(root: Path, data_dir: Path) -> list[str]:
    return [*SMALL, f"--data.data_dir={data_dir}", f"--trainer.default_root_dir={root}"]


def checkpoint(root: Path, name: str = "last", version: int = 0) -> Path:
    return root / f"lightning_logs/version_{version}/checkpoints/{name}.ckpt"


def test_fit_leaves_checkpoints_configuration_and_pictures(trained: Path) -> None:
    run = trained / "lightning_logs/version_0"
    assert checkpoint(trained).is_file()
    assert checkpoint(trained, "best").is_file()
    assert (run / "config.yaml").is_file()
    events = b"".join(path.read_bytes() for path in run.glob("events*"))
    assert b"val/pages" in events
    assert b"val/average_precision" in events


def test_fit_prints_a_line_for_each_epoch(
    tmp_path: Path, data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = [*options(tmp_path, data_dir), "--trainer.max_epochs=1", "--trainer.limit_val_batches=1"]
    assert main(["fit", *args, "--trainer.limit_train_batches=1"]) == 0
    (line,) = [each for each in capsys.readouterr().out.splitlines() if "epoch" in each]
    assert line.startswith("epoch 1/1  train/loss ")
    assert "val/average_precision" in line


def test_a_resumed_run_equals_the_uninterrupted_one(
    trained: Path, stopped: Path, tmp_path: Path, data_dir: Path
) -> None:
    args = [*options(tmp_path, data_dir), "--trainer.max_epochs=2"]
    assert main(["fit", *args, f"--ckpt_path={checkpoint(stopped)}"]) == 0
    resumed, whole = weights(checkpoint(tmp_path)), weights(checkpoint(trained))
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)


def test_test_evaluates_a_checkpoint(
    trained: Path, data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = [f"--data.data_dir={data_dir}", "--data.test_pages=4", "--data.num_workers=0"]
    assert main(["test", f"--ckpt_path={checkpoint(trained)}", *args]) == 0
    assert "test/average_precision" in capsys.readouterr().out


def test_the_exported_detector_agrees_for_any_size(
    trained: Path,
    tmp_path: Path,
    data_dir: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mnist_lit.detection.calibration.PAGES", 2)
    path = tmp_path / "detector.onnx"
    args = [f"--output={path}", f"--data.data_dir={data_dir}"]
    assert main(["export", f"--ckpt_path={checkpoint(trained)}", *args]) == 0
    assert "671,407 parameters" in capsys.readouterr().out
    session = open_session(path.read_bytes())
    exported = ExportedDetector(trained_network(checkpoint(trained)))
    for n, height, width in ((1, 128, 128), (3, 61, 203), (2, 320, 40)):
        images = torch.rand(n, 1, height, width)
        with torch.inference_mode():
            expected = exported(images)
        for name, found, wanted in zip(
            OUTPUTS, session.run(OUTPUTS, {"images": images.numpy()}), expected, strict=True
        ):
            np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4, err_msg=name)


def test_a_classifiers_checkpoint_is_refused(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = finished / "lightning_logs/version_0/checkpoints/best.ckpt"
    output = tmp_path / "detector.onnx"
    assert main(["export", f"--ckpt_path={path}", f"--output={output}"]) == 2
    assert "is not a checkpoint of a detector." in capsys.readouterr().err
    assert not output.exists()


@pytest.mark.parametrize(
    ("args", "what", "what_to_do"),
    [
        (["fti"], "Unknown command 'fti'.", "The first argument is one of fit, validate, test"),
        (["fit", "--model.max_lrr=1"], "There is no option model.max_lrr.", "Did you mean model.m"),
        (["fit", "--model.max_lr=x"], "model.max_lr: ", "All options: python -m mnist_lit.detect"),
        (["fit", "--config=nothing.yaml"], "config: File does not exist", "All options: "),
        (["fit", "--ckpt_path=nothing.ckpt"], "There is no checkpoint nothing.ckpt.", "Give one"),
        (["test"], "test needs a checkpoint.", "Give its file by --ckpt_path FILE."),
        (["export"], "The following arguments are required: --ckpt_path.", "All options: "),
        (["export", "--ckpt_path=a.ckpt", "--output=a.ckpt"], "a.ckpt is not the name of", "Add"),
        (["pages", "--output=x.png", "--count=-3"], "Argument --count: invalid", "All options: "),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_two_lines(
    args: list[str], what: str, what_to_do: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(args) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith(f"error: {what}")
    assert second.startswith(what_to_do)


class Code:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("ran"),)


DAMAGES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "code": lambda state: state.update(more=Code()),
    "a class": lambda state: state["hyper_parameters"].update(max_lr={"class_path": "os.system"}),
    "no weight": lambda state: state["state_dict"].popitem(),
    "no optimizer": lambda state: state.update(optimizer_states=[]),
    "another optimizer": lambda state: state["optimizer_states"][0]["state"][0].update(
        exp_avg=torch.zeros(3)
    ),
    "no loops": lambda state: state.update(loops={}),
    "another length": lambda state: state["lr_schedulers"][0].update(total_steps=7),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_strangers_or_damaged_checkpoint_is_refused(
    stopped: Path,
    tmp_path: Path,
    data_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    damage: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    state = torch.load(checkpoint(stopped), weights_only=True)
    DAMAGES[damage](state)
    torch.save(state, "strange.ckpt")
    args = [*options(tmp_path, data_dir), "--trainer.max_epochs=2"]
    capsys.readouterr()
    assert main(["fit", *args, "--ckpt_path=strange.ckpt"]) == 2
    first, _ = capsys.readouterr().err.splitlines()
    assert first.startswith("error: strange.ckpt") or "steps in the checkpoint" in first
    assert not Path("ran").exists()


def test_a_stopped_training_says_how_to_resume_and_exits_with_130(stopped: Path) -> None:
    said = (stopped / "err").read_text().splitlines()
    assert said[0].startswith("To resume: python -m mnist_lit.detection fit [options] --ckpt_path ")
    assert said[0].endswith("version_0/checkpoints/last.ckpt")
    assert said[1:] == ["Stopped by SIGINT."]


def test_a_finished_or_changed_training_is_not_resumed(
    trained: Path, data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    resume = ["fit", *options(trained, data_dir), f"--ckpt_path={checkpoint(trained)}"]
    assert main([*resume, "--trainer.max_epochs=2"]) == 2
    assert "is finished: max_epochs is 2." in capsys.readouterr().err
    assert main([*resume, "--trainer.max_epochs=3", "--model.max_lr=0.1"]) == 2
    assert "model.max_lr is 0.002 in the checkpoint and 0.1" in capsys.readouterr().err
    for option, what in {
        "--seed_everything=8": "seed_everything is 7 in the checkpoint and 8 in your options.",
        "--data.batch_size=2": "data.batch_size is 4 in the checkpoint and 2 in your options.",
    }.items():
        assert main([*resume, "--trainer.max_epochs=3", option]) == 2
        assert what in capsys.readouterr().err


def test_a_training_without_an_end_is_refused(
    tmp_path: Path, data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", *options(tmp_path, data_dir), "--trainer.max_epochs=-1"]) == 2
    what = "error: The learning rate's schedule needs the length of the training."
    assert capsys.readouterr().err.splitlines() == [what, "Set trainer.max_epochs."]


def test_load_from_checkpoint_verifies_the_file(trained: Path, tmp_path: Path) -> None:
    model = DigitDetector.load_from_checkpoint(checkpoint(trained))
    assert model.hparams["max_lr"] == 0.002
    state = torch.load(checkpoint(trained), weights_only=True)
    state["hyper_parameters"]["warmup"] = {"class_path": "os.system"}
    torch.save(state, tmp_path / "strange.ckpt")
    with pytest.raises(InputError, match="no trusted code"):
        DigitDetector.load_from_checkpoint(tmp_path / "strange.ckpt")


def test_pages_writes_a_contact_sheet(tmp_path: Path, data_dir: Path) -> None:
    path = tmp_path / "pages.png"
    args = [f"--output={path}", "--count=3", "--columns=2", "--width=100", "--boxes"]
    assert main(["pages", *args, f"--data.data_dir={data_dir}"]) == 0
    with Image.open(path) as sheet:
        assert sheet.size == (208, 208)
        assert sheet.convert("L").crop((104, 104, 208, 208)).getextrema() == (255, 255)
