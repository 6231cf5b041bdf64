"""Print and store the results of an evaluation."""

import json
import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mnist_lit.datasets import class_legend
from mnist_lit.files import atomic_write, sha256
from mnist_lit.metrics import Evaluation
from mnist_lit.module import DigitClassifier
from mnist_lit.training.run_record import versions


class Results:
    """Prints the results of ``validate`` and ``test``; ``test`` also writes ``test.json``.

    Args:
        evaluated: What ``test.json`` says of the evaluated checkpoints.
        directory: Returns the directory for ``test.json``.
    """

    def __init__(self, evaluated: dict[str, Any], directory: Callable[[], Path]) -> None:
        self.evaluated = evaluated
        self.directory = directory

    def __call__(self, model: DigitClassifier, split: str, evaluation: Evaluation) -> None:
        """Observe an evaluation."""
        results = self._document(evaluation)
        model.print(results_table(results))
        if legend := class_legend(model.trainer.datamodule.class_names):  # type: ignore[attr-defined]
            model.print(f"{'classes':19}{legend}")
        if split == "test" and model.trainer.is_global_zero:
            data: Any = model.trainer.datamodule  # type: ignore[attr-defined]
            results |= {"dataset": data.dataset, "of_images": len(data.test_set)}
            path = self.directory() / "test.json"
            with atomic_write(path) as partial:
                partial.write_text(json.dumps(results, indent=2) + "\n")
            model.print(f"Results: {path}")

    def _document(self, evaluation: Evaluation) -> dict[str, Any]:
        return finite(evaluation.scores) | {
            **self.evaluated,
            "versions": versions(),
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
        }


def finite(scores: dict[str, Any]) -> dict[str, Any]:
    """Replace infinity and NaN, which JSON does not have, by None."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in scores.items()
    }


def identity(checkpoint: Path) -> dict[str, Any]:
    """Return a checkpoint's path and hash."""
    return {"checkpoint": str(checkpoint), "sha256": sha256(checkpoint)}


def members_table(members: Sequence[dict[str, Any]]) -> str:
    """Format the results of the members of an ensemble as a table.

    Args:
        members: For each its ``checkpoint``, and the scores of its evaluation.
    """
    width = max(len(member["checkpoint"]) for member in members)
    rows = [f"{'member':{width}}  errors  accuracy    loss"]
    rows += [
        f"{member['checkpoint']:{width}}  {member['errors']:6,}  {member['accuracy']:8.2%}  "
        f"{_or_dash(member['loss'], '6.4f')}"
        for member in members
    ]
    return "\n".join([*rows, "", f"ensemble of {len(members)}, by the mean of their probabilities"])


def results_table(results: dict[str, Any]) -> str:
    """Format results as a table.

    Args:
        results: The contents of ``test.json``.
    """
    low, high = results["accuracy_interval"]
    wrong = ", ".join(map(str, results["wrong"][:10])) or "none"
    rows = {
        "images": f"{results['images']:,}",
        "errors": f"{results['errors']:,}",
        "accuracy": f"{results['accuracy']:.2%}, 95% interval {low:.2%} to {high:.2%}",
        "loss": f"{_or_dash(results['loss'], '.4f')} nats, the mean negative log-likelihood",
        "calibration error": _or_dash(results["calibration_error"], ".4f"),
        "Brier score": _or_dash(results["brier_score"], ".4f"),
        "digit": "".join(f"{digit:8}" for digit in range(10)),
        "recall": "".join(_or_dash(x, "8.1%") for x in results["accuracy_by_digit"]),
        "precision": "".join(_or_dash(x, "8.1%") for x in results["precision_by_digit"]),
        "misclassified": wrong + (", ..." if results["wrong"][10:] else ""),
    }
    return "\n".join(f"{name:19}{text}" for name, text in rows.items())


def _or_dash(value: float | None, spec: str) -> str:
    width = spec.partition(".")[0]
    return f"{'-':>{width}}" if value is None else f"{value:{spec}}"
