"""What an evaluation prints and writes."""

import json
import math
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mnist_lit.files import sha256, whole
from mnist_lit.metrics import Evaluation
from mnist_lit.module import DigitClassifier
from mnist_lit.training.run_record import versions


class Results:
    """Prints what ``validate`` and ``test`` found; ``test`` also writes ``test.json``.

    Args:
        checkpoint: The file that is evaluated.
        directory: Gives the place of ``test.json``.
    """

    def __init__(self, checkpoint: Path, directory: Callable[[], Path]) -> None:
        self.checkpoint = checkpoint
        self.directory = directory

    def __call__(self, model: DigitClassifier, split: str, evaluation: Evaluation) -> None:
        """Observe an evaluation."""
        results = self._document(evaluation)
        model.print(results_table(results))
        if split == "test" and model.trainer.is_global_zero:
            path = self.directory() / "test.json"
            with whole(path) as partial:
                partial.write_text(json.dumps(results, indent=2) + "\n")
            model.print(f"Results: {path}")

    def _document(self, evaluation: Evaluation) -> dict[str, Any]:
        scores = {  # JSON has no infinity, and nothing that is not a number
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in evaluation.scores.items()
        }
        return scores | {
            "checkpoint": str(self.checkpoint),
            "sha256": sha256(self.checkpoint),
            "versions": versions(),
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
        }


def results_table(results: dict[str, Any]) -> str:
    """Lay out the results of a test for reading.

    Args:
        results: As in ``test.json``.
    """
    low, high = results["accuracy_interval"]
    wrong = ", ".join(map(str, results["wrong"][:10])) or "none"
    figures = {
        "images": f"{results['images']:,}",
        "errors": f"{results['errors']:,}",
        "accuracy": f"{results['accuracy']:.2%}, 95% interval {low:.2%} to {high:.2%}",
        "loss": f"{_or_dash(results['loss'], '.4f')} nats, the mean negative log-likelihood",
        "calibration error": _or_dash(results["calibration_error"], ".4f"),
        "Brier score": _or_dash(results["brier_score"], ".4f"),
        "digit": "".join(f"{digit:8}" for digit in range(10)),
        "recall": "".join(_or_dash(x, "8.1%") for x in results["accuracy_by_digit"]),
        "precision": "".join(_or_dash(x, "8.1%") for x in results["precision_by_digit"]),
        "wrong images": wrong + (", ..." if results["wrong"][10:] else ""),
    }
    return "\n".join(f"{name:19}{figure}" for name, figure in figures.items())


def _or_dash(value: float | None, form: str) -> str:
    width = form.partition(".")[0]
    return f"{'-':>{width}}" if value is None else f"{value:{form}}"
