"""How well handwriting is read: a folder of pictures whose names begin with what is written there.

``4_anna.png`` shows a 4 and ``2025-photo.jpg`` the number 2025; other names are left out. Every
picture is read twice with the same model: by ``Reader``, and naively, for single digits only, as
most who try a network of MNIST's do: the gray picture is shrunk to 28x28 as it is, inverted if its
paper is light. A picture counts as right if all its digits are read, in order, and nothing else.

With their share stands the 95 % interval of Wilson (1927). Beneath: for each digit that is read
wrong, what it was taken for; the pictures read wrong; and how many of the right and of the wrong
ones have a doubtful digit.

What this does not show: handwriting that is not in the folder.
"""

import argparse
import re
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.common import footer, table
from mnist_lit.errors import InputError, exit_status
from mnist_lit.metrics import wilson_interval
from mnist_lit.reading.image_files import pictures_in
from mnist_lit.reading.pictures import open_picture
from mnist_lit.reading.reader import Reader


def shrunk(path: Path) -> np.ndarray:
    """A picture as ``float32 (28, 28)`` in [0, 1], shrunk as it is."""
    gray = Image.fromarray(open_picture(path)).convert("L").resize((28, 28), Image.Resampling.BOX)
    ink = np.asarray(gray, np.float32) / 255
    return 1 - ink if ink.mean() > 0.5 else ink


def row(name: str, right: int, count: int) -> list[str]:
    """A row of the table."""
    low, high = (bound.item() for bound in wilson_interval(torch.tensor(right / count), count))
    return [name, f"{right:,}", f"{count:,}", f"{right / count:.2%}", f"{low:.2%} to {high:.2%}"]


def main() -> None:
    """Read the folder, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", type=Path, help="default: the one in the package")
    options = parser.parse_args()
    reader = Reader(options.model)
    pictures, _ = pictures_in(options.folder)
    truths = {path: match[0] for path in pictures if (match := re.match(r"\d+", path.name))}
    if not truths:
        raise InputError(
            f"No picture's name in {options.folder} begins with a digit.",
            "Name each after what is written there: 4_anna.png, 2025-photo.jpg.",
        )

    readings = {path: reader.read(path) for path in truths}
    texts = {path: "".join(reading.text.split()) for path, reading in readings.items()}
    wrong = [path for path, truth in truths.items() if texts[path] != truth]
    single = [path for path, truth in truths.items() if len(truth) == 1]
    rows = [["", "right", "of", "share", "95 % interval"]]
    if single:
        naive = reader.classify(np.stack([shrunk(path) for path in single]))[0].argmax(1)
        right = sum(str(digit) == truths[path] for path, digit in zip(single, naive, strict=True))
        rows.append(row("shrunk to 28x28", right, len(single)))
    rows.append(row("Reader", len(truths) - len(wrong), len(truths)))
    print(table(rows))

    mistakes = Counter(f"{truths[path]} as {texts[path] or 'nothing'}" for path in wrong)
    if wrong:
        print("\nwrong:", ", ".join(f"{what} ({n})" for what, n in mistakes.most_common()))
        print("files:", " ".join(path.name for path in wrong))
    for name, paths in (("right", truths.keys() - set(wrong)), ("wrong", wrong)):
        doubtful = sum(any(each.doubtful for each in readings[path].digits) for path in paths)
        print(f"doubtful among the {name}: {doubtful} of {len(paths)}")
    print(footer())


if __name__ == "__main__":
    sys.exit(exit_status(main))
