import hashlib
import json
import re
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, scaled_dot_product_attention
from torchvision.datasets import MNIST

from mnist_lit import __version__
from mnist_lit.export.calibration import MIN_THRESHOLD, default_threshold, fitted_temperature
from mnist_lit.export.command import onnx_model
from mnist_lit.module import DigitClassifier
from mnist_lit.networks import SpeedrunCNN, StrongCNN, TutorialCNN
from mnist_lit.reading.onnx_check import check
from tests.conftest import Command


def change(checkpoint: Path, **parts: dict[str, object]) -> None:
    """Replace entries of a checkpoint's parts."""
    state = torch.load(checkpoint, weights_only=True)
    for name, values in parts.items():
        state[name] = state[name] | values
    torch.save(state, checkpoint)


def notes(model: Path) -> dict[str, str]:
    return {each.key: each.value for each in onnx.load(model).metadata_props}


def nll(labels: Tensor, logits: Tensor, temperature: float) -> float:
    return cross_entropy(logits.double() / temperature, labels).item()


@pytest.fixture
def answers() -> tuple[Tensor, Tensor]:
    """Labels and logits of a network that is sure of itself, and wrong now and then."""
    generator = torch.Generator().manual_seed(3)
    labels = torch.randint(10, (1000,), generator=generator)
    logits = torch.randn(1000, 10, generator=generator)
    logits[torch.arange(1000), labels] += 2
    return labels, 3 * logits


@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_any_number_of_images_gets_the_checkpoints_answers(
    finished: Path, exported: Path, batch_size: int
) -> None:
    model = DigitClassifier.load_from_checkpoint(
        finished / "lightning_logs/version_0/checkpoints/best.ckpt",
        map_location="cpu",
        weights_only=True,
    ).eval()
    session = onnxruntime.InferenceSession(exported)
    images = torch.rand(batch_size, 1, 28, 28, generator=torch.Generator().manual_seed(1))
    logits, probabilities = session.run(None, {"images": images.numpy()})
    with torch.no_grad():
        expected = model(images)
    assert torch.allclose(torch.from_numpy(logits), expected, atol=1e-4)
    calibrated = (expected / float(notes(exported)["temperature"])).softmax(dim=1)
    assert torch.allclose(torch.from_numpy(probabilities), calibrated, atol=1e-5)


def test_one_file_holds_all_and_names_no_place_of_this_machine(exported: Path) -> None:
    assert [path.name for path in exported.parent.iterdir()] == ["digits.onnx"]
    onnx.checker.check_model(exported, full_check=True)
    content = exported.read_bytes()
    assert len(content) < 125_000  # 28,938 parameters of 4 bytes, and little else
    assert b".py" not in content
    assert str(exported.parent.parent).encode() not in content


def test_the_metadata_tell_where_the_model_comes_from(
    finished: Path, exported: Path, data_dir: Path
) -> None:
    checkpoint = finished / "lightning_logs/version_0/checkpoints/best.ckpt"
    noted = notes(exported)
    assert noted["version"] == __version__
    assert noted["network"] == "mnist_lit.networks.TutorialCNN"
    assert noted["parameters"] == "28938"
    assert noted["seed"] == "7"
    assert json.loads(noted["labels"]) == list(range(10))
    assert noted["checkpoint_sha256"] == hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    recipe = json.loads(noted["recipe"])
    assert recipe["trainer"]["max_epochs"] == 2
    assert recipe["model"]["optimizer"]["init_args"]["lr"] == 0.001
    assert recipe["data"]["val_size"] == 5000
    assert str(data_dir) not in noted["recipe"]
    model = DigitClassifier.load_from_checkpoint(checkpoint, map_location="cpu", weights_only=True)
    mnist = MNIST(data_dir, train=False)
    with torch.no_grad():
        right = model.eval()(mnist.data[:, None] / 255).argmax(dim=1) == mnist.targets
    assert float(noted["test_accuracy"]) == right.double().mean()
    assert abs(float(noted["val_accuracy"]) - float(noted["test_accuracy"])) < 0.05


def test_the_temperature_makes_the_likelihood_of_the_labels_greatest(
    answers: tuple[Tensor, Tensor],
) -> None:
    labels, logits = answers
    temperature = fitted_temperature(labels, logits)
    assert 1 < temperature < 5
    least = nll(labels, logits, temperature)
    assert all(nll(labels, logits, factor * temperature) > least for factor in (0.99, 1.01))
    assert fitted_temperature(labels, 2 * logits) == pytest.approx(2 * temperature, rel=1e-5)
    assert fitted_temperature(labels, 100 * logits) == pytest.approx(10)  # the end of the range


def test_99_percent_of_the_digits_are_more_probable_than_the_threshold(
    answers: tuple[Tensor, Tensor],
) -> None:
    logits = 20 * answers[1]
    confidences = logits.softmax(dim=1).amax(dim=1)
    assert (confidences > default_threshold(logits)).sum() == 990


def test_a_weak_network_doubts_what_is_less_probable_than_all_else_together(
    answers: tuple[Tensor, Tensor],
) -> None:
    _, logits = answers
    assert default_threshold(logits) == MIN_THRESHOLD == 0.5


def test_what_was_made_is_said(mnist_lit: Command, run: Path, data_dir: Path) -> None:
    outcome = mnist_lit("export", "--ckpt_path=best")
    assert (outcome.status, outcome.err) == (0, "")
    noted = notes(Path("digits.onnx"))
    kilobytes = Path("digits.onnx").stat().st_size / 1000
    lines = outcome.out.splitlines()
    assert lines[0] == "Checkpoint: lightning_logs/version_0/checkpoints/best.ckpt"
    assert lines[1] == f"Model: digits.onnx, {kilobytes:.0f} kB"
    assert lines[2].split(maxsplit=1)[1] == "mnist_lit.networks.TutorialCNN, 28,938 parameters"
    assert lines[3].split() == ["test", "accuracy", f"{float(noted['test_accuracy']):.2%}"]
    agreement = r"agreement +all predictions equal, logits within \S+, probabilities within \S+"
    assert re.fullmatch(agreement, lines[4])
    assert f"{float(noted['temperature']):.4f}, fitted to the 5,000 validation" in lines[5]
    assert (
        f"{float(noted['threshold']):.4f}, exceeded by fewer than 99% of the validation" in lines[6]
    )
    assert lines[7] == "To use: python -m mnist_lit read --model digits.onnx PICTURE"
    assert not list(Path().glob(".*.partial"))

    first = Path("digits.onnx").read_bytes()
    change(run / "checkpoints" / "best.ckpt", config={"data": {"val_size": 0}})
    assert mnist_lit("export", "--ckpt_path=best").err == (
        "error: digits.onnx already exists.\nTo replace it: --output digits.onnx\n"
    )
    options = ["--output=digits.onnx", f"--data_dir={data_dir}"]
    outcome = mnist_lit("export", "--ckpt_path=best", *options)
    assert outcome.status == 0, outcome.err
    assert "temperature    1.0000, not fitted: no images were held out" in outcome.out
    assert "threshold      0.5000, the default: no images were held out" in outcome.out
    assert Path("digits.onnx").read_bytes() != first  # it is replaced


def test_a_checkpoint_from_python_is_not_calibrated_on_what_it_may_have_learned(
    mnist_lit: Command, run: Path, data_dir: Path
) -> None:
    checkpoint = run / "checkpoints" / "best.ckpt"
    state = torch.load(checkpoint, weights_only=True)
    del state["config"]
    torch.save(state, checkpoint)
    out = mnist_lit("export", "--ckpt_path=best", f"--data_dir={data_dir}").out
    unknown = "the checkpoint does not say which images were held out"
    assert f"temperature    1.0000, not fitted: {unknown}" in out
    assert f"threshold      0.5000, the default: {unknown}" in out
    assert "val_accuracy" not in notes(Path("digits.onnx"))


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (["best", "--weights=a.onnx"], "a.onnx is not the name of a .ckpt file."),
        (["best", "last", "--weights=a.ckpt"], "--weights writes one checkpoint."),
        (["last", "--weights={last}"], "{last} would replace the checkpoint"),
    ],
)
def test_weights_replace_no_checkpoint_that_can_be_resumed(
    mnist_lit: Command, run: Path, options: list[str], what: str
) -> None:
    last = run / "checkpoints" / "last.ckpt"
    before = last.read_bytes()
    outcome = mnist_lit("export", "--ckpt_path", *(each.format(last=last) for each in options))
    assert outcome.status == 2
    assert what.format(last=last) in outcome.err.splitlines()[0]
    assert last.read_bytes() == before
    assert not list(Path().glob("*.onnx"))


OWN = """
import torch
from torch import nn

class Normed(nn.Sequential):
    def __init__(self, width: int = 4):
        super().__init__(
            nn.Conv2d(1, width, 3, bias=False), nn.BatchNorm2d(width), nn.ReLU(), nn.Dropout(),
            nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(9 * width, 10),
        )

class Random(Normed):
    def forward(self, images):
        return super().forward(images + torch.rand_like(images))

class Deciding(Normed):
    def forward(self, images):
        return super().forward(images if images.mean() > 0 else -images)

class Silent(Normed):
    def forward(self, images):
        assert not torch.compiler.is_exporting()
        return super().forward(images)

class Pairs(Normed):
    def forward(self, images):
        return super().forward(images.view(2, 1, 28, 28) if len(images) == 2 else images)
"""


Own = Callable[[str], Path]


@pytest.fixture
def own(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Own:
    """The best checkpoint, its network one out of a file of the user's own."""
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    monkeypatch.delitem(sys.modules, "exported_net", raising=False)
    (tmp_path / "exported_net.py").write_text(OWN)

    def checkpoint(name: str) -> Path:
        torch.manual_seed(0)
        network = import_module("exported_net").Normed()
        network[1].running_mean.uniform_(0, 0.1)
        network[1].running_var.uniform_(0.1, 1)
        path = run / "checkpoints" / "best.ckpt"
        change(path, hyper_parameters={"network": {"class_path": f"exported_net.{name}"}})
        state = torch.load(path, weights_only=True)
        weights = {f"network.{key}": value for key, value in network.state_dict().items()}
        torch.save(state | {"state_dict": weights}, path)
        return path

    return checkpoint


def test_a_users_own_network_is_exported_as_it_judges(mnist_lit: Command, own: Own) -> None:
    outcome = mnist_lit("export", f"--ckpt_path={own('Normed')}", "--output=new/own.onnx")
    assert (outcome.status, outcome.err) == (0, "")
    assert "exported_net.Normed, 414 parameters" in outcome.out
    operations = [node.op_type for node in onnx.load("new/own.onnx").graph.node]
    assert "Conv" in operations
    assert "Dropout" not in operations


@pytest.mark.parametrize(
    ("name", "what", "what_to_do"),
    [
        ("Random", "Random: it uses the operator Random", "No file was written."),
        ("Deciding", "Deciding cannot be exported: ", "without branches on their values."),
        ("Silent", "Silent cannot be exported: AssertionError", "without branches"),
        (
            "Pairs",
            "Pairs cannot be exported: it accepts only a fixed number",
            "any number of images",
        ),
        (
            "Missing",
            "exported_net.Missing, for which there is no trusted code here.",
            "If you trust",
        ),
    ],
)
def test_what_cannot_be_exported_leaves_no_file(
    mnist_lit: Command, own: Own, name: str, what: str, what_to_do: str
) -> None:
    outcome = mnist_lit("export", f"--ckpt_path={own(name)}")
    assert outcome.status == 2
    first, second = outcome.err.splitlines()
    assert what in first
    assert what_to_do in second
    assert len(outcome.out.splitlines()) <= 1  # the checkpoint; nothing of the exporter's own
    assert not list(Path().glob("*.onnx*"))
    assert not list(Path().glob(".*.partial"))


def test_a_diverged_checkpoint_is_refused_and_an_earlier_file_kept(
    mnist_lit: Command, run: Path
) -> None:
    checkpoint = run / "checkpoints" / "last.ckpt"
    change(checkpoint, state_dict={"network.7.bias": torch.full((10,), torch.nan)})
    Path("digits.onnx").write_text("earlier")
    outcome = mnist_lit("export", "--ckpt_path=last", "--output=digits.onnx")
    assert outcome.status == 2
    assert "The checkpoint gives logits that are not finite." in outcome.err
    assert Path("digits.onnx").read_text() == "earlier"


def test_probabilities_that_differ_are_noticed_although_the_logits_agree(
    mnist_lit: Command, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def warmer(network: nn.Module, temperature: float, metadata: dict[str, Any]) -> bytes:
        return onnx_model(network, 1.01 * temperature, metadata)

    monkeypatch.setattr("mnist_lit.export.command.onnx_model", warmer)
    outcome = mnist_lit("export", "--ckpt_path=best")
    assert outcome.status == 2
    first, second = outcome.err.splitlines()
    assert re.search(r"differs .* in 0 of 10,000 predictions, .* in a probability", first)
    assert second.startswith("No file was written.")
    assert not list(Path().glob("*.onnx*"))


def test_an_answer_that_depends_on_the_size_of_the_batch_is_noticed(
    mnist_lit: Command, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def changed(network: nn.Module, temperature: float, metadata: dict[str, Any]) -> bytes:
        model = onnx.load_from_string(onnx_model(network, temperature, metadata))
        nodes = [
            onnx.helper.make_node("Shape", ["images"], ["n"], start=0, end=1),
            onnx.helper.make_node("Equal", ["n", "many"], ["is_many"]),
            onnx.helper.make_node("Where", ["is_many", "zero", "right"], ["logits"]),
        ]
        for node in model.graph.node:
            node.output[:] = ["right" if name == "logits" else name for name in node.output]
            node.input[:] = ["right" if name == "logits" else name for name in node.input]
        model.graph.node.extend(nodes)
        numbers = {"many": np.array([500]), "zero": np.array([0], np.float32)}
        arrays = [onnx.numpy_helper.from_array(each, name) for name, each in numbers.items()]
        model.graph.initializer.extend(arrays)
        return bytes(model.SerializeToString())

    monkeypatch.setattr("mnist_lit.export.command.onnx_model", changed)
    outcome = mnist_lit("export", "--ckpt_path=best")
    assert outcome.status == 2
    assert re.search(r"differs from the checkpoint in \d+ of 10,000", outcome.err)


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("open('executed', 'w')",)


def test_code_in_a_checkpoint_is_not_executed(mnist_lit: Command) -> None:
    torch.save({"state_dict": Evil()}, "evil.ckpt")
    outcome = mnist_lit("export", "--ckpt_path=evil.ckpt")
    assert outcome.status == 2
    assert "evil.ckpt is not a checkpoint of this program" in outcome.err
    assert not Path("executed").exists()


@pytest.mark.parametrize(
    ("options", "what", "what_to_do"),
    [
        ([], "The following arguments are required: --ckpt_path.", "export --help"),
        (["--ckpt_path=best"], "No run in lightning_logs has a best checkpoint.", "Train one"),
        (
            ["--ckpt_path=best", "--output=a.ckpt"],
            "a.ckpt is not the name of a .onnx file",
            "Add .onnx",
        ),
    ],
)
def test_mistakes_are_told_in_two_lines(
    mnist_lit: Command, options: list[str], what: str, what_to_do: str
) -> None:
    outcome = mnist_lit("export", *options)
    assert outcome.status == 2
    first, second = outcome.err.splitlines()
    assert what in first
    assert what_to_do in second


def test_half_precision_networks_answer_in_single_precision() -> None:
    class Half(TutorialCNN):
        def forward(self, images: Tensor) -> Tensor:
            logits: Tensor = super().forward(images)  # type: ignore[no-untyped-call]
            return logits.half()

    content = onnx_model(Half().eval(), 2.0, {"threshold": 0.5})
    check(content)
    session = onnxruntime.InferenceSession(content)
    logits, probabilities = session.run(None, {"images": np.zeros((3, 1, 28, 28), np.float32)})
    assert logits.dtype == probabilities.dtype == np.float32


class Usual(nn.Module):
    """Layers of a user's own network that need more than convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.Upsample(size=32, mode="bilinear"), nn.Conv2d(1, 8, 3, stride=2, padding=1)),
            *(nn.GroupNorm(2, 8), nn.GELU(), nn.ConvTranspose2d(8, 8, 2, stride=2), nn.SiLU()),
            *(
                nn.ReflectionPad2d(1),
                nn.AdaptiveAvgPool2d(14),
                nn.PixelShuffle(2),
                nn.LayerNorm(28),
            ),
        )
        self.memory = nn.LSTM(56, 16, batch_first=True, bidirectional=True)
        self.query, self.logits = nn.Linear(32, 96), nn.Linear(32, 10)

    def forward(self, images: Tensor) -> Tensor:
        rows, _ = self.memory(self.layers(images).transpose(1, 2).flatten(2))
        parts = self.query(rows).unsqueeze(1).chunk(3, dim=-1)  # of one head
        attended = scaled_dot_product_attention(*parts).squeeze(1)
        logits: Tensor = self.logits((rows + attended).mean(dim=1))
        return logits


@pytest.mark.parametrize("network", [TutorialCNN, StrongCNN, SpeedrunCNN, Usual])
def test_what_is_exported_passes_the_check_of_models(network: Any) -> None:
    check(onnx_model(network().eval(), 1.5, {"threshold": 0.5}))
