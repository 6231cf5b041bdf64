"""What is wrong with a command's options, said in two lines instead of a usage dump."""

import re
from argparse import ArgumentParser
from collections.abc import Iterable
from difflib import get_close_matches
from importlib import import_module
from inspect import signature
from typing import NoReturn

from mnist_lit.errors import InputError

# Lines of jsonargparse's complaints that are beside the point.
NOISE = ("Does not validate", "Subtypes:", "Errors:", "Given value type:", "Expected a path but")


class CommandParser(ArgumentParser):
    """argparse for the commands beside Lightning's, with errors in the program's two lines.

    Args:
        command: The command whose options it reads.
        description: What the command does, for its help.
    """

    def __init__(self, command: str, description: str) -> None:
        prog = f"python -m mnist_lit {command}"
        super().__init__(prog, description=description, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Raise an InputError instead of printing the usage."""
        see_help = f"All options: {self.prog} --help"
        if unknown := re.search(r"unrecognized arguments: (-[^\s=]+)", message):
            nearest = _nearest(unknown[1], self._option_string_actions)
            raise InputError(f"There is no option {unknown[1]}.", nearest or see_help)
        raise InputError(f"{message[0].upper()}{message[1:]}.", see_help)


def explain(message: str, keys: Iterable[str], command: str) -> tuple[str, str]:
    """Turn a parser's complaint into what is wrong and what to do.

    Args:
        message: Of the ``ArgumentError`` that jsonargparse raises.
        keys: All settings that the command has, dotted.
        command: As typed, for the reference to its help.

    Returns:
        Two sentences, a line each.
    """
    see_help = f"All options: {command} --help"
    unknown = re.search(r"unrecognized arguments: -*([^\s=]+)|accept option '(.+?)'", message)
    if unknown:
        key = unknown[1] or unknown[2]
        return f"There is no option {key}.", _nearest(key, keys) or see_help
    match = re.match(r'Parser key "(.+?)":?', message)
    where = match[1] if match else "configuration"
    detail = _detail(message[match.end() :] if match else message)
    refused = re.search(r"Option '(.+?)' is not accepted", message)
    if refused:
        hint = _nearest(refused[1], _arguments(message))
        return f"{where}: there is no argument {refused[1]}.", hint or see_help
    missing = re.search(r"No module named '(.+?)'", message)
    if missing:
        return f"{where}: {detail}", f"Run where {missing[1]}.py lies, or put it on PYTHONPATH."
    return f"{where}: {detail}", see_help


def _detail(text: str) -> str:
    lines = [line.strip(" -") for line in text.splitlines()]
    said = [
        line
        for line in lines
        if line and not line.startswith(NOISE) and line != "Expected a <class 'NoneType'>"
    ]
    sentence = "; ".join(said)
    sentence = re.sub(r"Type \S.* expects a function or a callable class: ", "", sentence)
    sentence = re.sub(r"[.;]? (Got|Given) value: (Namespace|NestedArg|\{).*", "", sentence)
    sentence = re.sub(r"[.;]? (Got|Given) value: ", ", got ", sentence)
    sentence = re.sub(r"(:) *;", r"\1", sentence)
    return re.sub(r"Expected a <class '(.+?)'>", r"expected \1", sentence).rstrip(".") + "."


def _nearest(key: str, keys: Iterable[str]) -> str | None:
    matches = get_close_matches(key, list(keys), n=1)
    return f"Did you mean {matches[0]}?" if matches else None


def _arguments(message: str) -> list[str]:
    """The arguments of the class that the complaint is about."""
    class_path = re.search(r"class_path(?:=| )'(.+?)'", message)
    if not class_path:
        return []
    module, _, name = class_path[1].rpartition(".")
    return list(signature(getattr(import_module(module), name)).parameters)
