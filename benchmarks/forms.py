"""How well each form of the digits is read, in hands that vary more than those of training.

The forms are those of ``mnist_lit/augment/forms.py``, drawn with ``VALIDATION_PEN`` and with seeds
that no training uses. Beside the share that is read right stands what the others were taken for.

What this does not show: how well people's handwriting is read.
"""

import argparse
import sys
from pathlib import Path

import torch

from benchmarks.common import footer, table
from mnist_lit.augment.forms import FORMS
from mnist_lit.augment.pen import VALIDATION_PEN, draw
from mnist_lit.errors import exit_status
from mnist_lit.reading.reader import Reader

SEED = 17_000_000  # of the first form


def main() -> None:
    """Draw the forms, classify them, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=200, help="images of each form")
    parser.add_argument("--model", type=Path, help="default: the one in the package")
    options = parser.parse_args()
    reader = Reader(options.model)
    rows, shares = [["", "right", "taken for"]], []
    for index, form in enumerate(FORMS):
        generator = torch.Generator().manual_seed(SEED + index)
        images = draw(torch.full((options.count,), index), VALIDATION_PEN, generator)
        logits, _ = reader.classify(images.squeeze(1).numpy())
        counts = torch.from_numpy(logits).argmax(1).bincount(minlength=10)
        shares.append(counts[form.digit].item() / options.count)
        counts[form.digit] = 0
        others = [f"{digit} ({n})" for digit, n in enumerate(counts.tolist()) if n]
        rows.append([str(form), f"{shares[-1]:.1%}", ", ".join(others)])
    rows.append(["mean", f"{sum(shares) / len(shares):.2%}", ""])
    print(table(rows))
    print(footer())


if __name__ == "__main__":
    sys.exit(exit_status(main))
