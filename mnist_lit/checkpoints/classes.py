"""The classes that a checkpoint may name: trusted packages, and the user's own modules."""

import sys
from functools import reduce
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from pathlib import Path
from sysconfig import get_path
from types import ModuleType
from typing import Any

from lightning.pytorch.utilities import rank_zero_only

from mnist_lit.checkpoints.primitives import RefusedError

TRUSTED_PACKAGES = ("torch", "torchvision", "lightning", "mnist_lit")

# Modules of these that models and trainings consist of; importing others may have side effects.
TRUSTED_MODULES = ("torch.nn", "torch.optim", "torchvision", "lightning", "mnist_lit")


def resolve(name: str) -> object:
    """Find a dotted name, importing only trusted packages and the user's own modules."""
    parts = name.split(".")
    for end in range(len(parts) - 1, 0, -1):
        found: Any = _module(".".join(parts[:end]))
        if found is not None:
            try:
                return reduce(getattr, parts[end:], found)
            except Exception:  # a module may have a __getattr__ of its own
                return None
    return None


def _module(name: str) -> ModuleType | None:
    root = name.partition(".")[0]
    own = root not in TRUSTED_PACKAGES
    if name in sys.modules:
        return None if own and _is_installed(sys.modules[root]) else sys.modules[name]
    if not name.replace(".", "").isidentifier():
        return None
    if not (_is_local(root) if own else f"{name}.".startswith(TRUSTED_MODULES)):
        return None
    try:
        module = import_module(name)
    except ModuleNotFoundError as error:
        if name.startswith(str(error.name)):
            return None  # perhaps a class
        raise RefusedError(f"{name} cannot be imported: {error}") from error
    except (Exception, SystemExit) as error:  # the module is the user's own
        raise RefusedError(f"{name} cannot be imported: {error}") from error
    if own:
        rank_zero_only(print)(f"Using code from {Path(str(module.__file__)).name}")
    return module


def _is_installed(module: ModuleType) -> bool:
    """Whether an imported module belongs to an installed library, not to the user."""
    file = getattr(module, "__file__", None)
    if file is None:
        return module.__name__ != "__main__"
    libraries = (get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib"))
    return any(Path(file).is_relative_to(library) for library in libraries)


def _is_local(root: str) -> bool:
    """Whether Python finds the module, and in the working directory."""
    own = PathFinder.find_spec(root, [str(Path.cwd())])
    return own is not None and _source(own) == _source(find_spec(root))


def _source(spec: ModuleSpec | None) -> str | None:
    if spec is None:
        return None
    return spec.origin or next(iter(spec.submodule_search_locations or ()), None)
