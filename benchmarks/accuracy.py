"""How accurate a configuration becomes: it is trained with several seeds, and each run is tested.

Every seed is a real ``python -m mnist_lit fit`` in a process of its own, with ``--name accuracy``,
followed by ``python -m mnist_lit test`` of the checkpoint that this run names: ``best.ckpt``, of
the epoch with the least validation loss (``last.ckpt`` where nothing is held out, or with
``--last``). The test images choose nothing. A row gives the epoch the checkpoint comes from, test
accuracy and errors out of 10,000, mean test loss in nats, calibration error, and the minutes of
the ``fit`` from command to end; beneath stand the mean and the sample standard deviation (n - 1)
over the seeds.

Options after ``--`` go to ``fit``, as in ``accuracy.py -- --trainer.max_epochs 2``.

What this does not show: the spread over validation splits, which the seed does not move, or over
processors, whose rounding differs; speed (epoch.py), for the minutes are of one run each.
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.common import ROOT, footer, machine, table
from mnist_lit.checkpoints import load_checkpoint
from mnist_lit.runs.directories import run_of

HEAD = ["seed", "epoch", "test accuracy", "errors", "test loss", "calibration error", "minutes"]


def command(*args: str) -> str:
    """Run a command of ``mnist_lit``; give what it printed."""
    line = [sys.executable, "-m", "mnist_lit", *args]
    done = subprocess.run(line, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"{done.stdout}{' '.join(line)} ended with status {done.returncode}")
    return done.stdout


def train_and_test(seed: int, fit: list[str], directory: Path, last: bool) -> dict[str, Any]:
    """Train with one seed and test its checkpoint."""
    start = time.perf_counter()
    root = ["--trainer.default_root_dir", str(directory)]
    said = command("fit", *fit, *root, "--name", "accuracy", "--seed_everything", str(seed))
    minutes = (time.perf_counter() - start) / 60
    checkpoint = ROOT / re.findall(r"^Checkpoint: (.+)$", said, re.MULTILINE)[-1]
    if last:
        checkpoint = checkpoint.with_name("last.ckpt")
    command("test", "--ckpt_path", str(checkpoint), *root)
    results = json.loads((run_of(checkpoint) / "test.json").read_text())
    return {
        "seed": seed,
        "epoch": load_checkpoint(checkpoint)["epoch"] + 1,
        **{name: results[name] for name in ("accuracy", "errors", "loss", "calibration_error")},
        "minutes": minutes,
        "checkpoint": str(checkpoint.resolve()),
        "sha256": results["sha256"],
    }


def cells(name: str, figures: dict[str, Any], digits: int = 0) -> list[str]:
    """A row of the table; counts with so many decimal places."""
    return [
        name,
        f"{figures['epoch']:.{digits}f}",
        f"{figures['accuracy']:.{2 + digits}%}",
        f"{figures['errors']:.{digits}f}",
        f"{figures['loss']:.4f}",
        f"{figures['calibration_error']:.4f}",
        f"{figures['minutes']:.1f}",
    ]


def parsed() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4], help="default: 0 to 4"
    )
    parser.add_argument(
        "--config",
        nargs="+",
        default=["configs/default.yaml"],
        metavar="FILE",
        help="default: configs/default.yaml",
    )
    parser.add_argument(
        "--last", action="store_true", help="test the last checkpoint, not the best"
    )
    parser.add_argument("--dir", type=Path, help="where the runs stay (default: a temporary one)")
    parser.add_argument("--output", type=Path, help="also write the figures here, as JSON")
    parser.add_argument("extra", nargs="*", help="after --: options of fit")
    return parser.parse_args()


def main() -> None:
    """Train, test, and print the table."""
    options = parsed()
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)  # rather now than after an hour
    configs = [str(Path(config).resolve()) for config in options.config]
    fit = [*(arg for config in configs for arg in ("--config", config)), *options.extra]
    directory = (options.dir or Path(tempfile.mkdtemp(prefix="accuracy_"))).resolve()

    rows = []
    for seed in options.seeds:
        rows.append(train_and_test(seed, fit, directory, options.last))
        print(f"seed {seed}: {rows[-1]['errors']} errors", file=sys.stderr, flush=True)
    figures = ("epoch", "accuracy", "errors", "loss", "calibration_error", "minutes")
    columns = {name: [row[name] for row in rows] for name in figures}
    summary = {"mean": {name: statistics.mean(column) for name, column in columns.items()}}
    if len(rows) > 1:
        summary["sd"] = {name: statistics.stdev(column) for name, column in columns.items()}

    print(f"{' '.join(options.config)}, n = {len(rows)} seeds; runs in {directory}\n")
    table_rows = [HEAD, *(cells(str(row["seed"]), row) for row in rows)]
    print(table([*table_rows, *(cells(name, row, 1) for name, row in summary.items())]))
    print(footer())
    if options.output:
        report = {**machine(), "fit": fit, "rows": rows, **summary}
        options.output.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
