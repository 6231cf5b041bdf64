"""Tesseract, told to look for digits alone: ``tesseract_reader.py TESSDATA MODE``.

``MODE`` is one of its page segmentation modes. OMP_THREAD_LIMIT, which ocr.py sets, limits its
threads.
"""

import sys
from pathlib import Path

from PIL import Image, ImageOps
from tesserocr import PyTessBaseAPI
from timed import read_all

tessdata, mode = sys.argv[1:]


def read(picture: Path) -> str:
    """The text in a picture, turned upright as its EXIF data says."""
    with Image.open(picture) as image:
        engine.SetImage(ImageOps.exif_transpose(image).convert("RGB"))
    return str(engine.GetUTF8Text())


with PyTessBaseAPI(path=tessdata, lang="eng", psm=int(mode)) as engine:
    engine.SetVariable("tessedit_char_whitelist", "0123456789")
    read_all(read)
