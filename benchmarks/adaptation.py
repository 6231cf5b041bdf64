"""How well a model adapts to one person's handwriting: the share of errors that remains.

A simulated hand writes each digit in one form, that of ``mnist_lit/augment/forms.py`` which the
packaged model reads worst, with a slant, a rotation or a breadth beyond those of training. It
gives 60 digits, and is measured on 600 others. With ``--sheets FOLDER``, in which the name of each
picture begins with its digit, 200 of these are given (the first twenty of each digit) and the
others measured. Each hand is learned by ``configs/adapt.yaml`` in a process of its own.

What this does not show: how it adapts to a real person; the hands are simulated, and the sheets
are by many writers.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks.common import ROOT, footer, table
from mnist_lit.augment.forms import FORMS
from mnist_lit.augment.pen import Pen, draw
from mnist_lit.data import DigitDataset, MNISTDataModule
from mnist_lit.module import DigitClassifier
from mnist_lit.own_digits.accuracy import Accuracy, accuracy
from mnist_lit.own_digits.adaptation import PACKAGED
from mnist_lit.own_digits.storage import OwnDigit, save
from mnist_lit.reading.image_files import pictures_in
from mnist_lit.reading.reader import Reader

GIVEN, UNSEEN = 6, 60  # of each digit
HANDS = {
    "leaning left": Pen(slant=(-0.9, -0.7)),
    "leaning right": Pen(slant=(0.8, 1.0)),
    "turned": Pen(rotation=(24, 30)),
    "broad and turned back": Pen(breadth=(2.0, 2.4), rotation=(-24, -18)),
}


def main() -> None:
    """Learn each hand, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sheets", type=Path, help="folder of single digits to learn, too")
    parser.add_argument("--data", type=Path, default=Path("data"), help="directory of MNIST")
    options = parser.parse_args()
    mnist = MNISTDataModule(str(options.data))
    mnist.prepare_data()
    for stage in ("fit", "test"):
        mnist.setup(stage)
    model = loaded(PACKAGED)
    head = ["", "given", "unseen", "before", "after", "errors, ratio"]
    head += ["MNIST val, points", "test", "seconds"]
    rows = [head]
    sources = {name: drawn(model, pen) for name, pen in HANDS.items()}
    if options.sheets:
        sources["sheets"] = glyphs(options.sheets)
    for name, (given, unseen) in sources.items():
        with tempfile.TemporaryDirectory() as directory:
            adapted, seconds = learned(given, Path(directory), options.data.resolve())
        before, after = (accuracy(each, unseen) for each in (model, adapted))
        lost = [
            100 * (accuracy(adapted, images).share - accuracy(model, images).share)
            for images in (mnist.val_set, mnist.test_set)
        ]
        rows.append(
            [
                *(name, f"{len(given)}", f"{len(unseen)}", share(before), share(after)),
                *(f"{(after.n - after.correct) / max(before.n - before.correct, 1):.2f}",),
                *(*(f"{points:+.2f}" for points in lost), f"{seconds:.0f}"),
            ]
        )
        print(table([head, rows[-1]]), flush=True)
    print(f"\n{table(rows)}\n{footer()}")


def share(result: Accuracy) -> str:
    """The share that was read right."""
    return f"{result.share:.1%}"


def loaded(path: Path) -> DigitClassifier:
    """A trained model, ready to evaluate."""
    return DigitClassifier.load_from_checkpoint(
        path, augmentation=None, optimizer=torch.optim.Adam, scheduler=None
    ).eval()


def drawn(model: DigitClassifier, pen: Pen) -> tuple[DigitDataset, DigitDataset]:
    """Digits by a hand: those it gives, and those it is measured on."""
    generator = torch.Generator().manual_seed(18_000_000)
    scores = []
    for index, form in enumerate(FORMS):
        images = written(torch.full((100,), index), pen, generator)
        scores.append(accuracy(model, DigitDataset(images, torch.full((100,), form.digit))).share)
    worst = [
        min((score, index) for index, score in enumerate(scores) if FORMS[index].digit == digit)[1]
        for digit in range(10)
    ]
    sets = []
    for count in (GIVEN, UNSEEN):
        forms = torch.tensor(worst).repeat(count)
        sets.append(DigitDataset(written(forms, pen, generator), torch.arange(10).repeat(count)))
    return sets[0], sets[1]


def written(forms: torch.Tensor, pen: Pen, generator: torch.Generator) -> torch.Tensor:
    """Images of forms, ``uint8 (n, 28, 28)``."""
    return (255 * draw(forms, pen, generator)).round().byte().squeeze(1)


def glyphs(folder: Path) -> tuple[DigitDataset, DigitDataset]:
    """The first twenty pictures of each digit, as they are read, and the others."""
    reader = Reader()
    images: list[np.ndarray] = []
    labels: list[int] = []
    for path in pictures_in(folder)[0]:
        if match := re.match(r"\d", path.name):
            found = reader.read(path).digits
            if found:
                largest = max(found, key=lambda digit: digit.box[3] - digit.box[1])
                images.append((255 * largest.glyph).round().astype(np.uint8))
                labels.append(int(match[0]))
    rank = [labels[:i].count(label) for i, label in enumerate(labels)]
    given = torch.tensor(rank) < 20
    all_images, all_labels = torch.from_numpy(np.stack(images)), torch.tensor(labels)
    return (
        DigitDataset(all_images[given], all_labels[given]),
        DigitDataset(all_images[~given], all_labels[~given]),
    )


def learned(given: DigitDataset, directory: Path, data: Path) -> tuple[DigitClassifier, float]:
    """Adapt the packaged model to digits; return the new one, and the seconds it took."""
    for image, label in zip(given.images.numpy(), given.labels.tolist(), strict=True):
        save(OwnDigit(image, label), directory / "hand")
    config = ROOT / "configs" / "adapt.yaml"
    command: Sequence[str] = [
        *(sys.executable, "-m", "mnist_lit", "fit", f"--config={config}", "--seed_everything=0"),
        *(f"--data.own_dir={directory / 'hand'}", f"--data.data_dir={data}"),
        f"--trainer.default_root_dir={directory}",
    ]
    begun = time.time()
    subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
    checkpoint = next(directory.glob("lightning_logs/*/checkpoints/last.ckpt"))
    return loaded(checkpoint), time.time() - begun


if __name__ == "__main__":
    main()
