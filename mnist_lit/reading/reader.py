"""``Reader``: reads the digits in a picture with ONNX Runtime, without torch."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from decimal import ROUND_FLOOR, Decimal
from itertools import chain, pairwise
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnist_lit.errors import InputError
from mnist_lit.reading.crops import Box, Gray
from mnist_lit.reading.glyphs import Glyph, find_glyphs, packaged_detector
from mnist_lit.reading.lines import split_numbers
from mnist_lit.reading.models import MAX_BATCH, PACKAGED, infer, open_model
from mnist_lit.reading.pictures import MAX_PIXELS, Source, open_picture, to_gray

SURE = 0.9  # probability of a detection below which a digit is doubtful
LIKELY = 0.7  # probability of a detection from which a digit tells which way is up
UPRIGHT = 3 / 4  # share of clear digits from which a picture is not turned to see if that helps
CLEARER = 3  # more clear digits that a turned picture must have: a 6 upside down is a 9


@dataclass(frozen=True, eq=False)
class Digit:
    """A digit in a picture.

    Args:
        digit: The most probable digit, 0 to 9.
        probability: Probability of this digit, in [0, 1].
        probabilities: ``float32 (10,)``, the probabilities of all digits.
        detection: Probability in [0, 1] that it is a digit at all, by the detector.
        box: Left, top, right and bottom in pixels of the upright picture; right and bottom are
            exclusive.
        glyph: ``float32 (28, 28)`` in [0, 1], ink 1: the network's input.
        doubtful: Whether the probability is below the threshold, or the detector is unsure.
    """

    digit: int
    probability: float
    probabilities: NDArray[np.float32] = field(repr=False)
    detection: float
    box: Box
    glyph: NDArray[np.float32] = field(repr=False)
    doubtful: bool


class Line(tuple[Digit, ...]):
    """The digits of a line, from left to right.

    Args:
        numbers: Its numbers, which are far apart from each other, each with its digits.

    Attributes:
        numbers: The same.
    """

    numbers: list[tuple[Digit, ...]]

    def __new__(cls, numbers: Iterable[Iterable[Digit]]) -> "Line":
        parts = [tuple(number) for number in numbers]
        line = super().__new__(cls, chain.from_iterable(parts))
        line.numbers = parts
        return line

    def __reduce__(self) -> tuple[Any, ...]:
        return Line, (self.numbers,)

    @property
    def text(self) -> str:
        """The numbers as text, with a space between them."""
        return " ".join("".join(str(each.digit) for each in number) for number in self.numbers)


@dataclass(frozen=True, eq=False)
class Reading:
    """The digits in a picture.

    Args:
        lines: Lines from top to bottom.
        rotation: 0, 90, 180 or 270 degrees: how far the picture was turned clockwise, after its
            EXIF orientation was applied, to read it.
    """

    lines: list[Line]
    rotation: int = 0

    def __repr__(self) -> str:
        return f"Reading(text={self.text!r})"

    @property
    def digits(self) -> list[Digit]:
        """The digits of all lines."""
        return [digit for line in self.lines for digit in line]

    @property
    def text(self) -> str:
        """The digits as text: a line for each line, a space between numbers far apart.

        Doubtful digits are not marked.
        """
        return "\n".join(line.text for line in self.lines)


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
    return {"text": reading.text, "rotation": reading.rotation, "lines": lines}


def _entry(digit: Digit, glyphs: bool) -> dict[str, Any]:
    entry = {
        "digit": digit.digit,
        "probability": digit.probability,
        "probabilities": digit.probabilities.tolist(),
        "detection": digit.detection,
        "box": list(digit.box),
        "doubtful": digit.doubtful,
    }
    if glyphs:  # in 256 levels, so that a correction is the same image as an own digit of `collect`
        levels = (digit.glyph * 255).round().astype(np.float64)
        entry["glyph"] = (levels / 255).round(3).tolist()
    return entry


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
        self._session = open_model(PACKAGED if model is None else Path(model))
        packaged_detector()  # opened now, not while the first picture is read
        self.metadata: dict[str, str] = self._session.get_modelmeta().custom_metadata_map
        self.threshold = float(self.metadata["threshold"]) if threshold is None else threshold
        if not isinstance(self.threshold, Real) or not 0 <= self.threshold <= 1:
            raise InputError(
                f"The threshold is {self.threshold!r}.", "Give a probability from 0 to 1."
            )

    def read(self, source: Source, max_pixels: int = MAX_PIXELS) -> Reading:
        """Read a picture; if many digits are doubtful, also turned by 90, 180 and 270 degrees.

        Args:
            source: An image file, its path or contents, a PIL image, or an array: whatever
                :func:`~mnist_lit.reading.pictures.open_picture` accepts.
            max_pixels: Limit on the number of pixels in an image file.

        Raises:
            InputError: If it is not a picture, damaged, or too large.
        """
        gray = to_gray(open_picture(source, max_pixels))
        reading = self._read(gray)
        clear = self._clear(reading)
        if clear >= UPRIGHT * len(reading.digits):
            return reading
        turned = max((self._turned(gray, turns) for turns in (1, 2, 3)), key=self._clear)
        return turned if self._clear(turned) >= clear + CLEARER else reading

    def _clear(self, reading: Reading) -> int:
        """Return the number of digits that are likely, and clear to the classifier."""
        return sum(
            each.probability >= self.threshold and each.detection >= LIKELY
            for each in reading.digits
        )

    def _turned(self, gray: Gray, turns: int) -> Reading:
        """Read a picture turned clockwise by so many right angles, boxes as in the picture."""
        reading = self._read(np.ascontiguousarray(np.rot90(gray, -turns)))
        height, width = gray.shape

        def upright(digit: Digit) -> Digit:
            return replace(digit, box=_turned_back(digit.box, height, width, turns))

        lines = [Line(map(upright, number) for number in line.numbers) for line in reading.lines]
        return Reading(lines, 90 * turns)

    def _read(self, gray: Gray) -> Reading:
        lines = find_glyphs(gray)
        if not lines:
            return Reading([])
        _, probabilities = self.classify(np.stack([each.image for line in lines for each in line]))
        rows = iter(probabilities)
        return Reading([self._line(line, rows) for line in lines])

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

    def _line(self, glyphs: list[Glyph], rows: Iterator[NDArray[np.float32]]) -> Line:
        digits = [self._digit(glyph, next(rows)) for glyph in glyphs]
        starts = split_numbers(np.array([digit.box for digit in digits], np.float32))
        return Line(digits[start:end] for start, end in pairwise([*starts, len(digits)]))

    def _digit(self, glyph: Glyph, probabilities: NDArray[np.float32]) -> Digit:
        digit = int(probabilities.argmax())
        probability = float(probabilities[digit])
        return Digit(
            digit=digit,
            probability=probability,
            probabilities=probabilities,
            detection=glyph.probability,
            box=glyph.box,
            glyph=glyph.image,
            doubtful=probability < self.threshold or glyph.probability < SURE,
        )


def _turned_back(box: Box, height: int, width: int, turns: int) -> Box:
    """Return where a box of a picture turned clockwise is in the picture as it was."""
    left, top, right, bottom = box
    if turns == 1:
        return top, height - right, bottom, height - left
    if turns == 2:
        return width - right, height - bottom, width - left, height - top
    return width - bottom, left, width - top, right
