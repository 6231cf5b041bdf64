"""The command of the augmentation, run as those of the classifier are."""

import sys

from mnist_lit import __main__ as program

COMMANDS = {"forms": ("mnist_lit.augment.contact_sheet", "draw all forms of the digits")}

HELP = """\
mnist_lit.augment {version}: what the training images are augmented with.

usage: python -m mnist_lit.augment COMMAND [options]     (COMMAND --help lists its options)

{commands}

example:
  python -m mnist_lit.augment forms --output forms.png"""


def main(args: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return program.main(args, COMMANDS, HELP)


if __name__ == "__main__":
    sys.exit(main())
