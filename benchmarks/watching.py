"""What it costs to watch a run: the share of an epoch that pictures and records take.

``fit --config configs/default.yaml`` runs for some epochs, with everything that it logs and draws
by default and its output going to a file. Clocks around the hooks that do so add up their time;
an epoch lasts from the start of its training to that of the next, validation and checkpoints
included. The shares are taken within an epoch, the table gives their median.

What this does not show: the thread in which TensorBoard writes its files, and the scalars that
Lightning logs in either case (the trainer's figure in epoch.py includes them).
"""

import argparse
import gc
import io
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import redirect_stdout
from itertools import pairwise
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.common import ROOT, SPREAD, footer, spread, table
from mnist_lit import module
from mnist_lit.training import command
from mnist_lit.training.progress import EpochLines, GradientNorm, Throughput
from mnist_lit.training.run_record import RunRecord

BAR = 5  # % of an epoch
WATCHERS: list[tuple[str, object, str]] = [
    ("pictures and curves", command, "draw_validation"),
    ("state of the run", RunRecord, "on_train_epoch_end"),
    ("gradient norm", GradientNorm, "on_before_optimizer_step"),
    ("evaluation", module, "evaluate"),
    ("images per second", Throughput, "on_train_batch_end"),
]


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=10, help="(default: 10)")
    epochs, spent = watched(parser.parse_args().epochs)
    shares = {
        name: [100 * seconds[i] / epoch for i, epoch in enumerate(epochs)]
        for name, seconds in spent.items()
    }
    shares["together"] = [sum(each) for each in zip(*shares.values(), strict=True)]
    print(f"% of an epoch, {spread(epochs)[0]} s, over {len(epochs)} epochs\n")
    rows = [[name, *spread(values), ""] for name, values in shares.items()]
    rows[-1][-1] = str(BAR)
    print(table([["", *SPREAD, "bar"], *rows]))
    print(footer())


def watched(epochs: int) -> tuple[list[float], dict[str, dict[int, float]]]:
    """Train; give the seconds of each epoch, and of each watcher by the number of the epoch."""
    starts: list[float] = []  # of the epochs, and the end of the last
    spent: dict[str, dict[int, float]] = {name: defaultdict(float) for name, *_ in WATCHERS}

    def clocked(hook: Callable[..., None], seconds: dict[int, float]) -> Callable[..., None]:
        def run(*args: Any, **kwargs: Any) -> None:
            start = time.perf_counter()
            hook(*args, **kwargs)
            seconds[len(starts) - 1] += time.perf_counter() - start

        return run

    for name, owner, hook in WATCHERS:
        setattr(owner, hook, clocked(getattr(owner, hook), spent[name]))

    def note(hook: Callable[..., None]) -> Callable[..., None]:
        def run(*args: Any) -> None:
            starts.append(time.perf_counter())
            hook(*args)

        return run

    for hook in ("on_train_epoch_start", "on_train_end"):
        setattr(EpochLines, hook, note(getattr(EpochLines, hook)))
    gc.freeze()  # as the command does after its imports
    args = ["fit", "--config", f"{ROOT}/configs/default.yaml"]
    args += ["--trainer.max_epochs", str(epochs)]
    with TemporaryDirectory() as directory, redirect_stdout(io.StringIO()):
        place = ["--data.data_dir", f"{directory}/data", "--trainer.default_root_dir", directory]
        command.main([*args, *place])

    return [end - start for start, end in pairwise(starts)], spent


if __name__ == "__main__":
    main()
