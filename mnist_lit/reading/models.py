"""Classifiers in ONNX files: checked, opened and run with ONNX Runtime."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from mnist_lit.errors import InputError
from mnist_lit.files import open_regular

PACKAGED = Path(__file__).parent.parent / "assets" / "digits.onnx"

MAX_MODEL_BYTES = 512 * 2**20  # 134 million weights
CHECK_SECONDS = 30

# Imports the same modules as this process, wherever it was started.
CHECK = (
    "import sys; sys.path[:] = sys.argv[1:]; from mnist_lit.reading.onnx_check import main; main()"
)

# Larger batches are no faster, and untrusted models are checked for each batch size up to this.
MAX_BATCH = 8


def metadata_value(text: str) -> Any:
    """Decode a value of a model's metadata: JSON, or else plain text."""
    try:
        return json.loads(text, parse_constant=str)
    except ValueError:
        return text


def infer(
    session: Any, images: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Run a model on one batch and check its outputs.

    Args:
        session: A session of :func:`open_session`.
        images: ``float32 (n, 28, 28)``, with n from 1 to ``MAX_BATCH``.

    Returns:
        Logits and probabilities, both ``float32 (n, 10)``.

    Raises:
        InputError: If the outputs are not finite or not probabilities, or ONNX Runtime fails.
    """
    try:
        logits, probabilities = session.run(
            ["logits", "probabilities"], {"images": images[:, np.newaxis]}
        )
    except Exception as error:  # the exceptions of ONNX Runtime have no common base class
        raise InputError(
            f"ONNX Runtime cannot run the model ({type(error).__name__}).",
            "Export the checkpoint again, or use another model.",
        ) from error
    sums = probabilities.sum(axis=1, dtype=np.float64)
    is_valid = np.isfinite(logits).all() and (probabilities >= 0).all()
    if not (is_valid and (np.abs(sums - 1) < 1e-3).all()):
        raise InputError(
            "The model's outputs are not finite, or its probabilities do not add up to 1.",
            "Export the checkpoint again, or use another model.",
        )
    return logits, probabilities


def open_session(content: bytes) -> Any:
    """Open a session of ONNX Runtime.

    Args:
        content: The contents of an ONNX file.
    """
    options = onnxruntime.SessionOptions()
    # Starting threads takes longer than reading a picture, and callers may have their own.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4  # fatal; other errors are raised as exceptions
    # Otherwise it guesses the format, and files in its own one have not been checked.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def refusal(content: bytes) -> str:
    """Check an untrusted model, and say why it is refused.

    ``onnx_check`` runs in a process of its own: a model cannot block or crash this one.

    Args:
        content: The contents of an ONNX file.

    Returns:
        The reason, as the end of a sentence; empty if the model is accepted.
    """
    if len(content) > MAX_MODEL_BYTES:
        return f"it is larger than {MAX_MODEL_BYTES // 2**20} MiB"
    command = [sys.executable, "-P", "-c", CHECK, *sys.path]
    try:
        check = subprocess.run(
            command,
            input=content,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=CHECK_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return f"the check takes more than {CHECK_SECONDS} seconds"
    if check.returncode:
        return "the check failed"
    reason = check.stdout.decode(errors="replace").strip()[:200].rstrip(".")
    return "".join(each if each.isprintable() else "?" for each in reason)


def open_model(path: Path) -> Any:
    """Open a session of a classifier, which may come from anyone unless it is the packaged one.

    Raises:
        InputError: If it cannot be read or is refused.
    """
    content = _content(path)
    reason = "" if path == PACKAGED else refusal(content)
    if reason:
        raise InputError(
            f"{path} cannot be used as a model: {reason}.",
            f"Export the checkpoint: python -m mnist_lit export --ckpt_path {path}"
            if path.suffix == ".ckpt"
            else "Give an ONNX file written by export.",
        )
    return open_session(content)


def _content(path: Path) -> bytes:
    """Read a model's file, but no more than one byte above the limit."""
    what_to_do = (
        "Export one (python -m mnist_lit export --ckpt_path best) and give the path of the file."
    )
    with open_regular(path, "model", what_to_do) as file:
        try:
            return file.read(MAX_MODEL_BYTES + 1)
        except OSError as error:  # a file of the kernel, or a broken disk
            raise InputError(f"{path} cannot be read: {error.strerror}.", what_to_do) from error
