"""Build objects from primitives, once they match the weights of a checkpoint."""

from argparse import ArgumentError
from pathlib import Path
from textwrap import shorten
from typing import Any, TypeVar

import torch
from jsonargparse import ArgumentParser
from torch import nn

from mnist_lit.checkpoints.classes import TRUSTED_PACKAGES
from mnist_lit.checkpoints.description import shapes
from mnist_lit.errors import InputError
from mnist_lit.options import MAX_LENGTH, explain

T = TypeVar("T")

TRAINING_ONLY = ("augmentation", "optimizer", "scheduler")  # arguments not needed to evaluate


def instantiate(cls: type[T], settings: dict[str, Any], **given: Any) -> T:
    """Build an object from primitives.

    Args:
        cls: The class.
        settings: Arguments of the constructor; objects as ``class_path`` and ``init_args``.
        given: Further arguments, which are objects already.

    Raises:
        InputError: If the settings do not match the constructor.
    """
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(
        cls, "it", skip=set(given), instantiate=False, fail_untyped=False, sub_configs=False
    )
    try:
        parsed = parser.instantiate_classes(parser.parse_object({"it": settings}))
    except ArgumentError as error:
        what, _ = explain(str(error), (), "")
        what_to_do = "The settings must match the installed version of the class."
        raise InputError(what.removeprefix("it."), what_to_do) from error
    return cls(**vars(parsed.it), **given)


def verify_weights(
    cls: type[nn.Module],
    settings: dict[str, Any],
    checkpoint: dict[str, Any],
    path: Path,
    **given: Any,
) -> None:
    """Check that a checkpoint's weights match its model, before allocating any memory.

    Args:
        cls: The model's class.
        settings: Arguments of its constructor, as primitives.
        checkpoint: From :func:`load_checkpoint`.
        path: The checkpoint's path, for messages.
        given: Further arguments, which are objects already.

    Raises:
        InputError: If the model cannot be built, or names or shapes of weights differ.
    """
    try:
        model = _without_memory(cls, settings, given)
        expected = shapes(model)
    except InputError:
        raise
    except Exception as error:  # the user's constructor may raise anything
        problem: str | None = f"its model cannot be built: {shorten(str(error), MAX_LENGTH)}"
    else:
        found = {name: weight.shape for name, weight in checkpoint["state_dict"].items()}
        problem = _difference(found, expected) or _other_output(model)
    if problem:
        raise InputError(
            f"{path}: {problem}.",
            "This directory must contain the network's code as it was when trained.",
        )


def _without_memory(cls: type[T], settings: dict[str, Any], given: dict[str, Any]) -> T:
    try:
        with torch.device("meta"):
            return instantiate(cls, settings, **given)
    except Exception:
        network = settings.get("network")
        name = str(network.get("class_path") if isinstance(network, dict) else network)
        if name.partition(".")[0] in ("None", *TRUSTED_PACKAGES):
            raise
        # The constructor of the user's own network may compute with its weights.
        needed = {key: value for key, value in settings.items() if key not in TRAINING_ONLY}
        return instantiate(cls, needed, **given)


def _other_output(model: nn.Module) -> str | None:
    """What is wrong with the output of the network, as far as it can be told without memory."""
    images = torch.zeros(2, 1, 28, 28, device="meta")
    try:
        with torch.no_grad():
            shape = model.eval().get_submodule("network")(images).shape
    except Exception:  # the network needs real numbers
        return None
    return None if shape == (2, 10) else f"its network gives {tuple(shape)} for two images"


def _difference(found: dict[str, torch.Size], expected: dict[str, torch.Size]) -> str | None:
    for name in sorted(found.keys() | expected.keys()):
        if found.get(name) != expected.get(name) and not name.startswith("augmentation."):
            shape, wanted = (
                str(tuple(shapes[name])) if name in shapes else "missing"
                for shapes in (found, expected)
            )
            return f"{name} is {shape} in the checkpoint and {wanted} in the network"
    return None
