"""This project beside what people would use instead, from the command to the trained network.

Every contender is a process of its own. Each round runs them all in turn, with the number of the
round as their seed; before the first one all run until their first step, which is not counted (it
fills the disk cache and writes the bytecode). All train on the same 55,000 images, the project's
validation images left out:

- ``mnist_lit``: ``python -m mnist_lit fit --config configs/default.yaml``, with torch's fused Adam.
- ``mnist_lit speedrun``: the same with ``configs/speedrun.yaml``, to the end of its schedule. Its
  network is smaller, and its recipe was made for this very goal, as none of the others was.
- ``tutorial``: plain PyTorch, as in epoch.py.
- ``usual_lightning``: a LightningModule with torchvision's transforms, loss and accuracy logged at
  every step, and Lightning's own bar, logger and checkpoints.
- ``keras_example``: Keras's "Simple MNIST convnet": another network, batches of 128; TensorFlow.
- ``keras_network``: the tutorial's network, optimizer and batches in Keras; TensorFlow.
- ``mlp``: scikit-learn's MLPClassifier as it is, one hidden layer: a floor.

Their sources in contenders/ follow the documentation of each. What they print goes to a file; on a
terminal a progress bar costs more. What the project does not have is installed once, into
benchmarks/.peers. How many threads they use is left to them: OMP_NUM_THREADS should be unset, for
it binds some of them and others not.

Each is tested on the 10,000 test images after every epoch. This is measuring, and chooses nothing
in any contender; its time is taken out of every figure. A process ends after the first epoch by
which it has reached 99.0 % and trained 5 epochs, or after 10; the speedrun runs its schedule.

- start-up: from just before the process is made until the first step of the optimizer is done (of
  the MLP, whose steps cannot be seen, until just before it).
- epoch: over the training batches alone, fetching them included, as in epoch.py: from the start of
  an epoch to the end of its last batch, with what Lightning and Keras log and count in that time.
  Validation and checkpoints are not in it. The median of the epochs after the first; of the
  speedrun that first, its only one.
- to 99.0 %: the sum of these seconds to the end of the first epoch after which test accuracy is at
  least 99.0 %, the first epoch included (in Keras that builds the graph); of the speedrun that of
  all its epochs, if it ends with so much.
- whole: from just before the process is made until that epoch is over, with start-up, validation
  and checkpoints, but not the clean-up at the process's end; of the speedrun the ordinary command
  up to its exit, whatever it reached.
- test: accuracy after 5 epochs, of the speedrun at its end.
- peak: 10^6 bytes of resident memory, shared libraries and the tests included (``wait4``).

A cell is the median over the rounds, with the least and the greatest. A round without 99.0 %
counts as ``never``, longer than any; ``-`` means never in all of them. Ratios are taken within a
round. The second one sets a whole command beside the tutorial's training alone, without its
start-up: that is stricter than beside its whole process. Where the tutorial does not get to 99.0 %
its ten epochs stand for it, and a line says so.

What this does not show: a GPU, what tuning would make of each contender, the spread of accuracy
over many seeds (accuracy.py), or the first start after an installation.
"""

import argparse
import json
import math
import os
import statistics
import sys
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.common import (
    ROOT,
    SPREAD,
    Process,
    footer,
    machine,
    make_environment,
    pinned,
    ratio_row,
    run,
    table,
)
from benchmarks.contenders.diary import EPOCHS, GOAL

HERE = ROOT.resolve() / "benchmarks" / "contenders"
PEERS = HERE.parent / ".peers"
PEERS_PYTHON = f"{PEERS}/bin/python"
PINS = HERE / "requirements.txt"
PYTHONPATH = f"{HERE}{os.pathsep}{ROOT.resolve()}"
OURS, SPEEDRUN, TUTORIAL = "mnist_lit", "mnist_lit speedrun", "tutorial"
FIT = [sys.executable, "-m", "mnist_lit", "fit", "--config"]
SCRIPT = ["{seed}", "{epochs}"]
WITNESS = ["--trainer.callbacks+=lightning_diary.Witness", "--trainer.callbacks.epochs={epochs}"]
WITNESS += ["--seed_everything={seed}"]
CONTENDERS = {
    OURS: [*FIT, f"{ROOT}/configs/default.yaml", *WITNESS],
    SPEEDRUN: [*FIT, f"{ROOT}/configs/speedrun.yaml", *WITNESS, "--trainer.callbacks.fixed=true"],
    TUTORIAL: [sys.executable, f"{HERE}/tutorial.py", *SCRIPT],
    "usual_lightning": [sys.executable, f"{HERE}/usual_lightning.py", *SCRIPT],
    "keras_example": [PEERS_PYTHON, f"{HERE}/keras_example.py", *SCRIPT],
    "keras_network": [PEERS_PYTHON, f"{HERE}/keras_network.py", *SCRIPT],
    "mlp": [PEERS_PYTHON, f"{HERE}/mlp.py", *SCRIPT],
}
TO_GOAL = "to 99.0 % s"
COLUMNS = {  # of the table, with their decimal places
    "start-up s": 1,
    "epoch s": 1,
    TO_GOAL: 1,
    "whole s": 1,
    "test %": 2,
    "peak MB": 0,
}


def contend(command: list[str]) -> tuple[Process, list[dict[str, Any]]]:
    """Run a contender in this directory; give the process and its diary."""
    diary = Path("diary.jsonl")
    diary.unlink(missing_ok=True)
    process = run(command, PYTHONPATH)
    return process, [json.loads(line) for line in diary.open()]


def figures(name: str, process: Process, notes: list[dict[str, Any]]) -> dict[str, Any]:
    """What a contender's diary comes to: its cells of the table, and its epochs."""
    begun = process.begun
    first, begins, trained, ends = (
        [note["at"] for note in notes if note["event"] == event]
        for event in ("first step", "begin", "trained", "end")
    )
    tests = [(before, note) for before, note in pairwise(notes) if note["event"] == "tested"]
    measuring = [note["at"] - before["at"] for before, note in tests]
    accuracies = [note["accuracy"] for _, note in tests]
    epochs = [end - start for start, end in zip(begins, trained, strict=True)]
    if name == SPEEDRUN:
        needed = len(epochs) if accuracies[-1] >= GOAL else 0
        whole = process.ended - begun - sum(measuring)
    else:
        reached = (i for i, accuracy in enumerate(accuracies, 1) if accuracy >= GOAL)
        needed = next(reached, 0)
        over = [*begins[1:], *ends][needed - 1]
        whole = over - begun - sum(measuring[:needed]) if needed else None
    return {
        "start-up s": first[0] - begun,
        "epoch s": statistics.median(epochs[1:] or epochs),
        TO_GOAL: sum(epochs[:needed]) if needed else None,
        "whole s": whole,
        "test %": 100 * (accuracies[-1] if name == SPEEDRUN else accuracies[:EPOCHS][-1]),
        "peak MB": process.megabytes,
        "epochs": epochs,
        "accuracies": accuracies,
        "measuring": measuring,
    }


def cell(values: Sequence[float | None], digits: int) -> str:
    """The median, with the least and the greatest; None is longer than any."""
    known = [math.inf if value is None else value for value in values]
    if min(known) == math.inf:
        return "-"
    three = (statistics.median(known), min(known), max(known))
    middle, least, most = ("never" if v == math.inf else f"{v:.{digits}f}" for v in three)
    return f"{middle} ({least}-{most})"


def ratios(rounds: list[dict[str, dict[str, Any]]]) -> str:
    """The table of ratios, of those contenders that have run."""
    if TUTORIAL not in rounds[0]:
        return ""
    tutorials = [measured[TUTORIAL] for measured in rounds]
    needs = [each[TO_GOAL] or sum(each["epochs"]) for each in tutorials]
    rows, notes = [["ratio", *SPREAD, "bar"]], []
    if SPEEDRUN in rounds[0]:
        runs = [measured[SPEEDRUN] for measured in rounds]
        training, whole = ([sum(r["epochs"]) for r in runs], [r["whole s"] for r in runs])
        rows.append(ratio_row("speedrun, training / tutorial, to 99.0 %", training, needs, 0.06))
        rows.append(ratio_row("speedrun, whole / tutorial, to 99.0 %", whole, needs, 0.2))
        for i, (speedrun, tutorial) in enumerate(zip(runs, tutorials, strict=True), 1):
            if not tutorial[TO_GOAL]:
                notes.append(f"round {i}: the tutorial would need at least what it was given")
            if not speedrun[TO_GOAL]:
                notes.append(f"round {i}: the speedrun ended below 99.0 %")
    if OURS in rounds[0]:
        ours, theirs = ([r[name]["epoch s"] for r in rounds] for name in (OURS, TUTORIAL))
        rows.append(ratio_row("mnist_lit, epoch / tutorial, epoch", ours, theirs, None))
    return "\n".join([table(rows), *notes]) if len(rows) > 1 else ""


def measure(names: Sequence[str], count: int, epochs: int) -> Iterator[list[dict[str, Any]]]:
    """Give, after each round, the figures of each contender in each round so far."""
    rounds: list[dict[str, Any]] = []
    with TemporaryDirectory() as directory:
        os.chdir(directory)
        run([sys.executable, f"{HERE}/images.py"], PYTHONPATH)
        for name in names:  # until their first step
            contend([part.format(seed=0, epochs=0) for part in CONTENDERS[name]])
        for seed in range(1, count + 1):
            rounds.append({})
            for name in names:
                command = [part.format(seed=seed, epochs=epochs) for part in CONTENDERS[name]]
                rounds[-1][name] = found = figures(name, *contend(command))
                print(
                    f"round {seed}, {name}: {len(found['epochs'])} epochs of"
                    f" {found['epoch s']:.1f} s, {found['test %']:.2f} %",
                    file=sys.stderr,
                    flush=True,
                )
            yield rounds
        os.chdir(ROOT)


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="default: 3")
    parser.add_argument(
        "--only", nargs="+", choices=CONTENDERS, default=[*CONTENDERS], help="default: all"
    )
    parser.add_argument(
        "--epochs", type=int, default=10, choices=range(1, 11), help="at most; fewer for a try"
    )
    parser.add_argument(
        "--output", type=Path, help="write the figures here, as JSON, after each round"
    )
    options = parser.parse_args()
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)  # rather now than after an hour
    output = options.output and options.output.resolve()
    names = [name for name in CONTENDERS if name in options.only]
    if any(CONTENDERS[name][0] == PEERS_PYTHON for name in names):
        make_environment(PEERS, PINS)
    peers = pinned(PINS)
    for rounds in measure(names, options.rounds, options.epochs):
        if output:
            report = {**machine(), "peers": peers, "rounds": rounds}
            output.write_text(json.dumps(report, indent=2) + "\n")

    rows = [
        [name, *(cell([r[name][c] for r in rounds], digits) for c, digits in COLUMNS.items())]
        for name in names
    ]
    print(f"Median (least-greatest) over {options.rounds} rounds\n")
    print(table([["", *COLUMNS], *rows]))
    if found := ratios(rounds):
        print(f"\n{found}")
    print(footer(), f"{'peers':9}  {peers}", sep="\n")


if __name__ == "__main__":
    main()
