"""What a study has found: its trials in words, the best of them, and the best configuration."""

import json
import os
import socket
from pathlib import Path
from typing import Any
from warnings import catch_warnings, simplefilter

import yaml
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.importance import get_param_importances
from optuna.trial import FrozenTrial, TrialState

from mnist_lit.errors import InputError
from mnist_lit.files import atomic_write
from mnist_lit.runs.command import Row, compact, shortest, summaries, table
from mnist_lit.runs.files import STUDY, Run
from mnist_lit.sweep.figures import history_figure, importance_figure, slices_figure
from mnist_lit.sweep.space import override
from mnist_lit.sweep.study import DONE, Study, reason
from mnist_lit.sweep.trials import settings_of

SEED = "seed_everything"
SCALES = ("linear", "log")
SHOWN = 10  # trials in the table of the best
BEST = "best.yaml"
PICTURES = ("history", "slices", "importance")


def claim_directory(study: Study, directory: Path) -> None:
    """Make the directory of a study this program's own, so that a report may replace files there.

    Raises:
        InputError: If it holds files of the user's that a report would replace.
    """
    sign = directory / STUDY
    if sign.exists():
        return
    for name in (BEST, *(f"{picture}.png" for picture in PICTURES)):
        if (directory / name).exists():
            raise InputError(
                f"{os.path.relpath(directory / name)} was not written by this study.",
                "Move it elsewhere, or give the study another name: --study NAME.",
            )
    with atomic_write(sign) as partial:
        partial.write_text(json.dumps({"study": study.name, "storage": study.place}) + "\n")


def trial_line(study: Study, number: int) -> str:
    """A trial that has ended, in one line: how, its parameters, its run, and how many there are."""
    trial = study.study.get_trials(deepcopy=False)[number]
    if trial.state == TrialState.FAIL:
        result = f"failed: {reason(trial)}"
    elif trial.state == TrialState.PRUNED:
        validations = len(trial.intermediate_values)
        result = f"pruned after validation {validations}, val/loss {trial.value:.4f}"
    else:
        result = f"val/loss {trial.value:.4f}"
    params = [f"{heading} {compact(value)}" for heading, value in _params(study, trial).items()]
    done = f"({len(study.trials(*DONE))} of {study.goal})"
    return "  ".join([f"trial {number}", result, *params, _run(trial), done])


def report(study: Study, fit: list[str], directory: Path) -> None:
    """Print the best trials of a study, and write the best configuration and pictures.

    Args:
        study: With all its trials done.
        fit: The options of all trials.
        directory: For the files.

    Raises:
        InputError: If no trial is complete.
    """
    trials = study.trials(*DONE)
    complete, pruned, failed = ([each for each in trials if each.state == s] for s in DONE)
    if not complete:
        why = reason(failed[0]) if failed else "all were pruned"
        raise InputError(
            f"None of the {len(trials)} trials was completed: {why}",
            "Mend the space or the options, and give the study another name: --study NAME.",
        )
    ranked = sorted(complete, key=_loss)
    rows = [
        {"trial": each.number, "val_loss": each.value, **_params(study, each), "name": _run(each)}
        for each in ranked[:SHOWN]
    ]
    counts = f"{len(complete)} trials complete, {len(pruned)} pruned, {len(failed)} failed"
    print(f"\n{counts}; the best:\n{table(rows, {})}")
    if SEED not in study.plan.space:
        print(f"\n{_against_given(study, trials)}")
    if groups := _over_seeds(study, complete):
        print(f"\nOver n seeds, mean ± sample standard deviation:\n{table(groups, {})}")
    best = _write_best(study, ranked[0], fit, directory / BEST)
    pictures = _draw(study, complete, pruned, failed, directory)
    print(
        f"\nPictures: {', '.join(pictures)}\n"
        f"Best configuration: {best}\n"
        f"To train with it: python -m mnist_lit fit --config {best}\n"
        f"To compare the runs: python -m mnist_lit runs {os.path.relpath(directory)}"
    )


def _against_given(study: Study, trials: list[FrozenTrial]) -> str:
    """What the best trial has gained over the settings given, in a sentence."""
    point = study.plan.point_of(study.study.user_attrs["settings"])
    if beyond := [name for key, name in _headings(study).items() if key not in point]:
        return f"The settings given were not tried: outside of the space in {', '.join(beyond)}."
    given = next((each for each in trials if each.params == point), None)
    if given is None:
        return "The settings given were not tried."
    if given.state != TrialState.COMPLETE:
        how = "was pruned" if given.state == TrialState.PRUNED else "failed"
        return f"The settings given, trial {given.number}: {how}."
    best = min(_loss(each) for each in trials if each.state == TrialState.COMPLETE)
    if best == _loss(given):
        return f"None is better than the settings given, trial {given.number}."
    gain = 1 - best / _loss(given)
    return (
        f"The settings given, trial {given.number}: val/loss {_loss(given):.4f}; "
        f"the best has {gain:.0%} less."
    )


def _write_best(study: Study, best: FrozenTrial, fit: list[str], path: Path) -> str:
    """Write the settings of a trial, as ``fit --config`` takes them; give the path."""
    overrides = [override(key, best.params[key]) for key in study.plan.space]
    settings = settings_of([*fit, *overrides])
    for key in ("name", "ckpt_path"):
        del settings[key]
    place = os.path.relpath(path)
    with atomic_write(path) as partial:
        partial.write_text(
            f"# python -m mnist_lit fit --config {place}\n#\n"
            f"# Trial {best.number} of the study {study.name}: val/loss {best.value:.4f}, "
            f"the lowest of {len(study.trials(*DONE))} trials.\n"
            f"{yaml.safe_dump(settings, sort_keys=False)}"
        )
    return place


def _draw(
    study: Study,
    complete: list[FrozenTrial],
    pruned: list[FrozenTrial],
    failed: list[FrozenTrial],
    directory: Path,
) -> list[str]:
    """Draw the history, the slices and, if there is something to compare, the importances."""
    losses = {each.number: _loss(each) for each in complete}
    last = {each.number: _loss(each) for each in pruned}
    history, slices, importance = PICTURES
    figures = {history: history_figure(losses, last, [each.number for each in failed])}
    scales = {name: _scale(study.plan.space[key]) for key, name in _headings(study).items()}
    params = [_params(study, each) for each in complete]
    for each in params:  # a choice stands for itself, also where it is a number
        each |= {name: compact(each[name]) for name, scale in scales.items() if scale not in SCALES}
    figures[slices] = slices_figure(scales, params, [*losses.values()])
    if len(complete) > 1 and len(scales) > 1:
        with catch_warnings():
            simplefilter("ignore")  # of too few trials: all parameters are of equal importance
            shares = get_param_importances(study.study)
        names = _headings(study)
        figures[importance] = importance_figure({names[key]: shares[key] for key in shares})
    for name, figure in figures.items():
        with atomic_write(directory / f"{name}.png") as partial:
            figure.savefig(partial, format="png", dpi=100)
    return [os.path.relpath(directory / f"{name}.png") for name in figures]


def _scale(distribution: BaseDistribution) -> str | list[str]:
    """What :func:`slices_figure` takes for a parameter: its scale or its choices."""
    if isinstance(distribution, CategoricalDistribution):
        return [compact(_short(each, distribution)) for each in distribution.choices]
    return "log" if distribution.log else "linear"  # type: ignore[attr-defined]


def _over_seeds(study: Study, complete: list[FrozenTrial]) -> list[Row]:
    """The mean and spread over the seeds of trials that differ in nothing else, the best first."""
    if SEED not in study.plan.space:
        return []
    others = [name for key, name in _headings(study).items() if key != SEED]
    found = [
        Run(
            study.name,
            status="finished",
            seed=trial.params[SEED],
            settings={"study": study.name, **_params(study, trial)},
            metrics={"val_loss": _loss(trial)},
        )
        for trial in complete
    ]
    rows = summaries(found, dict(zip(others, others, strict=True)))
    rows.sort(key=lambda row: row["val_loss"]["mean"])
    shown = [*others, "n", "val_loss"]
    label = {} if others else {"name": study.name}
    return [label | {name: row[name] for name in shown} for row in rows]


def _loss(trial: FrozenTrial) -> float:
    """The validation loss of a trial, in nats: the lowest, or the last if it was pruned."""
    assert trial.value is not None
    return trial.value


def _headings(study: Study) -> dict[str, str]:
    """The shortest unambiguous end of each key of a study's space."""
    names = set(study.plan.space)
    return {key: shortest(key, names) for key in study.plan.space}


def _params(study: Study, trial: FrozenTrial) -> Row:
    """The parameters of a trial, as they are shown, by headings."""
    space = study.plan.space
    return {name: _short(trial.params[key], space[key]) for key, name in _headings(study).items()}


def _short(value: Any, distribution: BaseDistribution) -> Any:
    """A parameter in few characters: four digits, and a class by its name."""
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
