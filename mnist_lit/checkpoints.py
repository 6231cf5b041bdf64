"""Checkpoints: describe models as primitives, and load files that may come from anyone."""

import inspect
import os
import re
import sys
import zipfile
from argparse import ArgumentError
from collections.abc import Collection, Iterator
from datetime import date
from functools import partial, reduce
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from sysconfig import get_path
from types import ModuleType
from typing import Any, Self, TypeVar

import torch
import yaml
from jsonargparse import ArgumentParser
from lightning.fabric.plugins import ClusterEnvironment
from lightning.pytorch import Callback, LightningModule
from lightning.pytorch.accelerators import Accelerator
from lightning.pytorch.loggers import Logger
from lightning.pytorch.plugins import CheckpointIO, LayerSync, Precision
from lightning.pytorch.profilers import Profiler
from lightning.pytorch.strategies import Strategy
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from mnist_lit.errors import InputError
from mnist_lit.options import explain

T = TypeVar("T")
KeyPath = tuple[str, ...]  # the keys that lead to a value in nested settings

TRUSTED_PACKAGES = ("torch", "torchvision", "lightning", "mnist_lit")

# Modules of these that models and trainings consist of; importing others may have side effects.
TRUSTED_MODULES = ("torch.nn", "torch.optim", "torchvision", "lightning", "mnist_lit")

# Allowed base classes for each setting; in the arguments of a class, all of them are allowed.
KINDS: dict[str, tuple[type, ...]] = {
    "network": (nn.Module,),
    "augmentation": (nn.Module,),
    "optimizer": (Optimizer,),
    "scheduler": (LRScheduler,),
    "accelerator": (Accelerator,),
    "callbacks": (Callback,),
    "logger": (Logger,),
    "plugins": (CheckpointIO, ClusterEnvironment, LayerSync, Precision),
    "profiler": (Profiler,),
    "strategy": (Strategy,),
}
NESTED = tuple(kind for kinds in KINDS.values() for kind in kinds)

SECTIONS = ("model", "data", "trainer")  # of a configuration

# Settings of a machine, not of a model: never taken from a checkpoint.
LOCAL = {
    "data": ("data_dir", "download", "num_workers", "predict_dir"),
    "trainer": ("default_root_dir",),
}

VERSION = "pytorch-lightning_version"

# The required entries of a checkpoint.
EXPECTED: dict[str, type] = {
    "state_dict": dict,
    "hyper_parameters": dict,
    "epoch": int,
    "global_step": int,
    VERSION: str,
}

MAX_FILE = 4 * 2**30  # bytes
MAX_VALUES = 10_000  # in the settings; a run has about a hundred
MAX_LENGTH = 1_000  # of a string among them
MAX_NUMBER = 10_000  # among the arguments of a network: layers, channels, features
MAX_DEVICES = 64

TRAINING_ONLY = ("augmentation", "optimizer", "scheduler")  # arguments not needed to evaluate

UNRECORDED = "(...)"  # marks an object that cannot be rebuilt


class RefusedError(Exception):
    """The reason to refuse a checkpoint, as the end of a sentence."""


# ---- reading ----


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint: only tensors and primitives, with checksums verified.

    Raises:
        InputError: If the file is missing, damaged, or not a checkpoint of a DigitClassifier.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"There is no checkpoint {path}.", "Check the path.")
    try:
        if path.stat().st_size > MAX_FILE:
            raise RefusedError(f"it is larger than {MAX_FILE / 2**30:.0f} GiB")
        _verify_archive(path)
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        _verify_contents(checkpoint, path.stat().st_size)
        return dict(checkpoint)
    except RefusedError as error:
        reason = str(error)
    except Exception as error:  # parsing a damaged file may raise anything
        reason = f"it is damaged, or contains code ({type(error).__name__})"
    raise InputError(
        f"{path} is not a checkpoint of this program: {reason}.",
        "Give one that fit has written, or best or last for the newest run.",
    )


def _verify_archive(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise RefusedError("it is compressed")
        if sum(entry.file_size for entry in entries) > path.stat().st_size:
            raise RefusedError("its parts overlap")
        if damaged := archive.testzip():
            raise RefusedError(f"it is damaged: the checksum of {damaged} is wrong")


def _verify_contents(checkpoint: Any, size: int) -> None:
    for key, kind in EXPECTED.items():
        if not isinstance(checkpoint.get(key), kind):
            raise RefusedError(f"it has no valid {key}")
    if not all(0 <= checkpoint[key] < 2**53 for key in ("epoch", "global_step")):
        raise RefusedError("its epoch or global_step is out of range")
    if not re.fullmatch(r"2(\.\d{1,6}){1,3}((a|b|rc|\.dev|\.post)\d{1,8})?", checkpoint[VERSION]):
        raise RefusedError("it was not written by Lightning 2")
    config = checkpoint.get("config", {section: {} for section in SECTIONS})
    if not all(isinstance(config.get(section), dict) for section in SECTIONS):
        raise RefusedError("it has no valid config")
    for settings in (checkpoint["hyper_parameters"], config):
        if sum(1 for _ in islice(_values(settings), MAX_VALUES)) == MAX_VALUES:
            raise RefusedError("it has too many settings")
    callbacks = checkpoint.get("callbacks", {})
    if not all(isinstance(state, dict) for state in callbacks.values()):
        raise RefusedError("it has no valid callbacks")
    if any(_is_url(text) for text in _texts(callbacks)):
        raise RefusedError("its callbacks name a file by a URL")
    if not all(isinstance(name, str) for name in checkpoint["state_dict"]):
        raise RefusedError("its state_dict has names that are not text")
    weights = checkpoint["state_dict"].values()
    if not all(isinstance(weight, Tensor) and _has_numbers(weight) for weight in weights):
        raise RefusedError("its state_dict holds more than tensors of real numbers")
    # A view may be larger than its storage; tied weights count twice.
    if sum(weight.nbytes for weight in weights) > 2 * size:
        raise RefusedError("its tensors are larger than the file")


def _is_url(text: str) -> bool:
    """Whether Lightning would open a path by a file system other than this machine's."""
    return "://" in text or "::" in text


def _texts(value: Any) -> Iterator[str]:
    """Give each text in nested values, which may contain one of them many times."""
    pending, seen = [value], set()
    while pending:
        value = pending.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict | list | tuple) and id(value) not in seen:
            seen.add(id(value))
            pending += [*value, *value.values()] if isinstance(value, dict) else value


def _has_numbers(weight: Tensor) -> bool:
    """Whether a tensor can be copied into a parameter: not a sparse, quantized or empty shell."""
    in_memory = weight.is_cpu and weight.layout is torch.strided
    return in_memory and not weight.is_quantized and not weight.is_complex()


# ---- what a checkpoint decides ----


def recorded_settings(
    checkpoint: dict[str, Any],
    path: Path,
    *,
    sections: Collection[str] = SECTIONS,
    without: Collection[str] = (),
    named_by_user: Collection[str] = (),
) -> dict[str, Any]:
    """Return the settings that a checkpoint was trained with, except those of a machine.

    Args:
        checkpoint: From :func:`load_checkpoint`.
        path: The checkpoint's path, for messages.
        sections: Sections to return.
        without: Arguments of the model to leave out.
        named_by_user: Strings in the user's own options, which are trusted.

    Returns:
        The sections as primitives; only ``model`` if it was trained from Python.

    Raises:
        InputError: If a setting names code that a checkpoint may not choose, or a path for
            Lightning's classes to write to.
    """
    config = checkpoint.get("config", {}) | {"model": checkpoint["hyper_parameters"]}
    dropped = {**LOCAL, "model": (*without, "_instantiator")}  # recorded by older versions
    settings = {
        section: {
            name: value for name, value in config[section].items() if name not in dropped[section]
        }
        for section in sections
        if section in config
    }
    try:
        for keys, value in _values(settings):
            if isinstance(value, str) and value not in named_by_user:
                _check(keys, value)
            elif isinstance(value, int):
                _check_number(keys, value)
    except RefusedError as error:
        raise InputError(f"{path}: {error}.", _hint(path)) from None
    data = {"data_dir": None, "dataset": "MNIST"} | config.get("data", {})
    data_dir, dataset = data["data_dir"], data["dataset"]
    known = isinstance(data_dir, str) and isinstance(dataset, str)
    if "data" in settings and known and Path(data_dir, dataset, "raw").is_dir():
        settings["data"]["data_dir"] = data_dir
    if "trainer" in settings and not {"MASTER_ADDR", "SLURM_NTASKS"} & os.environ.keys():
        settings["trainer"].pop("num_nodes", None)  # this machine would wait for others
    return {section: _without_tuples(values) for section, values in settings.items()}


def _without_tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_tuples(inner) for key, inner in value.items()}
    return [*map(_without_tuples, value)] if isinstance(value, list | tuple) else value


def _hint(path: Path) -> str:
    config = path.parent.parent / "config.yaml"
    return (
        f"If you trust it, run in the directory of its code, or give its settings yourself: "
        f"--config {config if config.is_file() else 'FILE'}"
    )


def _values(value: Any, keys: KeyPath = ()) -> Iterator[tuple[KeyPath, Any]]:
    """Yield each value in nested settings with the keys that lead to it, and None for a container.

    Types are exact: a subclass, such as an ordered dictionary, is no primitive.
    """
    if type(value) is dict:
        yield keys, None
        for key, inner in value.items():
            if type(key) is not str or "." in key or key.startswith("__"):
                raise RefusedError(f"{'.'.join(keys)} has the key {key!r}")
            yield from _values(inner, (*keys, key))
    elif type(value) in (list, tuple):
        yield keys, None
        for inner in value:
            yield from _values(inner, keys)
    elif value is None or type(value) in (bool, int, float, str):
        yield keys, value
    else:
        raise RefusedError(f"{'.'.join(keys)} is a {type(value).__name__}")


def _check_number(keys: KeyPath, value: int) -> None:
    name = ".".join(keys)
    if keys[1:2] in (("network",), ("augmentation",)) and abs(value) > MAX_NUMBER:
        raise RefusedError(f"{name} is {value}, more than {MAX_NUMBER:,}")
    if keys == ("trainer", "devices") and value > MAX_DEVICES:
        raise RefusedError(f"{name} is {value}, more than {MAX_DEVICES}")


def _check(keys: KeyPath, value: str) -> None:
    """Refuse a string that names code, a file, or a path for Lightning's classes to write to."""
    name = ".".join(keys)
    if keys[-1] == "device":
        raise RefusedError(f"{name} is a setting of a machine")
    if "\0" in value or (keys[0] != "data" and os.path.lexists(value)):  # would be read as YAML
        raise RefusedError(f"{name} is {value[:100]}, the name of a file")
    section, setting, *inner = (*keys, "", "")
    if value.endswith(UNRECORDED):
        raise RefusedError(f"{name} was given as an object, {value}, which cannot be recorded")
    texts = {value.strip(), _parsed(name, value)}
    if "class_path" in inner or (setting in KINDS and "." in value) or any(map(_is_code, texts)):
        kinds = NESTED if "init_args" in inner else KINDS.get(setting, ())
        found = [_resolved(text) for text in texts]
        if None in found:
            raise RefusedError(f"{name} is {value[:100]}, for which there is no trusted code here")
        if not all(isinstance(each, type) and issubclass(each, kinds) for each in found):
            raise RefusedError(f"{name} is {value[:100]}, which is not a class for this setting")
    elif section == "trainer" and len(keys) > 2 and _is_outside(keys[-1], value):
        raise RefusedError(f"{name} is {value[:100]}, outside the run's directory")


def _parsed(name: str, text: str) -> str:
    """Return the string that a YAML parser makes of ``text``, or ``text`` if not a string."""
    try:
        parsed = yaml.safe_load(text) if len(text) <= MAX_LENGTH else ...
    except yaml.YAMLError:
        return text
    if not isinstance(parsed, str | int | float | date | None):
        raise RefusedError(f"{name} is not a single value")
    return str(parsed) if isinstance(parsed, str) else text


def _is_code(text: str) -> bool:
    """Whether a string is a dotted name in a module that exists."""
    if not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)+", text):
        return False
    root = text.partition(".")[0]
    return root in sys.modules or find_spec(root) is not None


def _is_outside(key: str, text: str) -> bool:
    return (
        key.endswith(("dir", "dirpath"))
        or Path(text).is_absolute()
        or text.startswith("~")
        or ".." in Path(text).parts
        or "://" in text
    )


def _resolved(name: str) -> object:
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
    """Whether the name is that of a module in the working directory that nothing shadows."""
    here = str(Path.cwd())
    own = PathFinder.find_spec(root, [here])
    if own is None:
        return False
    if here not in sys.path:
        sys.path.append(here)
    return _source(own) == _source(find_spec(root))


def _source(spec: ModuleSpec | None) -> str | None:
    if spec is None:
        return None
    return spec.origin or next(iter(spec.submodule_search_locations or ()), None)


# ---- recording and building ----


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
    if "<locals>" in cls.__qualname__ or not all(map(_is_primitive, arguments.values())):
        return f"{cls.__qualname__}{UNRECORDED}"
    path = {"class_path": f"{cls.__module__}.{cls.__qualname__}"}
    return path | {"init_args": arguments} if arguments else path


def _is_primitive(value: object) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_primitive, value))
    return value is None or type(value) in (bool, int, float, str)


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
    same = repr(twin) == repr(module) and _shapes(twin) == _shapes(module)
    return arguments if same else None


def _shapes(module: nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in module.state_dict().items()}


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
        expected = _shapes(model)
    except InputError:
        raise
    except Exception as error:  # the user's constructor may raise anything
        problem: str | None = f"its model cannot be built: {' '.join(str(error).split())}"
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
    except (RuntimeError, NotImplementedError):  # the constructor computes with its weights
        return instantiate(cls, settings, **given)


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


class Unrecorded(nn.Module):
    """Placeholder for an argument of a model that the checkpoint does not record.

    Args:
        name: The argument's name.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, *args: Any) -> Any:
        """Raise an InputError, since there is nothing to call."""
        raise InputError(
            f"The checkpoint does not record its {self.name}, which was given as an object.",
            f"Give it when loading: load_from_checkpoint(path, {self.name}=...)",
        )


class CheckpointModule(LightningModule):
    """A LightningModule with self-contained checkpoints, which may come from anyone."""

    def describe(self, /, **hyperparameters: Any) -> None:
        """Record the hyperparameters as primitives, so that checkpoints are self-contained.

        Args:
            hyperparameters: The constructor's arguments, or simply all its ``locals()``.
        """
        described = {
            name: describe(value)
            for name, value in hyperparameters.items()
            if name not in ("self", "__class__")
        }
        self.save_hyperparameters(described, logger=False)

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]  # files and weights only
        cls,
        checkpoint_path: str | Path,
        map_location: torch.device | str = "cpu",
        weights_only: bool | None = None,
        **kwargs: Any,
    ) -> Self:
        """Load a model from a checkpoint, which may come from anyone.

        A checkpoint names the classes it was trained with. They are imported only if they belong
        to torch, torchvision, Lightning or this package, or are in the working directory; others
        must have been imported before.

        Args:
            checkpoint_path: The file.
            map_location: The device of the model.
            weights_only: Ignored: only tensors and primitives are ever loaded.
            kwargs: Constructor arguments that replace the recorded ones.

        Raises:
            InputError: If the file is damaged, names other code, or does not match its network.
        """
        path = Path(checkpoint_path)
        checkpoint = load_checkpoint(path)
        recorded = checkpoint[cls.CHECKPOINT_HYPER_PARAMS_KEY]
        given = {
            name: Unrecorded(name)
            for name in TRAINING_ONLY
            if str(recorded.get(name)).endswith(UNRECORDED)
        } | kwargs
        settings = recorded_settings(checkpoint, path, sections=["model"], without=given)["model"]
        verify_weights(cls, settings, checkpoint, path, **given)
        model = instantiate(cls, settings, **given)
        model.on_load_checkpoint(checkpoint)
        model.load_state_dict(checkpoint["state_dict"])
        return model.to(map_location)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the recorded hyperparameters; drop the weights of modules that were not built."""
        self.describe(**checkpoint[self.CHECKPOINT_HYPER_PARAMS_KEY])
        for name in list(checkpoint["state_dict"]):
            if getattr(self, name.partition(".")[0], None) is None:
                del checkpoint["state_dict"][name]

    def on_fit_start(self) -> None:
        """Refuse to train a network whose checkpoints could not be loaded.

        Raises:
            InputError: If the arguments of the network cannot be recorded.
        """
        network = self.hparams["network"]
        if isinstance(network, str) and self.trainer.checkpoint_callbacks:
            raise InputError(
                f"A checkpoint of {network} could not be loaded: its arguments are unknown.",
                "Store each in an attribute of the same name (self.width = width), and define the "
                "class in a module that can be imported.",
            )
