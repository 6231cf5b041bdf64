"""The command runs: compare the runs on disk, with mean and deviation over seeds or folds."""

import csv
import io
import json
from argparse import Namespace
from contextlib import suppress
from pathlib import Path
from typing import Any

from mnist_lit.errors import InputError
from mnist_lit.options import CommandParser
from mnist_lit.runs.comparison import (
    COLUMNS,
    FOLD,
    SUMMARIZED,
    class_names,
    differences,
    groups_title,
    option,
    summaries,
)
from mnist_lit.runs.files import Run, best_run, natural_key, read_runs
from mnist_lit.runs.table import IDENTITY, KEPT, METRICS, Row, cell, compact, table

# The settings that determine the validation images.
VALIDATION = {"data.dataset", "data.val_size", "data.folds", FOLD, "data.split_seed"}

NOTES = """\
val_loss is the lowest of all epochs, and val_accuracy belongs to the same epoch; test_accuracy and
test_loss belong to the checkpoint tested last. duration is hours:minutes:seconds in the table, and
seconds in csv and json. A run is running, finished, stopped (by a signal, or pruned), failed (see
the reason), killed (its process died), broken (a file is missing or damaged) or unrecorded (trained
from Python, not by fit). A setting has a
column if it differs between the runs shown and can change the result. If the table is wider than
the terminal (or than 100 characters in a file), the least useful columns are left out. The best run
is the finished one with the lowest val_loss. Runs that differ only in seed or fold are summarized
below the table and in json, by the mean and sample standard deviation of the finished ones (the
newest for each seed and fold)."""


def main(args: list[str]) -> None:
    """Run ``runs``.

    Args:
        args: The command and its options.

    Raises:
        InputError: If there are no runs, none of them matches, or a column does not exist.
    """
    options = _options(args[1:])
    found = read_runs(Path(options.dir))
    if not found:
        raise InputError(
            f"No runs found in {options.dir}.",
            "Train one: python -m mnist_lit fit --config configs/default.yaml",
        )
    classes = class_names(found)
    matching = _matching(found, options.where, classes)
    headings = differences(matching)
    order = _find(options.sort.removeprefix("-"), found)
    runs = _sorted(matching, order, descending=options.sort.startswith("-"))
    columns = _columns(options.columns, found, headings)
    rows = [{heading: _value(run, key) for key, heading in columns.items()} for run in runs]
    groups = summaries(matching, headings)
    best = best_run(matching)
    if options.format == "json":
        print(json.dumps({"runs": rows, "groups": groups, "best": best and best.name}, indent=2))
    elif options.format == "csv":
        print(_csv(rows))
    else:
        keep = None if options.columns else {*KEPT, columns.get(order, "")} - {"when"}
        parts = [table(rows, classes, keep)]
        if best and len(runs) > 1:
            parts.append(_best_line(best, different_images=bool(VALIDATION & headings.keys())))
        reasons = [f"{run.name} {run.status}: {compact(run.reason)}" for run in runs if run.reason]
        if reasons:
            parts.append("\n".join(reasons))
        if groups:
            parts.append(f"{groups_title(groups)}\n{table(groups, classes, keep)}")
        print("\n\n".join(parts))


def _options(args: list[str]) -> Namespace:
    parser = CommandParser("runs", "Compare the runs on disk.")
    parser.epilog = NOTES
    add = parser.add_argument
    dir_help = "Directory of the runs, or of a single run. Default: lightning_logs."
    add("dir", nargs="?", default="lightning_logs", metavar="DIR", help=dir_help)
    sort_help = "Column to sort by; --sort=-COLUMN sorts in descending order. Default: when."
    add("--sort", default="when", metavar="COLUMN", help=sort_help)
    columns_help = (
        "Columns to show, separated by commas; all shows all, however wide the table. A column is "
        "one of the table's, or any setting, such as model.optimizer.lr or just lr."
    )
    add("--columns", metavar="NAME,NAME", help=columns_help)
    where_help = (
        "Show only runs with this value in a column, such as status=finished or lr=0.001. If "
        "given several times, all must match."
    )
    add("--where", action="append", default=[], metavar="NAME=VALUE", help=where_help)
    format_help = "Output format; csv and json have unrounded numbers. Default: table."
    add("--format", choices=("table", "csv", "json"), default="table", help=format_help)
    return parser.parse_args(args)


def _columns(names: str | None, runs: list[Run], headings: dict[str, str]) -> dict[str, str]:
    """The headings of the columns to show, by column or key of the setting."""
    if names in (None, "all"):
        return {key: headings.get(key, key) for key in (*IDENTITY, *headings, *METRICS, "reason")}
    return {_find(name, runs): name for name in names.split(",")}


def _find(name: str, runs: list[Run]) -> str:
    """Find the column, or the key of the setting, that a user means.

    Raises:
        InputError: If there is none of this name, or several.
    """
    if name in COLUMNS:
        return name
    keys = sorted({key for run in runs for key in run.settings})  # a class_path after its null
    options = {option(key): key for key in keys}
    found = [each for each in options if f".{each}".endswith(f".{name}")]
    if name in found or len(found) == 1:
        return options[name if name in found else found[0]]
    if found:
        raise InputError(f"Several settings are called {name}.", f"Give one of {', '.join(found)}.")
    known = [*IDENTITY, *differences(runs).values(), *METRICS, "reason"]
    raise InputError(f"Unknown column {name}.", f"The columns are {', '.join(known)}.")


def _value(run: Run, key: str) -> Any:
    """The value of a run in a column."""
    if key in METRICS:
        return run.metrics.get(key)
    return getattr(run, key) if key in COLUMNS else run.settings.get(key)


def _matching(runs: list[Run], conditions: list[str], classes: dict[str, str]) -> list[Run]:
    """Select the runs that have the value of each condition, ``NAME=VALUE``."""
    matching = runs
    for condition in conditions:
        name, equals, text = condition.partition("=")
        if not equals:
            raise InputError(
                f"--where {condition} is not NAME=VALUE.",
                "Give a column and its value, such as status=finished; --sort orders numbers.",
            )
        key = _find(name, runs)
        matching = [run for run in matching if _is(_value(run, key), text, key, classes)]
    if not matching:
        what = f"None of the {len(runs)} runs has {' and '.join(conditions)}."
        raise InputError(what, "Leave out --where to see what they have.")
    return matching


def _is(value: Any, text: str, key: str, classes: dict[str, str]) -> bool:
    """Whether a text stands for a value: in full, as the table shows it, or as JSON."""
    texts = [text]
    with suppress(ValueError):
        texts.append(compact(json.loads(text)))  # 1e-3 is 0.001
    return compact(value) in texts or cell({key: value}, key, classes) == text


def _sorted(runs: list[Run], key: str, *, descending: bool) -> list[Run]:
    known = [run for run in runs if _value(run, key) is not None]
    known.sort(key=lambda run: _rank(_value(run, key)), reverse=descending)
    return known + [run for run in runs if _value(run, key) is None]


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


def _best_line(best: Run, *, different_images: bool) -> str:
    """The name and metrics of the best run, with a note if others were validated differently."""
    metrics = [metric for metric in SUMMARIZED if metric in best.metrics]
    figures = [f"{metric} {METRICS[metric](best.metrics[metric])}" for metric in metrics]
    note = " (validation images differ)" if different_images else ""
    return f"Best: {', '.join([best.name, *figures])}{note}"
