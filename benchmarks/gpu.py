"""How long an epoch takes on a GPU: the tutorial's loop, and fit with each configuration.

Each contender trains on the same 55,000 images, one GPU, in a process of its own, one after
another. A process trains one epoch to warm up, which also pays for CUDA's start, cuDNN's choices
and compilation, and then those that are counted; the table gives their median, least and greatest.

- ``tutorial``: contenders/tutorial.py, plain PyTorch as tutorials have it, images and network moved
  to the GPU, batches of 64 out of a DataLoader without workers.
- ``default``, ``strong``, ``speedrun``: ``fit`` with the file of that name in configs/ (strong on
  top of default), with the run directory, loggers and checkpoints that it has by default, its
  output going to a file. Batches of 64, 256 and 320. ``fast`` is default with configs/fast.yaml.
- ``strong-average-on-gpu``: Lightning keeps averaged weights in the CPU's memory unless told
  otherwise; here it is told.
- ``default-compiled``: with ``--model.compile true``, and an empty cache of torch's compiler. What
  its warm-up takes longer than that of ``default`` is the compile time.

The clock runs from the start of an epoch to the end of its last batch, when the GPU has done its
work. The tutorial does not wait for the GPU there, which can spare it some milliseconds. There is
no validation, and checkpoints are written between the epochs. The learning-rate schedules of
strong and speedrun are made for the number of epochs trained here. ``peak MB`` is what torch has
reserved of the GPU's memory.

What this does not show: several GPUs, other batch sizes, start-up, or how accurate the networks
become.
"""

import argparse
import json
import os
import re
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from benchmarks.common import ROOT, SPREAD, answer, footer, run, spread, table

IMAGES = 55_000
HERE = ROOT.resolve() / "benchmarks"
PYTHONPATH = os.pathsep.join(
    [str(HERE / "contenders"), str(ROOT.resolve()), os.environ.get("PYTHONPATH", "")]
)
TUTORIAL, COMPILED = "tutorial", "default-compiled"
CONFIG = f"--config={ROOT.resolve()}/configs"
DEFAULT, STRONG = [f"{CONFIG}/default.yaml"], [f"{CONFIG}/default.yaml", f"{CONFIG}/strong.yaml"]
CONTENDERS = {  # options of fit
    TUTORIAL: [],
    "default": DEFAULT,
    "fast": [*DEFAULT, f"{CONFIG}/fast.yaml"],
    "strong": STRONG,
    "speedrun": [f"{CONFIG}/speedrun.yaml"],
    COMPILED: [*DEFAULT, "--model.compile=true"],
    "strong-average-on-gpu": [*STRONG, "--trainer.callbacks.device=cuda"],
}


class Epochs(NamedTuple):
    """Seconds of the warm-up, of the epochs that count, and the GPU's peak in MB, if known."""

    first: float
    seconds: list[float]
    peak: str


def measure(name: str, epochs: int, more: Sequence[str]) -> Epochs:
    """Run a contender in this directory, for a warm-up and as many epochs."""
    if name == TUTORIAL:
        run([sys.executable, f"{HERE}/contenders/tutorial.py", "0", f"{epochs + 1}"], PYTHONPATH)
        notes = [json.loads(line) for line in Path("diary.jsonl").read_text().splitlines()]
        begun, ended = (
            [note["at"] for note in notes if note["event"] == event]
            for event in ("begin", "trained")
        )
        first, *seconds = (end - begin for begin, end in zip(begun, ended, strict=True))
        return Epochs(first, seconds, "-")
    command = [sys.executable, "-m", "mnist_lit", "fit", *CONTENDERS[name]]
    command += [
        "--trainer.callbacks+=benchmarks.clocks.DeviceEpochs",
        f"--trainer.max_epochs={epochs + 1}",
    ]
    command += ["--trainer.limit_val_batches=0", "--trainer.devices=1", "--seed_everything=0"]
    output = run([*command, *more], PYTHONPATH).output
    first, *seconds = map(float, re.findall(r"^epoch took (\S+) s$", output, re.MULTILINE))
    [peak] = re.findall(r"^device peak (\S+) MB$", output, re.MULTILINE) or ["nan"]
    return Epochs(first, seconds, f"{float(peak):.0f}")


def report(measured: dict[str, Epochs]) -> str:
    """The table of the contenders measured so far."""
    rows = [["", "warm-up", *SPREAD, "images/s", "over tutorial", "peak MB"]]
    beside = measured.get(TUTORIAL)
    for name, (first, seconds, peak) in measured.items():
        middle = statistics.median(seconds)
        ratio = f"{middle / statistics.median(beside.seconds):.3f}" if beside else "-"
        rate = f"{IMAGES / middle:,.0f}"
        rows.append([name, f"{first:.2f}", *spread(seconds), rate, ratio, peak])
    lines = [f"One epoch of {IMAGES:,} images on a GPU, seconds\n", table(rows)]
    if {"default", COMPILED} <= measured.keys():
        took = measured[COMPILED].first - measured["default"].first
        lines.append(f"\ncompile time, seconds: {took:.1f}")
    return "\n".join(lines)


def gpu() -> str:
    """Name, driver and memory of the GPUs, a line each."""
    query = "--query-gpu=name,driver_version,memory.total"
    return answer("nvidia-smi", query, "--format=csv,noheader") or "unknown"


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=3, help="that count (default: 3)")
    parser.add_argument(
        "--only", nargs="+", choices=CONTENDERS, default=[*CONTENDERS], help="default: all"
    )
    parser.add_argument("--output", type=Path, help="write the table here after each contender")
    parser.add_argument("--cpu", action="store_true", help="try the script: a few steps, no GPU")
    options = parser.parse_args()

    import torch

    if not (torch.cuda.is_available() or options.cpu):
        print("no GPU here")
        return
    more = ["--trainer.accelerator=gpu"]
    if options.cpu:
        more = ["--trainer.accelerator=cpu", "--trainer.limit_train_batches=5"]
    output = options.output and options.output.resolve()
    measured, failed = measure_all(options.only, options.epochs, more, output)
    text = f"{report(measured)}\n{footer()}\n{'cuda':9}  {torch.version.cuda}\n{'gpu':9}  {gpu()}"
    print(text)
    if output:
        output.write_text(text + "\n")
    if failed:
        sys.exit(f"These failed, see above: {', '.join(failed)}")


def measure_all(
    names: Sequence[str], epochs: int, more: list[str], output: Path | None
) -> tuple[dict[str, Epochs], list[str]]:
    """Measure the contenders, with a report after each; also give the names of those that fail."""
    measured: dict[str, Epochs] = {}
    failed = []
    with TemporaryDirectory() as directory:
        os.chdir(directory)
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = f"{directory}/compiled"  # earlier ones do not count
        run([sys.executable, f"{HERE}/contenders/images.py"], PYTHONPATH)
        for name in names:
            try:
                measured[name] = measure(name, epochs, more)
            except SystemExit as error:  # the others are worth measuring all the same
                failed.append(name)
                print(error, file=sys.stderr)
            else:
                print(f"{name}: {measured[name]}", file=sys.stderr, flush=True)
            if output and measured:
                output.write_text(report(measured) + "\n")
        os.chdir(ROOT)
    return measured, failed


if __name__ == "__main__":
    main()
