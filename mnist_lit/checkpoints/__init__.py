"""Checkpoints: describe models as primitives, and load files that may come from anyone.

A file passes three checks, in this order: ``archive.py`` reads nothing but tensors and primitives,
``settings.py`` refuses settings that a checkpoint must not decide, and ``building.py`` compares
the weights with the network before any memory is allocated for it.
"""

from mnist_lit.checkpoints.archive import load_checkpoint
from mnist_lit.checkpoints.building import TRAINING_ONLY, instantiate, verify_weights
from mnist_lit.checkpoints.classes import TRUSTED_PACKAGES
from mnist_lit.checkpoints.description import describe
from mnist_lit.checkpoints.module import CheckpointModule, Unrecorded
from mnist_lit.checkpoints.settings import recorded_settings

__all__ = [
    "TRAINING_ONLY",
    "TRUSTED_PACKAGES",
    "CheckpointModule",
    "Unrecorded",
    "describe",
    "instantiate",
    "load_checkpoint",
    "recorded_settings",
    "verify_weights",
]
