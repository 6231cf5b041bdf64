"""The schemas and examples that /docs shows."""

from typing import Any

from pydantic import BaseModel, Field

from mnist_lit.server.problems import MEDIA_TYPE, problem_document


class DigitRead(BaseModel):
    """A digit and where it is."""

    digit: int = Field(ge=0, le=9, description="The most probable digit.")
    probability: float = Field(ge=0, le=1, description="Probability of this digit.")
    probabilities: list[float] = Field(
        min_length=10, max_length=10, description="Probabilities of the digits 0 to 9."
    )
    detection: float = Field(
        ge=0, le=1, description="Probability that it is a digit at all, by the detector."
    )
    box: list[int] = Field(
        min_length=4,
        max_length=4,
        description="Left, top, right and bottom in pixels of the upright picture; right and "
        "bottom are exclusive.",
    )
    doubtful: bool = Field(
        description="Whether the probability is below the model's threshold, or the detector is "
        "unsure."
    )
    glyph: list[list[float]] | None = Field(
        default=None,
        description="The network's input, 28 by 28 numbers: 0 is background, 1 is ink. Only with "
        "`glyphs=true`.",
    )


DIGIT_EXAMPLE: dict[str, Any] = {
    "digit": 7,
    "probability": 0.991,
    "probabilities": [0, 0.004, 0.003, 0, 0, 0, 0, 0.991, 0, 0.002],
    "detection": 0.98,
    "box": [64, 48, 112, 124],
    "doubtful": False,
}


class PictureRead(BaseModel):
    """The digits in a picture."""

    text: str = Field(
        description="The digits as text, one line for each line of digits, with a space between "
        "numbers that are far apart."
    )
    rotation: int = Field(
        description="0, 90, 180 or 270 degrees: how far the picture was turned clockwise to read "
        "it. Boxes are in pixels of the picture as it was sent, upright by its EXIF orientation."
    )
    lines: list[list[DigitRead]] = Field(
        description="Lines from top to bottom, each with its digits from left to right."
    )

    model_config = {
        "json_schema_extra": {"example": {"text": "7", "rotation": 0, "lines": [[DIGIT_EXAMPLE]]}},
    }


class Problem(BaseModel):
    """A problem document (RFC 9457)."""

    type: str
    title: str = Field(description="The reason phrase of the status.")
    status: int
    detail: str = Field(description="What is wrong and what to do.")


BINARY = {"type": "string", "format": "binary"}
FORM = {"type": "object", "required": ["picture"], "properties": {"picture": BINARY}}
PICTURE_BODY = {
    "requestBody": {
        "required": True,
        "description": "A PNG, JPEG, WebP, GIF, BMP or TIFF file: the body itself, or the only "
        "file of a form.",
        "content": {
            "multipart/form-data": {"schema": FORM},
            "image/*": {"schema": BINARY},
            "application/octet-stream": {"schema": BINARY},
        },
    }
}

MODEL_EXAMPLE = {
    "version": "0.1.0",
    "network": "mnist_lit.networks.StrongCNN",
    "parameters": 442042,
    "seed": 0,
    "test_accuracy": 0.9961,
    "threshold": 0.8805,
}


def problem_responses(reasons: dict[int, str]) -> dict[int | str, dict[str, Any]]:
    """Document the error responses of a route.

    Args:
        reasons: When each occurs, by status.
    """
    schema = Problem.model_json_schema()
    return {
        status: {
            "description": reason,
            "content": {
                MEDIA_TYPE: {"schema": schema, "example": problem_document(status, reason)}
            },
        }
        for status, reason in reasons.items()
    }
