"""The command runs: compare the runs on disk, with mean and deviation over seeds."""

import csv
import io
import json
from argparse import Namespace
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from mnist_lit.errors import InputError
from mnist_lit.options import CommandParser
from mnist_lit.runs.files import Run, natural_key, read_runs

Row = dict[str, Any]  # a row of a table, by column

MAX_WITH_ERRORS = Decimal("99.99")  # percent: only an accuracy without errors shows as 100 %


def _percent(share: float) -> str:
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
    "val_accuracy": _percent,
    "test_accuracy": _percent,
    "test_loss": "{:.4f}".format,
    "duration": _clock,
}
SUMMARIZED = ("val_loss", "val_accuracy", "test_accuracy")  # metrics shown for groups of runs
MAX_WIDTH = 24  # characters of a setting in the table

NOTES = """\
val_loss is the lowest of all epochs, and val_accuracy belongs to the same epoch; test_accuracy and
test_loss belong to the checkpoint tested last. duration is hours:minutes:seconds in the table, and
seconds in csv and json. A run is running, finished, stopped (by a signal, or pruned), failed (see
the reason), killed (its process died) or broken (a file is missing or damaged). A setting has a
column if it differs between runs. Runs that differ only in their seed are summarized below the
table and in json, by the mean and sample standard deviation of the finished ones (the newest for
each seed)."""


def main(args: list[str]) -> None:
    """Run ``runs``.

    Args:
        args: The command and its options.

    Raises:
        InputError: If there are no runs, or the column to sort by does not exist.
    """
    options = _options(args[1:])
    runs = read_runs(Path(options.dir))
    if not runs:
        raise InputError(
            f"No runs found in {options.dir}.",
            "Train one: python -m mnist_lit fit --config configs/default.yaml",
        )
    headings = differences(runs)
    rows = _sorted([_row(run, headings) for run in runs], options.sort)
    groups = summaries(runs, headings)
    if options.format == "json":
        text = json.dumps({"runs": rows, "groups": groups}, indent=2)
    elif options.format == "csv":
        text = _csv(rows)
    else:
        classes = _class_names(runs)
        text = table(rows, classes)
        if failed := [row for row in rows if row["reason"]]:
            text += "\n\nFailed:\n"
            text += "\n".join(f"{row['name']}: {compact(row['reason'])}" for row in failed)
        if groups:
            text += "\n\nOver n seeds, mean ± sample standard deviation:\n"
            label = {} if headings else {"name": "all runs"}
            text += table([label | group for group in groups], classes)
    print(text)


def _options(args: list[str]) -> Namespace:
    parser = CommandParser("runs", "Compare the runs on disk.")
    parser.epilog = NOTES
    add = parser.add_argument
    dir_help = "Directory of the runs, or of a single run. Default: lightning_logs."
    add("dir", nargs="?", default="lightning_logs", metavar="DIR", help=dir_help)
    sort_help = "Column to sort by; --sort=-COLUMN sorts in descending order. Default: when."
    add("--sort", default="when", metavar="COLUMN", help=sort_help)
    format_help = "Output format; csv and json have unrounded numbers. Default: table."
    add("--format", choices=("table", "csv", "json"), default="table", help=format_help)
    return parser.parse_args(args)


def differences(runs: list[Run]) -> dict[str, str]:
    """Find the settings that differ between runs.

    An argument that only some classes have does not count: the column of the class shows it.

    Returns:
        A heading for each key: the shortest unambiguous suffix of the option's name.
    """
    known = [run.settings for run in runs if run.settings]
    keys = list(dict.fromkeys(key for settings in known for key in settings))
    names = {option(key) for key in keys}
    return {key: shortest(option(key), names) for key in keys if _differs(key, known)}


def _differs(key: str, known: list[dict[str, Any]]) -> bool:
    class_key = key.rpartition(".init_args.")[0] + ".class_path"
    having = [settings for settings in known if settings.get(key) is not None]
    lacking = [settings for settings in known if settings.get(key) is None]
    classes = [settings.get(class_key) for settings in having]
    values = {json.dumps(settings[key]) for settings in having}  # as JSON 1, 1.0 and true differ
    return len(values) > 1 or any(settings.get(class_key) in classes for settings in lacking)


def option(key: str) -> str:
    """Return the command-line name of a setting, such as ``model.optimizer.lr``."""
    return key.removesuffix(".class_path").replace(".init_args.", ".")


def shortest(name: str, names: set[str]) -> str:
    """Return the shortest suffix of a dotted name that no other name or column shares."""
    parts = name.split(".")
    suffixes = [".".join(parts[start:]) for start in reversed(range(len(parts)))]
    for suffix in suffixes:
        same = [each for each in names if f".{each}".endswith(f".{suffix}")]
        if len(same) == 1 and suffix not in (*IDENTITY, *METRICS, "n", "reason"):
            return suffix
    return name


def _class_names(runs: list[Run]) -> dict[str, str]:
    """Map the path of each class to its shortest unambiguous name."""
    settings = [setting for run in runs for setting in run.settings.items()]
    paths = {str(value) for key, value in settings if key.endswith(".class_path")}
    return {path: shortest(path, paths) for path in paths}


def summaries(runs: list[Run], headings: dict[str, str]) -> list[Row]:
    """Summarize the runs that differ only in their seed.

    Args:
        runs: Oldest first; the newest run of each seed counts.
        headings: Headings of the settings that differ between runs, by key.

    Returns:
        For each group its settings, the number ``n`` of seeds, and for each metric in
        ``SUMMARIZED`` the ``mean`` and sample standard deviation (``sd``) over the ``n`` seeds
        with a finished run that has the metric.
    """
    groups: dict[str, list[Run]] = {}
    for run in runs:
        if run.settings:
            values = json.dumps([run.settings.get(key) for key in headings])
            groups.setdefault(values, []).append(run)
    rows = []
    for group in groups.values():
        seeds = {run.seed for run in group}
        if len(seeds) > 1:
            row = {heading: group[0].settings.get(key) for key, heading in headings.items()}
            spreads = {metric: _spread(group, metric) for metric in SUMMARIZED}
            rows.append({**row, "n": len(seeds), **spreads})
    return rows


def _spread(group: list[Run], metric: str) -> Row:
    finished = [run for run in group if run.status == "finished" and metric in run.metrics]
    values = list({run.seed: run.metrics[metric] for run in finished}.values())
    return {
        "mean": mean(values) if values else None,
        "sd": stdev(values) if len(values) > 1 else None,
        "n": len(values),
    }


def _row(run: Run, headings: dict[str, str]) -> Row:
    identity = {name: getattr(run, name) for name in IDENTITY}
    settings = {heading: run.settings.get(key) for key, heading in headings.items()}
    metrics = {name: run.metrics.get(name) for name in METRICS}
    return identity | settings | metrics | {"reason": run.reason}


def _sorted(rows: list[Row], order: str) -> list[Row]:
    column = order.removeprefix("-")
    if column not in rows[0]:
        raise InputError(f"Unknown column {column}.", f"The columns are {', '.join(rows[0])}.")
    known = [row for row in rows if row[column] is not None]
    known.sort(key=lambda row: _rank(row[column]), reverse=order != column)
    return known + [row for row in rows if row[column] is None]


def _rank(value: Any) -> tuple[bool, Any]:
    is_text = not isinstance(value, int | float)
    return is_text, natural_key(compact(value)) if is_text else value


def _csv(rows: list[Row]) -> str:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(rows[0])
    for row in rows:
        writer.writerow(
            value if value is None or isinstance(value, str) else json.dumps(value)
            for value in row.values()
        )
    return file.getvalue().rstrip("\n")


def table(rows: list[Row], classes: dict[str, str]) -> str:
    """Format rows as a table with headings, without the reasons why runs failed.

    Args:
        rows: At least one; all have the columns of the first.
        classes: Short names of classes, by path.
    """
    columns = []
    for heading in [heading for heading in rows[0] if heading != "reason"]:
        cells = [heading, *(_format(row, heading, classes) for row in rows)]
        is_text = any(isinstance(row[heading], str | list | dict) for row in rows)
        width = max(map(len, cells))
        columns.append([cell.ljust(width) if is_text else cell.rjust(width) for cell in cells])
    return "\n".join("  ".join(cells).rstrip() for cells in zip(*columns, strict=True))


def _format(row: Row, heading: str, classes: dict[str, str]) -> str:
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
