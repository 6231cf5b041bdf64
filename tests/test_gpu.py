"""What only a GPU can break. ``MNIST_LIT_TEST_ACCELERATOR=cpu`` tries the tests without one."""

import contextlib
import csv
import gc
import json
import os
import signal
from pathlib import Path

import pytest
import torch
from onnxruntime import InferenceSession
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mnist_lit.__main__ import main
from mnist_lit.augment.handwriting import Handwriting
from mnist_lit.data import MNISTDataModule, scaled
from tests.conftest import CONFIGS, SMALL, Command, finish, start, weights
from tests.support.faults import fault

# torch reads it once, at the first matrix product of a process. Lightning sets it for a
# deterministic training, which here is not the first training of the process.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

ACCELERATOR = os.environ.get("MNIST_LIT_TEST_ACCELERATOR", "gpu")
ON_GPU = ACCELERATOR == "gpu"
DEVICE = "cuda" if ON_GPU else "cpu"
ONE = [f"--trainer.accelerator={ACCELERATOR}", "--trainer.devices=1"]
CPU = ["--trainer.accelerator=cpu", "--trainer.devices=1"]

# Augmentation, dropout, batch normalization, averaged weights, a schedule; no atomic additions.
STRONG = [
    *SMALL,
    f"--config={CONFIGS / 'strong.yaml'}",
    "--trainer.limit_train_batches=5",
    "--trainer.log_every_n_steps=1",
    "--trainer.deterministic=true",
    "--model.scheduler.total_steps=20",
    "--seed_everything=5",
]

if ON_GPU and not torch.cuda.is_available():
    pytest.skip("no GPU here", allow_module_level=True)
pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("pictures")]


@pytest.fixture
def _gpu_only() -> None:
    if not ON_GPU:
        pytest.skip("a CPU has none of this")


@pytest.fixture
def _two_devices() -> None:
    if ON_GPU and torch.cuda.device_count() < 2:
        pytest.skip("there are not two GPUs here")


def run_in(directory: Path, *args: str) -> None:
    with contextlib.chdir(directory):
        assert main(list(map(str, args))) == 0


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory, data_dir: Path) -> Path:
    """``lightning_logs`` with one small run, trained twice: ``here``, on the GPU, and ``cpu``."""
    path = tmp_path_factory.mktemp("gpu")
    options = [f"--data.data_dir={data_dir}", "--seed_everything=7"]
    run_in(path, "fit", *SMALL, *options, *ONE, "-n", "here")
    run_in(path, "fit", *SMALL, *options, *CPU, "-n", "cpu")
    return path / "lightning_logs"


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory, data_dir: Path) -> Path:
    """A run of three epochs, ``STRONG``, without an interruption."""
    path = tmp_path_factory.mktemp("straight")
    run_in(path, "fit", *STRONG, *ONE, f"--data.data_dir={data_dir}", "--trainer.max_epochs=3")
    return path / "lightning_logs" / "version_0"


def last(run: Path) -> Path:
    return run / "checkpoints" / "last.ckpt"


def column(run: Path, name: str) -> list[float]:
    """What a run has logged under this name."""
    with (run / "metrics.csv").open(newline="") as file:
        return [float(row[name]) for row in csv.DictReader(file) if row.get(name)]


def device_of(run: Path) -> str:
    return str(json.loads((run / "status.json").read_text())["device"])


def test_it_trains_as_a_cpu_does(logs: Path) -> None:
    here, cpu = logs / "here/version_0", logs / "cpu/version_0"
    assert f"1 x {DEVICE}" in device_of(here)
    assert "1 x cpu" in device_of(cpu)
    for name in ("train/loss", "train/loss_epoch", "train/gradient_norm", "val/loss"):
        assert column(here, name), name
        # cuDNN's convolutions round float32 to TF32, to ten bits.
        assert column(here, name) == pytest.approx(column(cpu, name), rel=0.03), name


def test_a_checkpoint_scores_the_same_on_a_cpu(logs: Path, mnist_lit: Command) -> None:
    run = logs / "here/version_0"
    results = []
    for where in (ONE, CPU):
        test = mnist_lit("test", f"--ckpt_path={last(run)}", *where)
        assert (test.status, test.err) == (0, "")
        results.append(json.loads((run / "test.json").read_text()))
    here, cpu = results
    assert here["images"] == 10_000
    assert here["accuracy"] > 0.5
    assert here["accuracy"] == pytest.approx(cpu["accuracy"], abs=0.001)
    assert here["loss"] == pytest.approx(cpu["loss"], abs=1e-3)
    assert here["sha256"] == cpu["sha256"]
    validate = mnist_lit("validate", f"--ckpt_path={last(run)}", *ONE)
    assert (validate.status, validate.err) == (0, "")


def test_it_predicts_as_a_cpu_does(logs: Path, mnist_lit: Command) -> None:
    run = logs / "here/version_0"
    tables = []
    for where in (ONE, CPU):
        (run / "predictions.csv").unlink(missing_ok=True)
        assert mnist_lit("predict", f"--ckpt_path={last(run)}", *where).status == 0
        with (run / "predictions.csv").open(newline="") as file:
            tables.append(list(csv.DictReader(file)))
    here, cpu = tables
    assert len(here) == 10_000
    assert [row["label"] for row in here] == [row["label"] for row in cpu]
    assert sum(a["prediction"] != b["prediction"] for a, b in zip(here, cpu, strict=True)) <= 10
    for name in ("probability", "loss"):
        values = [[float(row[name]) for row in table] for table in tables]
        assert values[0] == pytest.approx(values[1], abs=0.02)


def test_what_it_has_trained_is_exported_and_shown_on_a_cpu(
    logs: Path, mnist_lit: Command, tmp_path: Path
) -> None:
    checkpoint = f"--ckpt_path={last(logs / 'here/version_0')}"
    export = mnist_lit("export", checkpoint, "--output=digits.onnx")
    assert (export.status, export.err) == (0, "")
    assert InferenceSession(tmp_path / "digits.onnx").get_inputs()[0].name == "images"
    show = mnist_lit("show", checkpoint, "--wrong", "--output=wrong.png")
    assert (show.status, show.err) == (0, "")
    assert (tmp_path / "wrong.png").exists()


def test_tensorboard_has_its_pictures_and_its_graph(logs: Path, mnist_lit: Command) -> None:
    run = logs / "here/version_0"
    assert mnist_lit("test", f"--ckpt_path={last(run)}", *ONE).status == 0
    assert list(run.glob("test_*.png"))
    assert list(run.rglob("projector_config.pbtxt"))
    events = EventAccumulator(str(run)).Reload()
    assert {"train/inputs", "val/confusion_matrix", "val/digits", "test/digits"} <= set(
        events.Tags()["images"]
    )
    assert events.Tags()["graph"]


def test_it_is_found_without_being_asked_for(mnist_lit: Command, tmp_path: Path) -> None:
    given = [] if ON_GPU else CPU
    assert mnist_lit("fit", *SMALL, "--trainer.max_epochs=1", *given).status == 0
    assert f" x {DEVICE}" in device_of(tmp_path / "lightning_logs/version_0")


def test_the_program_has_nothing_to_complain_of(tmp_path: Path, data_dir: Path) -> None:
    options = [f"--data.data_dir={data_dir}", "--trainer.devices=1"]
    options += [] if ON_GPU else ["--trainer.accelerator=cpu"]
    code, _, err = finish(start("fit", *SMALL, *options, cwd=tmp_path))
    assert (code, err) == (0, "")
    code, _, err = finish(start("test", "--ckpt_path=best", *options, cwd=tmp_path))
    assert (code, err) == (0, "")


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
def test_mixed_precision_trains_to_about_the_same_figures(
    logs: Path, mnist_lit: Command, tmp_path: Path, data_dir: Path, precision: str
) -> None:
    if precision == "16-mixed" and not ON_GPU:
        pytest.skip("a CPU has none of this")
    options = [f"--data.data_dir={data_dir}", "--seed_everything=7"]
    fit = mnist_lit("fit", *SMALL, *ONE, *options, f"--trainer.precision={precision}")
    assert (fit.status, fit.err) == (0, "")
    run, full = tmp_path / "lightning_logs/version_0", logs / "here/version_0"
    for name in ("train/loss", "train/gradient_norm", "val/loss"):
        assert column(run, name) == pytest.approx(column(full, name), rel=0.3), name
    for where in (ONE, CPU):
        test = mnist_lit("test", "--ckpt_path=last", "--trainer.precision=32-true", *where)
        assert test.status == 0
        assert json.loads((run / "test.json").read_text())["accuracy"] > 0.5
    assert {value.dtype for value in weights(last(run)).values()} == {torch.float32}


def test_a_deterministic_training_gives_the_same_weights_again(
    straight: Path, mnist_lit: Command, tmp_path: Path, data_dir: Path
) -> None:
    options = [*STRONG, *ONE, f"--data.data_dir={data_dir}", "--trainer.max_epochs=3"]
    assert mnist_lit("fit", *options).status == 0
    again = tmp_path / "lightning_logs/version_0"
    assert column(again, "train/loss") == column(straight, "train/loss")
    for name, value in weights(last(straight)).items():
        assert torch.equal(weights(last(again))[name], value), name


def test_a_resumed_run_equals_an_uninterrupted_one(
    straight: Path, mnist_lit: Command, tmp_path: Path, data_dir: Path
) -> None:
    options = [*STRONG, *ONE, f"--data.data_dir={data_dir}", "--trainer.max_epochs=1"]
    assert mnist_lit("fit", *options).status == 0
    resumed = mnist_lit("fit", "--ckpt_path=last", "--trainer.max_epochs=3")
    assert (resumed.status, resumed.err) == (0, "")
    run = tmp_path / "lightning_logs/version_0"
    for name in ("train/loss", "train/loss_epoch", "train/gradient_norm", "val/loss"):
        assert column(run, name) == pytest.approx(column(straight, name), rel=1e-4), name
    for part in ("state_dict", "current_model_state"):
        one, other = (torch.load(last(r), weights_only=True)[part] for r in (run, straight))
        for name in one:
            torch.testing.assert_close(one[name], other[name], msg=f"{part} {name}")


def test_a_run_moves_to_a_cpu_in_the_middle(straight: Path, mnist_lit: Command) -> None:
    best = straight / "checkpoints/best.ckpt"
    resumed = mnist_lit("fit", f"--ckpt_path={best}", *CPU, "--trainer.max_epochs=4")
    assert (resumed.status, resumed.err) == (0, "")


def test_other_tensors_of_a_training_are_on_the_device_too(
    mnist_lit: Command, tmp_path: Path, data_dir: Path
) -> None:
    options = ["--model.class_weights=[1,1,1,1,2,1,1,1,1,1]", "--model.label_smoothing=0.1"]
    options += ["--trainer.accumulate_grad_batches=2", "--trainer.gradient_clip_val=1"]
    options += ["--model.optimizer.fused=false", f"--data.data_dir={data_dir}"]
    fit = mnist_lit("fit", *SMALL, *options, *ONE, "--trainer.precision=bf16-mixed")
    assert (fit.status, fit.err) == (0, "")
    # Without fused, Adam counts its steps on the CPU, and a resumed run has to leave them there.
    resumed = mnist_lit("fit", "--ckpt_path=last", "--trainer.max_epochs=3")
    assert (resumed.status, resumed.err) == (0, "")


def test_the_speedrun_trains(mnist_lit: Command, data_dir: Path) -> None:
    config = f"--config={CONFIGS / 'speedrun.yaml'}"
    limits = ["--trainer.limit_train_batches=40", f"--data.data_dir={data_dir}"]
    fit = mnist_lit("fit", config, *limits, *ONE)
    assert (fit.status, fit.err) == (0, "")


# Of torch 2.11's compiler, about torch itself.
@pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated")
def test_a_compiled_network_leaves_a_checkpoint_like_any_other(
    logs: Path, mnist_lit: Command, tmp_path: Path, data_dir: Path
) -> None:
    options = [f"--data.data_dir={data_dir}", "--seed_everything=7", "--model.compile=true"]
    assert mnist_lit("fit", *SMALL, *ONE, *options).status == 0  # the compiler may say something
    run, plain = tmp_path / "lightning_logs/version_0", logs / "here/version_0"
    assert weights(last(run)).keys() == weights(last(plain)).keys()
    for name in ("train/loss", "val/loss"):
        assert column(run, name) == pytest.approx(column(plain, name), rel=0.03), name
    events = EventAccumulator(str(run)).Reload()
    assert events.Tags()["graph"]
    assert "train/inputs" in events.Tags()["images"]
    assert mnist_lit("fit", "--ckpt_path=last", "--trainer.max_epochs=3").status == 0
    for where in (ONE, CPU):
        test = mnist_lit("test", "--ckpt_path=last", *where)
        assert (test.status, test.err) == (0, "")
    export = mnist_lit("export", "--ckpt_path=last")
    assert (export.status, export.err) == (0, "")


def test_digits_are_augmented_on_the_device(data_dir: Path) -> None:
    data = MNISTDataModule(str(data_dir))
    data.setup("test")
    digits = data.test_set
    images, labels = scaled(digits.images[:1024].to(DEVICE)), digits.labels[:1024].to(DEVICE)
    augmentation = Handwriting()
    drawn = []
    for _ in range(2):
        torch.manual_seed(3)
        with torch.autocast(DEVICE, dtype=torch.bfloat16):
            drawn.append(augmentation(images, labels))
    (augmented, targets), again = drawn
    assert augmented.shape == (1056, 1, 28, 28)
    assert targets.shape == (1056, 10)
    assert {augmented.device.type, targets.device.type} == {DEVICE}
    assert augmented.dtype == torch.float32
    assert augmented.min() >= 0
    assert augmented.max() <= 1
    assert torch.equal(targets[:1024].argmax(dim=1), labels)
    assert torch.equal(augmented, again[0])
    assert not torch.equal(augmented[:1024], images)
    # As much ink as a CPU leaves, on average.
    on_cpu, _ = augmentation(images.cpu(), labels.cpu())
    assert augmented.mean().item() == pytest.approx(on_cpu.mean().item(), rel=0.05)


@pytest.mark.usefixtures("_gpu_only")
def test_a_training_takes_little_memory_and_gives_it_back(
    mnist_lit: Command, data_dir: Path
) -> None:
    gc.collect()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    options = [*STRONG, *ONE, f"--data.data_dir={data_dir}", "--trainer.max_epochs=3"]
    assert mnist_lit("fit", *options).status == 0
    assert torch.cuda.max_memory_allocated() - before < 2e9
    gc.collect()
    assert torch.cuda.memory_allocated() - before < 50e6


@pytest.mark.usefixtures("_two_devices")
def test_two_devices_train_one_run_as_one_does(
    logs: Path, tmp_path: Path, data_dir: Path, mnist_lit: Command
) -> None:
    accelerator = ONE[0]
    options = [*SMALL, f"--config={CONFIGS / 'ddp.yaml'}", accelerator, "--seed_everything=7"]
    process = start("fit", *options, f"--data.data_dir={data_dir}", cwd=tmp_path)
    code, _, err = finish(process)
    assert (code, err) == (0, "")
    run, one = tmp_path / "lightning_logs/version_0", logs / "here/version_0"
    assert f"2 x {DEVICE}" in device_of(run)
    for name in ("train/loss", "train/loss_epoch"):  # two validate twice as many images
        assert column(run, name) == pytest.approx(column(one, name), rel=0.05), name
    two = [accelerator, "--trainer.devices=2"]
    code, _, err = finish(start("test", "--ckpt_path=last", *two, cwd=tmp_path))
    assert (code, err) == (0, "")
    results = json.loads((run / "test.json").read_text())
    assert mnist_lit("test", "--ckpt_path=last", *ONE).status == 0
    alone = json.loads((run / "test.json").read_text())
    assert results["images"] == alone["images"] == 10_000
    assert results["loss"] == pytest.approx(alone["loss"], abs=1e-3)


@pytest.mark.usefixtures("_two_devices")
def test_of_two_processes_none_outlives_the_other(tmp_path: Path, data_dir: Path) -> None:
    options = [*SMALL, f"--config={CONFIGS / 'ddp.yaml'}", ONE[0]]
    options += [fault(tmp_path, 1, signal.SIGKILL), f"--data.data_dir={data_dir}"]
    code, _, _ = finish(start("fit", *options, cwd=tmp_path), 400)
    assert code != 0
    assert (tmp_path / "lightning_logs/version_0/checkpoints/last.ckpt").exists()
