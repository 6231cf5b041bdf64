"""Reader: a picture's glyphs become digits with probabilities, on ONNX Runtime, without torch."""

from dataclasses import dataclass
from decimal import ROUND_FLOOR, Decimal
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime  # type: ignore[import-untyped]
from numpy.typing import NDArray

from mnist_lit.errors import InputError
from mnist_lit.ink import MOST_PIXELS, Box, Glyph, Source, find_lines, open_picture

PACKAGED = Path(__file__).parent / "assets" / "digits.onnx"

# Inputs and outputs of a model: their types, and their shapes beyond the number of images.
FORM = {
    "images": ("tensor(float)", [1, 28, 28]),
    "logits": ("tensor(float)", [10]),
    "probabilities": ("tensor(float)", [10]),
}

AT_ONCE = 64  # glyphs; more are no faster and only take memory


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
                :func:`~mnist_lit.ink.open_picture` opens.
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
        """
        parts = [
            self._session.run(None, {"images": images[start : start + AT_ONCE, np.newaxis]})
            for start in range(0, max(len(images), 1), AT_ONCE)
        ]
        logits, probabilities = (np.concatenate(part) for part in zip(*parts, strict=True))
        return logits, probabilities

    def _digit(self, glyph: Glyph, probabilities: NDArray[np.float32]) -> Digit:
        digit = int(probabilities.argmax())
        probability = float(probabilities[digit])
        doubtful = probability < self.threshold
        return Digit(digit, probability, probabilities, glyph.box, glyph.image, doubtful)


def _session(path: Path) -> Any:
    if not path.is_file():
        raise InputError(
            f"{path} is a folder, no model." if path.is_dir() else f"There is no model {path}.",
            "Write one, python -m mnist_lit export --ckpt_path best, and give its path.",
        )
    options = onnxruntime.SessionOptions()
    # A picture takes less time than threads take to start, and callers may have their own.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what is fatal; the rest comes as an exception
    try:
        session = onnxruntime.InferenceSession(
            path.read_bytes(), options, providers=["CPUExecutionProvider"]
        )
        reason = _strangeness(session)
    except Exception as error:  # a damaged file makes the runtime raise anything
        reason = f"ONNX Runtime cannot load it ({type(error).__name__})"
    if reason:
        raise InputError(
            f"{path} is not a model of this program: {reason}.",
            f"Export the checkpoint: python -m mnist_lit export --ckpt_path {path}"
            if path.suffix == ".ckpt"
            else "Give one that export has written.",
        )
    return session


def _strangeness(session: Any) -> str:
    """What tells a model from those that export writes; empty if nothing does."""
    nodes = [*session.get_inputs(), *session.get_outputs()]
    if {node.name: (node.type, node.shape[1:]) for node in nodes} != FORM:
        return f"it has {', '.join(f'{node.name} {node.shape}' for node in nodes)}"
    if any(isinstance(node.shape[0], int) for node in nodes):
        return "the number of images is fixed"
    try:
        float(session.get_modelmeta().custom_metadata_map["threshold"])
    except (KeyError, ValueError):
        return "it notes no threshold"
    return ""
