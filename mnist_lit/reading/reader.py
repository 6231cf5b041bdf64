"""Reader: a picture's glyphs become digits with probabilities, on ONNX Runtime, without torch."""

import subprocess
import sys
from dataclasses import dataclass
from decimal import ROUND_FLOOR, Decimal
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime  # type: ignore[import-untyped]
from numpy.typing import NDArray

from mnist_lit.errors import InputError
from mnist_lit.reading.ink import MOST_PIXELS, Box, Glyph, Source, find_lines, open_picture

PACKAGED = Path(__file__).parent.parent / "assets" / "digits.onnx"

MOST_MODEL = 512 * 2**20  # bytes of a model's file: 134 million weights
CHECK_SECONDS = 30

# The same modules as here, which need not lie in the working directory.
CHECK = (
    "import sys; sys.path[:] = sys.argv[1:]; from mnist_lit.reading.onnx_check import main; main()"
)

# Glyphs. More are no faster, and a stranger's model is checked for each number up to it.
AT_ONCE = 8


@dataclass(frozen=True, eq=False)
class Digit:
    """A digit that was read.

    Args:
        digit: The most probable one, 0 to 9.
        probability: Its own, in [0, 1].
        probabilities: ``float32 (10,)``, those of all ten.
        box: Left, top, right and bottom in pixels of the upright picture, the last two exclusive.
        glyph: ``float32 (28, 28)`` in [0, 1], ink 1: what the network saw.
        doubtful: Whether the probability is below the threshold.
    """

    digit: int
    probability: float
    probabilities: NDArray[np.float32]
    box: Box
    glyph: NDArray[np.float32]
    doubtful: bool


@dataclass(frozen=True, eq=False)
class Reading:
    """What is written in a picture.

    Args:
        lines: From top to bottom, the digits of each from left to right.
    """

    lines: list[list[Digit]]

    @property
    def digits(self) -> list[Digit]:
        """The digits of all lines."""
        return [digit for line in self.lines for digit in line]

    @property
    def text(self) -> str:
        """The digits as text, a line for each of theirs; doubtful ones are not marked."""
        return "\n".join("".join(str(each.digit) for each in line) for line in self.lines)


def percent(probability: float, decimals: int) -> str:
    """Write a probability in percent, rounded down: only what is certain shows 100 %."""
    exact = Decimal(str(probability))  # in binary 0.0003 * 10_000 is less than 3
    return f"{exact.quantize(Decimal(1).scaleb(-decimals - 2), ROUND_FLOOR):.{decimals}%}"


def document(reading: Reading, glyphs: bool = False) -> dict[str, Any]:
    """A reading in primitives, for JSON: its text, and its lines of digits.

    Args:
        reading: Of a picture.
        glyphs: Whether each digit comes with what the network saw, 28 rows of 28 numbers.
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
    if glyphs:  # three decimals are more than a screen can show
        entry["glyph"] = digit.glyph.astype(np.float64).round(3).tolist()
    return entry


class Reader:
    """Reads handwritten digits in pictures; several threads may share one.

    Args:
        model: A file that ``export`` has written; the package's own model if None.
        threshold: A digit is doubtful if its probability is below it, in [0, 1]; the model's own
            if None.

    Attributes:
        metadata: What ``export`` has noted in the model, by name.
        threshold: As given, or the model's.

    Raises:
        InputError: If there is no such model, or the threshold is out of range.
    """

    def __init__(self, model: str | Path | None = None, threshold: float | None = None) -> None:
        path = PACKAGED if model is None else Path(model)
        self._session = _session(path)
        self.metadata: dict[str, str] = self._session.get_modelmeta().custom_metadata_map
        self.threshold = float(self.metadata["threshold"]) if threshold is None else threshold
        if not isinstance(self.threshold, Real) or not 0 <= self.threshold <= 1:
            raise InputError(
                f"The threshold {self.threshold!r} is no probability.", "Give a number from 0 to 1."
            )

    def read(self, source: Source, most_pixels: int = MOST_PIXELS) -> Reading:
        """Read a picture.

        Args:
            source: A file, its path or its contents, an image, or an array: whatever
                :func:`~mnist_lit.reading.ink.open_picture` opens.
            most_pixels: That a file may promise.

        Raises:
            InputError: If it is not a picture, damaged, or too large.
        """
        lines = find_lines(open_picture(source, most_pixels))
        glyphs = [glyph for line in lines for glyph in line]
        if not glyphs:
            return Reading([])
        _, probabilities = self.answer(np.stack([glyph.image for glyph in glyphs]))
        rows = iter(probabilities)
        return Reading([[self._digit(glyph, next(rows)) for glyph in line] for line in lines])

    def answer(
        self, images: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Give logits and probabilities, both ``float32 (n, 10)``.

        Args:
            images: ``float32 (n, 28, 28)`` in [0, 1], ink 1, in MNIST's form.

        Raises:
            InputError: If the model gives no probabilities for them.
        """
        if not len(images):
            return np.zeros((0, 10), np.float32), np.zeros((0, 10), np.float32)
        parts = [
            infer(self._session, images[start : start + AT_ONCE])
            for start in range(0, len(images), AT_ONCE)
        ]
        logits, probabilities = (np.concatenate(part) for part in zip(*parts, strict=True))
        return logits, probabilities

    def _digit(self, glyph: Glyph, probabilities: NDArray[np.float32]) -> Digit:
        digit = int(probabilities.argmax())
        probability = float(probabilities[digit])
        doubtful = probability < self.threshold
        return Digit(digit, probability, probabilities, glyph.box, glyph.image, doubtful)


def infer(
    session: Any, images: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Run a model on one batch, and check what it gives.

    Args:
        session: From :func:`open_session`.
        images: ``float32 (n, 28, 28)``, 1 to ``AT_ONCE`` of them.

    Returns:
        Logits and probabilities, both ``float32 (n, 10)``.

    Raises:
        InputError: If they are not, or ONNX Runtime fails.
    """
    try:
        logits, probabilities = session.run(
            ["logits", "probabilities"], {"images": images[:, np.newaxis]}
        )
    except Exception as error:  # ONNX Runtime's exceptions have no common class
        raise InputError(
            f"ONNX Runtime cannot run the model ({type(error).__name__}).",
            "Export its checkpoint again, or use another model.",
        ) from error
    sums = probabilities.sum(axis=1, dtype=np.float64)
    is_valid = np.isfinite(logits).all() and (probabilities >= 0).all()
    if not (is_valid and (np.abs(sums - 1) < 1e-3).all()):
        raise InputError(
            "The model's output is not finite, or not probabilities that add up to 1.",
            "Export its checkpoint again, or use another model.",
        )
    return logits, probabilities


def open_session(content: bytes) -> Any:
    """Load a model, given the contents of its file, into ONNX Runtime."""
    options = onnxruntime.SessionOptions()
    # A picture takes less time than threads take to start, and callers may have their own.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what is fatal; the rest comes as an exception
    # Or it guesses from the contents, and its own format is not what was checked.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def refusal(content: bytes) -> str:
    """Check a model from elsewhere, and say why it must not be run.

    ``onnx_check`` does this in a process of its own, so that no model can hold or crash this one.

    Args:
        content: Contents of the model's file.

    Returns:
        The reason, in words for the end of a sentence; empty if the model passes.
    """
    if len(content) > MOST_MODEL:
        return f"it is larger than {MOST_MODEL // 2**20} MiB"
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
        return f"checking it takes more than {CHECK_SECONDS} seconds"
    if check.returncode:
        return "checking it failed"
    reason = check.stdout.decode(errors="replace").strip()[:200].rstrip(".")
    return "".join(each if each.isprintable() else "?" for each in reason)


def _session(path: Path) -> Any:
    content = _content(path)
    reason = "" if path == PACKAGED else refusal(content)
    if reason:
        raise InputError(
            f"{path} is not a model of this program: {reason}.",
            f"Export the checkpoint: python -m mnist_lit export --ckpt_path {path}"
            if path.suffix == ".ckpt"
            else "Give one that export has written.",
        )
    return open_session(content)


def _content(path: Path) -> bytes:
    """Read a model's file, if it is one that ends."""
    what_to_do = "Write one, python -m mnist_lit export --ckpt_path best, and give its path."
    try:
        if not path.exists():
            raise InputError(f"There is no model {path}.", what_to_do)
        if not path.is_file():  # a pipe would never end
            kind = "a folder" if path.is_dir() else "not a regular file"
            raise InputError(f"{path} is {kind}, no model.", what_to_do)
        if path.stat().st_size > MOST_MODEL:
            raise InputError(f"{path} is larger than {MOST_MODEL // 2**20} MiB.", what_to_do)
        with path.open("rb") as file:  # the kernel's own files have no size
            return file.read(MOST_MODEL + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path} cannot be read: {reason}.", what_to_do) from error
