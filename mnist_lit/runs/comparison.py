"""Compare runs: the settings that differ, and the mean and deviation over seeds or folds."""

import json
from statistics import mean, stdev
from typing import Any

from mnist_lit.runs.files import WITHOUT_EFFECT, Run
from mnist_lit.runs.table import IDENTITY, METRICS, Row

COLUMNS = (*IDENTITY, *METRICS, "reason")
RESERVED = (*COLUMNS, "n", "over")  # headings that no setting has
SUMMARIZED = ("val_loss", "val_accuracy", "test_accuracy")  # metrics shown for groups of runs
FOLD = "data.fold"


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


def class_names(runs: list[Run]) -> dict[str, str]:
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


def groups_title(groups: list[Row]) -> str:
    """Return the title of a table of summaries: over how many seeds, folds or runs."""
    sizes, kinds = ({group[key] for group in groups} for key in ("n", "over"))
    n = sizes.pop() if len(sizes) == 1 else "n"
    over = kinds.pop() if len(kinds) == 1 else "runs"
    return f"Over {n} {over}, mean ± sample standard deviation:"


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
