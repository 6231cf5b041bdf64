"""What a run writes for TensorBoard, read back."""

import json
from collections import Counter
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.compat.proto.summary_pb2 import Summary

from mnist_lit.metrics import SCALARS
from tests.conftest import SMALL, Command

pytestmark = pytest.mark.usefixtures("pictures")

PICTURES = (
    *("digits", "confusion_matrix", "accuracy_by_digit", "worst_errors", "reliability"),
    "filters",
)


def summaries(run: Path) -> list[tuple[int, Summary.Value]]:
    """Everything in the run's event files: step and value."""
    events = [
        event for path in sorted(run.glob("events*")) for event in EventFileLoader(str(path)).Load()
    ]
    assert sum(event.HasField("graph_def") for event in events) == 1
    return [(event.step, value) for event in events for value in event.summary.value]


def counts(run: Path) -> dict[str, int]:
    return Counter(value.tag for _, value in summaries(run))


FIT = {
    **dict.fromkeys(("train/loss", "train/accuracy", "train/gradient_norm"), 6),
    **dict.fromkeys(("train/loss_epoch", "train/accuracy_epoch", "train/images_per_second"), 2),
    **dict.fromkeys((f"val/{name}" for name in SCALARS), 2),
    "lr-Adam": 5,
    "train/inputs": 1,
    **dict.fromkeys((f"val/{name}" for name in PICTURES), 2),
    **dict.fromkeys((f"val/precision_recall/{digit}" for digit in range(10)), 2),
    **dict.fromkeys(("__run_graph__", "step1"), 1),
    "configuration/text_summary": 1,
    "environment/text_summary": 1,
}
TEST = {
    **dict.fromkeys((f"test/{name}" for name in SCALARS), 1),
    **dict.fromkeys((f"test/{name}" for name in PICTURES), 1),
    **dict.fromkeys((f"test/precision_recall/{digit}" for digit in range(10)), 1),
}


def test_a_fit_writes_these_tags_this_often(finished: Path) -> None:
    found = counts(finished / "lightning_logs" / "version_0")
    assert found.pop("epoch") > 2  # beside each step that is logged
    assert found == FIT


def test_validation_figures_are_logged_at_the_ends_of_epochs(finished: Path) -> None:
    values = summaries(finished / "lightning_logs" / "version_0")
    for tag in ("val/confusion_matrix", "val/digits", "val/precision_recall/3", "val/loss"):
        assert [step for step, value in values if value.tag == tag] == [19, 39]


def test_a_test_adds_its_figures_to_the_run_and_writes_png_files(
    mnist_lit: Command, run: Path, data_dir: Path
) -> None:
    before = counts(run)
    for _ in range(2):  # the second replaces the first
        outcome = mnist_lit("test", "--ckpt_path=last", "--trainer.limit_test_batches=4")
        assert f"Figures: {run.relative_to(Path.cwd())}/test_*.png\n" in outcome.out
    assert counts(run) == {**before, **TEST}
    assert {step for step, value in summaries(run) if value.tag in TEST} == {39}
    assert {path.name for path in run.glob("*.png")} == {f"test_{name}.png" for name in PICTURES}
    for path in run.glob("*.png"):
        with Image.open(path) as image:
            image.load()
            assert image.width == 700
    [loss] = [value for _, value in summaries(run) if value.tag == "test/loss"]
    expected = json.loads((run / "test.json").read_text())["loss"]
    assert loss.tensor.float_val[0] == pytest.approx(expected)


def test_the_projector_gets_a_thousand_digits_with_their_images(
    mnist_lit: Command, run: Path, data_dir: Path
) -> None:
    mnist_lit("test", "--ckpt_path=best", "--trainer.limit_test_batches=4")
    assert 'tensor_path: "00000/test/tensors.tsv"' in (run / "projector_config.pbtxt").read_text()
    table = (run / "00000/test/metadata.tsv").read_text().splitlines()
    assert table[0] == "digit\tprediction\twrong"
    assert [row.split("\t")[0] for row in table[1:6]] == list("72104")
    assert len(table) == 1001
    wrong = json.loads((run / "test.json").read_text())["wrong"]
    marked = [place for place, row in enumerate(table[1:]) if row.endswith("1")]
    assert marked == [place for place in wrong if place < 1000]
    assert len((run / "00000/test/tensors.tsv").read_text().splitlines()) == 1000
    with Image.open(run / "00000/test/sprite.png") as sprite:
        assert sprite.size == (32 * 28, 32 * 28)


def test_the_text_holds_configuration_and_environment(finished: Path) -> None:
    run = finished / "lightning_logs" / "version_0"
    texts = {
        value.tag: value.tensor.string_val[0].decode()
        for _, value in summaries(run)
        if value.tag.endswith("text_summary")
    }
    configuration = texts["configuration/text_summary"]
    assert configuration == f"```yaml\n{(run / 'config.yaml').read_text()}```"
    environment = texts["environment/text_summary"]
    assert f"| torch | {version('torch')} |" in environment
    assert "| parameters | 28,938 |" in environment
    for name in ("command", "commit", "device", "python", "lightning"):
        assert f"| {name} | " in environment


def test_drawing_figures_does_not_change_the_training(
    mnist_lit: Command, run: Path, tmp_path: Path, data_dir: Path
) -> None:
    config = ["fit", f"--config={run / 'config.yaml'}", "--trainer.logger=false"]
    mnist_lit(*config, f"--trainer.default_root_dir={tmp_path / 'plain'}")
    [plain] = (tmp_path / "plain").rglob("last.ckpt")
    weights = [torch.load(path)["state_dict"] for path in (plain, run / "checkpoints/last.ckpt")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_a_network_that_cannot_be_traced_trains_without_a_graph(
    mnist_lit: Command, tmp_path: Path, data_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("WARNING", "mnist_lit")  # a server in the same process raises the root's
    (tmp_path / "odd.py").write_text(
        "from torch import nn\n"
        "class Odd(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.layer = nn.Linear(784, 10)\n"
        "    def forward(self, images):\n"
        "        if not self.training and len(images) == 1: raise ValueError('odd')\n"
        "        return self.layer(images.flatten(1))\n"
    )
    arguments = [*SMALL, f"--data.data_dir={data_dir}", "--model.network=odd.Odd"]
    outcome = mnist_lit("fit", *arguments)
    assert outcome.status == 0
    assert caplog.messages == ["Cannot add the graph of Odd to TensorBoard: odd"]


def test_a_model_without_errors_has_no_figure_of_errors(
    mnist_lit: Command, run: Path, data_dir: Path
) -> None:
    (run / "test_worst_errors.png").write_text("of an earlier test")
    one = ["--data.eval_batch_size=1", "--trainer.limit_test_batches=1"]
    outcome = mnist_lit("test", "--ckpt_path=best", *one)
    assert json.loads((run / "test.json").read_text())["wrong"] == []
    assert outcome.status == 0, outcome.err
    assert not (run / "test_worst_errors.png").exists()


def test_a_run_that_diverged_can_be_tested(
    mnist_lit: Command, tmp_path: Path, data_dir: Path
) -> None:
    diverging = ["--model.optimizer=torch.optim.SGD", "--model.optimizer.lr=1e30"]
    fit = mnist_lit("fit", *SMALL, f"--data.data_dir={data_dir}", *diverging)
    outcome = mnist_lit("test", "--ckpt_path=last", "--trainer.limit_test_batches=2")
    assert (fit.status, outcome.status, outcome.err) == (0, 0, "")
    run = tmp_path / "lightning_logs" / "version_0"
    results = json.loads((run / "test.json").read_text())
    assert results["loss"] is results["calibration_error"] is None
    assert not (run / "test_reliability.png").exists()
