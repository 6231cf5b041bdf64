"""The command ``read``: prints the digits in pictures as text or JSON, and draws them."""

import json
import sys
from argparse import Namespace
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from PIL import Image

from mnist_lit.errors import InputError
from mnist_lit.files import atomic_write, write_errors
from mnist_lit.options import CommandParser
from mnist_lit.reading.drawing import draw, save_new
from mnist_lit.reading.image_files import FORMATS, contents, opened, pictures_in
from mnist_lit.reading.pictures import open_picture
from mnist_lit.reading.reader import Digit, Reader, Reading, as_json, percent

NO_DIGIT, UNREADABLE = 1, 2  # exit statuses

NOTES = """\
Only the digits 0 to 9 are recognized: letters and signs are ignored or mistaken for digits (/ for
1). A question mark marks a doubtful digit: its probability is below the threshold, or the detector
is less than 90 % sure that it is a digit. Probabilities are rounded down. Boxes are in pixels of
the upright picture; right and bottom are exclusive. The exit status is 0 if every picture has
digits, 1 if one has none, and 2 if one cannot be read or drawn; other pictures are still read."""


def main(args: list[str]) -> int:
    """Run ``read``.

    Args:
        args: The command and its options.

    Returns:
        The exit status: 0, 1 if a picture has no digits, 2 if one cannot be read or drawn.

    Raises:
        InputError: If an option or the model is invalid.
    """
    options = _options(args[1:])
    files = [file for picture in options.pictures for file in _files(picture)]
    if options.output:
        _check_output(files, options.output)
    reader = Reader(options.model, options.threshold)
    return _read(reader, files, options.output, options.format)


def _read(reader: Reader, files: list[str], output: Path | None, format_: str) -> int:
    status = multi_page = 0
    documents: list[dict[str, Any]] = []
    for file in files:
        documents.append(entry := {"file": file})
        try:
            source = contents(sys.stdin.buffer) if file == "-" else file
            picture = open_picture(source)
            multi_page += _has_more_pages(source)
            reading = reader.read(picture)
            status = max(status, 0 if reading.lines else NO_DIGIT)
            entry |= as_json(reading)
            if format_ == "text":
                text = report(reading, reader.threshold)
                print(f"{file}:\n{text}\n" if len(files) > 1 else text, flush=True)
            drawing = _save(draw(picture, reading), output, file) if output else None
            if drawing and format_ == "text":
                print(f"Picture: {drawing}", flush=True)
        except InputError as error:
            entry["error"] = " ".join(str(error).splitlines())
            print(f"error: {entry['error']}", file=sys.stderr)
            status = UNREADABLE
    if format_ == "json":
        print(json.dumps(documents), flush=True)
    if multi_page:
        print(f"Files with more pages or frames than the first: {multi_page}", file=sys.stderr)
    return status


def _has_more_pages(source: str | bytes) -> bool:
    """Whether a picture, which can be opened, has more than one page or frame."""
    with (
        suppress(Exception),  # damage to later pages makes Pillow raise anything
        opened(source) as file,
        Image.open(file, formats=FORMATS) as image,
    ):
        # The other frames of a phone's MPO are thumbnails and depth maps.
        return image.format != "MPO" and getattr(image, "is_animated", False)
    return False


def report(reading: Reading, threshold: float) -> str:
    """List the digits in a picture with their probabilities and boxes.

    Args:
        reading: The digits in the picture.
        threshold: Probability below which a digit is doubtful.
    """
    if not reading.lines:
        return "no digits found"
    rows = [
        " ".join("".join(map(_marked, number)) for number in line.numbers) for line in reading.lines
    ]
    rows += ["", "digit  probability   left    top  right  bottom"]
    tables = ["\n".join(map(_row, line)) for line in reading.lines]
    rows.append("\n\n".join(tables))
    if any(each.doubtful for each in reading.digits):
        rows.append(
            f"? marks a doubtful digit: probability below {threshold:.2%}, or perhaps no digit"
        )
    if reading.rotation:
        rows.append(f"The picture was turned clockwise by {reading.rotation} degrees.")
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
        "A PNG, JPEG, WebP, GIF, BMP or TIFF file; a folder, whose files with these extensions are "
        "read; or - for standard input."
    )
    add("pictures", nargs="+", metavar="PICTURE", help=picture_help)
    format_help = "Output format; json is a list with one object per picture. Default: text."
    add("--format", choices=("text", "json"), default="text", help=format_help)
    output_help = (
        "Draw each picture with its boxes and the network's inputs: into a .png file, or into a "
        "folder."
    )
    add("--output", type=Path, metavar="FILE|FOLDER", help=output_help)
    model_help = "ONNX file written by export. Default: the packaged model."
    add("--model", metavar="FILE", help=model_help)
    threshold_help = "Probability below which a digit is doubtful. Default: the model's."
    add("--threshold", type=float, metavar="P", help=threshold_help)
    return parser.parse_args(args)


def _files(picture: str) -> list[str]:
    if not picture:
        raise InputError("A picture has an empty name.", "Give a file, a folder, or -.")
    try:
        is_folder = Path(picture).is_dir()
    except OSError:  # opening it will say why
        is_folder = False
    if not is_folder:
        return [picture]
    pictures, others = pictures_in(Path(picture))
    if others:
        print(f"{picture}: ignored {others} other files", file=sys.stderr)
    return [str(path) for path in pictures]


def _check_output(files: list[str], output: Path) -> None:
    """Check that drawings can be saved, before the pictures are read; create their folder."""
    folder = output
    if not output.is_dir() and (output.suffix or output.exists()):
        folder = output.parent
        if output.suffix.lower() != ".png":
            raise InputError(
                f"--output {output} is neither a .png file nor a folder.",
                "Use a name that ends in .png. A folder with a dot in its name must exist already.",
            )
        if len(files) > 1:
            raise InputError(
                f"--output {output} is one file, but there are {len(files)} pictures to draw.",
                "Give a folder instead.",
            )
        if output.exists() and any(output.samefile(file) for file in files if Path(file).exists()):
            raise InputError(
                f"--output would overwrite the picture {output}.", "Choose another folder."
            )
    with write_errors(output):
        folder.mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=folder).close()


def _save(drawing: Image.Image, output: Path, file: str) -> Path:
    """Save a drawing in the given file, or in the given folder under a name that is free."""
    if output.is_dir():
        stem = "stdin" if file == "-" else Path(file).stem
        return save_new(drawing, output / f"{stem}.png")
    with atomic_write(output) as partial:
        drawing.save(partial, format="PNG")
    return output
