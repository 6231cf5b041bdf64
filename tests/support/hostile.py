"""Files that nobody should be able to do harm with: damaged pictures, and one without pixels."""

import io
import struct
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image


def promise(width: int, height: int) -> bytes:
    """The beginning of a PNG of any size, without its pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b""))


def encoded(rng: np.random.Generator) -> Iterator[bytes]:
    """Contents of pictures, of many formats."""
    image = Image.fromarray(rng.integers(0, 256, (60, 80, 3), np.uint8))
    for form in ("PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP", "PPM", "ICO", "TGA", "PCX"):
        buffer = io.BytesIO()
        image.save(buffer, form)
        yield buffer.getvalue()


def damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """Cut short, bits flipped, stretches overwritten, or put together wrongly."""
    data = bytearray(content)
    kind = rng.integers(5)
    if kind == 0:
        return bytes(data[: rng.integers(0, len(data))])
    if kind == 1:
        for place in rng.integers(0, len(data), rng.integers(1, 20)):
            data[place] ^= 1 << rng.integers(8)
    elif kind == 2:
        start = int(rng.integers(len(data)))
        data[start : start + 16] = rng.bytes(16)
    elif kind == 3:  # where most formats have their sizes
        for place in rng.integers(0, min(64, len(data)), 4):
            data[place] = 255
    else:
        data = data[: len(data) // 2] + bytearray(rng.bytes(200))
    return bytes(data)
