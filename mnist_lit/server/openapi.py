"""What /docs says of requests and answers: their forms, and an example of each."""

from typing import Any

from pydantic import BaseModel, Field

from mnist_lit.server.problems import MEDIA_TYPE, document


class DigitRead(BaseModel):
    """A digit that was read."""

    digit: int = Field(ge=0, le=9, description="The most probable one.")
    probability: float = Field(ge=0, le=1, description="Its own.")
    probabilities: list[float] = Field(
        min_length=10, max_length=10, description="Those of all ten digits, 0 to 9."
    )
    box: list[int] = Field(
        min_length=4,
        max_length=4,
        description="Left, top, right and bottom in pixels of the upright picture; the last two "
        "are exclusive.",
    )
    doubtful: bool = Field(description="Whether the probability is below the model's threshold.")
    glyph: list[list[float]] | None = Field(
        default=None,
        description="What the network saw, if asked for: 28 rows of 28 numbers, 0 paper, 1 ink.",
    )


class PictureRead(BaseModel):
    """What is written in a picture."""

    text: str = Field(description="The digits, a line for each of theirs; empty if there are none.")
    lines: list[list[DigitRead]] = Field(
        description="Lines from top to bottom, the digits of each from left to right."
    )

    model_config = {
        "json_schema_extra": {
            "example": {
                "text": "7",
                "lines": [
                    [
                        {
                            "digit": 7,
                            "probability": 0.991,
                            "probabilities": [0, 0.004, 0.003, 0, 0, 0, 0, 0.991, 0, 0.002],
                            "box": [64, 48, 112, 124],
                            "doubtful": False,
                        }
                    ]
                ],
            }
        }
    }


class ProblemRead(BaseModel):
    """What is wrong, and what to do (RFC 9457)."""

    type: str
    title: str = Field(description="The status in words.")
    status: int
    detail: str = Field(description="For a person.")


BINARY = {"type": "string", "format": "binary"}
PICTURE_BODY = {
    "requestBody": {
        "required": True,
        "description": "A PNG, JPEG, WebP, GIF, BMP or TIFF file, raw or as a form's only file.",
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["picture"],
                    "properties": {"picture": BINARY},
                }
            },
            "image/*": {"schema": BINARY},
            "application/octet-stream": {"schema": BINARY},
        },
    }
}


MODEL_EXAMPLE = {
    "version": "0.1.0",
    "network": "mnist_lit.networks.StrongCNN",
    "parameters": 247226,
    "seed": 0,
    "test_accuracy": 0.9969,
    "threshold": 0.8871,
}

DETAILS = {
    400: "The form is damaged, or has more than one part. Send one file, named picture.",
    408: "The picture did not arrive within 30 seconds. Send it faster, or smaller.",
    413: "The picture has more than 10 MB. Send a smaller one.",
    415: "The picture is no picture of a known format. Give a PNG, JPEG, WebP, GIF, BMP or TIFF.",
    422: "There is no picture in the request, or it is empty. Send one.",
    503: "Too many pictures wait to be read. Send it again later.",
}


def problems(reasons: dict[int, str]) -> dict[int | str, dict[str, Any]]:
    """The problem documents that a route answers with.

    Args:
        reasons: When, by status.
    """
    schema = ProblemRead.model_json_schema()
    return {
        status: {
            "description": reason,
            "content": {
                MEDIA_TYPE: {"schema": schema, "example": document(status, DETAILS[status])}
            },
        }
        for status, reason in reasons.items()
    }
