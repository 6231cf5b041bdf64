"""The commands of the detector, run as those of the classifier are."""

import sys

from mnist_lit import __main__ as program

COMMANDS = {
    "fit": ("mnist_lit.detection.cli", "train a detector"),
    "validate": ("mnist_lit.detection.cli", "evaluate a checkpoint on the validation pages"),
    "test": ("mnist_lit.detection.cli", "evaluate a checkpoint on the test pages"),
    "export": ("mnist_lit.detection.export", "export a checkpoint to a single ONNX file"),
    "pages": ("mnist_lit.detection.pages.command", "draw some of the pages that it trains on"),
}

HELP = """\
mnist_lit.detection {version}: train a network that finds handwritten digits on pages.

usage: python -m mnist_lit.detection COMMAND [options]     (COMMAND --help lists its options)

{commands}

example:
  python -m mnist_lit.detection fit --config configs/detector.yaml"""


def main(args: list[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    return program.main(args, COMMANDS, HELP)


if __name__ == "__main__":
    sys.exit(main())
