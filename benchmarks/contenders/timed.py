"""What every reader of ocr.py does: read the listed pictures, one after another, and time each.

Needs the standard library alone: the readers run in two environments.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path


def read_all(read: Callable[[Path], str]) -> None:
    """Read the pictures that ``pictures.json`` lists, and write ``readings.jsonl``.

    The first is also read once before, untimed: models may be loaded only then.

    Args:
        read: Takes the path of a picture, and returns the text in it, line by line.
    """
    pictures = [Path(name) for name in json.loads(Path("pictures.json").read_text())]
    read(pictures[0])
    with Path("readings.jsonl").open("w") as file:
        for picture in pictures:
            start = time.perf_counter()
            text = read(picture)
            seconds = time.perf_counter() - start
            file.write(json.dumps({"text": text, "seconds": seconds}) + "\n")
