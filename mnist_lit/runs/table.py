"""Format runs as a table of text that fits the terminal."""

import json
from collections import Counter
from collections.abc import Callable, Collection
from datetime import datetime
from decimal import Decimal
from shutil import get_terminal_size
from typing import Any

Row = dict[str, Any]  # a row of a table, by column

MAX_WITH_ERRORS = Decimal("99.99")  # percent: only an accuracy without errors shows as 100 %


def percent(share: float) -> str:
    """Format a share in [0, 1]; only 1 itself is 100 %."""
    exact = 100 * Decimal(str(share))
    return f"{min(exact, MAX_WITH_ERRORS) if share < 1 else exact:.2f} %"


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"


# The columns left and right of the settings; for each metric, its format.
IDENTITY = ("name", "when", "status", "seed")
METRICS: dict[str, Callable[[float], str]] = {
    "epochs": str,
    "val_loss": "{:.4f}".format,
    "val_accuracy": percent,
    "test_accuracy": percent,
    "test_loss": "{:.4f}".format,
    "duration": _clock,
}
MAX_WIDTH = 24  # characters of a setting in the table
# If the table is too wide, columns that are never left out, and those that go first.
KEPT = ("name", "status", "n", "val_loss")
MINOR = ("when", "epochs", "test_loss", "duration")


def table(rows: list[Row], classes: dict[str, str], keep: Collection[str] | None = None) -> str:
    """Format rows as a table with headings, without the reasons of failures.

    Args:
        rows: At least one; all have the columns of the first.
        classes: Short names of classes, by path.
        keep: If given, columns other than these are left out until the table fits the terminal.
    """
    columns = {}
    for heading in [heading for heading in rows[0] if heading not in ("reason", "over")]:
        cells = [heading, *(cell(row, heading, classes) for row in rows)]
        is_text = any(isinstance(row[heading], str | list | dict) for row in rows)
        width = max(map(len, cells))
        columns[heading] = [cell.ljust(width) if is_text else cell.rjust(width) for cell in cells]
    left_out = [] if keep is None else _leave_out(columns, keep)
    lines = ["  ".join(cells).rstrip() for cells in zip(*columns.values(), strict=True)]
    note = [f"Left out: {', '.join(left_out)} (shown with --columns all)"] if left_out else []
    return "\n".join(lines + note)


def _leave_out(columns: dict[str, list[str]], keep: Collection[str]) -> list[str]:
    """Remove columns until the rest fits the terminal, or 100 characters; return their headings.

    First go those with one value for all rows, then the ``MINOR`` ones, then those in which the
    fewest rows differ from the others.
    """
    rows = len(next(iter(columns.values()))) - 1
    same = {heading: max(Counter(cells[1:]).values()) for heading, cells in columns.items()}
    order = sorted(columns, key=lambda each: (same[each] < rows, each not in MINOR, -same[each]))
    width = get_terminal_size((100, 24)).columns
    left_out = []
    for heading in order:
        total = sum(len(cells[0]) + 2 for cells in columns.values()) - 2
        if total > width and heading not in keep:
            del columns[heading]
            left_out.append(heading)
    return left_out


def cell(row: Row, heading: str, classes: dict[str, str]) -> str:
    """Format the value of a row in a column, as :func:`table` does."""
    value = row[heading]
    if value is None:
        return "-"
    if isinstance(value, dict):
        return _format_spread(value, METRICS[heading], row["n"])
    if heading in METRICS:
        return METRICS[heading](value)
    if heading == "when":
        return f"{datetime.fromisoformat(value).astimezone():%Y-%m-%d %H:%M}"
    text = compact(classes.get(value, value) if isinstance(value, str) else value)
    is_short = heading in IDENTITY or len(text) <= MAX_WIDTH
    return text if is_short else f"{text[: MAX_WIDTH - 3]}..."


def _format_spread(spread: Row, format_metric: Callable[[float], str], n: int) -> str:
    text = "-" if spread["mean"] is None else format_metric(spread["mean"])
    if spread["sd"] is not None:
        text = f"{text.removesuffix(' %')} ± {format_metric(spread['sd'])}"
    return text if spread["n"] == n else f"{text} (n={spread['n']})"


def compact(value: Any) -> str:
    """Format a setting compactly: without quotes, classes by name."""
    if isinstance(value, list):
        return f"[{','.join(map(compact, value))}]"
    if isinstance(value, dict):
        if "class_path" in value:
            name = compact(value["class_path"]).rpartition(".")[2]
            return name + compact(value.get("init_args", {}))
        pairs = (f"{name}:{compact(inner)}" for name, inner in value.items())
        return f"{{{','.join(pairs)}}}" if value else ""
    return value if isinstance(value, str) and value.isprintable() else json.dumps(value)
