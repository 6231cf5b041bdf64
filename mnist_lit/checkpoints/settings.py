"""The settings that a checkpoint may decide: no code, no files, nothing of a machine."""

import os
import re
import sys
from collections.abc import Collection
from datetime import date
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml
from lightning.fabric.plugins import ClusterEnvironment
from lightning.pytorch import Callback
from lightning.pytorch.accelerators import Accelerator
from lightning.pytorch.loggers import Logger
from lightning.pytorch.plugins import CheckpointIO, LayerSync, Precision
from lightning.pytorch.profilers import Profiler
from lightning.pytorch.strategies import Strategy
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from mnist_lit.checkpoints.archive import SECTIONS
from mnist_lit.checkpoints.classes import resolve
from mnist_lit.checkpoints.description import UNRECORDED
from mnist_lit.checkpoints.primitives import KeyPath, RefusedError, values, without_tuples
from mnist_lit.errors import InputError

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


# Settings of a machine, not of a model: never taken from a checkpoint.
LOCAL = {
    "data": ("data_dir", "download", "num_workers", "own_dir", "predict_dir"),
    "trainer": ("default_root_dir",),
}

MAX_LENGTH = 1_000  # characters of a string
MAX_NUMBER = 10_000  # among the arguments of a network: layers, channels, features
MAX_DEVICES = 64


def recorded_settings(
    checkpoint: dict[str, Any],
    path: Path,
    *,
    sections: Collection[str] = SECTIONS,
    without: Collection[str] = (),
    named_by_user: Collection[str] = (),
    own_loggers: bool = False,
) -> dict[str, Any]:
    """Return the settings that a checkpoint was trained with, except those of a machine.

    Args:
        checkpoint: From :func:`load_checkpoint`.
        path: The checkpoint's path, for messages.
        sections: Sections to return.
        without: Arguments of the model to leave out.
        named_by_user: Strings in the user's own options, which are trusted.
        own_loggers: Whether the paths and addresses of its loggers are trusted, too.

    Returns:
        The sections as primitives; only ``model`` if it was trained from Python.

    Raises:
        InputError: If a setting names code, or a path for Lightning's classes to write to.
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
        _check(settings, named_by_user, own_loggers)
    except RefusedError as error:
        raise InputError(f"{path}: {error}.", _hint(path)) from None
    _adapt_to_machine(settings, config)
    return {section: without_tuples(inner) for section, inner in settings.items()}


def _adapt_to_machine(settings: dict[str, Any], config: dict[str, Any]) -> None:
    """Keep the data directory if it is here; drop the number of machines if there is only one."""
    data = {"data_dir": None, "dataset": "MNIST"} | config.get("data", {})
    data_dir, dataset = data["data_dir"], data["dataset"]
    known = isinstance(data_dir, str) and isinstance(dataset, str)
    if "data" in settings and known and Path(data_dir, dataset, "raw").is_dir():
        settings["data"]["data_dir"] = data_dir
    if "trainer" in settings and not {"MASTER_ADDR", "SLURM_NTASKS"} & os.environ.keys():
        settings["trainer"].pop("num_nodes", None)  # this machine would wait for others


def _hint(path: Path) -> str:
    config = path.parent.parent / "config.yaml"
    return (
        f"If you trust it, run in the directory of its code, or give its settings yourself: "
        f"--config {config if config.is_file() else 'FILE'}"
    )


def _check(settings: dict[str, Any], trusted: Collection[str], own_loggers: bool) -> None:
    for keys, value in values(settings):
        if not isinstance(value, str) or value in trusted:
            continue
        if not (own_loggers and _is_data_of_logger(keys, value)):
            _check_text(keys, value)
    if reason := too_large(settings):
        raise RefusedError(reason)


def _is_data_of_logger(keys: KeyPath, value: str) -> bool:
    if keys[:2] != ("trainer", "logger") or len(keys) < 3 or "class_path" in keys:
        return False
    return not (_is_code(value.strip()) or _is_code(_parsed(".".join(keys), value)))


def too_large(settings: dict[str, Any]) -> str:
    """Say which integer among the settings of a checkpoint exceeds its limit, if one does."""
    for keys, value in values(settings):
        network = keys[1:2] in (("network",), ("augmentation",))
        limit = MAX_NUMBER if network else MAX_DEVICES if keys == ("trainer", "devices") else None
        if isinstance(value, int) and limit and abs(value) > limit:
            return f"{'.'.join(keys)} is {value}, more than {limit:,}"
    return ""


def _check_text(keys: KeyPath, value: str) -> None:
    """Refuse a string that names code, a file, or a path for Lightning's classes to write to."""
    name = ".".join(keys)
    if keys[-1] == "device":
        raise RefusedError(f"{name} is a setting of a machine")
    if "\0" in value or (keys[0] != "data" and os.path.lexists(value)):  # would be read as YAML
        raise RefusedError(f"{name} is {value[:100]}, the name of a file")
    section, setting, *inner = (*keys, "", "")
    if value.endswith(UNRECORDED):
        raise RefusedError(f"{name} was given as an object, {value}, which cannot be recorded")
    readings = {value.strip(), _parsed(name, value)}
    if "class_path" in inner or (setting in KINDS and "." in value) or any(map(_is_code, readings)):
        kinds = NESTED if "init_args" in inner else KINDS.get(setting, ())
        found = [resolve(text) for text in readings]
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
    except (RecursionError, ValueError):  # such as a date that does not exist
        raise RefusedError(f"{name} is not a single value") from None
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
