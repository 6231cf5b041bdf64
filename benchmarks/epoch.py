"""How long one epoch of training takes: the tutorial's loop, a bare loop, and this project's fit.

All train TutorialCNN on the same 55,000 images in batches of 64, in turn (A B C D A B ...), each
from fresh weights in a process of its own, after a short warm-up that is not counted:

- ``tutorial``: plain PyTorch as tutorials have it, torchvision's MNIST with ToTensor, a shuffling
  DataLoader without workers, the default memory format, Adam.
- ``bare``: no DataLoader; batches indexed out of whole uint8 tensors, channels last, fused Adam.
- ``trainer``: ``fit --config configs/default.yaml``, with the loggers, callbacks and checkpoints
  that it has by default, its output going to a file (on a terminal the progress bar comes on top).
- ``trainer bf16``: the same with ``--config configs/fast.yaml``, where the processor has bf16.

The clock runs over the training batches alone, fetching them included: reading the archives,
making the network, validation and writing checkpoints are in none of the figures. The trainer's
clock runs from ``on_train_epoch_start`` to the last ``on_train_batch_end``. In that time it counts
accuracy and logs; the two loops do neither. A ratio is taken within a round, and the table gives
the median over the rounds.

What this does not show: a GPU, loading with workers, larger batches, or how accurate the networks
become (accuracy.py does that).
"""

import argparse
import gc
import io
import os
import sys
import time
from collections.abc import Callable
from contextlib import chdir, redirect_stdout
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, Subset
from torchvision.datasets import MNIST
from torchvision.transforms import ToTensor

from benchmarks.clocks import EpochClock
from benchmarks.common import ROOT, SPREAD, bf16, footer, ratio_row, run, spread, table
from mnist_lit.data import MNISTDataModule
from mnist_lit.networks import TutorialCNN
from mnist_lit.training import command

BATCH = 64
BARS = {
    ("trainer", "tutorial"): 0.58,
    ("trainer bf16", "tutorial"): 0.36,
    ("trainer", "bare"): 1.10,
}
# Importing Lightning sets this, and then each step of Adam asks NVML for a GPU: 0.1 to 0.3 ms here,
# which a loop in plain PyTorch does not pay.
NVML = "PYTORCH_NVML_BASED_CUDA_CHECK"


def tutorial(data: MNISTDataModule) -> float:
    """Time an epoch of the tutorial's loop, in seconds."""
    mnist = MNIST(data.data_dir, train=True, transform=ToTensor())
    loader = DataLoader(Subset(mnist, data.train_set.indices), batch_size=BATCH, shuffle=True)
    model = TutorialCNN()  # an ordinary nn.Sequential
    loss_function = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.001)
    start = time.perf_counter()
    for images, labels in loader:
        optimizer.zero_grad()
        loss = loss_function(model(images), labels)
        loss.backward()
        optimizer.step()
    return time.perf_counter() - start


def bare(data: MNISTDataModule) -> float:
    """Time an epoch of the least loop that trains the same network, in seconds."""
    digits: Any = data.train_set.dataset  # images (60000, 28, 28), uint8
    indices = torch.tensor(data.train_set.indices)
    model = TutorialCNN().to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.001, fused=True)
    start = time.perf_counter()
    for batch in torch.split(indices[torch.randperm(len(indices))], BATCH):
        images = digits.images[batch].unsqueeze(1).float().div_(255)
        loss = nn.functional.cross_entropy(model(images), digits.labels[batch])
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    return time.perf_counter() - start


def trainer(data: MNISTDataModule, *configs: str) -> float:
    """Time the epoch within ``fit`` with these files of configs/, in seconds."""
    args = ["fit", *(arg for name in configs for arg in ("--config", f"{ROOT}/configs/{name}"))]
    args += ["--trainer.max_epochs", "1", "--trainer.callbacks+=benchmarks.clocks.EpochClock"]
    args += ["--data.data_dir", str(data.data_dir), "--data.val_size", str(data.val_size)]
    args += ["--trainer.limit_val_batches", "10"]  # 5,000 images, all unless there is --images
    with TemporaryDirectory() as directory, redirect_stdout(io.StringIO()):
        command.main([*args, "--trainer.default_root_dir", directory])
    return EpochClock.seconds


CONTENDERS: dict[str, Callable[[MNISTDataModule], float]] = {
    "tutorial": tutorial,
    "bare": bare,
    "trainer": lambda data: trainer(data, "default.yaml"),
    "trainer bf16": lambda data: trainer(data, "default.yaml", "fast.yaml"),
}


def measure(name: str, directory: str, images: int) -> float:
    """Time an epoch of a contender in this process, in seconds, after a short warm-up."""
    os.environ[NVML] = "1" if name.startswith("trainer") else "0"
    seconds = 0.0
    for count in (min(50 * BATCH, images), images):
        data = MNISTDataModule(directory, val_size=60_000 - count)
        data.prepare_data()
        data.setup("fit")
        gc.collect()
        seconds = CONTENDERS[name](data)
    return seconds


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5, help="rounds (default: 5)")
    parser.add_argument("--images", type=int, default=55_000, help="fewer for a quick try")
    parser.add_argument("--measure", nargs=2, metavar=("NAME", "DIR"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        name, directory = options.measure
        print(measure(name, directory, options.images))
        return

    names = [name for name in CONTENDERS if bf16() or name != "trainer bf16"]
    seconds: dict[str, list[float]] = {name: [] for name in names}
    with TemporaryDirectory() as directory, chdir(directory):
        for _ in range(options.repeats):
            for name in names:
                command = [sys.executable, "-m", "benchmarks.epoch", "--measure", name, directory]
                process = run([*command, "--images", str(options.images)], str(ROOT))
                seconds[name].append(float(process.output.split()[-1]))

    print(f"One epoch of {options.images:,} images, seconds over {options.repeats} rounds\n")
    print(table([["", *SPREAD], *([name, *spread(times)] for name, times in seconds.items())]))
    ratios = [
        ratio_row(f"{above} / {below}", seconds[above], seconds[below], bar)
        for (above, below), bar in BARS.items()
        if above in seconds
    ]
    print(f"\n{table([['ratio', *SPREAD, 'bar'], *ratios])}")
    print(footer())


if __name__ == "__main__":
    main()
