"""The command read: the digits in pictures, in words, as JSON or drawn; runs without torch."""

import json
import os
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

from mnist_lit.drawing import draw
from mnist_lit.errors import InputError
from mnist_lit.files import pictures_in, whole
from mnist_lit.ink import open_picture
from mnist_lit.reader import Digit, Reader, Reading, document
from mnist_lit.usage import CommandParser

NO_DIGIT, UNREADABLE = 1, 2  # exit statuses

NOTES = """\
A digit with a question mark is doubtful: its probability is below the threshold. Boxes are in
pixels of the upright picture, right and bottom exclusive. The exit status is 0 if there are digits
in every picture, 1 if there are none in one, and 2 if one cannot be read; the others are read
nevertheless."""


def main(args: list[str]) -> int:
    """Run ``read``.

    Args:
        args: The command and its options.

    Returns:
        The exit status: 0, 1 if a picture has no digits, 2 if one cannot be read.

    Raises:
        InputError: If something is wrong with the options or the model.
    """
    options = _options(args[1:])
    files = [file for picture in options.pictures for file in _files(picture)]
    targets = _targets(files, options.output)
    reader = Reader(options.model, options.threshold)
    try:
        return _read(reader, files, targets, options.format)
    except BrokenPipeError:  # the reader has seen enough; Python flushes once more at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _read(reader: Reader, files: list[str], targets: list[Path | None], form: str) -> int:
    status = 0
    documents: list[dict[str, Any]] = []
    for file, target in zip(files, targets, strict=True):
        try:
            reading = _reading(reader, file, target)
        except InputError as error:
            message = " ".join(str(error).splitlines())
            print(f"error: {message}", file=sys.stderr)
            documents.append({"file": file, "error": message})
            status = UNREADABLE
            continue
        status = max(status, 0 if reading.lines else NO_DIGIT)
        documents.append({"file": file, **document(reading)})
        if form == "text":
            text = words(reading, reader.threshold) + (f"\nPicture: {target}" if target else "")
            print(f"{file}:\n{text}\n" if len(files) > 1 else text, flush=True)
    if form == "json":
        print(json.dumps(documents), flush=True)
    return status


def _reading(reader: Reader, file: str, target: Path | None) -> Reading:
    picture = open_picture(sys.stdin.buffer.read() if file == "-" else file)
    reading = reader.read(picture)
    if target:
        with whole(target) as partial:
            draw(picture, reading).save(partial, format="PNG")
    return reading


def words(reading: Reading, threshold: float) -> str:
    """Say what is written in a picture, and for each digit how sure that is and where it stands.

    Args:
        reading: Of the picture.
        threshold: Of doubt.
    """
    if not reading.lines:
        return "no digit found"
    rows = ["".join(map(_marked, line)) for line in reading.lines]
    rows += ["", "digit  probability   left    top  right  bottom"]
    for each in reading.digits:
        left, top, right, bottom = each.box
        row = f"{_marked(each):5}  {each.probability:11.2%}  {left:5}  {top:5}  {right:5}"
        rows.append(f"{row}  {bottom:6}")
    if any(each.doubtful for each in reading.digits):
        rows.append(f"? is doubtful: less probable than {threshold:.2%}")
    return "\n".join(rows)


def _marked(digit: Digit) -> str:
    return f"{digit.digit}?" if digit.doubtful else f"{digit.digit}"


def _options(args: list[str]) -> Namespace:
    parser = CommandParser("read", "Read the digits in pictures.")
    parser.epilog = NOTES
    add = parser.add_argument
    picture_help = (
        "A picture, a folder (of its own files those with a picture's ending), or - for standard "
        "input."
    )
    add("pictures", nargs="+", metavar="PICTURE", help=picture_help)
    format_help = "json is one document: a list with an object for each picture. Default: text."
    add("--format", choices=("text", "json"), default="text", help=format_help)
    output_help = (
        "Draws what was read, and what the network saw, into a .png file; for several pictures "
        "into a folder."
    )
    add("--output", type=Path, metavar="FILE|FOLDER", help=output_help)
    add("--model", metavar="FILE", help="Written by export. Default: the one of the package.")
    threshold_help = "The probability below which a digit is doubtful. Default: the model's."
    add("--threshold", type=float, metavar="P", help=threshold_help)
    return parser.parse_args(args)


def _files(picture: str) -> list[str]:
    return (
        [str(path) for path in pictures_in(Path(picture))] if Path(picture).is_dir() else [picture]
    )


def _targets(files: list[str], output: Path | None) -> list[Path | None]:
    """Where each file's drawing goes."""
    if output is None:
        return [None] * len(files)
    if output.is_dir() or not output.suffix:
        targets = [output / f"{'stdin' if file == '-' else Path(file).stem}.png" for file in files]
    elif output.suffix.lower() != ".png":
        raise InputError(f"--output {output} is no .png file.", "End it in .png, or name a folder.")
    elif len(files) > 1:
        raise InputError(
            f"--output {output} is one picture, but there are {len(files)} to draw.",
            "Name a folder, and each is drawn into a file of its own there.",
        )
    else:
        targets = [output]
    for target in targets:
        if targets.count(target) > 1:
            raise InputError(f"Two pictures would be drawn into {target}.", "Draw them one by one.")
        if target.exists() and any(target.samefile(file) for file in files if Path(file).exists()):
            raise InputError(f"--output would overwrite {target}.", "Choose another folder.")
    return list(targets)
