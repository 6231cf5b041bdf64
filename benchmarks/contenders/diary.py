"""What every contender notes for peers.py: events and their wall clock, in the working directory.

Needs the standard library alone: the contenders run in two environments.
"""

import json
import os
import time
from pathlib import Path

GOAL = 0.99  # test accuracy
EPOCHS = 5  # that every contender trains, also one that reaches the goal sooner


class Diary:
    """Writes ``diary.jsonl``: ``begin``, ``trained`` and ``tested`` of each epoch, and ``end``.

    The time between ``tested`` and the event before it counts as measuring, not as the contender's.

    Args:
        epochs: After which a contender ends at the latest; with 0 its process ends after one step.
    """

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs
        self.file = Path("diary.jsonl").open("w", buffering=1)  # noqa: SIM115  # to the very end
        self.accuracies: list[float] = []
        self.has_stepped = False

    def note(self, event: str, **figures: float) -> None:
        """Write an event and the time."""
        self.file.write(json.dumps({"event": event, "at": time.time(), **figures}) + "\n")

    def stepped(self) -> None:
        """Note the first step of the optimizer."""
        if not self.has_stepped:
            self.has_stepped = True
            self.note("first step")
            if not self.epochs:
                os._exit(0)

    def tested(self, accuracy: float) -> bool:
        """Note the test accuracy after an epoch; give whether there are epochs enough."""
        self.note("tested", accuracy=accuracy)
        self.accuracies.append(accuracy)
        reached = max(self.accuracies) >= GOAL and len(self.accuracies) >= EPOCHS
        return reached or len(self.accuracies) >= self.epochs
