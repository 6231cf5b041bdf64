"""Restoring a training from a checkpoint: damaged optimizer, schedule, callback and loop states."""

import sys
from pathlib import Path
from traceback import walk_tb
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor

from mnist_lit.checkpoints import TRUSTED_PACKAGES
from mnist_lit.errors import InputError, first_line

# A damaged state raises one of these, and none of their subclasses, such as for a lack of memory.
DAMAGE = (
    AssertionError,
    AttributeError,
    IndexError,
    KeyError,
    NotImplementedError,
    OverflowError,
    RuntimeError,
    TypeError,
    ValueError,
)

KNOWN_PACKAGES = {*TRUSTED_PACKAGES, *sys.stdlib_module_names}
RESTORES = "lightning.pytorch.trainer.connectors.checkpoint_connector"
USES = "torch.optim."  # what it has restored, at its first step


def verify_training_state(checkpoint: dict[str, Any], path: Path, *, schedules: int) -> None:
    """Refuse a checkpoint with which Lightning would start the optimizer or the schedule anew.

    Args:
        checkpoint: From :func:`~mnist_lit.checkpoints.load_checkpoint`.
        path: Its file, for messages.
        schedules: The number of learning rate schedules, 0 or 1.

    Raises:
        InputError: If a state is missing, as in a checkpoint of weights only, or damaged.
    """
    for key, count in (("optimizer_states", 1), ("lr_schedulers", schedules)):
        states = checkpoint.get(key)
        sound = isinstance(states, list) and [*map(type, states)] == [dict] * count
        if not sound:
            raise cannot_be_resumed(path, f"its {key} are missing or damaged.")


def verify_optimizer_states(trainer: Trainer) -> None:
    """Refuse restored states that do not fit their parameters, if a fused optimizer uses them.

    Its kernels do not look: a state that is too small makes them write beyond its memory.

    Raises:
        InputError: If there is one.
    """
    for optimizer in trainer.optimizers:
        for group in optimizer.param_groups:
            for parameter in group["params"] if group.get("fused") else ():
                for name, value in optimizer.state.get(parameter, {}).items():
                    if isinstance(value, Tensor) and not _fits(name, value, parameter):
                        why = f"its optimizer_states are damaged: a {name} has another shape."
                        raise cannot_be_resumed(Path(str(trainer.ckpt_path)), why)


def _fits(name: str, value: Tensor, parameter: Tensor) -> bool:
    if value.layout is not torch.strided or not value.is_floating_point():
        return False
    if name == "step":
        return value.numel() == 1
    dense = value.is_contiguous() or value.stride() == parameter.stride()
    return value.shape == parameter.shape and dense


def damage(error: BaseException) -> str | None:
    """Say how a checkpoint is damaged, if that is what an error of ``Trainer.fit`` comes from.

    An error in code of the user's own is none.
    """
    if type(error) not in DAMAGE:
        return None
    frames = [frame for frame, _ in walk_tb(error.__traceback__)]
    modules = [str(frame.f_globals.get("__name__", "")) for frame in frames]
    if {module.partition(".")[0] for module in modules} - KNOWN_PACKAGES:
        return None
    # Of a schedule that has no steps left, torch says so by a ValueError.
    if RESTORES in modules or (modules[-1].startswith(USES) and not isinstance(error, ValueError)):
        return f"its loops, optimizer, schedule or callbacks are damaged: {first_line(error)}"
    return None


def cannot_be_resumed(path: Path, why: str) -> InputError:
    """What to say of a checkpoint that no training can go on from."""
    return InputError(
        f"{path} cannot be resumed: {why}",
        "Give another checkpoint, or train without --ckpt_path.",
    )
