"""The child process that reads pictures: requests on standard input, responses on standard output.

Messages are lengths and bytes rather than pickles: a picture that took over the decoder could not
run code in the server.
"""

import json
import struct
import sys
import traceback
from contextlib import suppress
from http import HTTPStatus

import cv2

from mnist_lit.errors import InputError, TooLargeError, UnknownFormatError
from mnist_lit.reading.reader import Reader, as_json

REQUEST = struct.Struct("!?I")  # whether to include glyphs, and the length of the picture
RESPONSE = struct.Struct("!HI")  # HTTP status, and the length of the body
STATUS = {
    TooLargeError: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    UnknownFormatError: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
}


def main() -> None:
    """Respond to each picture on standard input until it ends.

    The arguments are the limit on pixels and the path of the model, empty for the packaged one.
    """
    cv2.setNumThreads(1)  # each core has its own process
    max_pixels, model = int(sys.argv[1]), sys.argv[2] or None
    reader = Reader(model)
    stdin, stdout = sys.stdin.buffer, sys.stdout.buffer
    while head := stdin.read(REQUEST.size):
        glyphs, length = REQUEST.unpack(head)
        status, body = respond(reader, stdin.read(length), max_pixels, glyphs)
        stdout.write(RESPONSE.pack(status, len(body)) + body)
        stdout.flush()


def respond(reader: Reader, picture: bytes, max_pixels: int, glyphs: bool) -> tuple[int, bytes]:
    """Read a picture.

    Returns:
        The HTTP status, and the reading as JSON, the reason why it is refused, or the place where
        reading failed.
    """
    try:
        reading = reader.read(picture, max_pixels)
        return HTTPStatus.OK, json.dumps(as_json(reading, glyphs)).encode()
    except InputError as error:
        status = STATUS.get(type(error), HTTPStatus.UNPROCESSABLE_ENTITY)
        return status, " ".join(str(error).splitlines()).encode()
    except Exception as error:  # without its message, which may quote the picture
        place = "".join(traceback.format_tb(error.__traceback__))
        return HTTPStatus.INTERNAL_SERVER_ERROR, f"{type(error).__name__} at\n{place}".encode()


if __name__ == "__main__":
    with suppress(BrokenPipeError):  # the server was killed
        main()
