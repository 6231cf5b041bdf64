"""Read a checkpoint file: only tensors and primitives, with checksums verified."""

import re
import zipfile
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mnist_lit.checkpoints.primitives import RefusedError, leaves, texts, values
from mnist_lit.errors import InputError

SECTIONS = ("model", "data", "trainer")  # of a configuration

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
MAX_STATES = 100_000  # in the states of optimizer and schedule, which hold a few for each weight


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
        if sum(1 for _ in islice(values(settings), MAX_VALUES)) == MAX_VALUES:
            raise RefusedError("it has too many settings")
    states = [checkpoint.get(key) for key in ("optimizer_states", "lr_schedulers")]
    if sum(1 for _ in islice(leaves(states), MAX_STATES)) == MAX_STATES:
        raise RefusedError("its optimizer_states or lr_schedulers have too many values")
    callbacks = checkpoint.get("callbacks", {})
    if not all(isinstance(state, dict) for state in callbacks.values()):
        raise RefusedError("it has no valid callbacks")
    if any(_is_url(text) for text in texts(callbacks)):
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


def _has_numbers(weight: Tensor) -> bool:
    """Whether a tensor can be copied into a parameter: not a sparse, quantized or empty shell."""
    in_memory = weight.is_cpu and weight.layout is torch.strided
    return in_memory and not weight.is_quantized and not weight.is_complex()
