import csv
from collections import Counter
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.plugins import MixedPrecision
from torch import nn
from torch.nn.functional import cross_entropy, one_hot
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR, ReduceLROnPlateau, StepLR
from torchvision.transforms.v2 import MixUp, RandomRotation

from mnist_lit.data import Batch, MNISTDataModule, scaled
from mnist_lit.errors import InputError
from mnist_lit.metrics import Evaluation, evaluate
from mnist_lit.module import DigitClassifier
from mnist_lit.networks import TutorialCNN
from mnist_lit.training.progress import GradientNorm


class Wide(nn.Sequential):
    """A user's network, whose constructor takes an argument."""

    def __init__(self, width: int = 4) -> None:
        super().__init__(nn.Flatten(), nn.Linear(784, width), nn.ReLU(), nn.Linear(width, 10))


class Recorder(nn.Module):
    """An augmentation that makes every image dark and counts them."""

    images = 0

    def forward(
        self, images: torch.Tensor, labels: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        Recorder.images += len(images)
        return torch.zeros_like(images), labels


def trainer(path: Path, **settings: Any) -> Trainer:
    defaults: dict[str, Any] = {
        "max_epochs": 1,
        "limit_train_batches": 4,
        "limit_val_batches": 1,
        "limit_test_batches": 2,
        "num_sanity_val_steps": 0,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "default_root_dir": path,
    }
    return Trainer(**{**defaults, **settings})


def evaluations(model: DigitClassifier) -> list[Evaluation]:
    """A list that takes what each validation and test of the model finds."""
    found: list[Evaluation] = []
    model.observers.append(lambda model, split, evaluation: found.append(evaluation))
    return found


@pytest.fixture
def digits(data_dir: Path) -> MNISTDataModule:
    return MNISTDataModule(str(data_dir))


def primitives_only(value: object) -> bool:
    if isinstance(value, dict):
        return all(primitives_only(part) for item in value.items() for part in item)
    if isinstance(value, list | tuple):
        return all(map(primitives_only, value))
    return value is None or type(value) in (str, int, float, bool)


def test_unless_told_otherwise_adam_trains_the_tutorials_network_with_lr_0001() -> None:
    model = DigitClassifier()
    optimizer = model.configure_optimizers()
    assert isinstance(model.network, TutorialCNN)
    assert type(optimizer) is torch.optim.Adam
    assert optimizer.defaults["lr"] == 0.001


def test_training_learns(tmp_path: Path, digits: MNISTDataModule) -> None:
    seed_everything(0, verbose=False)
    run = trainer(tmp_path, limit_train_batches=60)
    run.fit(DigitClassifier(), digits)
    assert run.callback_metrics["val/accuracy"] > 0.8


def test_the_training_loss_has_weights_and_smoothing_the_judged_loss_has_not(
    digits: MNISTDataModule, tmp_path: Path
) -> None:
    weights = [1.0, 2, 3, 4, 5, 6, 7, 8, 9, 10]
    model = DigitClassifier(class_weights=weights, label_smoothing=0.1)
    logits, labels = torch.randn(64, 10), torch.randint(10, (64,))
    expected = cross_entropy(logits, labels, torch.tensor(weights), label_smoothing=0.1)
    assert torch.equal(model.loss(logits, labels), expected)

    plain = DigitClassifier()
    plain.network.load_state_dict(model.network.state_dict())
    losses = [trainer(tmp_path).test(each, digits, verbose=False) for each in (model, plain)]
    assert losses[0] == losses[1]


def test_a_test_judges_every_image_by_its_place_in_the_archive(
    digits: MNISTDataModule, tmp_path: Path
) -> None:
    seed_everything(1, verbose=False)
    model, run = DigitClassifier(Wide()), trainer(tmp_path, limit_test_batches=1.0)
    found = evaluations(model)
    [figures] = run.test(model, digits, verbose=False)
    with torch.no_grad():
        logits = model(scaled(digits.test_set.images))
    expected = evaluate(torch.arange(10_000), digits.test_set.labels, logits).scores
    assert found[-1].scores["wrong"] == expected["wrong"]
    assert figures["test/accuracy"] == pytest.approx(expected["accuracy"], rel=1e-6)
    assert figures["test/loss"] == pytest.approx(expected["loss"], rel=1e-5)


def test_the_batch_size_does_not_change_what_a_test_finds(data_dir: Path, tmp_path: Path) -> None:
    figures, wrong = [], []
    for size in (33, 500, 10_000):
        seed_everything(2, verbose=False)
        digits = MNISTDataModule(str(data_dir), eval_batch_size=size)
        run = trainer(tmp_path, limit_test_batches=1.0)
        model = DigitClassifier(Wide())
        found = evaluations(model)
        figures += run.test(model, digits, verbose=False)
        wrong.append(found[-1].scores["wrong"])
    assert wrong[0] == wrong[1] == wrong[2]
    assert figures[0]["test/loss"] == pytest.approx(figures[1]["test/loss"], rel=1e-6)
    assert figures[2]["test/loss"] == pytest.approx(figures[1]["test/loss"], rel=1e-6)


def test_the_work_of_a_test_grows_with_the_number_of_batches_not_with_its_square(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths_asked: Counter[int] = Counter()
    length: Callable[[torch.Tensor], int] = torch.Tensor.__len__

    def counting(tensor: torch.Tensor) -> int:
        lengths_asked[batches] += 1
        return length(tensor)

    monkeypatch.setattr(torch.Tensor, "__len__", counting)
    digits = MNISTDataModule(str(data_dir), eval_batch_size=1)
    model = DigitClassifier(nn.Sequential(nn.Flatten(), nn.Linear(784, 10)))
    found = evaluations(model)
    for batches in (40, 80):
        trainer(tmp_path, limit_test_batches=batches).test(model, digits, verbose=False)
    assert found[-1].scores["images"] == 80  # each with a place of its own
    assert lengths_asked[80] <= 2.1 * lengths_asked[40]


def test_a_validation_logs_exact_quotients(digits: MNISTDataModule, tmp_path: Path) -> None:
    seed_everything(0, verbose=False)
    run = trainer(tmp_path, limit_val_batches=4)
    model = DigitClassifier()
    found = evaluations(model)
    run.validate(model, digits, verbose=False)
    right = 2000 - len(found[-1].scores["wrong"])
    assert run.callback_metrics["val/accuracy"].item() == right / 2000


def test_augmentation_reaches_training_images_only(digits: MNISTDataModule, tmp_path: Path) -> None:
    Recorder.images = 0
    model = DigitClassifier(augmentation=Recorder())
    run = trainer(tmp_path)
    run.fit(model, digits)
    assert Recorder.images == 4 * 64
    run.validate(model, digits, verbose=False)
    run.test(model, digits, verbose=False)
    run.predict(model, digits, return_predictions=False)
    assert Recorder.images == 4 * 64


class Doubter(nn.Module):
    """An augmentation that adds as many pictures again, any digit equally likely."""

    def forward(
        self, images: torch.Tensor, labels: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        targets = torch.cat([one_hot(labels, 10).float(), torch.full((len(labels), 10), 0.1)])
        return torch.cat([images, torch.ones_like(images)]), targets


def test_pictures_that_are_no_digits_count_in_the_loss_and_not_in_the_accuracy(
    digits: MNISTDataModule, tmp_path: Path
) -> None:
    seed_everything(0, verbose=False)
    model = DigitClassifier(augmentation=Doubter(), optimizer=partial(torch.optim.SGD, lr=0.0))
    run = trainer(tmp_path)
    run.fit(model, digits)
    images, labels = (torch.cat(part) for part in zip(*_first_batches(digits, 4), strict=True))
    with torch.no_grad():
        logits, blank = model(scaled(images)), model(torch.ones(1, 1, 28, 28))
    doubt = -blank.log_softmax(1).mean()
    loss = (cross_entropy(logits, labels) + doubt) / 2
    accuracy = logits.argmax(1).eq(labels).float().mean()
    assert run.callback_metrics["train/loss_epoch"].item() == pytest.approx(loss.item(), rel=1e-5)
    assert run.callback_metrics["train/accuracy_epoch"] == accuracy


def _first_batches(digits: MNISTDataModule, count: int) -> list[Batch]:
    return list(islice(digits.train_dataloader(), count))


def test_augmentations_of_torchvision_fit(digits: MNISTDataModule, tmp_path: Path) -> None:
    for augmentation in (RandomRotation(10), MixUp(num_classes=10)):
        run = trainer(tmp_path)
        run.fit(DigitClassifier(augmentation=augmentation), digits)
        assert run.callback_metrics["train/loss_epoch"] < 3


class MixesSometimes(nn.Module):
    """Returns probabilities for every other batch, which say the same as the labels."""

    def __init__(self) -> None:
        super().__init__()
        self.batches = 0

    def forward(
        self, images: torch.Tensor, labels: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        self.batches += 1
        return images, one_hot(labels, 10).float() if self.batches % 2 else labels


def test_an_augmentation_may_mix_some_batches(digits: MNISTDataModule, tmp_path: Path) -> None:
    losses = []
    for augmentation in (None, MixesSometimes()):
        seed_everything(0, verbose=False)
        run = trainer(tmp_path)
        run.fit(DigitClassifier(augmentation=augmentation), digits)
        losses.append(run.callback_metrics["train/loss_epoch"].item())
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


def test_an_epochs_figures_do_not_depend_on_how_often_a_step_is_logged(
    digits: MNISTDataModule, tmp_path: Path
) -> None:
    figures = []
    for interval in (1, 2, 50):
        seed_everything(0, verbose=False)
        run = trainer(tmp_path, limit_train_batches=5, log_every_n_steps=interval)
        run.fit(DigitClassifier(), digits)
        figures.append(run.callback_metrics)
    for other in figures[1:]:
        assert other["train/accuracy_epoch"] == figures[0]["train/accuracy_epoch"]
        loss = figures[0]["train/loss_epoch"].item()
        assert other["train/loss_epoch"].item() == pytest.approx(loss, rel=1e-6)


@pytest.mark.parametrize("class_weights", [None, [1.0, 9.0] * 5])
@pytest.mark.parametrize(("accumulated", "interval"), [(2, 1), (3, 1), (3, 2)])
def test_with_gradient_accumulation_the_figures_are_those_of_all_images_of_the_logged_steps(
    digits: MNISTDataModule,
    tmp_path: Path,
    accumulated: int,
    interval: int,
    class_weights: list[float] | None,
) -> None:
    seed_everything(0, verbose=False)
    network = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    still = partial(torch.optim.SGD, lr=0.0)  # so that one computation serves all steps
    model = DigitClassifier(network, optimizer=still, class_weights=class_weights)
    logger = CSVLogger(tmp_path)
    run = trainer(
        tmp_path,
        logger=logger,
        log_every_n_steps=interval,
        limit_train_batches=7,  # the last step is smaller
        accumulate_grad_batches=accumulated,
        callbacks=[GradientNorm()],
    )
    run.fit(model, digits)
    with Path(logger.log_dir, "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["train/loss"]]

    batches, window = _first_batches(digits, 7), accumulated * interval
    logged = [batches[start : start + window] for start in range(0, 7, window)]
    for row, part in zip(rows, logged, strict=True):
        loss, accuracy = _loss_and_accuracy(model, part)
        assert float(row["train/loss"]) == pytest.approx(loss, rel=1e-5)
        assert float(row["train/accuracy"]) == pytest.approx(accuracy, rel=1e-5)
        last_step = part[-(len(part) % accumulated or accumulated) :]
        norm = _gradient_norm(model, last_step, accumulated)
        assert float(row["train/gradient_norm"]) == pytest.approx(norm, rel=1e-4)
    loss, accuracy = _loss_and_accuracy(model, batches)
    assert run.callback_metrics["train/loss_epoch"].item() == pytest.approx(loss, rel=1e-5)
    assert run.callback_metrics["train/accuracy_epoch"].item() == pytest.approx(accuracy, rel=1e-5)


def _loss_and_accuracy(model: DigitClassifier, batches: list[Batch]) -> tuple[float, float]:
    images, labels = (torch.cat(part) for part in zip(*batches, strict=True))
    with torch.no_grad():
        logits = model.network(scaled(images))
    accuracy = (logits.argmax(dim=1) == labels).float().mean()
    return cross_entropy(logits, labels, model.loss.weight).item(), accuracy.item()


def _gradient_norm(model: DigitClassifier, batches: list[Batch], accumulated: int) -> float:
    model.zero_grad()
    for images, labels in batches:
        logits = model.network(scaled(images))
        torch.autograd.backward(cross_entropy(logits, labels, model.loss.weight) / accumulated)
    gradients = [each.grad for each in model.parameters() if each.grad is not None]
    return nn.utils.get_total_norm(gradients).item()


@pytest.mark.parametrize(
    ("scheduler", "interval", "rates"),
    [
        (partial(StepLR, step_size=1, gamma=0.1), "epoch", [1.0, 0.1]),
        (partial(CosineAnnealingLR, T_max=-1), "epoch", [1.0, 0.5]),
        (partial(CosineAnnealingLR, T_max=-1), "step", [1.0, 0.853553, 0.5, 0.146447]),
        (
            partial(OneCycleLR, max_lr=1.0, total_steps=None, pct_start=0.5),
            "step",
            [0.04, 1.0, 0.500002, 0.000004],
        ),
        (partial(ReduceLROnPlateau, factor=0.5, patience=0, threshold=2), "epoch", [1.0, 0.5]),
    ],
)
def test_a_schedule_has_its_effect_and_knows_its_length(
    digits: MNISTDataModule, tmp_path: Path, scheduler: Any, interval: Any, rates: list[float]
) -> None:
    seen = []

    class Watched(DigitClassifier):
        def on_train_batch_start(self, batch: object, batch_idx: int) -> None:
            optimizer = self.optimizers()
            assert isinstance(optimizer, LightningOptimizer)
            seen.append(optimizer.param_groups[0]["lr"])

    model = Watched(
        optimizer=partial(torch.optim.SGD, lr=1.0),
        scheduler=scheduler,
        scheduler_interval=interval,
    )
    trainer(tmp_path, max_epochs=2, limit_train_batches=2).fit(model, digits)
    by_interval = seen if interval == "step" else seen[::2]
    assert by_interval == pytest.approx(rates, rel=1e-4)


def test_a_schedule_without_end_is_refused(digits: MNISTDataModule, tmp_path: Path) -> None:
    model = DigitClassifier(scheduler=partial(CosineAnnealingLR, T_max=-1))
    with pytest.raises(InputError, match="needs T_max"):
        trainer(tmp_path, max_epochs=-1).fit(model, digits)


def test_an_optimizer_that_torch_refuses_is_a_clear_error() -> None:
    model = DigitClassifier(optimizer=partial(torch.optim.Adam, lr=-1.0))
    with pytest.raises(InputError, match=r"Invalid learning rate: -1.0.\nCorrect model.optimizer"):
        model.configure_optimizers()


@pytest.mark.parametrize(
    "settings",
    [
        {"class_weights": [1.0] * 9},
        {"class_weights": []},
        {"class_weights": [0.0] * 10},
        {"class_weights": [1.0] * 9 + [float("nan")]},
        {"label_smoothing": 1},
    ],
)
def test_a_loss_out_of_range_is_refused_by_name(settings: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=f"model.{next(iter(settings))} is"):
        DigitClassifier(**settings)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"network": TutorialCNN(), "augmentation": Recorder()},
        {
            "optimizer": partial(torch.optim.SGD, lr=0.5),
            "scheduler": partial(StepLR, step_size=3),
            "class_weights": [2.0] * 10,
        },
    ],
)
def test_a_checkpoint_written_from_python_loads_alone(
    digits: MNISTDataModule, tmp_path: Path, settings: dict[str, Any]
) -> None:
    run = trainer(tmp_path)
    model = DigitClassifier(**settings)
    run.fit(model, digits)
    run.save_checkpoint(tmp_path / "own.ckpt")
    checkpoint = torch.load(tmp_path / "own.ckpt", weights_only=True)
    assert primitives_only(checkpoint["hyper_parameters"])
    loaded = DigitClassifier.load_from_checkpoint(tmp_path / "own.ckpt")
    for name, weight in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], weight)
    assert type(loaded.configure_optimizers()) is type(model.configure_optimizers())
    assert loaded.hparams == model.hparams


def test_a_network_built_in_python_with_arguments_is_asked_for_when_loading(
    digits: MNISTDataModule, tmp_path: Path
) -> None:
    run = trainer(tmp_path)
    run.fit(DigitClassifier(Wide(width=6)), digits)
    run.save_checkpoint(tmp_path / "own.ckpt")
    with pytest.raises(Exception, match=r"Wide\(...\)"):
        DigitClassifier.load_from_checkpoint(tmp_path / "own.ckpt")
    loaded = DigitClassifier.load_from_checkpoint(tmp_path / "own.ckpt", network=Wide(width=6))
    assert loaded.network.get_submodule("1").out_features == 6


def test_a_loaded_model_trained_further_still_loads_alone(
    finished: Path, digits: MNISTDataModule, tmp_path: Path
) -> None:
    first = finished / "lightning_logs" / "version_0" / "checkpoints" / "last.ckpt"
    run = trainer(tmp_path)
    run.fit(DigitClassifier.load_from_checkpoint(first), digits)
    run.save_checkpoint(tmp_path / "further.ckpt")
    hyperparameters = [
        torch.load(path, weights_only=True)["hyper_parameters"]
        for path in (first, tmp_path / "further.ckpt")
    ]
    assert hyperparameters[0] == hyperparameters[1]
    DigitClassifier.load_from_checkpoint(tmp_path / "further.ckpt")


def test_predictions_come_with_probability_and_loss() -> None:
    model = DigitClassifier().eval()
    images, labels = torch.rand(5, 1, 28, 28), torch.tensor([1, 2, 3, 4, 5])
    with torch.no_grad():
        answer = model.predict_step((images, labels), 0)
        logits = model(images)
    assert torch.equal(answer["prediction"], logits.argmax(dim=1))
    assert torch.equal(answer["probability"], logits.softmax(dim=1).amax(dim=1))
    assert answer["loss"].mean() == pytest.approx(cross_entropy(logits, labels).item())


def test_a_network_without_ten_outputs_is_a_clear_error() -> None:
    with pytest.raises(InputError, match=r"returns \(3, 784\) for 3 images.\nIt must return"):
        DigitClassifier(nn.Flatten())(torch.zeros(3, 1, 28, 28))


@pytest.mark.parametrize("fused", [True, False])
def test_float16_logs_the_norm_of_unscaled_gradients(
    tmp_path: Path, digits: MNISTDataModule, fused: bool
) -> None:
    norms = []
    for precision in (None, MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", 1024.0))):
        seed_everything(0, verbose=False)
        run = trainer(
            tmp_path,
            plugins=precision,
            log_every_n_steps=1,
            limit_train_batches=1,
            callbacks=[GradientNorm()],
        )
        run.fit(DigitClassifier(optimizer=partial(torch.optim.Adam, fused=fused)), digits)
        norms.append(run.callback_metrics["train/gradient_norm"].item())
    assert norms[1] == pytest.approx(norms[0], rel=0.05)


class Altered(nn.Module):
    """An augmentation that gives what its function makes of the images and labels."""

    def __init__(self, function: Callable[[torch.Tensor, torch.Tensor], object]) -> None:
        super().__init__()
        self.function = function

    def forward(self, images: torch.Tensor, labels: torch.Tensor) -> object:
        return self.function(images, labels)


@pytest.mark.parametrize(
    "function",
    [
        lambda images, labels: images,
        lambda images, labels: (images[:, :, :20, :20], labels),
        lambda images, labels: (images, labels[1:]),
        lambda images, labels: (images, labels.float()),
        lambda images, labels: (images.byte(), labels),
        lambda images, labels: (images, None),
        lambda images, labels: images @ labels,
        lambda images, labels: (images, labels + 5),
        lambda images, labels: dict[str, Any]()["missing"],
    ],
)
def test_an_augmentation_that_gives_something_else_is_named(
    tmp_path: Path, digits: MNISTDataModule, function: Any
) -> None:
    model = DigitClassifier(augmentation=Altered(function))
    with pytest.raises(InputError, match=r"^The augmentation Altered [\s\S]*labels \(n,\)"):
        trainer(tmp_path).fit(model, digits)


def test_an_augmentation_may_not_remove_images(tmp_path: Path, digits: MNISTDataModule) -> None:
    model = DigitClassifier(augmentation=Altered(lambda images, labels: (images[1:], labels[1:])))
    with pytest.raises(InputError, match=r"Altered returns 63 of 64 images"):
        trainer(tmp_path).fit(model, digits)


@pytest.mark.parametrize("network", [nn.Linear(784, 10), nn.BatchNorm1d(1), nn.Bilinear(1, 1, 1)])
def test_a_network_that_cannot_process_the_images_is_named(network: Any) -> None:
    with pytest.raises(InputError, match=r"^\w+ fails on images of shape \(2, 1, 28, 28\): "):
        DigitClassifier(network)(torch.zeros(2, 1, 28, 28))


@pytest.mark.parametrize("compiled", [False, True])
def test_a_network_made_of_torchs_own_layers_is_compiled_too(
    digits: MNISTDataModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compiled: bool
) -> None:
    graphs = []

    def backend(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> object:
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    model = DigitClassifier(nn.Sequential(nn.Flatten(), nn.Linear(784, 10)), compile=compiled)
    names = list(model.state_dict())
    trainer(tmp_path).fit(model, digits)
    assert bool(graphs) is compiled
    assert list(model.state_dict()) == names


def test_an_error_in_the_users_network_says_where(tmp_path: Path) -> None:
    class Failing(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images @ torch.zeros(3, 3)

    with pytest.raises(InputError, match=r"^Failing fails on .*\) \(test_module\.py, line \d+\): "):
        DigitClassifier(Failing())(torch.zeros(2, 1, 28, 28))


def test_a_network_whose_checkpoint_would_be_refused_is_not_trained(
    tmp_path: Path, digits: MNISTDataModule
) -> None:
    network = nn.Linear(784, 10)
    model = DigitClassifier(network)
    model.hparams["network"] = {
        "class_path": "torch.nn.Linear",
        "init_args": {"in_features": 10**6},
    }
    with pytest.raises(InputError, match=r"in_features is 1000000, more than 10,000"):
        trainer(tmp_path, enable_checkpointing=True).fit(model, digits)
