"""InputError, for mistakes that a user can fix, and how the program exits on one."""

import errno
import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from traceback import extract_tb


class InputError(Exception):
    """A mistake in the input: the first line says what is wrong, the second what to do.

    The command line prints it without a traceback and exits with status 2.
    """

    def __init__(self, what: str, what_to_do: str) -> None:
        super().__init__(what, what_to_do)

    def __str__(self) -> str:
        return "\n".join(self.args)


class TooLargeError(InputError):
    """An image that exceeds the pixel limit."""


class UnknownFormatError(InputError):
    """A file that is not an image of a supported format."""


def open_standard_streams() -> None:
    """Escape what the terminal cannot encode, and redirect closed streams to the null device."""
    for name in ("stdin", "stdout", "stderr"):  # in this order each gets its own file descriptor
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("r+"))  # noqa: SIM115  # stays open
        elif isinstance(stream, io.TextIOWrapper) and name != "stdin":
            stream.reconfigure(errors="backslashreplace")


def exit_status(program: Callable[[], int | None]) -> int:
    """Run a program; an error that a user can fix is two lines on stderr, without a traceback.

    Returns:
        The program's status, or 0; 2 after an InputError, if a file cannot be accessed or if the
        disk is full; 0 if the reader of the output has closed the pipe.
    """
    try:
        status = program() or 0
        print(end="", flush=True)
        return status
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except UnicodeEncodeError as error:  # in a file name; the standard streams escape
        characters = ascii(error.object[error.start : error.end])
        print(f"error: {characters} cannot be encoded in {error.encoding}.", file=sys.stderr)
        print("Use a UTF-8 locale (LC_ALL=C.UTF-8), or rename the file.", file=sys.stderr)
        return 2
    except OSError as error:
        if error.errno not in (errno.EPIPE, errno.ENOSPC):
            if not error.filename:
                raise
            print(f"error: {error.filename} cannot be used: {error.strerror}.", file=sys.stderr)
            print("Check the path, its permissions and the free disk space.", file=sys.stderr)
            return 2
        # Python flushes stdout once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if error.errno == errno.EPIPE:
            return 0
        what = f"error: {error.filename or 'The output'} cannot be written: {error.strerror}."
        print(what, "Free some space, or write to another disk.", sep="\n", file=sys.stderr)
        return 2


def place(error: BaseException) -> str:
    """Return where the user's own code raised an error: `` (mynet.py, line 7)``, or ``""``."""
    frames = extract_tb(error.__traceback__)
    package = str(Path(__file__).parent)
    own = [f for f in frames if not f.filename.startswith((package, sys.prefix, sys.base_prefix))]
    return f" ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else ""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message as a sentence, or the name of its type."""
    lines = str(error).strip().splitlines()
    line = " ".join(lines[0].split()) if lines else type(error).__name__
    return f"{line.rstrip('.')}."
