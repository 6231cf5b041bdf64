"""How well numbers on paper are read, compared with what people would use instead.

Takes a folder of pictures. Each picture's name begins with what is written in it, up to the first
``_`` or the extension, its lines joined by ``-``: ``2025_anna.png``, ``548-625_list.jpg``. Other
pictures are left out.

- ``mnist_lit``: ``Reader`` with the packaged model.
- ``rapidocr``: RapidOCR with its own defaults and the models in its package, PP-OCRv6 (small) for
  finding and recognizing text, on ONNX Runtime.
- ``tesseract``, ``tesseract, sparse``: Tesseract 5 with Debian's English data (LSTM), digits alone,
  by its page segmentation modes 6 (a block of text) and 11 (text anywhere). Without the data these
  rows are left out.

Each reads all pictures in a process of its own, one after another, on one thread. Of its output
only the digits 0 to 9 count, line by line: spaces, signs and letters are dropped, and so are lines
without a digit.

- exact: pictures in which all lines are read as they are written, and nothing else.
- digits right: the digits that are written, minus the edit distance between them and those that
  were read (Levenshtein: digits missing, added or wrong), but at least 0 for each picture. Line
  breaks do not count here.
- nothing: pictures in which no digit was found.
- median s: from the path to the text, decoding included, in a process that has read before.

What this does not show: letters, which the other readers can also read and this project cannot; how
they do when trained on or tuned for handwritten digits; start-up; or handwriting that is not in the
folder.
"""

import argparse
import json
import os
import re
import statistics
import sys
from contextlib import chdir
from operator import eq
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from torchmetrics.functional.text import edit_distance

from benchmarks.common import ROOT, footer, make_environment, pinned, run, table
from mnist_lit.errors import InputError, exit_status
from mnist_lit.reading.image_files import pictures_in

HERE = ROOT.resolve() / "benchmarks" / "contenders"
ENVIRONMENT = HERE.parent / ".ocr"
PINS = HERE / "requirements-ocr.txt"
PYTHON = f"{ENVIRONMENT}/bin/python"
PYTHONPATH = f"{HERE}{os.pathsep}{ROOT.resolve()}"
CONTENDERS = {
    "mnist_lit": [sys.executable, f"{HERE}/mnist_lit_reader.py"],
    "rapidocr": [PYTHON, f"{HERE}/rapidocr_reader.py"],
    "tesseract": [PYTHON, f"{HERE}/tesseract_reader.py", "{tessdata}", "6"],
    "tesseract, sparse": [PYTHON, f"{HERE}/tesseract_reader.py", "{tessdata}", "11"],
}
COLUMNS = ["", "exact", "%", "digits right", "%", "nothing", "median s"]


class Score(NamedTuple):
    """How many pictures and digits were read right, and in how many pictures nothing was found."""

    exact: int
    digits: int
    nothing: int


def labeled(folder: Path) -> dict[Path, str]:
    """The pictures in a folder with what is written in each, line by line.

    Raises:
        InputError: If the folder cannot be read, or if no picture's name says what is written.
    """
    names = [(path, re.match(r"(\d+(?:-\d+)*)[_.]", path.name)) for path in pictures_in(folder)[0]]
    labels = {path.resolve(): name[1].replace("-", "\n") for path, name in names if name}
    if not labels:
        raise InputError(
            f"No picture's name in {folder} begins with what is written in it.",
            "Name them like 2025_anna.png, or 548-625_list.jpg for two lines.",
        )
    return labels


def digits_of(text: str) -> str:
    """Only the digits of each line, without the lines that have none."""
    lines = (re.sub("[^0-9]", "", line) for line in text.splitlines())
    return "\n".join(filter(None, lines))


def score(texts: list[str], truths: list[str]) -> Score:
    """Compare what was read with what is written, a text for each picture."""
    found = [digits_of(text) for text in texts]
    unbroken = [text.replace("\n", "") for text in found]
    written = [truth.replace("\n", "") for truth in truths]
    distances = edit_distance(unbroken, written, reduction="none").tolist()
    return Score(
        exact=sum(map(eq, found, truths)),
        digits=sum(
            max(0, len(digits) - lost) for digits, lost in zip(written, distances, strict=True)
        ),
        nothing=found.count(""),
    )


def row(name: str, readings: list[dict[str, Any]], truths: list[str]) -> list[str]:
    """A row of the table."""
    exact, digits, nothing = score([each["text"] for each in readings], truths)
    written = sum(map(str.isdigit, "".join(truths)))
    seconds = statistics.median(each["seconds"] for each in readings)
    counts = [f"{exact:,}", f"{exact / len(truths):.1%}", f"{digits:,}", f"{digits / written:.1%}"]
    return [name, *counts, f"{nothing:,}", f"{seconds:.3f}"]


def tessdata() -> Path | None:
    """The directory of Tesseract's English data: Debian's, unless TESSDATA_PREFIX names another."""
    own = os.environ.get("TESSDATA_PREFIX")
    places = [Path(own)] if own else Path("/usr/share/tesseract-ocr").glob("*/tessdata")
    return next((place for place in places if (place / "eng.traineddata").exists()), None)


def read_all(command: list[str], pictures: list[Path]) -> list[dict[str, Any]]:
    """Let a contender read the pictures; give the text and the seconds of each."""
    with TemporaryDirectory() as directory, chdir(directory):
        Path("pictures.json").write_text(json.dumps([str(path) for path in pictures]))
        run(command, PYTHONPATH)
        return [json.loads(line) for line in Path("readings.jsonl").read_text().splitlines()]


def main() -> None:
    """Let all read the folder, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--only", nargs="+", choices=CONTENDERS, default=[*CONTENDERS], help="default: all"
    )
    options = parser.parse_args()
    labels = labeled(options.folder)
    data = tessdata()
    names = [name for name in CONTENDERS if name in options.only]
    if not data:
        names = [name for name in names if not name.startswith("tesseract")]
    if any(CONTENDERS[name][0] == PYTHON for name in names):
        make_environment(ENVIRONMENT, PINS)
    os.environ |= {"OMP_NUM_THREADS": "1", "OMP_THREAD_LIMIT": "1"}

    rows = [COLUMNS]
    for name in names:
        command = [part.format(tessdata=data) for part in CONTENDERS[name]]
        rows.append(row(name, read_all(command, [*labels]), [*labels.values()]))
    written = sum(map(str.isdigit, "".join(labels.values())))
    print(f"{len(labels):,} pictures with {written:,} digits\n")
    print(table(rows))
    if not data:
        print("\ntesseract is left out: apt-get install tesseract-ocr-eng")
    print(footer(), f"{'readers':9}  {pinned(PINS)}", sep="\n")


if __name__ == "__main__":
    sys.exit(exit_status(main))
