"""``Reader``: classifies the glyphs in a picture with ONNX Runtime, without torch."""

import json
import subprocess
import sys
from dataclasses import dataclass, field
from decimal import ROUND_FLOOR, Decimal
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from mnist_lit.errors import InputError
from mnist_lit.files import open_regular
from mnist_lit.reading.ink import MOST_PIXELS, Box, Glyph, Source, find_lines, open_picture

PACKAGED = Path(__file__).parent.parent / "assets" / "digits.onnx"

MAX_MODEL_BYTES = 512 * 2**20  # 134 million weights
CHECK_SECONDS = 30

# Imports the same modules as this process, wherever it was started.
CHECK = (
    "import sys; sys.path[:] = sys.argv[1:]; from mnist_lit.reading.onnx_check import main; main()"
)

# Larger batches are no faster, and untrusted models are checked for each batch size up to this.
MAX_BATCH = 8


@dataclass(frozen=True, eq=False)
class Digit:
    """A digit in a picture.

    Args:
        digit: The most probable digit, 0 to 9.
        probability: Probability of this digit, in [0, 1].
        probabilities: ``float32 (10,)``, the probabilities of all digits.
        box: Left, top, right and bottom in pixels of the upright picture; right and bottom are
            exclusive.
        glyph: ``float32 (28, 28)`` in [0, 1], ink 1: the network's input.
        doubtful: Whether the probability is below the threshold.
    """

    digit: int
    probability: float
    probabilities: NDArray[np.float32] = field(repr=False)
    box: Box
    glyph: NDArray[np.float32] = field(repr=False)
    doubtful: bool


@dataclass(frozen=True, eq=False)
class Reading:
    """The digits in a picture.

    Args:
        lines: Lines from top to bottom, each with its digits from left to right.
    """

    lines: list[list[Digit]]

    def __repr__(self) -> str:
        return f"Reading(text={self.text!r})"

    @property
    def digits(self) -> list[Digit]:
        """The digits of all lines."""
        return [digit for line in self.lines for digit in line]

    @property
    def text(self) -> str:
        """The digits as text, one line per line of digits; doubtful digits are not marked."""
        return "\n".join("".join(str(each.digit) for each in line) for line in self.lines)


def percent(probability: float, decimals: int) -> str:
    """Format a probability as a percentage, rounded down so that only 1 becomes 100%."""
    exact = Decimal(str(probability))  # in binary 0.0003 * 10_000 is less than 3
    return f"{exact.quantize(Decimal(1).scaleb(-decimals - 2), ROUND_FLOOR):.{decimals}%}"


def as_json(reading: Reading, glyphs: bool = False) -> dict[str, Any]:
    """Convert a reading to what ``json.dumps`` accepts: its text and its lines of digits.

    Args:
        reading: The digits in a picture.
        glyphs: Whether to include each digit's glyph, 28 rows of 28 numbers in [0, 1].
    """
    lines = [[_entry(digit, glyphs) for digit in line] for line in reading.lines]
    return {"text": reading.text, "lines": lines}


def _entry(digit: Digit, glyphs: bool) -> dict[str, Any]:
    entry = {
        "digit": digit.digit,
        "probability": digit.probability,
        "probabilities": digit.probabilities.tolist(),
        "box": list(digit.box),
        "doubtful": digit.doubtful,
    }
    if glyphs:  # three decimals are finer than a screen's 256 levels
        entry["glyph"] = digit.glyph.astype(np.float64).round(3).tolist()
    return entry


def metadata_value(text: str) -> Any:
    """Decode a value of a model's metadata: JSON, or else plain text."""
    try:
        return json.loads(text, parse_constant=str)
    except ValueError:
        return text


class Reader:
    """Reads handwritten digits in pictures; threads may share a reader.

    Args:
        model: An ONNX file written by ``export``; None for the packaged model.
        threshold: Probability in [0, 1] below which a digit is doubtful; None for the model's.

    Attributes:
        metadata: Metadata of the model, as ``export`` wrote it.
        threshold: The threshold in use.

    Raises:
        InputError: If the model cannot be used, or the threshold is out of range.
    """

    def __init__(self, model: str | Path | None = None, threshold: float | None = None) -> None:
        path = PACKAGED if model is None else Path(model)
        self._session = _session(path)
        self.metadata: dict[str, str] = self._session.get_modelmeta().custom_metadata_map
        self.threshold = float(self.metadata["threshold"]) if threshold is None else threshold
        if not isinstance(self.threshold, Real) or not 0 <= self.threshold <= 1:
            raise InputError(
                f"The threshold is {self.threshold!r}.", "Give a probability from 0 to 1."
            )

    def read(self, source: Source, max_pixels: int = MOST_PIXELS) -> Reading:
        """Read a picture.

        Args:
            source: An image file, its path or contents, a PIL image, or an array: whatever
                :func:`~mnist_lit.reading.ink.open_picture` accepts.
            max_pixels: Limit on the number of pixels in an image file.

        Raises:
            InputError: If it is not a picture, damaged, or too large.
        """
        lines = find_lines(open_picture(source, max_pixels))
        glyphs = [glyph for line in lines for glyph in line]
        if not glyphs:
            return Reading([])
        _, probabilities = self.classify(np.stack([glyph.image for glyph in glyphs]))
        rows = iter(probabilities)
        return Reading([[self._digit(glyph, next(rows)) for glyph in line] for line in lines])

    def classify(
        self, images: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Classify images of single digits.

        Args:
            images: ``float32 (n, 28, 28)`` in [0, 1], ink 1, in MNIST's form.

        Returns:
            Logits and probabilities, both ``float32 (n, 10)``.

        Raises:
            InputError: If the model's outputs are invalid.
        """
        if not len(images):
            return np.zeros((0, 10), np.float32), np.zeros((0, 10), np.float32)
        batches = [
            infer(self._session, images[start : start + MAX_BATCH])
            for start in range(0, len(images), MAX_BATCH)
        ]
        logits, probabilities = (np.concatenate(each) for each in zip(*batches, strict=True))
        return logits, probabilities

    def _digit(self, glyph: Glyph, probabilities: NDArray[np.float32]) -> Digit:
        digit = int(probabilities.argmax())
        probability = float(probabilities[digit])
        doubtful = probability < self.threshold
        return Digit(digit, probability, probabilities, glyph.box, glyph.image, doubtful)


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


def _session(path: Path) -> Any:
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
