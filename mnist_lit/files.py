"""Files: opening, atomic writes and checksums."""

import hashlib
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import BinaryIO

from mnist_lit.errors import InputError

PARTIAL = r"\.mnist_lit-[0-9a-f]{16}\.partial"  # name of a file that is still being written


def open_regular(path: Path, kind: str, what_to_do: str) -> BinaryIO:
    """Open a file for reading, unless it is a pipe or a device, which may be endless.

    Args:
        path: The file.
        kind: What it should be, such as ``picture``, for the error.
        what_to_do: The second line of the error.

    Raises:
        InputError: If it is not a regular file, or cannot be opened.
    """
    try:
        mode = path.stat().st_mode
        if stat.S_ISREG(mode):
            return path.open("rb")
    except FileNotFoundError:
        raise InputError(f"The {kind} {path} does not exist.", what_to_do) from None
    except (OSError, ValueError) as error:  # a name with a null byte is a ValueError
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path} cannot be read: {reason}.", what_to_do) from None
    what = "a folder" if stat.S_ISDIR(mode) else "a pipe or a device"
    raise InputError(f"{path} is {what}, not a {kind}.", what_to_do)


@contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """Turn an OSError on writing ``path`` into an InputError."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{path} cannot be written: {error.strerror or error}.",
            "Check the free space and the permissions, or choose another directory; "
            "an existing file was not changed.",
        ) from error


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same directory, and rename it to ``path`` when complete.

    Every call gets a temporary path of its own, also in other processes.

    Raises:
        InputError: If it cannot be written; an existing file stays as it was.
    """
    partial = path.with_name(f".mnist_lit-{secrets.token_hex(8)}.partial")
    try:
        with write_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield partial
            with partial.open("rb") as file:
                os.fsync(file.fileno())
            partial.replace(path)
    finally:
        with suppress(OSError):  # the directory could not be created
            partial.unlink(missing_ok=True)


def new_file(path: Path) -> Path:
    """Create an empty file: ``path``, or ``STEM_N`` with the lowest number that is free.

    Raises:
        InputError: If it cannot be created.
    """
    with write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    for number in count():
        place = path.with_stem(f"{path.stem}_{number}") if number else path
        with write_errors(place), suppress(FileExistsError):
            place.touch(exist_ok=False)
            return place
    raise AssertionError


def remove_partials(directory: Path) -> None:
    """Remove the temporary files of :func:`atomic_write` that killed processes have left."""
    if directory.is_dir() and not directory.is_symlink():
        for path in directory.iterdir():
            if re.fullmatch(PARTIAL, path.name):
                path.unlink(missing_ok=True)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
