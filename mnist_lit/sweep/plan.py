"""The sweep file: the search space, Optuna's sampler and pruner, and the heartbeat."""

import itertools
import json
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from inspect import isabstract, isclass, signature
from pathlib import Path
from typing import Any

import yaml
from optuna import create_study, pruners, samplers
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.trial import Trial, create_trial

from mnist_lit.errors import InputError
from mnist_lit.runs.files import IGNORED_SETTINGS

NOT_SEARCHED = tuple(key for key in IGNORED_SETTINGS if key != "seed_everything")
SECTIONS = ("space", "sampler", "pruner", "heartbeat")


# What samplers and pruners raise if an argument has the wrong type or value.
ARGUMENT_ERRORS = (ArithmeticError, AttributeError, ImportError, LookupError, TypeError, ValueError)


class SamplerError(InputError):
    """The sampler fails, and so would in every trial."""


@dataclass(frozen=True)
class Plan:
    """The content of a sweep file.

    Args:
        space: Distributions by key, as on the command line of ``fit``.
        grid: With the GridSampler, all combinations of the choices; else empty.
        sampler: The sampler's class and arguments.
        pruner: The pruner of all trials.
        heartbeat: Seconds between two heartbeats of a running trial.
    """

    space: dict[str, BaseDistribution]
    grid: list[dict[str, Any]]
    sampler: partial[BaseSampler]
    pruner: BasePruner
    heartbeat: int = 15

    def make_sampler(self, number: int) -> BaseSampler:
        """Make the sampler of trial ``number``: its seed is the file's plus the number.

        So a trial draws the same parameters whether or not the sweep was interrupted before, and
        workers draw different ones.
        """
        seed = self.sampler.keywords.get("seed")
        if seed is None or self.sampler.func is samplers.QMCSampler:  # which counts by itself
            return self.sampler()
        return self.sampler(seed=seed + number)

    def suggest(self, trial: Trial) -> dict[str, Any]:
        """Let a trial draw its parameters, from a sampler of its own.

        Raises:
            SamplerError: If the sampler fails, perhaps only after its first trials.
        """
        try:
            return self._suggest(trial)
        except ARGUMENT_ERRORS as error:
            what = f"{self.sampler.func.__name__} fails: {_on_one_line(error)}"
            hint = "Install what is missing, or change the sweep file."
            raise SamplerError(what, hint) from error

    def _suggest(self, trial: Trial) -> dict[str, Any]:
        trial.study.sampler = self.make_sampler(trial.number)
        for key, each in self.space.items():
            if isinstance(each, CategoricalDistribution):
                trial.suggest_categorical(key, each.choices)
            elif isinstance(each, IntDistribution):
                trial.suggest_int(key, each.low, each.high, step=each.step, log=each.log)
            elif isinstance(each, FloatDistribution):
                trial.suggest_float(key, each.low, each.high, step=each.step, log=each.log)
        return trial.params


def read_plan(path: Path) -> Plan:
    """Read a sweep file.

    Raises:
        InputError: If it cannot be read, or its content is invalid.
    """
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        what = getattr(error, "strerror", None) or _on_one_line(error)
        raise InputError(f"{path} cannot be read: {what}.", "Give a YAML file.") from error
    try:
        return _plan(_mapping("The file", content))
    except InputError as error:
        what, what_to_do = error.args
        raise InputError(f"{path}: {what}", what_to_do) from error


def override(key: str, value: Any) -> str:
    """The command-line option of ``fit`` that sets a parameter."""
    return f"--{key}={value if isinstance(value, str) else json.dumps(value)}"


def contains(distribution: BaseDistribution, value: Any) -> bool:
    """Whether a distribution has this value."""
    try:
        create_trial(params={"": value}, distributions={"": distribution}, value=0)
    except (TypeError, ValueError):
        return False
    return True


def _plan(sections: dict[str, Any]) -> Plan:
    """The plan that a file describes, after drawing once from its sampler."""
    _expect("section", sections, SECTIONS)
    heartbeat = sections.get("heartbeat", Plan.heartbeat)
    if type(heartbeat) is not int or heartbeat < 1:
        raise InputError(f"heartbeat is {heartbeat!r}.", "Give whole seconds, 1 or more.")
    fields = _mapping("space", sections.get("space"))
    space = {key: _distribution(key, value) for key, value in fields.items()}
    sampler = _part("sampler", BaseSampler, "TPESampler", sections)
    pruner = _part("pruner", BasePruner, "NopPruner", sections)
    grid = []
    if sampler.func is samplers.GridSampler:
        grid = _grid(space)
        sampler = partial(samplers.RandomSampler)  # draws nothing: the queue has the combinations
    if not isinstance(sampler.keywords.get("seed"), int | None):
        raise InputError("The sampler's seed is not an integer.", "For example: seed: 0.")
    plan = Plan(space, grid, sampler, _created(pruner), heartbeat)
    try:
        create_study(sampler=_created(sampler)).ask(space)
    except ARGUMENT_ERRORS as error:
        what = f"{sampler.func.__name__} cannot search this space: {_on_one_line(error)}"
        hint = "Change the space, install what is missing, or use another sampler."
        raise InputError(what, hint) from error
    return plan


def _distribution(key: str, given: Any) -> BaseDistribution:
    """The distribution of one parameter: ``choices``, or ``low`` and ``high``.

    A choice that is a list or a mapping becomes JSON: a database holds primitives, and the command
    line reads JSON.
    """
    if key in NOT_SEARCHED:
        raise InputError(f"{key} cannot be searched.", "It does not affect training.")
    fields = _mapping(key, given)
    _expect(f"field of {key}:", fields, ("choices", "low", "high", "log", "step"))
    try:
        if "choices" in fields:
            choices = fields.pop("choices")
            texts = [
                json.dumps(each) if isinstance(each, list | dict) else each for each in choices
            ]
            return CategoricalDistribution(texts, **fields)
        # YAML takes 1e-4, without a point, for text.
        numbers = {k: float(v) if isinstance(v, str) else v for k, v in fields.items()}
        whole = all(isinstance(number, int) for number in numbers.values())
        kind: type[BaseDistribution] = IntDistribution if whole else FloatDistribution
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # high is lowered to the last step
            return kind(**numbers)
    except (TypeError, ValueError) as error:
        what = str(error).partition("__init__() ")[2] or str(error)
        raise InputError(f"{key}: {what}".replace("`", ""), "See docs/sweep.md.") from error


def _grid(space: dict[str, BaseDistribution]) -> list[dict[str, Any]]:
    """All combinations of the choices.

    Optuna's GridSampler may try a combination twice when workers run in parallel, and does not
    repeat a trial that was interrupted.
    """
    choices = []
    for key, each in space.items():
        if not isinstance(each, CategoricalDistribution):
            raise InputError(f"GridSampler needs choices, but {key} has a range.", "List choices.")
        choices.append(each.choices)
    return [dict(zip(space, point, strict=True)) for point in itertools.product(*choices)]


def _part(name: str, base: type, default: str, sections: dict[str, Any]) -> partial[Any]:
    """The sampler or pruner that a section describes: its class and arguments."""
    section = {"name": default} | _mapping(name, sections.get(name, {"name": default}))
    kinds = {
        kind.__name__: kind
        for kind in vars(samplers if base is BaseSampler else pruners).values()
        if isclass(kind) and issubclass(kind, base) and not isabstract(kind)
    }
    _expect(name, [str(section["name"])], kinds)
    if section["name"] == "CmaEsSampler":
        raise InputError(
            "CmaEsSampler would run code that is stored in the database.",
            "Use another sampler, such as TPESampler.",
        )
    kind = kinds[section["name"]]
    known = () if kind is samplers.GridSampler else signature(kind).parameters
    _expect(f"argument of {kind.__name__}:", section, ("name", *known))
    del section["name"]
    return partial(kind, **section)


def _created(part: partial[Any]) -> Any:
    try:
        return part()
    except ARGUMENT_ERRORS as error:
        what = f"{part.func.__name__} cannot be created: {_on_one_line(error)}"
        raise InputError(what.replace("`", ""), "Fix its arguments, or use another.") from error


def _mapping(name: str, value: Any) -> dict[str, Any]:
    """A copy of a non-empty mapping, with text as keys."""
    if not isinstance(value, dict) or not value:
        raise InputError(f"{name} must be a non-empty mapping.", "See configs/sweep.yaml.")
    return {str(key): inner for key, inner in value.items()}


def _expect(what: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Refuse an unknown name, with a hint."""
    for name in given:
        if name not in known:
            near = get_close_matches(name, list(known), n=1)
            hint = f"Did you mean {near[0]}?" if near else f"Choose from {', '.join(known)}."
            raise InputError(f"There is no {what} {name}.", hint)


def _on_one_line(error: Exception) -> str:
    return " ".join(str(error).split())
