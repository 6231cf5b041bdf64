"""The detector's commands, called in-process: fit, resume, test, export, pages."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from mnist_lit.detection.__main__ import main
from mnist_lit.detection.data import PageBatch
from mnist_lit.detection.export import OUTPUTS, ExportedDetector, trained_network
from mnist_lit.detection.module import DigitDetector
from mnist_lit.reading.reader import open_session
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
    trained: Path, tmp_path: Path, data_dir: Path
) -> None:
    args = [*options(tmp_path, data_dir), "--trainer.max_epochs=2"]
    with pytest.MonkeyPatch.context() as patch:
        step = DigitDetector.training_step

        def interrupted(self: DigitDetector, batch: PageBatch, batch_idx: int) -> Tensor:
            if self.current_epoch == 1:
                raise KeyError("interrupted")
            return step(self, batch, batch_idx)

        patch.setattr(DigitDetector, "training_step", interrupted)
        with pytest.raises(KeyError):
            main(["fit", *args])
    assert main(["fit", *args, f"--ckpt_path={checkpoint(tmp_path)}"]) == 0
    resumed, whole = weights(checkpoint(tmp_path, version=1)), weights(checkpoint(trained))
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)


def test_test_evaluates_a_checkpoint(
    trained: Path, data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = [f"--data.data_dir={data_dir}", "--data.test_pages=4", "--data.num_workers=0"]
    assert main(["test", f"--ckpt_path={checkpoint(trained)}", *args]) == 0
    assert "test/average_precision" in capsys.readouterr().out


def test_random_weights_are_not_evaluated(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["test"]) == 2
    assert "test needs a checkpoint." in capsys.readouterr().err


def test_the_exported_detector_agrees_for_any_size(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "detector.onnx"
    assert main(["export", f"--ckpt_path={checkpoint(trained)}", f"--output={path}"]) == 0
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


def test_pages_writes_a_contact_sheet(tmp_path: Path, data_dir: Path) -> None:
    path = tmp_path / "pages.png"
    args = [f"--output={path}", "--count=4", "--columns=2", "--width=100", "--boxes"]
    assert main(["pages", *args, f"--data.data_dir={data_dir}"]) == 0
    with Image.open(path) as sheet:
        assert sheet.size == (208, 208)
