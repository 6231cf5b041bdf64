"""Files: writing them atomically, and their checksums."""

import hashlib
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

from mnist_lit.errors import InputError

PARTIAL = r"\.mnist_lit-[0-9a-f]{16}\.partial"  # the name of a file that is not yet whole


@contextmanager
def refusals(path: Path) -> Iterator[None]:
    """Turn a disk's refusal to write ``path`` into an InputError."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{path} cannot be written: {error.strerror or error}.",
            "Make room, get the right to write, or choose another directory; "
            "an earlier file is intact.",
        ) from error


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Give a path beside ``path`` to write to, and move it there once it is complete.

    No two processes get the same one.

    Raises:
        InputError: If the disk refuses; an earlier file stays as it was.
    """
    partial = path.with_name(f".mnist_lit-{secrets.token_hex(8)}.partial")
    try:
        with refusals(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield partial
            with partial.open("rb") as file:
                os.fsync(file.fileno())
            partial.replace(path)
    finally:
        with suppress(OSError):  # there was no directory to write it in
            partial.unlink(missing_ok=True)


def new_file(path: Path) -> Path:
    """Make an empty file: ``path``, or with the first number after its stem that is not taken.

    Raises:
        InputError: If the disk refuses.
    """
    for number in count():
        place = path.with_stem(f"{path.stem}_{number}") if number else path
        with refusals(place), suppress(FileExistsError):
            place.touch(exist_ok=False)
            return place
    raise AssertionError


def remove_partials(directory: Path) -> None:
    """Remove what killed processes have left of files that :func:`whole` was to move to a place."""
    if directory.is_dir() and not directory.is_symlink():
        for path in directory.iterdir():
            if re.fullmatch(PARTIAL, path.name):
                path.unlink(missing_ok=True)


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
