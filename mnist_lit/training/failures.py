"""Failures of a training that a user can fix, in two lines."""

from collections.abc import Iterator
from contextlib import contextmanager
from traceback import walk_tb

from lightning.fabric.utilities.exceptions import MisconfigurationException

from mnist_lit.errors import InputError, first_line
from mnist_lit.training.environment import broken_connection

# What Lightning raises for invalid options.
OPTION_ERRORS = (
    MisconfigurationException,
    AttributeError,
    ImportError,
    RuntimeError,
    TypeError,
    ValueError,
)


@contextmanager
def reported(command: str) -> Iterator[None]:
    """Turn errors that come from options, the disk or another process into an InputError.

    Args:
        command: As typed, for the reference to its help.

    Raises:
        InputError: If an option or a file it names is invalid.
    """
    try:
        yield
    except InputError:
        raise
    except OSError as error:
        if error.filename or not error.errno:
            raise
        raise InputError(
            f"A log cannot be written: {error.strerror}.",
            "Check the free space and the permissions; the checkpoints are intact.",
        ) from error
    except Exception as error:
        if lost := broken_connection(error):
            raise InputError(lost, "See above for the reason, and start them again.") from error
        if not _is_option_error(error):
            raise
        raise InputError(first_line(error), f"All options: {command} --help") from error


def _is_option_error(error: BaseException) -> bool:
    """Whether ``error`` was raised by Lightning or a torch optimizer, not by code they call."""
    if not isinstance(error, OPTION_ERRORS):
        return False
    *_, (frame, _) = walk_tb(error.__traceback__)
    module: str = frame.f_globals.get("__name__", "")
    return module.startswith(("lightning.", "torch.optim."))
