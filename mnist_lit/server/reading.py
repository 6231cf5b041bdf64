"""What a process that reads pictures runs: each request on its standard input has an answer."""

import json
import pickle
import sys
import traceback
from contextlib import suppress
from typing import Any

import cv2

from mnist_lit.errors import InputError
from mnist_lit.reading.reader import Reader, document
from mnist_lit.server.processes import ReadingError


def main() -> None:
    """Answer with the model's metadata, then to each picture, until standard input ends."""
    cv2.setNumThreads(1)  # each core has a process of its own
    model, most_pixels = pickle.load(sys.stdin.buffer)
    try:
        reader = Reader(model)
    except (InputError, OSError) as error:  # such as a name that is too long
        _send(error)
        return
    _send(reader.metadata)
    while True:
        try:
            picture, glyphs = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        _send(_answer(reader, picture, most_pixels, glyphs))


def _answer(reader: Reader, picture: bytes, most_pixels: int, glyphs: bool) -> bytes | Exception:
    try:
        return json.dumps(document(reader.read(picture, most_pixels), glyphs)).encode()
    except InputError as error:
        return error
    except Exception as error:  # its message may quote the picture
        place = "".join(traceback.format_tb(error.__traceback__))
        failure = ReadingError()
        failure.add_note(f"{type(error).__name__} in the process that reads, at\n{place}")
        return failure


def _send(answer: Any) -> None:
    pickle.dump(answer, sys.stdout.buffer)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    with suppress(BrokenPipeError):  # the server was killed
        main()
