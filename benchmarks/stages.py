"""A ``fit`` that notes the time at the end of each stage of its start, and ends after one step.

startup.py runs it as a process: ``python -m benchmarks.stages --config FILE``. A stage ends where
the first call of the next one begins; each is printed with the time, in seconds since the epoch.
"""

import gc
import os
import sys
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any

# What a stage ends with: a class, where it lies, and the method that is called next.
ENDS = {
    "options": ("mnist_lit.training.command.RunCLI", "instantiate_classes"),
    "network and trainer": ("mnist_lit.training.command.RunCLI", "fit"),
    "run directory, loggers": ("mnist_lit.data.MNISTDataModule", "prepare_data"),
    "data": ("mnist_lit.module.DigitClassifier", "configure_optimizers"),
    "first validation, loops": ("mnist_lit.module.DigitClassifier", "training_step"),
    "first step": ("mnist_lit.training.progress.EpochLines", "on_train_batch_end"),
}


def note(stage: str) -> None:
    """Print that a stage has ended."""
    print(f"{stage} ended at {time.time()}", flush=True)


def noting(stage: str, method: Callable[..., Any]) -> Callable[..., Any]:
    """The method, which first notes the end of the stage before it."""

    def call(*args: Any, **kwargs: Any) -> Any:
        note(stage)
        if stage == "first step":
            os._exit(0)
        return method(*args, **kwargs)

    return call


def main() -> None:
    """Start ``fit`` as ``python -m mnist_lit`` does."""
    note("interpreter")
    gc.disable()
    import_module("lightning.pytorch.cli")
    import_module("torchvision")
    note("Lightning, torch, torchvision")
    cli = import_module("mnist_lit.training.command")
    gc.freeze()
    gc.enable()
    for stage, (path, method) in ENDS.items():
        module, _, name = path.rpartition(".")
        owner = getattr(import_module(module), name)
        setattr(owner, method, noting(stage, getattr(owner, method)))
    note("the other imports")
    cli.main(["fit", *sys.argv[1:]])


if __name__ == "__main__":
    main()
