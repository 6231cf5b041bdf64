"""Train and evaluate the detector (fit, validate, test), export it, or draw pages."""

import os
import sys
from importlib import import_module

from mnist_lit.errors import exit_status, open_standard_streams

COMMANDS = {"export": "mnist_lit.detection.export", "pages": "mnist_lit.detection.pages.command"}


def main(args: list[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    args = sys.argv[1:] if args is None else args
    open_standard_streams()
    return exit_status(lambda: _run(args))


def _run(args: list[str]) -> int | None:
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # as in mnist_lit.__main__
    if args and args[0] in COMMANDS:
        status: int | None = import_module(COMMANDS[args[0]]).main(args)
        return status
    from mnist_lit.detection.cli import DetectorCLI
    from mnist_lit.training.environment import prepare

    prepare()
    DetectorCLI(args)
    return None


if __name__ == "__main__":
    sys.exit(main())
