"""The table of a run on disk."""

import csv
import signal
from pathlib import Path
from typing import Any

import pytest

from mnist_lit.training.loggers import run_loggers


def test_a_signal_waits_until_the_table_of_a_run_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = []
    write = csv.DictWriter.writerows

    def interrupted(self: Any, rows: Any) -> None:
        signal.raise_signal(signal.SIGTERM)
        write(self, rows)
        events.append("written")

    monkeypatch.setattr(csv.DictWriter, "writerows", interrupted)
    before = signal.signal(signal.SIGTERM, lambda *_: events.append("stopped"))
    try:
        _, table = run_loggers(tmp_path)
        table.log_metrics({"train/loss": 1.0}, 0)
        table.save()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert events == ["written", "stopped"]
