"""How long the commands take to start, and how much memory a training needs at its peak.

Whole processes, in turn, after one round that is not counted (it fills the disk cache and writes
the bytecode). Seconds run from just before the process is made to its end, as its parent sees it:

- ``fit, first step``: ``python -m mnist_lit fit --config configs/default.yaml`` until the first
  step of the optimizer is done, where a callback notes the time and ends the process. The data
  lies unpacked already.
- ``imports``: ``python -c "import lightning.pytorch.cli, torchvision"``, which ``fit`` cannot do
  without. Its end includes the interpreter's clean-up, which takes a second and 100 MB and which
  ``fit, first step`` leaves out; so ``imports, no clean-up``, which ends in the same abrupt way,
  stands beside it: the stricter of the two to compare with.
- ``fit --help``: ``python -m mnist_lit fit --help``, with the interpreter's clean-up.
- ``help``: ``python -m mnist_lit --help``.
- ``python``: ``python -c pass``.
- ``fit, 200 batches``: one epoch cut to 200 batches, with the whole validation and checkpoints.

Beneath stands where the seconds of a ``fit`` go until its first step is done, stage by stage, in
one more process a round (stages.py). "data" includes what the callbacks set up.

MB are 10^6 bytes of resident memory at the peak, shared libraries included, from the kernel
(``wait4``). A ratio or difference is taken within a round.

What this does not show: the first start after a boot or an installation, the 0.5 s or so of
unpacking the data the first time, memory on a GPU, or how memory grows with larger batches.
"""

import argparse
import os
import re
import sys
from collections.abc import Sequence
from itertools import pairwise
from tempfile import TemporaryDirectory
from typing import NamedTuple

from benchmarks.common import ROOT, SPREAD, footer, ratio_row, run, spread, table

IMPORTS = "import lightning.pytorch.cli, torchvision"
BARS = (
    ("fit, first step", "imports", 1.25),
    ("fit, first step", "imports, no clean-up", None),
    ("fit --help", "imports", 1.15),
    ("fit --help", "imports, no clean-up", None),
    ("help", "python", 6),
)
MEMORY_BAR = 400  # MB


class Start(NamedTuple):
    """What a process took, and what it noted: the times since its start by which stages ended."""

    seconds: float
    megabytes: float
    ends: dict[str, float]


def start(args: list[str]) -> Start:
    """Run python to its end or that of its first step."""
    process = run([sys.executable, *args], str(ROOT.resolve()))  # for clocks
    noted = re.findall(r"^(.+) ended at (.+)$", process.output, re.MULTILINE)
    ends = {stage: float(at) - process.begun for stage, at in noted}
    seconds = ends.get("first step", process.ended - process.begun)
    return Start(seconds, process.megabytes, ends)


def stages_table(processes: Sequence[Start]) -> str:
    """Lay out how long each stage took, of the same ones in every process."""
    rows = [["stage", *(f"{head} s" for head in SPREAD)]]
    for before, stage in pairwise(["", *processes[0].ends]):
        took = [each.ends[stage] - each.ends.get(before, 0) for each in processes]
        rows.append([stage, *spread(took)])
    return table(rows)


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5, help="rounds (default: 5)")
    options = parser.parse_args()
    with TemporaryDirectory() as directory:
        os.chdir(directory)
        fit = ["-m", "mnist_lit", "fit", "--config", f"{ROOT}/configs/default.yaml"]
        short = ["--trainer.max_epochs", "1", "--trainer.limit_train_batches", "200"]
        commands = {
            "fit, first step": [*fit, "--trainer.callbacks+=benchmarks.clocks.FirstStep"],
            "imports": ["-c", IMPORTS],
            "imports, no clean-up": ["-c", f"{IMPORTS}, os; os._exit(0)"],
            "fit --help": ["-m", "mnist_lit", "fit", "--help"],
            "help": ["-m", "mnist_lit", "--help"],
            "python": ["-c", "pass"],
            "fit, 200 batches": [*fit, *short],
            "stages": ["-m", "benchmarks.stages", *fit[3:]],
        }
        start(["-c", "from mnist_lit.assets import *; unpack(Path('data'))"])
        rounds = [
            {name: start(args) for name, args in commands.items()}
            for _ in range(options.repeats + 1)
        ][1:]
    print_tables(rounds)


def print_tables(rounds: list[dict[str, Start]]) -> None:
    """Print what the rounds measured of each command, by its name."""
    names = [*rounds[0]]
    seconds = {name: [measured[name].seconds for measured in rounds] for name in names}
    memory = {name: [measured[name].megabytes for measured in rounds] for name in names}
    stages = [measured["stages"] for measured in rounds]

    print(f"Whole processes, {len(rounds)} rounds\n")
    rows = [["", *(f"{head} s" for head in SPREAD), "peak MB", "min", "max"]]
    rows += [
        [name, *spread(seconds[name]), *spread(memory[name], 0)]
        for name in names
        if name != "stages"
    ]
    ratios = [
        ratio_row(f"{above} / {below}", seconds[above], seconds[below], bar)
        for above, below, bar in BARS
    ]
    print(table(rows), table([["ratio", *SPREAD, "bar"], *ratios]), sep="\n\n")
    extra = [["peak MB", *SPREAD, "bar"]]
    for name in ("imports", "imports, no clean-up"):
        pairs = zip(memory["fit, 200 batches"], memory[name], strict=True)
        difference = spread([fit_peak - imports_peak for fit_peak, imports_peak in pairs], 0)
        extra.append([f"fit, 200 batches - {name}", *difference, f"{MEMORY_BAR}"])
    print()
    print(table(extra), "From the command to the first step", stages_table(stages), sep="\n\n")
    print(footer())


if __name__ == "__main__":
    main()
