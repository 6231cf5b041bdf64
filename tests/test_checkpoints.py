"""Checkpoints from strangers: none runs code, reads another file or holds the process."""

import os
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from mnist_lit.checkpoints import Unrecorded, describe
from mnist_lit.errors import InputError
from mnist_lit.module import DigitClassifier
from mnist_lit.networks import StrongCNN, TutorialCNN
from tests.conftest import FEW, Command

CANARY = "canary"  # the file that a payload would leave in the working directory
PAYLOAD = {"class_path": "subprocess.getoutput", "init_args": {"cmd": f"touch {CANARY}"}}
TEXT_PAYLOAD = f"{{class_path: subprocess.getoutput, init_args: {{cmd: touch {CANARY}}}}}"
TRACE = {
    "class_path": "torch.fx.symbolic_trace",
    "init_args": {"root": {"class_path": "evil.Module"}},
}
LAMBDA = "torchvision.transforms.v2.Lambda"

Change = Callable[[dict[str, Any]], Any]


def in_model(name: str, value: Any) -> Change:
    """Set an argument of the model, wherever a checkpoint records it."""

    def change(checkpoint: dict[str, Any]) -> None:
        checkpoint["hyper_parameters"][name] = value
        checkpoint["config"]["model"][name] = value

    return change


def in_trainer(name: str, value: Any) -> Change:
    return lambda checkpoint: checkpoint["config"]["trainer"].update({name: value})


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def branching(depth: int, innermost: Sequence[str] = ("x",)) -> list[Any]:
    value: list[Any] = [*innermost]
    for _ in range(depth):
        value = [value] * 10
    return value


def network(class_path: str, **arguments: Any) -> Change:
    return in_model("network", {"class_path": class_path, "init_args": arguments})


TAMPERED: dict[str, Change] = {
    "optimizer is a function": in_model("optimizer", PAYLOAD),
    "scheduler is a function": in_model("scheduler", PAYLOAD),
    "augmentation is a function": in_model("augmentation", PAYLOAD),
    "network is a function": in_model("network", PAYLOAD),
    "network is a factory of modules": in_model("network", TRACE),
    "augmentation is a factory of modules": in_model("augmentation", TRACE),
    "network is a text": in_model("network", "subprocess.getoutput"),
    "optimizer is settings in a text": in_model("optimizer", TEXT_PAYLOAD),
    "network is settings in a text": in_model("network", TEXT_PAYLOAD),
    "optimizer is a quoted text": in_model("optimizer", "'subprocess.getoutput' # safe"),
    "class of another kind": in_model("optimizer", {"class_path": "torch.nn.Linear"}),
    "class outside of torch": in_model("optimizer", {"class_path": "subprocess.Popen"}),
    "class through a trusted module": network("torch.utils.data.os.system", command="true"),
    "argument is a function": network("torchvision.ops.MLP", norm_layer="subprocess.getoutput"),
    "argument is an object": network("torchvision.ops.MLP", in_channels=1, norm_layer=PAYLOAD),
    "argument is settings in a text": network(LAMBDA, lambd=TEXT_PAYLOAD),
    "argument in a list": network("torch.nn.Sequential", layers=[[PAYLOAD]]),
    "keyword that no signature has": in_model(
        "optimizer",
        {"class_path": "torch.optim.Adam", "dict_kwargs": {"hook": "subprocess.getoutput"}},
    ),
    "dotted key": in_model("network", {"class_path": "torch.nn.Linear", "init_args.x": "y"}),
    "key of the parser": in_model("network", {"class_path": "torch.nn.Linear", "__path__": "y"}),
    "module that is missing": network("evil_module_that_is_not_there.Net"),
    "instantiator": lambda checkpoint: (
        in_model("_instantiator", "subprocess.getoutput")(checkpoint),
        in_model("network", PAYLOAD)(checkpoint),
    ),
    "endless settings": in_model("class_weights", branching(30)),
    "endless empty lists": in_model("class_weights", branching(30, [])),
    "endless network": network("torch.nn.LSTM", input_size=1, hidden_size=1, num_layers=10**8),
    "memory in spite of the meta device": network(
        "torch.nn.Linear", in_features=9000, out_features=9000, device="cpu"
    ),
    "class that reads a file": network(
        "torchmetrics.functional.image.lpips._NoTrainLpips",
        net="alex",
        pnet_rand=True,
        model_path="fifo",
    ),
    "module with side effects": network("torch.testing._internal.common_utils.TestCase"),
    "huge output": lambda checkpoint: (
        network("torch.nn.Upsample", scale_factor=60)(checkpoint),
        checkpoint.update(state_dict={}),
    ),
    "name of a file": in_model("network", "settings"),
    "ordered dictionary": in_model("network", OrderedDict(class_path="torch.nn.Flatten")),
    "deep settings": in_model("class_weights", nested(150)),
    "absurd size": network("torch.nn.Linear", in_features=10**6, out_features=10**6),
    "negative size": network("torch.nn.Linear", in_features=-1, out_features=-1),
    "deep text": in_model("network", "[" * 1000),
    "date that does not exist": in_model("network", "2024-13-45"),
}

IN_TRAINING: dict[str, Change] = {
    "callback is a function": in_trainer("callbacks", [PAYLOAD]),
    "callback calls a function": in_trainer(
        "callbacks",
        [
            {
                "class_path": "lightning.pytorch.callbacks.LambdaCallback",
                "init_args": {"on_fit_start": "subprocess.getoutput"},
            }
        ],
    ),
    "callback writes elsewhere": in_trainer(
        "callbacks",
        [
            {
                "class_path": "lightning.pytorch.callbacks.ModelCheckpoint",
                "init_args": {"dirpath": "/tmp"},
            }
        ],
    ),
    "logger is a function": in_trainer("logger", PAYLOAD),
    "logger sends to a stranger": in_trainer(
        "logger",
        {
            "class_path": "lightning.pytorch.loggers.MLFlowLogger",
            "init_args": {"tracking_uri": "http://example.org"},
        },
    ),
    "profiler is a function": in_trainer("profiler", PAYLOAD),
    "plugin is a function": in_trainer("plugins", [PAYLOAD]),
    "strategy is a function": in_trainer("strategy", PAYLOAD),
    "setting with a class that it does not take": in_trainer("max_epochs", PAYLOAD),
    "callbacks in a file": in_trainer("callbacks", "settings"),
    "strategy in a pipe": in_trainer("strategy", "pipe"),
    "many devices": in_trainer("devices", 5000),
    "best checkpoint at a URL": lambda checkpoint: [
        state.update(best_model_path="local:///tmp/canary.ckpt")
        for state in checkpoint["callbacks"].values()
    ],
    "endless optimizer state": lambda checkpoint: checkpoint["optimizer_states"][0]["state"][
        0
    ].update(junk=branching(40)),
    "endless number": lambda checkpoint: checkpoint.update(global_step=10**30),
    "odd version": lambda checkpoint: checkpoint.update({"pytorch-lightning_version": "2.0foo"}),
}


@pytest.fixture
def tampered(run: Path) -> Callable[[Change], Path]:
    """Change a finished run's last checkpoint into a file of the working directory."""

    directory = run.parent.parent
    (directory / "settings").write_text(f"class_path: evil.Class\ninit_args: {{cmd: {CANARY}}}\n")
    (directory / "evil.py").write_text(f"open({CANARY!r}, 'w').close()\nclass Class: ...\n")
    os.mkfifo(directory / "pipe")

    def tamper(change: Change) -> Path:
        checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
        change(checkpoint)
        path = run.parent.parent / "stranger.ckpt"
        torch.save(checkpoint, path)
        return path

    return tamper


def assert_refused(outcome: Any) -> None:
    assert outcome.status == 2, outcome.out
    assert len(outcome.err.splitlines()) == 2, outcome.err
    assert outcome.err.startswith("error: ")
    assert not Path(CANARY).exists()


@pytest.mark.parametrize("change", TAMPERED.values(), ids=TAMPERED)
def test_a_checkpoint_decides_on_no_code(
    mnist_lit: Command, tampered: Callable[[Change], Path], change: Any
) -> None:
    path = tampered(change)
    assert_refused(mnist_lit("fit", f"--ckpt_path={path}", "--trainer.max_epochs=3"))
    with pytest.raises(InputError):
        DigitClassifier.load_from_checkpoint(path, weights_only=True)
    assert not Path(CANARY).exists()


@pytest.mark.parametrize("command", ["test", "validate", "predict", "export", "show"])
@pytest.mark.parametrize("place", ["network", "optimizer"])
def test_no_command_runs_what_a_checkpoint_names(
    mnist_lit: Command, tampered: Callable[[Change], Path], command: str, place: str
) -> None:
    limits = {each: [f"--trainer.limit_{each}_batches=1"] for each in ("test", "predict")}
    path = tampered(in_model(place, PAYLOAD))
    outcome = mnist_lit(command, f"--ckpt_path={path}", *limits.get(command, []))
    assert not Path(CANARY).exists()
    if place == "network":
        assert_refused(outcome)


@pytest.mark.parametrize("change", IN_TRAINING.values(), ids=IN_TRAINING)
def test_a_resumed_checkpoint_decides_on_no_code_of_the_trainer(
    mnist_lit: Command, tampered: Callable[[Change], Path], change: Any
) -> None:
    path = tampered(change)
    assert_refused(mnist_lit("fit", f"--ckpt_path={path}", "--trainer.max_epochs=3"))


def test_evaluation_builds_neither_optimizer_nor_augmentation(
    mnist_lit: Command, tampered: Callable[[Change], Path]
) -> None:
    missing = {"class_path": "package_not_installed.Thing"}

    def change(checkpoint: dict[str, Any]) -> None:
        for name in ("augmentation", "optimizer", "scheduler"):
            in_model(name, missing)(checkpoint)
        in_trainer("callbacks", [missing])(checkpoint)
        checkpoint["state_dict"]["augmentation.weight"] = torch.zeros(3)

    path = tampered(change)
    assert mnist_lit("test", f"--ckpt_path={path}", "--trainer.limit_test_batches=1").status == 0
    assert mnist_lit("show", f"--ckpt_path={path}", "--output=digit.png").status == 0


def test_settings_of_a_machine_are_not_taken_from_a_checkpoint(
    mnist_lit: Command, tampered: Callable[[Change], Path]
) -> None:
    def change(checkpoint: dict[str, Any]) -> None:
        checkpoint["config"]["data"] |= {
            "num_workers": 1000,
            "predict_dir": "/",
            "data_dir": "/nowhere",
        }
        checkpoint["config"]["trainer"]["default_root_dir"] = "/nowhere"

    path = tampered(change)
    assert mnist_lit("test", f"--ckpt_path={path}", "--trainer.limit_test_batches=1").status == 0
    assert Path("data", "MNIST", "raw").is_dir()
    assert not Path("/nowhere").exists()


def test_a_network_whose_constructor_looks_at_its_weights_can_be_loaded(
    mnist_lit: Command, tmp_path: Path, data_dir: Path
) -> None:
    Path("looking.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Sequential):\n"
        "    def __init__(self):\n"
        "        super().__init__(nn.Flatten(), nn.Linear(784, 10))\n"
        "        self.deviation = self[1].weight.std().item()\n"
    )
    options = [f"--data.data_dir={data_dir}", "--trainer.limit_train_batches=2"]
    network = ["--model.network=looking.Net", "--trainer.max_epochs=1"]
    assert mnist_lit("fit", *options, *network).status == 0
    outcome = mnist_lit("test", "--ckpt_path=last", "--trainer.limit_test_batches=1")
    assert (outcome.status, outcome.err) == (0, "")


def test_code_in_the_working_directory_is_used_and_named(
    mnist_lit: Command, tampered: Callable[[Change], Path]
) -> None:
    Path("own_linear.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Sequential):\n"
        "    def __init__(self): super().__init__(nn.Flatten(), nn.Linear(784, 10))\n"
    )

    def change(checkpoint: dict[str, Any]) -> None:
        network("own_linear.Net")(checkpoint)
        checkpoint["state_dict"] = {
            "network.1.weight": torch.zeros(10, 784),
            "network.1.bias": torch.zeros(10),
        }

    path = tampered(change)
    outcome = mnist_lit("test", f"--ckpt_path={path}", "--trainer.limit_test_batches=1")
    assert outcome.status == 0, outcome.err
    assert outcome.out.splitlines()[:2] == [f"Checkpoint: {path}", "Using code from own_linear.py"]


def weight(change: Callable[[torch.Tensor], torch.Tensor]) -> Change:
    """Replace the first layer's bias."""

    def changed(checkpoint: dict[str, Any]) -> None:
        weights = checkpoint["state_dict"]
        weights["network.0.bias"] = change(weights["network.0.bias"])

    return changed


DAMAGED: dict[str, Change] = {
    "no config": lambda checkpoint: checkpoint.update(config=None),
    "no model": lambda checkpoint: checkpoint["config"].pop("model"),
    "text as data": lambda checkpoint: checkpoint["config"].update(data="other.yaml"),
    "text as trainer": lambda checkpoint: checkpoint["config"].update(trainer="other.yaml"),
    "no hyperparameters": lambda checkpoint: checkpoint.pop("hyper_parameters"),
    "text in global_step": lambda checkpoint: checkpoint.update(global_step="40"),
    "no epoch": lambda checkpoint: checkpoint.update(epoch=None),
    "weights of another network": lambda checkpoint: checkpoint.update(
        state_dict={"network.0.weight": torch.zeros(3, 3)}
    ),
    "no weights": lambda checkpoint: checkpoint.update(state_dict={}),
    "weights that are text": lambda checkpoint: checkpoint.update(state_dict={"network": "x"}),
    "weights larger than the file": lambda checkpoint: checkpoint["state_dict"].update(
        {"network.0.weight": torch.zeros(1).expand(10**6, 10**6)}
    ),
    "sparse weights": weight(lambda value: value.to_sparse()),
    "quantized weights": weight(
        lambda value: torch.quantize_per_tensor(value, 0.1, 0, torch.qint8)
    ),
    "complex weights": weight(lambda value: value.to(torch.complex64)),
    "weights without numbers": weight(lambda value: value.to("meta")),
    "tensor as a setting": in_model("label_smoothing", torch.zeros(1)),
    "setting of the wrong type": in_model("class_weights", "equal"),
    "unknown setting": in_model("dropout", 0.5),
    "batch size that is text": lambda checkpoint: checkpoint["config"]["data"].update(
        eval_batch_size="many"
    ),
    "callbacks without state": lambda checkpoint: checkpoint.update(callbacks={"x": None}),
}


@pytest.mark.filterwarnings("ignore:.*quantized tensor creation functions")  # but they exist
@pytest.mark.parametrize("change", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_or_foreign_checkpoint_is_refused_in_two_lines(
    mnist_lit: Command, tampered: Callable[[Change], Path], change: Any
) -> None:
    assert_refused(mnist_lit("test", f"--ckpt_path={tampered(change)}"))


def test_a_flipped_bit_is_noticed(mnist_lit: Command, run: Path) -> None:
    last = run / "checkpoints" / "last.ckpt"
    content = bytearray(last.read_bytes())
    content[len(content) // 2] ^= 1
    last.write_bytes(content)
    outcome = mnist_lit("test", "--ckpt_path=last")
    assert_refused(outcome)
    assert "checksum" in outcome.err


def test_a_compressed_archive_is_refused(mnist_lit: Command, run: Path, tmp_path: Path) -> None:
    inflated = tmp_path / "bomb.ckpt"
    with (
        zipfile.ZipFile(run / "checkpoints" / "last.ckpt") as source,
        zipfile.ZipFile(inflated, "w", zipfile.ZIP_DEFLATED) as sink,
    ):
        for name in source.namelist():
            sink.writestr(name, source.read(name))
    assert_refused(mnist_lit("test", f"--ckpt_path={inflated}"))


# ---- models built in Python ----


class Stored(nn.Sequential):
    """Keeps its arguments in attributes of the same names."""

    def __init__(self, width: int, bias: bool = True) -> None:
        super().__init__(nn.Flatten(), nn.Linear(784, width, bias), nn.Linear(width, 10))
        self.width = width
        self.bias = bias


class Scaled(nn.Sequential):
    """Keeps one of its arguments under another name."""

    def __init__(self, factor: float = 1.0) -> None:
        super().__init__(nn.Flatten(), nn.Linear(784, 10))
        self.hidden = factor

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = super().forward(images)  # type: ignore[no-untyped-call]
        return self.hidden * logits


class Defaults(nn.Sequential):
    """Keeps nothing."""

    def __init__(self, width: int = 8) -> None:
        super().__init__(nn.Flatten(), nn.Linear(784, width), nn.Linear(width, 10))


@pytest.mark.parametrize(
    "built",
    [
        *(TutorialCNN(), Stored(6), Stored(5, bias=False), Defaults(), Scaled()),
        StrongCNN(channels=(2, 3, 4, 5, 6, 7)),
    ],
)
def test_a_network_of_ones_own_is_recorded_with_its_arguments(
    mnist_lit: Command, tmp_path: Path, built: Any
) -> None:
    path = saved(DigitClassifier(network=built), tmp_path)
    loaded = DigitClassifier.load_from_checkpoint(path)
    assert repr(loaded.network) == repr(built)
    outcome = mnist_lit("test", f"--ckpt_path={path}", "--trainer.limit_test_batches=1")
    assert outcome.status == 0, outcome.err


def test_what_cannot_be_rebuilt_is_not_recorded() -> None:
    class Local(nn.Flatten):
        pass

    for module in (
        Defaults(width=9),
        Scaled(3.0),
        nn.Sequential(nn.Flatten()),
        Local(),
        nn.Linear(784, 10),
    ):
        assert describe(module) == f"{type(module).__qualname__}(...)"
    assert describe(partial(LambdaLR, lr_lambda=abs)) == "LambdaLR(...)"


def test_describing_a_network_draws_no_random_numbers() -> None:
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    describe(Stored(6))
    built = torch.random.get_rng_state()
    torch.manual_seed(0)
    Stored(6)
    assert torch.equal(built, torch.random.get_rng_state())
    assert not torch.equal(before, built)


def test_a_lambda_as_optimizer_does_not_keep_a_checkpoint_from_loading(
    mnist_lit: Command, tmp_path: Path
) -> None:
    model = DigitClassifier(optimizer=lambda parameters: torch.optim.SGD(parameters, 0.1))
    path = saved(model, tmp_path)
    loaded = DigitClassifier.load_from_checkpoint(path)
    assert isinstance(loaded.optimizer, Unrecorded)
    with pytest.raises(InputError, match="does not record its optimizer"):
        loaded.configure_optimizers()
    given = DigitClassifier.load_from_checkpoint(path, optimizer=torch.optim.SGD)
    assert isinstance(given.configure_optimizers(), torch.optim.SGD)
    outcome = mnist_lit("test", f"--ckpt_path={path}", "--trainer.limit_test_batches=1")
    assert outcome.status == 0, outcome.err
    assert_refused(mnist_lit("fit", f"--ckpt_path={path}"))


def saved(model: DigitClassifier, directory: Path) -> Path:
    """What a Trainer saves of a model, without training it."""
    path = directory / "own.ckpt"
    trainer = Trainer(logger=False, enable_checkpointing=False, default_root_dir=directory)
    trainer.strategy.connect(model)
    trainer.save_checkpoint(path, weights_only=True)
    return path


def test_a_resumed_checkpoint_names_no_file_to_remove(mnist_lit: Command, run: Path) -> None:
    victim = run.parent.parent / "thesis.ckpt"
    victim.mkdir()
    other = run.parent / "version_7" / "checkpoints" / "best.ckpt"
    other.parent.mkdir(parents=True)
    other.write_text("mine")
    last = run / "checkpoints" / "last.ckpt"
    for path in (victim, other, Path(f"{run}/checkpoints/../../../thesis.ckpt")):
        checkpoint = torch.load(last, weights_only=True)
        for state in checkpoint["callbacks"].values():
            state["best_model_path"] = str(path)
        torch.save(checkpoint, run.parent.parent / "stranger.ckpt")
        short = ["--trainer.max_epochs=3", *FEW]
        outcome = mnist_lit("fit", "--ckpt_path=stranger.ckpt", *short)
        assert outcome.status == 0, outcome.err
    assert victim.is_dir()
    assert other.read_text() == "mine"
