"""Describe objects as primitives, as a configuration would."""

import copy
import inspect
from functools import partial
from typing import Any

import torch
from torch import nn

from mnist_lit.checkpoints.primitives import is_primitive

UNRECORDED = "(...)"  # marks an object that cannot be rebuilt


def describe(value: object) -> object:
    """Describe an argument of a model as primitives, as a configuration would.

    A module is described by its class and the attributes named like its constructor's parameters,
    provided that these rebuild the same module.

    Returns:
        ``class_path`` and ``init_args`` for a class, a partial of one, or a module; a string that
        ends in ``UNRECORDED`` for other code; anything else unchanged.
    """
    if isinstance(value, type):
        return _description(value, {})
    if isinstance(value, partial) and isinstance(value.func, type) and not value.args:
        return _description(value.func, value.keywords)
    if isinstance(value, nn.Module):
        arguments = _constructor_arguments(value)
        return _description(type(value), {"": value} if arguments is None else arguments)
    return f"{getattr(value, '__name__', value)}{UNRECORDED}" if callable(value) else value


def _description(cls: type, arguments: dict[str, Any]) -> dict[str, Any] | str:
    if "<locals>" in cls.__qualname__ or not all(map(_is_recordable, arguments.values())):
        return f"{cls.__qualname__}{UNRECORDED}"
    path = {"class_path": f"{cls.__module__}.{cls.__qualname__}"}
    return path | {"init_args": arguments} if arguments else path


def _is_recordable(value: object) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_recordable, value))
    return is_primitive(value)


def _constructor_arguments(module: nn.Module) -> dict[str, Any] | None:
    """Return the arguments that rebuild a module, or None if they cannot be determined."""
    cls = type(module)
    if cls.__init__ is nn.Module.__init__:
        return {}
    names = inspect.signature(cls).parameters
    arguments = {name: getattr(module, name) for name in names if hasattr(module, name)}
    if not names:
        return {}
    try:
        with torch.random.fork_rng(devices=[]):
            twin = cls(**arguments)
    except Exception:  # an attribute is missing, or has another value
        return None
    same = repr(twin) == repr(module) and shapes(twin) == shapes(module)
    return arguments if same and _same_outputs(twin, module) else None


def _same_outputs(twin: nn.Module, module: nn.Module) -> bool:
    """Whether two networks compute the same with the same weights; true of what is no network."""
    images = torch.linspace(0, 1, 2 * 784).view(2, 1, 28, 28)
    outputs = []
    try:
        twin.load_state_dict(module.state_dict())
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            for each in (twin, copy.deepcopy(module)):
                torch.default_generator.manual_seed(0)  # of the CPU only
                outputs.append(each.cpu().eval()(images))
        return torch.allclose(outputs[0], outputs[1], equal_nan=True)
    except Exception:  # it takes no images, or not on the CPU
        return True


def shapes(module: nn.Module) -> dict[str, torch.Size]:
    """Return the shape of each weight and buffer by name."""
    return {name: tensor.shape for name, tensor in module.state_dict().items()}
