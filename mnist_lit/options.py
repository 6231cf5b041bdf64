"""Option parsing with errors of two lines: what is wrong, and what to do."""

import re
from argparse import ArgumentError, ArgumentParser, Namespace
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path
from textwrap import shorten
from typing import Any, NoReturn

from mnist_lit.errors import InputError, first_line

# Lines of jsonargparse's messages that do not help a user.
NOISE = (
    *("Does not validate", "Subtypes:", "Errors:", "Expected a path but"),
    *("Expected a <class 'NoneType'>", "Given value type:"),
    *("Given value: Namespace", "Given value: NestedArg"),
)

MAX_LENGTH = 300  # characters of a message


class CommandParser(ArgumentParser):
    """argparse for the commands that do not use Lightning's parser.

    Args:
        command: The command to parse options for.
        description: What the command does, shown by ``--help``.
    """

    def __init__(self, command: str, description: str) -> None:
        prog = f"python -m mnist_lit {command}"
        super().__init__(prog, description=description, allow_abbrev=False)

    def parse_args(self, args: Sequence[str]) -> Namespace:  # type: ignore[override]
        """Parse the options of the command.

        Raises:
            InputError: If one is unknown or invalid.
        """
        options, unknown = self.parse_known_args(args)
        for argument in unknown:
            name = argument.partition("=")[0]
            if name.startswith("-"):
                nearest = _nearest(name, re.findall(r"--[\w-]+", self.format_usage()))
                raise InputError(f"There is no option {name}.", nearest or self._see_help())
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return options

    def error(self, message: str) -> NoReturn:
        """Raise an InputError instead of printing the usage."""
        raise InputError(f"{message[0].upper()}{message[1:]}.", self._see_help())

    def _see_help(self) -> str:
        return f"All options: {self.prog} --help"


def path_with(suffix: str) -> Callable[[str], Path]:
    """Return the type of an option that takes the path of a file with this suffix."""

    def path(text: str) -> Path:
        if Path(text).suffix != suffix:
            raise InputError(f"{text} is not the name of a {suffix} file.", f"Add {suffix} to it.")
        return Path(text)

    return path


def unused(path: Path) -> Path:
    """Return the path that is used if none is given.

    Raises:
        InputError: If it exists already.
    """
    if path.exists():
        raise InputError(f"{path} already exists.", f"To replace it: --output {path}")
    return path


def parse(
    parser: Any, args: Sequence[str], keys: Iterable[str], command: str, source: str = ""
) -> Any:
    """Parse the options of a command with a parser of Lightning's.

    Args:
        parser: Of jsonargparse, with a subcommand.
        args: The subcommand and its options.
        keys: All settings of the subcommand, dotted.
        command: As typed, for the reference to its help.
        source: Put before a message: what is given besides the options.

    Raises:
        InputError: If one is unknown or invalid.
    """
    try:
        config = parser.parse_args(args)
    except (UnicodeError, RecursionError) as error:
        raise InputError(
            f"A configuration cannot be read: {first_line(error)}",
            "Give --config YAML files in UTF-8 without recursive aliases.",
        ) from error
    except ArgumentError as error:
        what, hint = explain(str(error), keys, command)
        raise InputError(source + what, hint) from error
    for key, value in config.items():
        if isinstance(value, str) and "\0" in value:
            name = key.removeprefix(f"{args[0]}.")
            raise InputError(f"{name} contains a null character.", "Remove it.")
    return config


def explain(message: str, keys: Iterable[str], command: str) -> tuple[str, str]:
    """Shorten a message of jsonargparse to what is wrong and what to do.

    Args:
        message: Of the ``ArgumentError`` that jsonargparse raises.
        keys: All settings of the command, dotted.
        command: As typed, for the reference to its help.

    Returns:
        Two sentences, one line each.
    """
    see_help = f"All options: {command} --help"
    where = ""
    # jsonargparse 4.53 raises the same ArgumentError for every mistake; only its text tells which.
    if message.startswith("Parser key"):
        where, _, message = message.removeprefix('Parser key "').partition('":')
    if unknown := re.search(r"(?:unrecognized arguments: -*|option ')([^\s=']+)", message, re.I):
        if where:
            see_help = f"Its options: {command} --{where}.help CLASS"
            return f"{where} has no option {unknown[1]}.", see_help
        return f"There is no option {unknown[1]}.", _nearest(unknown[1], keys) or see_help
    if "No module named" in message:
        see_help = "Run in the directory of the module, or add that to PYTHONPATH."
    lines = [line.strip(" -") for line in message.splitlines()]
    said = [line.split("callable class: ")[-1] for line in lines if not line.startswith(NOISE)]
    what = shorten("; ".join(filter(None, said)).replace(":;", ":"), MAX_LENGTH)
    return f"{where or 'configuration'}: {what.rstrip('.:')}.", see_help


def _nearest(key: str, keys: Iterable[str]) -> str | None:
    matches = get_close_matches(key, list(keys), n=1)
    return f"Did you mean {matches[0]}?" if matches else None
