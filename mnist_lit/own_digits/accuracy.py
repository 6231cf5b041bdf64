"""Accuracy of models on a few sets of digits, as a table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch.utils.data import Dataset

from mnist_lit.data import Batch
from mnist_lit.metrics import wilson_interval
from mnist_lit.module import DigitClassifier
from mnist_lit.training.evaluation import outputs

BATCH_SIZE = 500


@dataclass(frozen=True)
class Accuracy:
    """How many of n digits a model reads correctly."""

    correct: int
    n: int

    @property
    def share(self) -> float:
        """In [0, 1]; NaN without digits."""
        return self.correct / self.n if self.n else float("nan")

    def __str__(self) -> str:
        if not self.n:
            return "-"
        low, high = wilson_interval(torch.tensor(self.share), self.n)
        return f"{self.share:.2%} ({low:.1%} to {high:.1%})"


def accuracy(model: DigitClassifier, digits: Dataset[Batch]) -> Accuracy:
    """Evaluate a model on digits; there may be none."""
    n = len(digits)  # type: ignore[arg-type]
    if not n:
        return Accuracy(0, 0)
    labels, logits = outputs(model, digits, BATCH_SIZE)
    return Accuracy(int(logits.argmax(dim=1).eq(labels).sum()), n)


def table(scores: Mapping[str, Sequence[Accuracy]], models: Sequence[str]) -> str:
    """Format the accuracy of models on sets of digits, with 95 % intervals.

    Args:
        scores: For each set, that of each model.
        models: Their names.
    """
    width = max(map(len, scores), default=0)
    rows = [f"{'accuracy':{width}}  {'images':>6}" + "".join(f"  {name:26}" for name in models)]
    rows += [
        f"{name:{width}}  {of_models[0].n:6,}" + "".join(f"  {each!s:26}" for each in of_models)
        for name, of_models in scores.items()
    ]
    return "\n".join(row.rstrip() for row in rows)
