"""The command table; a command's module is imported only when it is called."""

import gc
import os
import signal
import sys
from collections.abc import Mapping
from importlib import import_module
from types import FrameType

from mnist_lit import __version__
from mnist_lit.errors import InputError, exit_status, open_standard_streams

COMMANDS = {
    "fit": ("mnist_lit.training.command", "train a network"),
    "validate": ("mnist_lit.training.command", "evaluate a checkpoint on the validation images"),
    "test": ("mnist_lit.training.command", "evaluate a checkpoint on the 10,000 test images"),
    "predict": (
        "mnist_lit.training.command",
        "write predictions for the test images or a folder of images",
    ),
    "sweep": ("mnist_lit.sweep.command", "search for good hyperparameters"),
    "runs": ("mnist_lit.runs.command", "compare the runs on disk"),
    "show": ("mnist_lit.show.command", "show digits, and the predictions of a checkpoint"),
    "export": ("mnist_lit.export.command", "export a checkpoint to a single ONNX file"),
    "collect": ("mnist_lit.own_digits.command", "label and save your own digits, for training"),
    "read": ("mnist_lit.reading.command", "read the digits in images"),
    "serve": ("mnist_lit.server.command", "serve a web page and an HTTP API that read digits"),
}

HELP = """\
mnist_lit {version}: train, evaluate and use networks that read handwritten digits.

usage: python -m mnist_lit COMMAND [options]     (COMMAND --help lists its options)

{commands}

examples:
  python -m mnist_lit fit --config configs/default.yaml
  python -m mnist_lit test --ckpt_path best"""


class Stopped(BaseException):
    """SIGINT or SIGTERM; not an Exception, so that no handler of errors catches it."""

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.status = 128 + signum


def main(
    args: list[str] | None = None,
    commands: Mapping[str, tuple[str, str]] = COMMANDS,
    help_text: str = HELP,
) -> int:
    """Run one command.

    Args:
        args: The command and its options; those of the process if None.
        commands: Module and purpose of each.
        help_text: With places for ``version`` and ``commands``.

    Returns:
        The exit status: that of the command, or 0; 2 for a mistake in the input, 130 after SIGINT,
        143 after SIGTERM.
    """
    args = sys.argv[1:] if args is None else args
    open_standard_streams()
    handlers = {signum: signal.signal(signum, _stop) for signum in (signal.SIGINT, signal.SIGTERM)}
    try:
        return exit_status(lambda: _run(args, commands, help_text))
    except Stopped as stopped:
        if os.environ.get("LOCAL_RANK", "0") == "0":  # one process reports
            print(f"Stopped by {stopped}.", file=sys.stderr)
        return stopped.status
    finally:
        for signum, handler in handlers.items():
            signal.signal(signum, handler)


def _run(args: list[str], commands: Mapping[str, tuple[str, str]], help_text: str) -> int | None:
    command = args[0] if args else "--help"
    if command in ("-h", "--help"):
        lines = (f"  {name:10}{purpose}" for name, (_, purpose) in commands.items())
        print(help_text.format(version=__version__, commands="\n".join(lines)))
        return 0
    if command == "--version":
        print(f"mnist_lit {__version__}")
        return 0
    if command not in commands:
        raise InputError(
            f"Unknown command {command!r}.",
            f"The first argument is one of {', '.join(commands)}.",
        )
    # Torch's threads wait for each other by spinning. If another program keeps one of the cores
    # busy, every wait lasts a time slice of the scheduler: with one busy process on two cores, a
    # step took 20 times as long. With this limit, which is read when torch is imported, it takes 3
    # to 5 times as long; on an idle machine the limit costs nothing.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    try:
        # An import creates no garbage. Looking for it takes 0.8 of 4.4 s, and later 0.6 s again.
        gc.disable()
        module = import_module(commands[command][0])
        if not gc.get_freeze_count():  # a later call would freeze the garbage of this one
            gc.freeze()
        gc.enable()
        status: int | None = module.main(args)
    except Exception as error:
        if stopped := _stop_behind(error):
            raise stopped from None
        raise
    return status


def _stop(signum: int, frame: FrameType | None) -> None:
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_DFL)  # a second signal ends the program at once
    raise Stopped(signum)


def _stop_behind(error: BaseException | None) -> Stopped | None:
    """Find the signal behind an error, for C modules turn it into an ImportError."""
    seen = set()  # TensorBoard re-raises an error until it is its own cause
    while error and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, Stopped):
            return error
        error = error.__cause__ or error.__context__
    return None


if __name__ == "__main__":
    sys.exit(main())
