import math
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import torch
from matplotlib import pyplot
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image
from torch import Tensor
from torch.nn.functional import cross_entropy
from torchvision.datasets import MNIST

from mnist_lit.data import MNISTDataModule
from mnist_lit.module import DigitClassifier
from tests.conftest import Command

SVG = "{http://www.w3.org/2000/svg}"
BLUE, VERMILION = "#0072b2", "#d55e00"
NO_WINDOW = "There is no display: write the figure to a file with --output FILE.png."


@pytest.fixture(autouse=True)
def no_display(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the tests from opening windows on the screen of whoever runs them."""
    pyplot.switch_backend("agg")


def logits_of(checkpoint: Path, images: Tensor) -> Tensor:
    model = DigitClassifier.load_from_checkpoint(checkpoint, map_location="cpu", weights_only=True)
    with torch.no_grad():
        logits: Tensor = model.eval()(images.view(-1, 1, 28, 28) / 255)
    return logits


def change(checkpoint: Path, **parts: object) -> None:
    state = torch.load(checkpoint, weights_only=True)
    for name, values in parts.items():
        state[name] = state[name] | values
    torch.save(state, checkpoint)


def table(out: str, columns: int) -> list[list[str]]:
    """The rows of numbers, but for a mark at their ends."""
    rows = [line.split() for line in out.splitlines()]
    return [
        row[:columns] for row in rows if len(row) in (columns, columns + 1) and row[0].isdigit()
    ]


def test_of_one_image_label_logits_probabilities_and_loss_are_printed(
    mnist_lit: Command, run: Path, data_dir: Path
) -> None:
    mnist = MNIST(data_dir, train=False)
    label = int(mnist.targets[8])
    (logits,) = logits_of(run / "checkpoints" / "best.ckpt", mnist.data[8])
    probabilities = logits.softmax(dim=0)
    loss = cross_entropy(logits, mnist.targets[8])

    outcome = mnist_lit("show", "--split=test", "--index=8", "--ckpt_path=best")

    assert outcome.status == 0
    prediction = int(logits.argmax())
    answer = [str(prediction), f"{probabilities[prediction]:.2%}", f"{loss:.4f}"]
    wrong = [] if prediction == label else ["wrong"]
    lines = [line.split() for line in outcome.out.splitlines()]
    assert ["8", str(label), *answer, *wrong] in lines
    for digit in range(10):
        mark = ["label"] if digit == label else []
        row = [str(digit), f"{logits[digit]:.4f}", f"{probabilities[digit]:.2%}", *mark]
        assert row in lines
    assert f"-log(probability of {label}) = {loss:.4f} nats" in outcome.out
    assert math.isclose(loss, -math.log(probabilities[label]), rel_tol=1e-4)
    assert lines[0] == NO_WINDOW.split()


def test_a_range_has_a_line_for_each_image_and_marks_the_wrong_ones(
    mnist_lit: Command, run: Path, data_dir: Path
) -> None:
    mnist = MNIST(data_dir, train=False)
    labels = mnist.targets[10:40]
    logits = logits_of(run / "checkpoints" / "last.ckpt", mnist.data[10:40])
    losses = cross_entropy(logits, labels, reduction="none")
    probabilities, predictions = logits.softmax(dim=1).max(dim=1)

    outcome = mnist_lit("show", "--split=test", "--index=10:40", "--ckpt_path=last")

    lines = [line.split() for line in outcome.out.splitlines()[3:]]
    assert [line[:3] for line in lines] == [
        [str(10 + i), str(int(labels[i])), str(int(predictions[i]))] for i in range(30)
    ]
    assert [line[3:5] for line in lines] == [
        [f"{probabilities[i]:.2%}", f"{losses[i]:.4f}"] for i in range(30)
    ]
    assert [line[5:] == ["wrong"] for line in lines] == (predictions != labels).tolist()
    assert any(line[5:] for line in lines)


def test_without_a_checkpoint_the_first_training_image_and_its_label(
    mnist_lit: Command, data_dir: Path
) -> None:
    outcome = mnist_lit("show", f"--data_dir={data_dir}")
    assert outcome.status == 0
    assert outcome.out == f"{NO_WINDOW}\ntrain image  label\n          0      5\n"


def misclassified(checkpoint: Path, images: Tensor, labels: Tensor) -> list[int]:
    """The indices of the errors, highest loss first."""
    logits = logits_of(checkpoint, images)
    losses = cross_entropy(logits, labels, reduction="none")
    wrong = (logits.argmax(dim=1) != labels).nonzero().flatten().tolist()
    return sorted(wrong, key=lambda index: -losses[index])


def test_the_worst_errors_are_the_misclassified_test_images_highest_loss_first(
    mnist_lit: Command, run: Path, data_dir: Path
) -> None:
    mnist = MNIST(data_dir, train=False)
    worst = misclassified(run / "checkpoints" / "best.ckpt", mnist.data, mnist.targets)
    outcome = mnist_lit("show", "--wrong", "--ckpt_path=best")
    count = f"{len(worst):,} of 10,000 test images are misclassified"
    assert f"\n{count}; showing errors 1 to 16 by loss.\n" in outcome.out
    rows = table(outcome.out, 5)
    assert [int(row[0]) for row in rows] == worst[:16]
    again = mnist_lit("show", "--split=test", f"--index={worst[2]}", "--ckpt_path=best")
    assert rows[2] in table(again.out, 5)  # its index finds the image


def test_index_counts_the_errors(mnist_lit: Command, run: Path, data_dir: Path) -> None:
    checkpoint = run / "checkpoints" / "best.ckpt"
    settings: dict[str, Any] = {"data_dir": str(data_dir), "val_size": 200, "split_seed": 8}
    change(checkpoint, config={"data": settings})
    data = MNISTDataModule(**settings)
    data.setup("validate")
    val_set: Any = data.val_set
    images, labels = (torch.stack(part) for part in zip(*val_set, strict=True))
    worst = misclassified(checkpoint, images, labels)
    all_of_them = len(worst)
    assert all_of_them > 10
    for index, shown, words in (
        (f"0:{all_of_them}", worst, f"showing errors 1 to {all_of_them} by loss"),
        ("2:5", worst[2:5], "showing errors 3 to 5 by loss"),
        (f"4:{all_of_them + 50}", worst[4:], f"showing errors 5 to {all_of_them} by loss"),
        (f"{all_of_them}", [], f"none left at --index {all_of_them}"),
    ):
        options = ["--wrong", "--split=val", f"--index={index}", f"--ckpt_path={checkpoint}"]
        outcome = mnist_lit("show", *options)
        assert outcome.status == 0
        assert f"\n{all_of_them} of 200 val images are misclassified; {words}.\n" in outcome.out
        assert [int(row[0]) for row in table(outcome.out, 5)] == shown


def test_val_is_the_split_of_the_checkpoints_run(
    mnist_lit: Command, run: Path, data_dir: Path
) -> None:
    checkpoint = run / "checkpoints" / "best.ckpt"
    settings: dict[str, Any] = {"data_dir": str(data_dir), "val_size": 30, "split_seed": 5}
    state = torch.load(checkpoint, weights_only=True)
    change(checkpoint, config={"data": state["config"]["data"] | settings})
    data = MNISTDataModule(**settings)
    data.setup("fit")
    val_set: Any = data.val_set
    labels = [str(int(label)) for _, label in val_set]

    outcome = mnist_lit("show", "--split=val", "--index=0:30", f"--ckpt_path={checkpoint}")
    assert [row[1] for row in table(outcome.out, 5)] == labels
    outcome = mnist_lit("show", "--split=val", "--index=30", f"--ckpt_path={checkpoint}")
    assert outcome.err == "error: There is no val image 30.\n--index goes from 0 to 29.\n"
    outcome = mnist_lit("show", "--split=val", "--wrong", f"--ckpt_path={checkpoint}")
    assert "of 30 val images are misclassified" in outcome.out

    change(checkpoint, config={"data": settings | {"val_size": 0}})
    for wrong in ([], ["--wrong"]):
        outcome = mnist_lit("show", "--split=val", *wrong, f"--ckpt_path={checkpoint}")
        assert outcome.status == 2
        assert outcome.err == "error: There are no val images.\nChoose another --split.\n"


@pytest.mark.parametrize("index", ["0", "0:3"])
@pytest.mark.parametrize("checkpoint", [[], ["--ckpt_path=best"]])
def test_png_and_svg_are_written(
    mnist_lit: Command, run: Path, data_dir: Path, tmp_path: Path, index: str, checkpoint: list[str]
) -> None:
    for name in ("a.PNG", "new/a.svg"):
        options = [f"--index={index}", *checkpoint, f"--data_dir={data_dir}", f"--output={name}"]
        outcome = mnist_lit("show", *options)
        assert outcome.status == 0, outcome.err
        assert outcome.out.splitlines()[-1] == f"Figure: {name}"
        first = (tmp_path / name).read_bytes()
        mnist_lit("show", *options)
        assert (tmp_path / name).read_bytes() == first
    with Image.open(tmp_path / "a.PNG") as image:
        image.load()
        assert image.format == "PNG"
        assert min(image.size) >= 180
    svg = ElementTree.parse(tmp_path / "new" / "a.svg")
    texts = "".join("".join(each.itertext()) for each in svg.iter(f"{SVG}text"))
    if checkpoint:
        assert "loss" in texts
    else:
        assert "label" in texts
        assert "5" in texts
    assert not list(tmp_path.rglob("*.partial"))


@pytest.mark.parametrize(
    ("options", "what", "what_to_do"),
    [
        (["--output=a.jpg"], "--output a.jpg is not an image file.", ".png or .svg."),
        (["--output=a"], "--output a is not an image file.", ".png or .svg."),
        (["--output=folder.png"], "folder.png cannot be written", "another directory"),
        (["--index=-1"], "--index -1 is not an index.", "or a range: 0:16."),
        (["--index=3:"], "--index 3: is not an index.", "or a range: 0:16."),
        (["--index=9:3"], "--index 9:3 selects 0 images.", "Select 1 to 100"),
        (["--index=0:101"], "--index 0:101 selects 101 images.", "Select 1 to 100"),
        (["--index=55000"], "There is no train image 55000.", "from 0 to 54999."),
        (
            ["--split=test", "--index=9990:10001"],
            "There is no test image 10000.",
            "from 0 to 9999.",
        ),
        (["--split=all"], "invalid choice: 'all'", "show --help"),
        (["--wrong"], "--wrong needs a checkpoint", "--ckpt_path best"),
        (["--ckpt_path=no.ckpt"], "There is no checkpoint no.ckpt.", "There are none"),
        (["--ckpt_path=best"], "No run in lightning_logs has a best checkpoint.", "Train one"),
        (["--ckpt_path=file"], "file is not a checkpoint of this program", "Give one that fit"),
        (["--colors"], "There is no option --colors.", "show --help"),
    ],
)
def test_mistakes_are_reported_in_two_lines(
    mnist_lit: Command,
    data_dir: Path,
    tmp_path: Path,
    options: list[str],
    what: str,
    what_to_do: str,
) -> None:
    (tmp_path / "file").write_text("no checkpoint")
    (tmp_path / "folder.png").mkdir()
    outcome = mnist_lit("show", f"--data_dir={data_dir}", *options)
    assert outcome.status == 2
    first, second = outcome.err.splitlines()
    assert first.startswith("error: ")
    assert what in first
    assert what_to_do in second
    assert {path.name for path in tmp_path.iterdir()} == {"file", "folder.png"}


def test_a_network_in_the_users_own_file(
    mnist_lit: Command, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = (
        "from torch import nn\nclass Net(nn.Sequential):\n    def __init__(self, width: int = 10):"
    )
    code += "\n        super().__init__(nn.Flatten(), nn.Linear(784, width))\n"
    checkpoint = run / "checkpoints" / "best.ckpt"
    state = torch.load(checkpoint, weights_only=True)
    state["hyper_parameters"]["network"] = {"class_path": "shown_net.Net"}
    state["state_dict"] = {
        "network.1.weight": torch.zeros(10, 784),
        "network.1.bias": torch.arange(10.0),
    }
    torch.save(state, checkpoint)
    monkeypatch.setattr(sys, "path", [*sys.path])
    outcome = mnist_lit("show", f"--ckpt_path={checkpoint}")
    assert outcome.status == 2
    first, second = outcome.err.splitlines()
    assert first.endswith("shown_net.Net, for which there is no trusted code here.")
    assert second.startswith("If you trust it, run in the directory of its code")

    (tmp_path / "shown_net.py").write_text(code)
    outcome = mnist_lit("show", f"--ckpt_path={checkpoint}")
    assert outcome.status == 0, outcome.err
    assert "9    9.0000       63.21%" in outcome.out

    change(
        checkpoint,
        hyper_parameters={"network": {"class_path": "shown_net.Net", "init_args": {"width": 9}}},
    )
    outcome = mnist_lit("show", f"--ckpt_path={checkpoint}")
    assert outcome.status == 2
    first, second = outcome.err.splitlines()
    assert first.endswith("network.1.bias is (10,) in the checkpoint and (9,) in the network.")
    assert second == "This directory must contain the network's code as it was when trained."


def test_on_a_display_a_window_shows_the_figure(
    mnist_lit: Command, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[Any] = []
    monkeypatch.setattr("matplotlib.get_backend", lambda: "tkagg")
    monkeypatch.setattr(FigureCanvasAgg, "required_interactive_framework", "tk")
    monkeypatch.setattr(
        pyplot, "show", lambda: shown.extend(map(pyplot.figure, pyplot.get_fignums()))
    )
    outcome = mnist_lit("show", "--index=0:3", f"--data_dir={data_dir}")
    assert outcome.status == 0
    assert "no display" not in outcome.out
    (figure,) = shown
    assert [text.get_text() for text in figure.axes[0].texts] == ["5", "0", "4"]
    assert not pyplot.get_fignums()


def test_a_toolkit_that_cannot_start_counts_as_no_display(
    mnist_lit: Command, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**_: object) -> None:
        raise RuntimeError("no toolkit")

    monkeypatch.setattr("matplotlib.get_backend", lambda: "tkagg")
    monkeypatch.setattr(pyplot, "figure", fail)
    outcome = mnist_lit("show", f"--data_dir={data_dir}")
    assert outcome.status == 0
    assert outcome.out.splitlines()[-1] == NO_WINDOW


def test_a_missing_display_is_reported_before_the_work_begins(
    mnist_lit: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "mnist_lit.show.command.instantiate", lambda *_: pytest.fail("works already")
    )
    with pytest.raises(pytest.fail.Exception, match="works already"):
        mnist_lit("show")
    monkeypatch.setattr("builtins.print", lambda *words, **_: pytest.fail(words[0]))
    with pytest.raises(pytest.fail.Exception, match="There is no display"):
        mnist_lit("show")
