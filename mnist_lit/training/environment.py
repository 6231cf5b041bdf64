"""What a run changes of the process and of Lightning, for want of a public option.

Everything here has its reason and the version or issue that it waits for, and a test in
``tests/training/test_environment.py`` that fails once a library no longer needs it. Looked at:
Lightning 2.6.6, torch 2.14.1, jsonargparse 4.53.0 and tensorboard 2.21.0.
"""

import ctypes
import logging
import os
import platform
import signal
import sys
import threading
import warnings
from numbers import Number
from pathlib import Path

import torch
from jsonargparse.typing import register_type
from lightning.fabric.utilities.warnings import disable_possible_user_warnings
from lightning.pytorch import Trainer
from torch.distributed import DistError

from mnist_lit.errors import first_line

# From glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3

# Modules of Lightning whose INFO messages through rank_zero_info depend on an option like verbose.
VERBOSE = ("model_checkpoint", "batch_size_scaling", "stochastic_weight_avg")

# Warnings that are no PossibleUserWarnings, with when each appears and why it is harmless.
IGNORED_WARNINGS = (
    # Every run: Lightning calls torch that way (its issue 21326).
    ".*isinstance.treespec, LeafSpec.* is deprecated",
    # Resuming in the run's own directory (since Lightning's pull 5209).
    ".*Checkpoint directory .* exists and is not empty",
    # Resuming in a new directory, with a best checkpoint of its own (Lightning's pull 12225).
    ".*The dirpath has changed from",
    # Evaluating, or resuming without early stopping (Lightning's issue 12817).
    ".*callbacks used to create the checkpoint need to be provided",
    # max_steps ends a run before its first validation; Lightning 2.6.6 has no option for that.
    ".*could not find the monitored key",
    # compile on a GPU; its precision is torch's default (pytorch's issue 175484).
    ".*TensorFloat32 tensor cores .* not enabled",
)


def prepare() -> None:
    """Set up the process for RunCLI: types, warnings, logging, import path and memory."""
    keep_freed_memory()
    # The type of some options of torchvision's transforms, unknown to jsonargparse.
    register_type(Number, serializer=float, deserializer=float, type_check=isinstance)
    disable_possible_user_warnings()  # 0 workers and short epochs are intended here
    for message in IGNORED_WARNINGS:
        warnings.filterwarnings("ignore", message)
    _log_on_request_only()
    import_from_working_directory()
    # Lightning's import sets it to 1 (pull 15110), and each step of an optimizer asks for a GPU.
    # Without one, asking NVML takes 0.13 ms of a step of 4 ms, and asking CUDA 0.01 ms.
    if not torch.cuda.is_available():
        os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "0"
    threading.excepthook = _thread_excepthook


def keep_freed_memory() -> None:
    """Let glibc reuse the memory of freed tensors instead of returning it to the system.

    By default it may map each tensor of a few megabytes anew: 2,000 to 3,000 page faults a step,
    and 12.6 to 14.2 ms instead of 8.0 to 8.9 in a bare loop (M_MMAP_THRESHOLD and M_TRIM_THRESHOLD
    in mallopt(3)). It adapts to large blocks that were freed before, as when fit loads its data.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_THRESHOLD, 32 * 2**20)  # the largest that glibc accepts
        libc.mallopt(M_TRIM_THRESHOLD, 512 * 2**20)


def import_from_working_directory() -> None:
    """Find the user's own classes; `python -m` adds the directory, the console script does not."""
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))


def _log_on_request_only() -> None:
    """Silence what Lightning logs with every run, but not what an option asks for."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in ("callbacks", "profilers", "tuner", "utilities.rank_zero"):
        logging.getLogger(f"lightning.pytorch.{name}").setLevel(logging.INFO)
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_is_requested)


def _is_requested(record: logging.LogRecord) -> bool:
    return record.levelno > logging.INFO or record.module in VERBOSE


def _thread_excepthook(args: threading.ExceptHookArgs) -> None:
    # TensorBoard's writer raises it again in the main thread, where it is reported in two lines
    # (its issue 5759 shows the traceback that its thread prints before).
    if not isinstance(args.exc_value, OSError):
        threading.__excepthook__(args)


def kill_launched_processes(trainer: Trainer) -> None:
    """Kill the processes that this one has launched, without being killed by Lightning for it.

    They would wait for this process (Lightning issue 8130). Its observer kills this process within
    5 seconds after one of them has ended, before the error is reported (pull 18218); only an empty
    list of processes stops it.
    """
    launcher = trainer.strategy.launcher
    if launcher is not None:
        launcher.kill(signal.SIGKILL)
        launcher.procs.clear()  # type: ignore[attr-defined]  # of all but the abstract class


def broken_connection(error: BaseException) -> str | None:
    """Describe an error that means the connection to another process was lost.

    Args:
        error: Any exception; torch raises one if a connection closes or times out.

    Returns:
        A sentence, or None for any other error.
    """
    # torch 2.14.1 raises a plain RuntimeError for Gloo (as in pytorch's issue 75512); only its
    # text tells, by the source file that it begins with.
    if not isinstance(error, DistError) and "/gloo/" not in str(error):
        return None
    text = first_line(error)
    why = text.partition("] ")[2] if text.startswith("[") else text
    return f"The connection between the processes broke: {why}"
