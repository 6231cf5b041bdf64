"""What profile.py measures: the processor's peak, and an epoch of ``fit``, also within a profiler.

Works on Lightning's training loop from outside: a callback starts and stops clock, profiler and
counter at the ends of batches, and regions are put around what torch's profiler does not name.
"""

import gc
import io
import re
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, redirect_stdout
from functools import cache
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loops.optimization.automatic import Closure
from torch.profiler import ProfilerActivity, profile, record_function
from torch.utils.flop_counter import FlopCounterMode

from mnist_lit.data import MNISTDataModule
from mnist_lit.training import command

WARM_UP = 50  # batches
SIDE = 2048  # of the matrices: 17 GFLOP a product
PRODUCTS = 20

# The kinds of operators by the names that the profiler gives them; the first that fits counts.
KINDS = {
    "convolutions, forward": r"aten::conv2d",
    "convolutions, backward": r"ConvolutionBackward",
    "pooling": r"aten::max_pool2d|MaxPool2D.*Backward",
    "ReLU": r"aten::relu|ReluBackward",
    "batch norm": r"aten::batch_norm|BatchNormBackward",
    "linear": r"aten::linear|AddmmBackward",
    "loss": r"aten::cross_entropy_loss|NllLossBackward|LogSoftmaxBackward",
    "optimizer": r"Optimizer\.",
    "fetching the batch": r"enumerate\(DataLoader\)|fetching",
}
REST = "the rest"
# The step of the optimizer calls all the others, and the images are scaled out of the loader.
REGIONS: list[tuple[str, type, str]] = [
    (REST, Closure, "__call__"),
    ("fetching", MNISTDataModule, "on_after_batch_transfer"),
]


class Round(NamedTuple):
    """What a round found: a rate, the seconds of an epoch, and shares of the profiled one."""

    peak: float  # FLOP/s
    epoch: float
    profiled: float
    shares: dict[str, float]  # by kind; their sum is 1


class Stretch(Callback):
    """Times a stretch of an epoch, within a context, from the end of one batch to that of another.

    Args:
        context: A profiler or counter, entered before and left behind the clock.
        warm_up: Batches before it.
        batches: Batches in it.
    """

    def __init__(self, context: AbstractContextManager[Any], warm_up: int, batches: int) -> None:
        self.context = context
        self.warm_up = warm_up
        self.batches = batches

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx + 1 == self.warm_up:
            self.context.__enter__()
            self.start = time.perf_counter()
        if batch_idx + 1 == self.warm_up + self.batches:
            self.seconds = time.perf_counter() - self.start
            self.context.__exit__(None, None, None)
            data: Any = trainer.datamodule  # type: ignore[attr-defined]
            self.in_an_epoch = len(data.train_set) / data.batch_size / self.batches


def measure(configs: list[str], batches: int, repeats: int) -> tuple[float, list[Round]]:
    """Measure an epoch with these files of settings.

    Args:
        configs: Their paths.
        batches: How many a round measures; the figures are scaled to the epoch.
        repeats: Rounds.

    Returns:
        Floating-point operations of an epoch, and the rounds.
    """
    for name, owner, method in REGIONS:
        setattr(owner, method, within(name, getattr(owner, method)))
    gc.freeze()  # as the command does after its imports
    with TemporaryDirectory() as directory:
        counter = FlopCounterMode(display=False)
        step = train(configs, directory, Stretch(counter, WARM_UP, 1))
        flops = counter.get_total_flops() * step.in_an_epoch
        rounds = []
        for _ in range(repeats):
            best = peak()
            plain = train(configs, directory, Stretch(nullcontext(), WARM_UP, batches))
            profiler = profile(activities=[ProfilerActivity.CPU], acc_events=True)
            profiled = train(configs, directory, Stretch(profiler, WARM_UP, batches))
            epoch, slower = (each.seconds * each.in_an_epoch for each in (plain, profiled))
            rounds.append(Round(best, epoch, slower, shares(profiler, profiled.seconds)))
    return flops, rounds


def within(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, named in the profile."""

    def call(*args: Any, **kwargs: Any) -> Any:
        with record_function(name):
            return function(*args, **kwargs)

    return call


def train(configs: list[str], directory: str, stretch: Stretch) -> Stretch:
    """Run ``fit`` until the end of the stretch, and give it back."""
    args = ["fit", *(arg for config in configs for arg in ("--config", config))]
    args += ["--trainer.accelerator", "cpu", "--trainer.max_epochs", "1"]
    args += ["--trainer.limit_train_batches", str(stretch.warm_up + stretch.batches)]
    args += ["--trainer.limit_val_batches", "1", "--data.data_dir", f"{directory}/data"]
    with redirect_stdout(io.StringIO()):
        command.main([*args, "--trainer.default_root_dir", directory], [stretch])
    return stretch


def peak() -> float:
    """The processor's best at multiplying float32 matrices, in FLOP/s."""
    left, right, product = (torch.rand(SIDE, SIDE) for _ in range(3))
    times = []
    for _ in range(PRODUCTS):
        start = time.perf_counter()
        torch.matmul(left, right, out=product)
        times.append(time.perf_counter() - start)
    return 2 * SIDE**3 / min(times)


def shares(profiler: profile, seconds: float) -> dict[str, float]:
    """The kinds' shares of these seconds, each without what it calls of another kind."""
    spent = dict.fromkeys([*KINDS, REST], 0.0)
    for event in profiler.events():  # type: ignore[no-untyped-call]
        caller = event
        while caller and not kind_of(caller.name):
            caller = caller.cpu_parent
        kind = caller and kind_of(caller.name)
        if kind:
            spent[kind] += event.self_cpu_time_total / 1e6 / seconds
    spent[REST] = 1 - sum(share for kind, share in spent.items() if kind != REST)
    return {kind: share for kind, share in spent.items() if share}


@cache
def kind_of(name: str) -> str | None:
    """The kind of an operator, if it has one."""
    kinds = (kind for kind, names in KINDS.items() if re.search(names, name))
    return REST if name == REST else next(kinds, None)
