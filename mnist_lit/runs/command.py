"""The command runs: one table of the runs on disk, and the spread of their results over seeds."""

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
from mnist_lit.runs.files import Run, natural, read_runs

Row = dict[str, Any]  # a line of a table, by its headings

NEARLY_ALL = Decimal("99.99")  # percent: only what has no error shows 100 %


def _percent(share: float) -> str:
    exact = 100 * Decimal(str(share))
    return f"{min(exact, NEARLY_ALL) if share < 1 else exact:.2f} %"


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"


# The columns left and right of the settings; for a figure, how it is shown.
IDENTITY = ("name", "when", "status", "seed")
FIGURES: dict[str, Callable[[float], str]] = {
    "epochs": str,
    "val_loss": "{:.4f}".format,
    "val_accuracy": _percent,
    "test_accuracy": _percent,
    "test_loss": "{:.4f}".format,
    "duration": _clock,
}
SPREAD = ("val_loss", "val_accuracy", "test_accuracy")  # the figures given for a group of runs
WIDEST = 24  # characters of a setting in the table

NOTES = """\
val_loss is the lowest of all epochs, val_accuracy that of the same epoch; test_accuracy and
test_loss are those of the checkpoint tested last. The table's duration is in hours:minutes:seconds;
csv and json have seconds. A run is running, finished, stopped (by a signal, or pruned), failed (the
reason is given), killed (its process is gone) or broken (a file of it is missing or damaged). A
setting has a column if the runs differ in it. Runs that differ only in their seed are summed up
below, and in json: mean and sample standard deviation of those that are finished, of each seed the
newest."""


def main(args: list[str]) -> None:
    """Run ``runs``.

    Args:
        args: The command and its options.

    Raises:
        InputError: If there are no runs, or no such column to sort by.
    """
    options = _options(args[1:])
    runs = read_runs(Path(options.dir))
    if not runs:
        raise InputError(
            f"There are no runs in {options.dir}.",
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
        text = table([_without_reason(row) for row in rows], classes)
        if failed := [row for row in rows if row["reason"]]:
            text += "\n\nFailed:\n"
            text += "\n".join(f"{row['name']}: {compact(row['reason'])}" for row in failed)
        if groups:
            text += "\n\nThe same with n seeds, mean ± sample standard deviation:\n"
            label = {} if headings else {"name": "all runs"}
            text += table([label | group for group in groups], classes)
    print(text)


def _options(args: list[str]) -> Namespace:
    parser = CommandParser("runs", "Compare the runs on disk.")
    parser.epilog = NOTES
    add = parser.add_argument
    dir_help = "Directory of the runs, or of one. Default: lightning_logs."
    add("dir", nargs="?", default="lightning_logs", metavar="DIR", help=dir_help)
    sort_help = "Heading to sort by; with a minus, --sort=-COLUMN, from high to low. Default: when."
    add("--sort", default="when", metavar="COLUMN", help=sort_help)
    format_help = "csv and json have unrounded figures. Default: table."
    add("--format", choices=("table", "csv", "json"), default="table", help=format_help)
    return parser.parse_args(args)


def differences(runs: list[Run]) -> dict[str, str]:
    """Find the settings in which runs differ.

    An argument that only some classes have is no difference: the column of the class says so.

    Returns:
        The heading for the key of each: the shortest unambiguous end of the option's name.
    """
    known = [run.settings for run in runs if run.settings]
    keys = list(dict.fromkeys(key for settings in known for key in settings))
    names = {option(key) for key in keys}
    return {key: shortest(option(key), names) for key in keys if _differs(key, known)}


def _differs(key: str, known: list[dict[str, Any]]) -> bool:
    class_key = key.rpartition(".init_args.")[0] + ".class_path"  # no setting, if no argument
    having = [settings for settings in known if settings.get(key) is not None]
    lacking = [settings for settings in known if settings.get(key) is None]
    classes = [settings.get(class_key) for settings in having]
    values = {json.dumps(settings[key]) for settings in having}  # there 1, 1.0 and true differ
    return len(values) > 1 or any(settings.get(class_key) in classes for settings in lacking)


def option(key: str) -> str:
    """The name of a setting on the command line, such as ``model.optimizer.lr``."""
    return key.removesuffix(".class_path").replace(".init_args.", ".")


def shortest(name: str, names: set[str]) -> str:
    """The shortest end of a dotted name that no other name and no other column has."""
    parts = name.split(".")
    ends = [".".join(parts[start:]) for start in reversed(range(len(parts)))]
    for end in ends:
        same = [each for each in names if f".{each}".endswith(f".{end}")]
        if len(same) == 1 and end not in (*IDENTITY, *FIGURES, "n", "reason"):
            return end
    return name


def _class_names(runs: list[Run]) -> dict[str, str]:
    """The shortest unambiguous name of each class, by its path."""
    settings = [setting for run in runs for setting in run.settings.items()]
    paths = {str(value) for key, value in settings if key.endswith(".class_path")}
    return {path: shortest(path, paths) for path in paths}


def summaries(runs: list[Run], headings: dict[str, str]) -> list[Row]:
    """Sum up the runs that have the same settings and different seeds.

    Args:
        runs: The oldest first; of each seed, the newest counts.
        headings: Of the settings in which runs differ, by their keys.

    Returns:
        Of each group of runs its settings, ``n`` seeds, and for each figure in ``SPREAD`` the
        ``mean`` and sample standard deviation (``sd``) over the ``n`` seeds whose run is finished
        and has it.
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
            spreads = {figure: _spread(group, figure) for figure in SPREAD}
            rows.append({**row, "n": len(seeds), **spreads})
    return rows


def _spread(group: list[Run], figure: str) -> Row:
    finished = [run for run in group if run.status == "finished" and figure in run.figures]
    values = list({run.seed: run.figures[figure] for run in finished}.values())
    return {
        "mean": mean(values) if values else None,
        "sd": stdev(values) if len(values) > 1 else None,
        "n": len(values),
    }


def _row(run: Run, headings: dict[str, str]) -> Row:
    identity = {name: getattr(run, name) for name in IDENTITY}
    settings = {heading: run.settings.get(key) for key, heading in headings.items()}
    figures = {name: run.figures.get(name) for name in FIGURES}
    return identity | settings | figures | {"reason": run.reason}


def _without_reason(row: Row) -> Row:
    return {heading: value for heading, value in row.items() if heading != "reason"}


def _sorted(rows: list[Row], order: str) -> list[Row]:
    column = order.removeprefix("-")
    if column not in rows[0]:
        raise InputError(f"There is no column {column}.", f"The columns: {', '.join(rows[0])}.")
    known = [row for row in rows if row[column] is not None]
    known.sort(key=lambda row: _rank(row[column]), reverse=order != column)
    return known + [row for row in rows if row[column] is None]


def _rank(value: Any) -> tuple[bool, Any]:
    is_text = not isinstance(value, int | float)
    return is_text, natural(compact(value)) if is_text else value


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
    """Lay out rows in columns under their headings.

    Args:
        rows: At least one, with the headings of the first.
        classes: Short names of classes, by their paths.
    """
    columns = []
    for heading in rows[0]:
        cells = [heading, *(_shown(row, heading, classes) for row in rows)]
        is_text = any(isinstance(row[heading], str | list | dict) for row in rows)
        width = max(map(len, cells))
        columns.append([cell.ljust(width) if is_text else cell.rjust(width) for cell in cells])
    return "\n".join("  ".join(cells).rstrip() for cells in zip(*columns, strict=True))


def _shown(row: Row, heading: str, classes: dict[str, str]) -> str:
    value = row[heading]
    if value is None:
        return "-"
    if isinstance(value, dict):
        return _shown_spread(value, FIGURES[heading], row["n"])
    if heading in FIGURES:
        return FIGURES[heading](value)
    if heading == "when":
        return f"{datetime.fromisoformat(value).astimezone():%Y-%m-%d %H:%M}"
    text = compact(classes.get(value, value) if isinstance(value, str) else value)
    is_short = heading in IDENTITY or len(text) <= WIDEST
    return text if is_short else f"{text[: WIDEST - 3]}..."


def _shown_spread(spread: Row, form: Callable[[float], str], n: int) -> str:
    text = "-" if spread["mean"] is None else form(spread["mean"])
    if spread["sd"] is not None:
        text = f"{text.removesuffix(' %')} ± {form(spread['sd'])}"
    return text if spread["n"] == n else f"{text} (n={spread['n']})"


def compact(value: Any) -> str:
    """A setting in few characters: no quotes, and a class by its name."""
    if isinstance(value, list):
        return f"[{','.join(map(compact, value))}]"
    if isinstance(value, dict):
        if "class_path" in value:
            name = compact(value["class_path"]).rpartition(".")[2]
            return name + compact(value.get("init_args", {}))
        pairs = (f"{name}:{compact(inner)}" for name, inner in value.items())
        return f"{{{','.join(pairs)}}}" if value else ""
    return value if isinstance(value, str) and value.isprintable() else json.dumps(value)
