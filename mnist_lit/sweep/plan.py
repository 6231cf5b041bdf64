"""The sweep file: the search space, Optuna's sampler and pruner, and the heartbeat."""

import itertools
from dataclasses import dataclass
from inspect import isabstract, isclass, signature
from pathlib import Path
from typing import Any

import optuna
import yaml
from optuna import create_study, pruners, samplers
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import FrozenTrial

from mnist_lit.errors import InputError
from mnist_lit.sweep.search_space import distribution, expect, mapping

SECTIONS = ("space", "sampler", "pruner", "heartbeat")
DEFAULTS = {"sampler": {"name": "TPESampler"}, "pruner": {"name": "NopPruner"}}
GRID = "GridSampler"  # Optuna's own repeats combinations when workers run in parallel


@dataclass(frozen=True)
class Plan:
    """The content of a sweep file.

    Args:
        space: Distributions by key, as on the command line of ``fit``.
        sampler: The sampler's ``name`` and arguments.
        pruner: The pruner's ``name`` and arguments.
        heartbeat: Seconds between two heartbeats of a running trial.
    """

    space: dict[str, BaseDistribution]
    sampler: dict[str, Any]
    pruner: dict[str, Any]
    heartbeat: int = 15

    def grid(self) -> list[dict[str, Any]] | None:
        """All combinations of the choices; None without the GridSampler."""
        if self.sampler["name"] != GRID:
            return None
        choices = [each.choices for each in self.space.values()]  # type: ignore[attr-defined]
        return [dict(zip(self.space, each, strict=True)) for each in itertools.product(*choices)]

    def make_sampler(self, number: int) -> samplers.BaseSampler:
        """The sampler of trial ``number``: its seed is the one in the file plus the number."""
        section = dict(self.sampler)
        if section["name"] == GRID:
            return samplers.RandomSampler()  # draws nothing: the queue holds the combinations
        if section.get("seed") is not None and section["name"] != "QMCSampler":  # has its own count
            section["seed"] += number
        sampler: samplers.BaseSampler = _make("sampler", section)
        return sampler

    def make_pruner(self) -> pruners.BasePruner:
        """The pruner of all trials."""
        pruner: pruners.BasePruner = _make("pruner", self.pruner)
        return pruner


class PerTrialSampler(samplers.BaseSampler):
    """The sampler of a plan, made anew for each trial.

    So a trial draws the same parameters whether the sweep was interrupted before or not, and
    workers that start from the same seed draw different ones.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        self.sampler = self.plan.make_sampler(trial.number)
        self.sampler.before_trial(study, trial)

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return self.sampler.infer_relative_search_space(study, trial)

    def sample_relative(self, *args: Any) -> dict[str, Any]:
        return self.sampler.sample_relative(*args)

    def sample_independent(self, *args: Any) -> Any:
        return self.sampler.sample_independent(*args)

    def after_trial(self, *args: Any) -> None:
        self.sampler.after_trial(*args)


def read_plan(path: Path) -> Plan:
    """Read a sweep file.

    Raises:
        InputError: If it cannot be read, or its content is invalid.
    """
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        what = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise InputError(f"{path} cannot be read: {what}.", "Give a YAML file.") from error
    try:
        expect("section", mapping("The file", content), SECTIONS)
        heartbeat = content.get("heartbeat", Plan.heartbeat)
        if type(heartbeat) is not int or heartbeat < 1:
            raise InputError(f"heartbeat is {heartbeat!r}.", "Give whole seconds, 1 or more.")
        space = mapping("space", content.get("space"))
        parts = {
            part: default | mapping(part, content.get(part, default))
            for part, default in DEFAULTS.items()
        }
        plan = Plan(
            {key: distribution(key, value) for key, value in space.items()},
            **parts,
            heartbeat=heartbeat,
        )
        _check(plan)
    except InputError as error:
        what, what_to_do = str(error).splitlines()
        raise InputError(f"{path}: {what}", what_to_do) from error
    return plan


def _check(plan: Plan) -> None:
    """Make sampler and pruner once, and draw once."""
    name = plan.sampler["name"]
    if name == GRID:
        expect(f"argument of {GRID}:", plan.sampler, ("name",))
        for key, each in plan.space.items():
            if not isinstance(each, CategoricalDistribution):
                raise InputError(f"{GRID} needs choices, but {key} has a range.", "List choices.")
    if not isinstance(plan.sampler.get("seed"), int | None):
        raise InputError("The sampler's seed is no whole number.", "For example: seed: 0.")
    plan.make_pruner()
    try:
        create_study(sampler=plan.make_sampler(0)).ask(plan.space)
    except (ValueError, ImportError, ArithmeticError) as error:
        what = f"{name} cannot search this space: {' '.join(str(error).split())}"
        raise InputError(what, "Change the space, install the package, or use another.") from error


def _make(part: str, section: dict[str, Any]) -> Any:
    """Make the sampler or pruner that a section of the file describes."""
    module, base = {
        "sampler": (samplers, samplers.BaseSampler),
        "pruner": (pruners, pruners.BasePruner),
    }[part]
    names = [
        name
        for name, value in vars(module).items()
        if isclass(value) and issubclass(value, base) and not isabstract(value)
    ]
    arguments = dict(section)
    name = arguments.pop("name")
    expect(part, [str(name)], names)
    kind = getattr(module, name)
    expect(f"argument of {name}:", arguments, signature(kind).parameters)
    try:
        return kind(**arguments)
    except (TypeError, ValueError, ImportError) as error:
        what = f"{name} cannot be made: {' '.join(str(error).split())}"
        raise InputError(what.replace("`", ""), "Fix its arguments, or use another.") from error
