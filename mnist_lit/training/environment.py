"""The process around Lightning: settings for which its libraries offer no public way.

Each stands here with its reason, so that it can go when the library no longer needs it.
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

# Modules of Lightning whose INFO messages through rank_zero_info follow an option such as verbose.
VERBOSE = ("model_checkpoint", "batch_size_scaling", "stochastic_weight_avg")

# What Lightning and torch warn of on every normal run, each with the reason why it is no news.
QUIET = (
    ".*does not have many workers",  # 0 is fastest here: a fetch is one indexing operation
    ".*smaller than the logging interval",  # the end of the epoch logs what is left
    ".*Experiment logs directory",  # a resumed run goes on in its own directory
    ".*Checkpoint directory .* exists and is not empty",  # the same
    ".*The dirpath has changed from",  # a run that branches off looks for a best of its own
    ".*callbacks used to create the checkpoint need to be provided",  # not for judging it
    ".*could not find the monitored key",  # max_steps ended the run before it was validated
    ".*sync_dist=True",  # every process has the same figures, of all answers
    ".*GPU available but not used",  # the CPU was asked for
    ".*Total length of `list` across ranks is zero",  # val_size 0 was asked for
    ".*srun. command is available",  # one process on a cluster's login node needs no SLURM
    ".*TensorFloat32 tensor cores .* not enabled",  # torch's default, compiled or not
    ".*isinstance.treespec, LeafSpec.* is deprecated",  # Lightning's use of torch
)


def prepare() -> None:
    """Set up the process for DigitsCLI: what it finds, and what is no news."""
    _try_whole_numbers_first()
    # torchvision's transforms have options of this type, which the parser does not know.
    register_type(Number, serializer=float, deserializer=float, type_check=isinstance)
    os.environ.setdefault("JSONARGPARSE_DEPRECATION_WARNINGS", "off")  # of LightningCLI's calls
    for message in QUIET:
        warnings.filterwarnings("ignore", message)
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in ("callbacks", "profilers", "tuner", "utilities.rank_zero"):  # speak on request
        logging.getLogger(f"lightning.pytorch.{name}").setLevel(logging.INFO)
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_was_requested)
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))  # for a class_path in a file of the user's own
    if not torch.cuda.is_available():  # Lightning's setting lets each step look for one anew
        os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "0"
    threading.excepthook = _of_thread


def _was_requested(record: logging.LogRecord) -> bool:
    """Whether Lightning logs this on request: the rest of these messages come with every run."""
    return record.levelno > logging.INFO or record.module in VERBOSE


def _of_thread(args: threading.ExceptHookArgs) -> None:
    if not isinstance(args.exc_value, OSError):  # TensorBoard's raises that in ours again
        threading.__excepthook__(args)


def _try_whole_numbers_first() -> None:
    # The parser tries the types of a union in turn, and typing hands out float before int for some
    # of the Trainer's: a limit of 1 batch would become 1.0, all of them.
    hints = Trainer.__init__.__annotations__
    for name, hint in hints.items():
        for whole_number_first in (int | float, int | float | None):
            if hint == whole_number_first:
                hints[name] = whole_number_first
