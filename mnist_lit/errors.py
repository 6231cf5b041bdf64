"""The exception for what a user can mend, its kinds that a server tells apart, and its end."""

import errno
import io
import os
import sys
from collections.abc import Callable
from pathlib import Path


class InputError(Exception):
    """A mistake in what the program was given: its first line says what, its second what to do.

    The command line prints it without a traceback and exits with status 2.
    """

    def __init__(self, what: str, what_to_do: str) -> None:
        super().__init__(what, what_to_do)

    def __str__(self) -> str:
        return "\n".join(self.args)


class TooLargeError(InputError):
    """A picture with more pixels than are read."""


class UnknownFormatError(InputError):
    """What is no picture of a known format."""


def open_standard_streams() -> None:
    """Let output be written whatever the terminal's encoding, and to nowhere if it is closed."""
    for name in ("stdin", "stdout", "stderr"):  # in this order, each gets its own descriptor back
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("r+"))  # noqa: SIM115  # for good
        elif isinstance(stream, io.TextIOWrapper) and name != "stdin":
            stream.reconfigure(errors="backslashreplace")


def exit_status(program: Callable[[], int | None]) -> int:
    """Run a program; what a user can mend ends it in two lines, without a traceback.

    Returns:
        Its own status or 0; 2 after an InputError, for a file that cannot be used, or if the disk
        behind the output is full; 0 if nobody listens any more.
    """
    try:
        status = program() or 0
        print(end="", flush=True)
        return status
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except UnicodeEncodeError as error:  # in the name of a file: the streams escape theirs
        characters = ascii(error.object[error.start : error.end])
        print(f"error: {characters} cannot be encoded in {error.encoding}.", file=sys.stderr)
        print("Use a UTF-8 locale (LC_ALL=C.UTF-8), or rename the file.", file=sys.stderr)
        return 2
    except OSError as error:
        if error.errno not in (errno.EPIPE, errno.ENOSPC):
            if not error.filename:
                raise
            print(f"error: {error.filename} cannot be used: {error.strerror}.", file=sys.stderr)
            print("Check the path, its permissions and the free space.", file=sys.stderr)
            return 2
        # Python flushes once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if error.errno == errno.EPIPE:
            return 0
        what = f"error: {error.filename or 'The output'} cannot be written: {error.strerror}."
        print(what, "Make room, or send it elsewhere.", sep="\n", file=sys.stderr)
        return 2


def first_line(error: BaseException) -> str:
    """The first line of an error's text, as a sentence; its type if it has none."""
    lines = str(error).strip().splitlines()
    line = " ".join(lines[0].split()) if lines else type(error).__name__
    return f"{line.rstrip('.')}."
