"""Where the seconds of an epoch go, and what share of the processor's peak they use.

``fit`` with ``configs/default.yaml``, or with the files of ``--config``, runs in this process on
the CPU, with the loggers and callbacks that it has by default and its output going to a file; some
batches of its first epoch are measured after 50 that are not. Every round multiplies matrices,
trains without a profiler, and trains with torch's; a run that comes before is not counted.

- "Where an epoch goes": a share is the time within operators of that kind, by the profiler, over
  the time of the profiled batches. An operator within one of another kind counts for the inner.
  "the rest" is what lies outside of them: Python, Lightning, metrics, logging, other operators.
  ``seconds`` are the share times the epoch without a profiler, whose own cost is in the shares:
  the line beneath says how much longer the profiled batches took. It makes the rest look larger.
- "Share of the peak": floating-point operations (two for a multiplication with an addition) of
  convolutions and matrix products, forward and backward, as torch counts them over one step, over
  what the peak would do in the same seconds. The peak is that of square float32 matrices of
  ``torch.matmul`` on as many threads, the best of many, measured just before.

What this does not show: a GPU, validation and checkpoints, or operations other than those counted.
With ``configs/fast.yaml`` the peak is still float32's, and bfloat16 may pass it.
"""

import argparse
import os
import statistics
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.common import SPREAD, footer, ratio_row, spread, table

if TYPE_CHECKING:
    from benchmarks.anatomy import Round

BAR = 0.6  # share of the peak


def main() -> None:
    """Measure, and print the tables."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # or the profiler tells of its starts and stops
    from benchmarks.anatomy import measure  # imports torch: see above and below

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5, help="rounds (default: 5)")
    parser.add_argument("--batches", type=int, default=400, help="a round (default: 400)")
    parser.add_argument(
        "--config",
        nargs="+",
        default=["configs/default.yaml"],
        metavar="FILE",
        help="default: configs/default.yaml",
    )
    options = parser.parse_args()
    configs = [str(Path(config).resolve()) for config in options.config]
    flops, rounds = measure(configs, options.batches, options.repeats)

    print(f"{' '.join(options.config)}, {options.batches} batches a round, {len(rounds)} rounds\n")
    print_tables(flops, rounds)
    print(footer())


def print_tables(flops: float, rounds: list["Round"]) -> None:
    """Print where an epoch goes, and its share of the processor's peak."""
    epochs = [each.epoch for each in rounds]
    middle = statistics.median(epochs)
    print("Where an epoch goes\n")
    rows = [["%", *SPREAD, "seconds"]]
    for kind in rounds[0].shares:
        shares = [100 * each.shares[kind] for each in rounds]
        seconds = middle * statistics.median(shares) / 100
        rows.append([kind, *spread(shares, 1), f"{seconds:.2f}"])
    print(table(rows))
    slower = statistics.median(each.profiled / each.epoch for each in rounds)
    print(f"\nwith the profiler an epoch takes {slower:.2f} times as long\n\nShare of the peak\n")
    peaks = [each.peak for each in rounds]
    print(
        table(
            [
                ["", *SPREAD, "bar"],
                ["peak, GFLOP/s", *spread([peak / 1e9 for peak in peaks], 0), ""],
                ["an epoch, GFLOP", *spread([flops / 1e9], 0), ""],
                ["an epoch, seconds", *spread(epochs), ""],
                ratio_row("share", [flops / epoch for epoch in epochs], peaks, BAR),
            ]
        )
    )


if __name__ == "__main__":
    main()
