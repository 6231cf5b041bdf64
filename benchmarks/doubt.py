"""How sure the reader is of what is no digit: blank paper, noise, drawings, and letters.

For each kind: of how many pictures at least one glyph gets a digit that is not doubtful, that is,
whose probability reaches the model's threshold. A low share is good but for the first row, the
test digits themselves. The drawings are those of ``tests/support/drawings.py``, turned and
distorted at random; letters are those of the pen plotters of the 1960s (Hershey's fonts, in
OpenCV). Some of them are digits to anybody: O, o, l, I, S, Z, z, B, q, g, b.

What this does not show: drawings and letters by people.
"""

import argparse
import string
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from benchmarks.common import footer, table
from mnist_lit.reading.reader import Reader
from tests.support import drawings, paper

FONTS = (cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_SCRIPT_SIMPLEX, cv2.FONT_HERSHEY_DUPLEX)


def letter(character: str, font: int) -> np.ndarray:
    """A letter, black on white, ``uint8 (300, 300)``."""
    picture = np.full((300, 300), 255, np.uint8)
    return cv2.putText(picture, character, (70, 210), font, 6, 0, 14)


def noise(count: int) -> Iterator[np.ndarray]:
    """Blank paper, and grain from faint to heavy."""
    rng = np.random.default_rng(0)
    for number in range(count):
        grain = rng.normal(200, 80 * number / count, (300, 400))
        yield grain.clip(0, 255).astype(np.uint8)


def main() -> None:
    """Read everything, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, help="default: the one in the package")
    parser.add_argument("--count", type=int, default=500, help="drawings (default: 500)")
    options = parser.parse_args()
    reader = Reader(options.model)

    def sure(picture: np.ndarray) -> bool:
        return any(not digit.doubtful for digit in reader.read(picture).digits)

    images, _ = paper.mnist()
    _, probabilities = reader.classify((images / 255).astype(np.float32))
    rows = [["", "sure", "of", "share"]]

    def add(name: str, answers: list[bool]) -> None:
        rows.append([name, f"{sum(answers):,}", f"{len(answers):,}", f"{np.mean(answers):.1%}"])

    add("test digits", (probabilities.max(1) >= reader.threshold).tolist())
    add("blank paper and noise", [sure(picture) for picture in noise(100)])
    drawn: dict[str, list[bool]] = {name: [] for name in drawings.KINDS}
    for number in range(options.count):
        name = list(drawn)[number % len(drawn)]
        drawn[name].append(sure(drawings.drawing(name, np.random.default_rng(number))))
    add("drawings", [answer for answers in drawn.values() for answer in answers])
    letters = {
        character: any(sure(letter(character, font)) for font in FONTS)
        for character in string.ascii_letters
    }
    add("letters, in any of three hands", list(letters.values()))
    print(table(rows))
    print(
        "\ndrawings:", ", ".join(f"{name} {sum(drawn[name])}" for name in drawn if any(drawn[name]))
    )
    print("letters read as digits:", " ".join(name for name, answer in letters.items() if answer))
    print(f"threshold: {reader.threshold:.4f}")
    print(footer())


if __name__ == "__main__":
    main()
