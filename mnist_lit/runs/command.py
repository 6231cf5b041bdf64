"""The command runs: compare the runs on disk, with mean and deviation over seeds or folds."""

import csv
import io
import json
from argparse import Namespace
from collections import Counter
from collections.abc import Callable, Collection
from contextlib import suppress
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from shutil import get_terminal_size
from statistics import mean, stdev
from typing import Any

from mnist_lit.errors import InputError
from mnist_lit.options import CommandParser
from mnist_lit.runs.files import WITHOUT_EFFECT, Run, best_run, natural_key, read_runs

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
COLUMNS = (*IDENTITY, *METRICS, "reason")
RESERVED = (*COLUMNS, "n", "over")  # headings that no setting has
SUMMARIZED = ("val_loss", "val_accuracy", "test_accuracy")  # metrics shown for groups of runs
MAX_WIDTH = 24  # characters of a setting in the table
FOLD = "data.fold"
# The settings that determine the validation images.
VALIDATION = {"data.dataset", "data.val_size", "data.folds", FOLD, "data.split_seed"}
# If the table is too wide, columns that are never left out, and those that go first.
KEPT = ("name", "status", "n", "val_loss")
MINOR = ("when", "epochs", "test_loss", "duration")

NOTES = """\
val_loss is the lowest of all epochs, and val_accuracy belongs to the same epoch; test_accuracy and
test_loss belong to the checkpoint tested last. duration is hours:minutes:seconds in the table, and
seconds in csv and json. A run is running, finished, stopped (by a signal, or pruned), failed (see
the reason), killed (its process died) or broken (a file is missing or damaged). A setting has a
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
    classes = _class_names(found)
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
        if failed := [f"{run.name}: {compact(run.reason)}" for run in runs if run.reason]:
            parts.append("\n".join(["Failed:", *failed]))
        if groups:
            parts.append(f"{_groups_title(groups)}\n{table(groups, classes, keep)}")
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


def differences(runs: list[Run]) -> dict[str, str]:
    """Find the settings that differ between runs.

    An argument that only some classes have does not count: the column of the class shows it. Nor
    does a setting that cannot change the result.

    Returns:
        A heading for each key: the shortest unambiguous suffix of the option's name.
    """
    known = [run.settings for run in runs if run.settings]
    keys = list(dict.fromkeys(key for settings in known for key in settings))
    names = {option(key) for key in keys}
    return {
        key: shortest(option(key), names)
        for key in keys
        if _differs(key, known) and not key.startswith(WITHOUT_EFFECT)
    }


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
        if len(same) == 1 and suffix not in RESERVED:
            return suffix
    return name


def _class_names(runs: list[Run]) -> dict[str, str]:
    """Map the path of each class to its shortest unambiguous name."""
    settings = [setting for run in runs for setting in run.settings.items()]
    paths = {str(value) for key, value in settings if key.endswith(".class_path")}
    return {path: shortest(path, paths) for path in paths}


def summaries(runs: list[Run], headings: dict[str, str]) -> list[Row]:
    """Summarize the runs that differ only in their seed or fold.

    Args:
        runs: Oldest first; the newest run of each seed and fold counts.
        headings: Headings of the settings that differ between runs, by key.

    Returns:
        For each group its settings, the number ``n`` of pairs of seed and fold, what they are
        (``over``: ``seeds``, ``folds``, or ``runs`` if both differ), and for each metric in
        ``SUMMARIZED`` the ``mean`` and sample standard deviation (``sd``) over the ``n`` pairs
        with a finished run that has the metric.
    """
    headings = {key: heading for key, heading in headings.items() if key != FOLD}
    groups: dict[str, list[Run]] = {}
    for run in runs:
        if run.settings:
            values = json.dumps([run.settings.get(key) for key in headings])
            groups.setdefault(values, []).append(run)
    rows = []
    for group in groups.values():
        n = len({_repeat(run) for run in group})
        if n > 1:
            row = {heading: group[0].settings.get(key) for key, heading in headings.items()}
            row = row or {"name": "all runs"}
            folds = len({run.settings.get(FOLD) for run in group})
            over = {1: "seeds", n: "folds"}.get(folds, "runs")
            spreads = {metric: _spread(group, metric) for metric in SUMMARIZED}
            rows.append({**row, "n": n, "over": over, **spreads})
    return rows


def _repeat(run: Run) -> tuple[int | None, Any]:
    """What tells a run from the others of its group."""
    return run.seed, run.settings.get(FOLD)


def _spread(group: list[Run], metric: str) -> Row:
    finished = [run for run in group if run.status == "finished" and metric in run.metrics]
    values = list({_repeat(run): run.metrics[metric] for run in finished}.values())
    return {
        "mean": mean(values) if values else None,
        "sd": stdev(values) if len(values) > 1 else None,
        "n": len(values),
    }


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
            what = f"--where {condition} gives no value."
            raise InputError(what, "Give a column and its value, such as status=finished.")
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
    return compact(value) in texts or _format({key: value}, key, classes) == text


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


def _groups_title(groups: list[Row]) -> str:
    sizes, kinds = ({group[key] for group in groups} for key in ("n", "over"))
    n = sizes.pop() if len(sizes) == 1 else "n"
    over = kinds.pop() if len(kinds) == 1 else "runs"
    return f"Over {n} {over}, mean ± sample standard deviation:"


def table(rows: list[Row], classes: dict[str, str], keep: Collection[str] | None = None) -> str:
    """Format rows as a table with headings, without the reasons why runs failed.

    Args:
        rows: At least one; all have the columns of the first.
        classes: Short names of classes, by path.
        keep: If given, columns other than these are left out until the table fits the terminal.
    """
    columns = {}
    for heading in [heading for heading in rows[0] if heading not in ("reason", "over")]:
        cells = [heading, *(_format(row, heading, classes) for row in rows)]
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
