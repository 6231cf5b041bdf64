"""The command read: the digits in pictures, in words, as JSON or drawn; runs without torch."""

import json
import sys
from argparse import Namespace
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from PIL import Image

from mnist_lit.errors import InputError
from mnist_lit.files import atomic_write, pictures_in, write_errors
from mnist_lit.options import CommandParser
from mnist_lit.reading.drawing import draw
from mnist_lit.reading.image_files import FORMATS, opened
from mnist_lit.reading.ink import open_picture
from mnist_lit.reading.reader import Digit, Reader, Reading, document, percent

NO_DIGIT, UNREADABLE = 1, 2  # exit statuses

NOTES = """\
Only the digits 0 to 9 are known: a letter or a sign vanishes, or is taken for a digit (/ for 1). A
digit with a question mark is doubtful: its probability is below the threshold. Probabilities are
rounded down. Boxes are in pixels of the upright picture, right and bottom exclusive. The exit
status is 0 if there are digits in every picture, 1 if there are none in one, and 2 if one cannot be
read, or not drawn; the others are read nevertheless."""


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
    return _read(reader, files, targets, options.format)


def _read(reader: Reader, files: list[str], targets: list[Path | None], form: str) -> int:
    status = more = 0
    documents: list[dict[str, Any]] = []
    for file, target in zip(files, targets, strict=True):
        documents.append(entry := {"file": file})
        try:
            source = _stdin() if file == "-" else file
            picture = open_picture(source)
            more += _has_more_pages(source)
            reading = reader.read(picture)
            status = max(status, 0 if reading.lines else NO_DIGIT)
            entry |= document(reading)
            if form == "text":
                text = words(reading, reader.threshold)
                print(f"{file}:\n{text}\n" if len(files) > 1 else text, flush=True)
            if target:
                with atomic_write(target) as partial:
                    draw(picture, reading).save(partial, format="PNG")
            if target and form == "text":
                print(f"Picture: {target}", flush=True)
        except InputError as error:
            entry["error"] = " ".join(str(error).splitlines())
            print(f"error: {entry['error']}", file=sys.stderr)
            status = UNREADABLE
    if form == "json":
        print(json.dumps(documents), flush=True)
    if more:
        print(f"Only the first page or frame was read of files with more: {more}", file=sys.stderr)
    return status


def _stdin() -> bytes:
    content = sys.stdin.buffer.read()
    if not content:  # as it also is if it was closed: see open_standard_streams
        raise InputError("Standard input is empty.", "Give it a picture: read - < FILE")
    return content


def _has_more_pages(source: str | bytes) -> bool:
    """Whether a picture that was opened has pages, or frames, after the first."""
    with (
        suppress(Exception),  # damaged later pages make Pillow raise anything
        opened(source) as file,
        Image.open(file, formats=FORMATS) as image,
    ):
        # The later frames of phones' MPO are not for the eye.
        return image.format != "MPO" and getattr(image, "is_animated", False)
    return False


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
    tables = ["\n".join(map(_row, line)) for line in reading.lines]
    rows.append("\n\n".join(tables))
    if any(each.doubtful for each in reading.digits):
        rows.append(f"? is doubtful: less probable than {threshold:.2%}")
    return "\n".join(rows)


def _row(digit: Digit) -> str:
    left, top, right, bottom = digit.box
    row = f"{_marked(digit):5}  {percent(digit.probability, 2):>11}  {left:5}  {top:5}"
    return f"{row}  {right:5}  {bottom:6}"


def _marked(digit: Digit) -> str:
    return f"{digit.digit}?" if digit.doubtful else f"{digit.digit}"


def _options(args: list[str]) -> Namespace:
    parser = CommandParser("read", "Read the digits in pictures.")
    parser.epilog = NOTES
    add = parser.add_argument
    picture_help = (
        "A PNG, JPEG, WebP, GIF, BMP or TIFF file, a folder (of its own files those with the "
        "endings of these), or - for standard input."
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
    if not picture:
        raise InputError("The name of a picture is empty.", "Give a file, a folder, or -.")
    try:
        is_folder = Path(picture).is_dir()
    except OSError:  # to open it says why
        is_folder = False
    if not is_folder:
        return [picture]
    pictures, others = pictures_in(Path(picture))
    if others:
        print(f"{picture}: files that are no pictures: {others}", file=sys.stderr)
    return [str(path) for path in pictures]


def _targets(files: list[str], output: Path | None) -> list[Path | None]:
    """Where each file's drawing goes."""
    if output is None:
        return [None] * len(files)
    if output.is_dir() or not (output.suffix or output.exists()):
        targets = [output / f"{'stdin' if file == '-' else Path(file).stem}.png" for file in files]
    elif output.suffix.lower() != ".png":
        raise InputError(
            f"--output {output} is neither a .png file nor a folder.",
            "End it in .png; a folder with a dot in its name has to be there already.",
        )
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
        with write_errors(target):  # before the pictures are read
            target.parent.mkdir(parents=True, exist_ok=True)
            TemporaryFile(dir=target.parent).close()
    return list(targets)
