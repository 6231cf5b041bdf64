"""Process-wide settings, for which Lightning and jsonargparse have no public alternative.

Each has its reason, so that it can be removed once the libraries no longer need it. Checked with
Lightning 2.6.6, torch 2.14.1 and jsonargparse 4.53.0.
"""

import logging
import os
import sys
import threading
import warnings
from numbers import Number
from pathlib import Path

import torch
from jsonargparse.typing import register_type
from lightning.pytorch import Trainer

# Modules of Lightning whose INFO messages through rank_zero_info depend on an option like verbose.
VERBOSE = ("model_checkpoint", "batch_size_scaling", "stochastic_weight_avg")

# Warnings of Lightning and torch that are expected, with when each appears and why it is harmless.
IGNORED_WARNINGS = (
    # Every run:
    ".*isinstance.treespec, LeafSpec.* is deprecated",  # Lightning calls torch that way
    ".*Experiment logs directory",  # run_loggers created it and saved what it contained
    ".*does not have many workers",  # 3 cores or more; 0 workers are fastest here
    ".*smaller than the logging interval",  # short epochs; the end of the epoch logs the rest
    # Resuming:
    ".*Checkpoint directory .* exists and is not empty",  # in the run's own directory
    ".*The dirpath has changed from",  # in a new directory, with a best checkpoint of its own
    # validate, test and predict:
    ".*callbacks used to create the checkpoint need to be provided",  # they serve training only
    # Some options and machines:
    ".*could not find the monitored key",  # max_steps ends a run before its first validation
    ".*Total length of `list` across ranks is zero",  # val_size 0
    ".*sync_dist=True",  # several devices; every process logs the same scores of all images
    ".*GPU available but not used",  # accelerator cpu on a machine with a GPU
    ".*srun. command is available",  # one process on the login node of a cluster
    ".*TensorFloat32 tensor cores .* not enabled",  # compile on a GPU; this is torch's default
)


def prepare() -> None:
    """Set up the process for DigitsCLI: types, warnings, logging and import path."""
    _parse_integers_first()
    # The type of some options of torchvision's transforms, unknown to jsonargparse.
    register_type(Number, serializer=float, deserializer=float, type_check=isinstance)
    for message in IGNORED_WARNINGS:
        warnings.filterwarnings("ignore", message)
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in ("callbacks", "profilers", "tuner", "utilities.rank_zero"):  # messages on request
        logging.getLogger(f"lightning.pytorch.{name}").setLevel(logging.INFO)
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_is_requested)
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))  # for the user's own classes; `python -m` does it too
    if not torch.cuda.is_available():  # Lightning sets 1: 0.2 ms for each of torch's checks
        os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "0"
    threading.excepthook = _thread_excepthook


def _is_requested(record: logging.LogRecord) -> bool:
    """Whether Lightning logs this message only on request; the others come with every run."""
    return record.levelno > logging.INFO or record.module in VERBOSE


def _thread_excepthook(args: threading.ExceptHookArgs) -> None:
    if not isinstance(args.exc_value, OSError):  # TensorBoard raises it again in the main thread
        threading.__excepthook__(args)


def _parse_integers_first() -> None:
    # The parser tries the types of a union in order, and typing caches Optional[Union[int, float]]
    # in whichever order some module used first: after optuna was imported, a limit of 1 batch
    # would become 1.0, all batches.
    hints = Trainer.__init__.__annotations__
    for name, hint in hints.items():
        for integer_first in (int | float, int | float | None):
            if hint == integer_first:
                hints[name] = integer_first
