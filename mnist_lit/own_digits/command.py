"""The command ``collect``: labels the digits in pictures and saves them for training."""

import re
from argparse import Namespace
from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mnist_lit.errors import InputError
from mnist_lit.options import CommandParser
from mnist_lit.own_digits.alignment import aligned
from mnist_lit.own_digits.storage import OwnDigit, from_glyph, read_zip, save, saved
from mnist_lit.reading.drawing import draw, save_new
from mnist_lit.reading.pictures import Picture, open_picture
from mnist_lit.reading.reader import Digit, Line, Reader, Reading

UNMATCHED = 1  # exit status

NOTES = """\
Digits are saved as images of 28x28 pixels, those of a 7 in FOLDER/7, each named by a hash of its
pixels, with a JSON file that says where it is from. Lines with another number of digits than the
text are left out. The exit status is 0 if every line matches, 1 if one is left out."""


@dataclass(frozen=True, eq=False)
class Labeled:
    """What is to be saved of a picture.

    Args:
        digits: The digits, labeled.
        reading: The lines that match, read as the labels say; what was misread is doubtful.
        left_out: Lines without a match: one message each.
    """

    digits: list[OwnDigit]
    reading: Reading
    left_out: list[str]


def main(args: list[str]) -> int:
    """Run ``collect``.

    Args:
        args: The command and its options.

    Returns:
        The exit status: 0, or 1 if a line does not match the text.

    Raises:
        InputError: If an option or a file is invalid, or nothing can be saved.
    """
    options = _options(args[1:])
    reader: Reader | None = None
    digits, left_out = [], 0
    for file in options.pictures:
        if file.suffix.lower() == ".zip":
            digits += (found := read_zip(file))
            print(f"{file}: {len(found):,} digits")
            continue
        reader = reader or Reader(options.model)
        picture = open_picture(file)
        labeled = label(reader.read(picture), options.text, file.name)
        print(f"{file}\n{_table(labeled)}")
        if labeled.digits:
            print(f"Picture: {_draw(picture, labeled.reading, options.into, file)}")
        digits += labeled.digits
        left_out += len(labeled.left_out)
    if not digits:
        raise InputError(
            "No line has as many digits as the text says.",
            "Read the picture to see what is found: python -m mnist_lit read PICTURE",
        )
    print(_save(digits, options.into, dry_run=options.dry_run))
    return UNMATCHED if left_out else 0


def label(reading: Reading, text: list[str], source: str) -> Labeled:
    """Label the digits of a reading by the text that was written.

    Args:
        reading: The digits in a picture.
        text: Its lines.
        source: Name of the picture.
    """
    read = ["".join(str(each.digit) for each in line) for line in reading.lines]
    pairs = aligned(read, text)
    digits, lines = [], []
    today = datetime.now(UTC).date().isoformat()
    for i, j in pairs:
        wanted = [int(character) for character in text[j]]
        line = list(zip(reading.lines[i], wanted, strict=True))
        lines.append(Line([[_as(digit, value) for digit, value in line]]))
        for digit, value in line:
            origin = {"source": source, "line": j + 1, "box": digit.box, "read_as": digit.digit}
            image = from_glyph(digit.glyph)
            digits.append(OwnDigit(image, value, origin | {"date": today}))
    found, wanted_lines = ({pair[side] for pair in pairs} for side in (0, 1))
    left_out = [
        f"Left out: line {i + 1} of the picture, {line}: no line of the text matches"
        for i, line in enumerate(read)
        if i not in found
    ]
    left_out += [
        f"Not found: line {j + 1} of the text, {line}: no line of the picture matches"
        for j, line in enumerate(text)
        if j not in wanted_lines
    ]
    return Labeled(digits, replace(reading, lines=lines), left_out)


def _as(digit: Digit, label: int) -> Digit:
    probability = float(digit.probabilities[label])
    return replace(digit, digit=label, probability=probability, doubtful=label != digit.digit)


def _table(labeled: Labeled) -> str:
    rows = ["line  text              misread"]
    for number, line in enumerate(labeled.reading.lines, start=1):
        misread = [
            f"{digit.digit} as {digit.probabilities.argmax()}" for digit in line if digit.doubtful
        ]
        rows.append(f"{number:4}  {line.text:16}  {', '.join(misread) or '-'}")
    digits = labeled.reading.digits
    if 2 * sum(digit.doubtful for digit in digits) > len(digits):
        rows.append("Warning: most digits were read otherwise. Is this the text of this picture?")
    return "\n".join([*rows, *labeled.left_out])


def _draw(picture: Picture, reading: Reading, into: Path, file: Path) -> Path:
    """Draw the digits with their labels, beside the folder."""
    return save_new(draw(picture, reading), into.parent / f"{into.name}-{file.stem}.png")


def _save(digits: list[OwnDigit], into: Path, *, dry_run: bool) -> str:
    """Save what is new, and report it."""
    known, new = saved(into), []
    again, contrary = 0, []
    for digit in digits:
        if digit.name not in known:
            known[digit.name] = digit.label
            new.append(digit)
        elif known[digit.name] == digit.label:
            again += 1
        else:
            contrary.append(f"{into / str(known[digit.name]) / digit.name}.png")
    for digit in () if dry_run else new:
        save(digit, into)
    counts = Counter(digit.label for digit in new)
    lines = [
        f"{'digit':7}" + "".join(f"{value:5}" for value in range(10)),
        f"{'new':7}" + "".join(f"{counts[value]:5}" for value in range(10)),
        f"{'Would save' if dry_run else 'Saved'}: {len(new):,} digits in {into}"
        + (f"; {again:,} are there already" if again else ""),
        *(f"Left out: a digit that was saved with another label, {path}" for path in contrary),
        *(["If the earlier label is wrong, delete these files."] if contrary else []),
    ]
    return "\n".join(lines)


def _options(args: list[str]) -> Namespace:
    parser = CommandParser("collect", "Label the digits in pictures, and save them for training.")
    parser.epilog = NOTES
    add: Any = parser.add_argument
    picture_help = "A picture of the text, or a ZIP file with corrections from the page of serve."
    add("pictures", nargs="+", type=Path, metavar="PICTURE", help=picture_help)
    text_help = "The digits that each picture shows, with a / between lines: 0123456789/0123456789"
    add("--text", type=_lines, metavar="DIGITS", help=text_help)
    into_help = "Folder to save the digits in; one for each person."
    add("--into", type=Path, required=True, metavar="FOLDER", help=into_help)
    model_help = "ONNX file written by export. Default: the packaged model."
    add("--model", metavar="FILE", help=model_help)
    add("--dry-run", action="store_true", help="Save no digits, only draw and list them.")
    options = parser.parse_args(args)
    if not options.text and any(file.suffix.lower() != ".zip" for file in options.pictures):
        raise InputError(
            "--text is missing.", "Say what the pictures show, for example: --text 0123456789"
        )
    return options


def _lines(text: str) -> list[str]:
    lines = [re.sub(r"\s", "", line) for line in text.split("/")]
    if not all(re.fullmatch(r"[0-9]+", line) for line in lines):
        raise InputError(
            f"--text {text!r} is not digits.", 'Give lines of digits with a / between: "0123/4567"'
        )
    return lines
