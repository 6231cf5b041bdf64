"""The report of a study: lines and tables of trials, the best configuration, and the figures."""

import json
import os
import socket
from pathlib import Path
from typing import Any

import optuna
import yaml
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from mnist_lit.errors import InputError
from mnist_lit.files import atomic_write
from mnist_lit.runs.comparison import FOLD, groups_title, shortest, summaries
from mnist_lit.runs.files import STUDY, Run
from mnist_lit.runs.table import Row, compact, table
from mnist_lit.sweep.figures import count, figures
from mnist_lit.sweep.plan import override
from mnist_lit.sweep.settings import settings_of
from mnist_lit.sweep.study import DONE, Study, failure

SEED = "seed_everything"
REPEATS = {SEED, FOLD}  # parameters whose values repeat a trial rather than change it
UNKNOWN = ("over", "val_accuracy", "test_accuracy")  # of a trial
SHOWN = 10  # trials in the table of the best
BEST = "best.yaml"
REPORT = (BEST, "history.png", "slices.png", "importance.png")


def claim_directory(study: Study, directory: Path) -> None:
    """Mark the directory of a study, so that a report may replace the files of the one before.

    Raises:
        InputError: If it is not marked and has files that a report would replace.
    """
    if (directory / STUDY).exists():
        return
    for path in (directory / name for name in REPORT):
        if path.exists():
            raise InputError(
                f"{os.path.relpath(path)} was not written by this study.",
                "Move it elsewhere, or give the study another name: --study NAME.",
            )
    with atomic_write(directory / STUDY) as partial:
        content = {"study": study.name, "storage": study.storage.place}
        partial.write_text(json.dumps(content) + "\n")


def trial_line(study: Study, trial: FrozenTrial) -> str:
    """A trial that has ended in one line: its result, parameters and run."""
    result = f"val/loss {trial.value:.4f}" if trial.value is not None else ""
    if trial.state == TrialState.FAIL:
        result = f"failed: {failure(trial)}"
    if trial.state == TrialState.PRUNED:
        result = f"pruned after validation {len(trial.intermediate_values)}, {result}"
    params = [f"{name} {compact(value)}" for name, value in _params(study, trial).items()]
    done = f"({len(study.counted(*DONE))} of {study.goal})"
    return "  ".join([f"trial {trial.number}", result, *params, _run(trial), done])


def report(study: Study, fit: list[str], directory: Path) -> None:
    """Print the best trials of a finished study; write the best configuration and the figures.

    Raises:
        InputError: If no trial is complete.
    """
    trials = study.counted(*DONE)
    complete, pruned, failed = ([each for each in trials if each.state == s] for s in DONE)
    if not complete:
        why = failure(failed[0]) if failed else "all were pruned"
        raise InputError(
            f"0 of {count(len(trials))} completed: {why}",
            "Change the space or the options, and start another study: --study NAME.",
        )
    ranked = sorted(complete, key=_loss)
    rows = [
        {"trial": each.number, "val_loss": each.value, **_params(study, each), "name": _run(each)}
        for each in ranked[:SHOWN]
    ]
    counts = f"{count(len(complete))} complete, {len(pruned)} pruned, {len(failed)} failed"
    print(f"\n{counts}. The best:\n{table(rows, {})}")
    if not REPEATS & study.plan.space.keys():
        print(f"\n{_compare_with_given(study, trials, ranked[0])}")
    elif groups := _over_repeats(study, complete):
        kept = [{key: row[key] for key in row if key not in UNKNOWN} for row in groups]
        print(f"\n{groups_title(groups)}\n{table(kept, {})}")
    best = _write_best(study, ranked[0], fit, directory / BEST)
    paths = []
    for name, figure in figures(_readable(study, trials)):
        paths.append(os.path.relpath(directory / f"{name}.png"))
        with atomic_write(Path(paths[-1])) as partial:
            figure.savefig(partial, format="png", dpi=100)
    print(
        f"\nFigures: {', '.join(paths)}\n"
        f"Best configuration: {best}\n"
        f"To train with it: python -m mnist_lit fit --config {best}\n"
        f"To compare the runs: python -m mnist_lit runs {os.path.relpath(directory)}"
    )


def _compare_with_given(study: Study, trials: list[FrozenTrial], best: FrozenTrial) -> str:
    """How much better the best trial is than the user's own settings, in a sentence."""
    given = study.study.user_attrs["given"]
    outside = [name for key, name in study.headings.items() if key not in given]
    tried = next((each for each in trials if each.params == given and not outside), None)
    if tried is None:
        why = f": {', '.join(outside)} outside of the space" if outside else ""
        return f"Your own settings were not tried{why}."
    own = f"Your own settings (trial {tried.number})"
    if tried.state != TrialState.COMPLETE:
        return f"{own}: {'pruned' if tried.state == TrialState.PRUNED else 'failed'}."
    if _loss(best) == _loss(tried):
        return f"No trial is better than your own settings (trial {tried.number})."
    gain = 1 - _loss(best) / _loss(tried)
    return f"{own}: val/loss {_loss(tried):.4f}; the best trial is {gain:.0%} lower."


def _write_best(study: Study, best: FrozenTrial, fit: list[str], path: Path) -> str:
    """Write the settings of a trial, as ``fit --config`` takes them; return the path."""
    settings = settings_of([*fit, *(override(key, best.params[key]) for key in study.plan.space)])
    for key in ("name", "ckpt_path"):
        del settings[key]
    place = os.path.relpath(path)
    with atomic_write(path) as partial:
        partial.write_text(
            f"# python -m mnist_lit fit --config {place}\n#\n"
            f"# Trial {best.number} of the study {study.name}: val/loss {best.value:.4f}, "
            f"the lowest of {count(len(study.counted(*DONE)))}.\n"
            f"{yaml.safe_dump(settings, sort_keys=False)}"
        )
    return place


def _readable(study: Study, trials: list[FrozenTrial]) -> optuna.Study:
    """The study in memory, with short names of parameters and choices."""
    readable = optuna.create_study()
    for trial in trials:
        params, space = _params(study, trial), {}
        for key, name in study.headings.items():
            space[name] = each = study.plan.space[key]
            if isinstance(each, CategoricalDistribution):
                params[name] = compact(params[name])
                texts = dict.fromkeys(compact(_short(value, each)) for value in each.choices)
                space[name] = CategoricalDistribution([*texts])
            else:
                params[name] = trial.params[key]  # a rounded one may be out of range
        readable.add_trial(
            create_trial(state=trial.state, value=trial.value, params=params, distributions=space)
        )
    return readable


def _over_repeats(study: Study, complete: list[FrozenTrial]) -> list[Row]:
    """Mean and deviation of trials that differ only in seed and fold, the best first."""
    names = [name for key, name in study.headings.items() if key not in REPEATS] or ["name"]
    runs = [
        Run(
            study.name,
            status="finished",
            seed=trial.params.get(SEED),
            settings={
                "name": study.name,
                FOLD: trial.params.get(FOLD),
                **_params(study, trial),
            },
            metrics={"val_loss": _loss(trial)},
        )
        for trial in complete
    ]
    rows = summaries(runs, dict(zip(names, names, strict=True)))
    rows.sort(key=lambda row: row["val_loss"]["mean"])
    return rows


def _loss(trial: FrozenTrial) -> float:
    assert trial.value is not None
    return trial.value


def _params(study: Study, trial: FrozenTrial) -> Row:
    """The parameters of a trial by their headings, as they are shown."""
    return {
        name: _short(trial.params[key], study.plan.space[key])
        for key, name in study.headings.items()
    }


def _short(value: Any, distribution: BaseDistribution) -> Any:
    """A parameter in few characters: rounded, and a class by its name."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if not isinstance(value, str) or not isinstance(distribution, CategoricalDistribution):
        return value
    if value.startswith(("[", "{")):
        return compact(yaml.safe_load(value))
    is_class = value.replace(".", "_").isidentifier()
    return shortest(value, set(map(str, distribution.choices))) if is_class else value


def _run(trial: FrozenTrial) -> str:
    run: str = trial.user_attrs.get("run", "-")
    host = trial.user_attrs.get("host")
    return run if host in (None, socket.gethostname()) else f"{host}:{run}"
