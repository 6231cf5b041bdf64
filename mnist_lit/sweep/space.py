"""The file of a sweep: which settings it searches, with which of Optuna's samplers and pruners."""

import itertools
import json
import math
import warnings
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
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
from optuna.trial import create_trial

from mnist_lit.errors import InputError
from mnist_lit.runs.files import IGNORED_SETTINGS

SECTIONS = ("space", "sampler", "pruner", "heartbeat")
FIELDS = ("choices", "low", "high", "log", "step")
NOT_SEARCHED = tuple(key for key in IGNORED_SETTINGS if key != "seed_everything")
DEFAULTS = {"sampler": {"name": "TPESampler"}, "pruner": {"name": "NopPruner"}}
GRID = "GridSampler"  # the queue of the study is the grid, so that each point is tried once


@dataclass(frozen=True)
class Plan:
    """What the file of a sweep says.

    Args:
        space: By keys as on the command line of ``fit``; a choice that is a list or a mapping is
            JSON.
        sampler: A sampler's ``name`` and arguments.
        pruner: A pruner's ``name`` and arguments.
        heartbeat: Seconds between two signs of life of a worker.
    """

    space: dict[str, BaseDistribution]
    sampler: dict[str, Any]
    pruner: dict[str, Any]
    heartbeat: int = 15

    def grid(self) -> list[dict[str, Any]] | None:
        """All combinations of the choices, if it is they that are asked for."""
        if self.sampler["name"] != GRID:
            return None
        choices = [each.choices for each in self.space.values()]  # type: ignore[attr-defined]
        return [dict(zip(self.space, each, strict=True)) for each in itertools.product(*choices)]

    def point_of(self, settings: dict[str, Any]) -> dict[str, Any]:
        """The parameters that settings of ``fit`` have, without those outside of the space."""
        point = {}
        for key, distribution in self.space.items():
            value = _setting(settings, key)
            if isinstance(distribution, CategoricalDistribution):
                choices = [each for each in distribution.choices if _is_choice(value, each)]
            else:
                choices = [value] if _lies_in(value, distribution) else []
            if choices:
                point[key] = choices[0]
        return point

    def make_sampler(self, number: int) -> samplers.BaseSampler:
        """The sampler for the parameters of trial ``number``.

        Its seed moves on with the number, so that neither workers beside each other nor a sweep
        that goes on draw what has been drawn before.
        """
        section = dict(self.sampler)
        if section["name"] == GRID:
            return samplers.RandomSampler()  # nothing is left to it
        if section.get("seed") is not None and section["name"] != "QMCSampler":  # it counts itself
            section["seed"] += number
        sampler: samplers.BaseSampler = _made("sampler", section)
        return sampler

    def make_pruner(self) -> pruners.BasePruner:
        """The pruner of all trials."""
        pruner: pruners.BasePruner = _made("pruner", self.pruner)
        return pruner


def read_plan(path: Path) -> Plan:
    """Read the file of a sweep.

    Raises:
        InputError: If it cannot be read, or something is wrong with it.
    """
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        what = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise InputError(f"{path} cannot be read: {what}.", "Give a YAML file.") from error
    try:
        _expect("section", _mapping("The file", content), SECTIONS)
        space = _mapping("space", content.get("space"))
        heartbeat = content.get("heartbeat", Plan.heartbeat)
        if type(heartbeat) is not int or heartbeat < 1:
            raise InputError(f"heartbeat is {heartbeat!r}.", "Give whole seconds, 1 or more.")
        plan = Plan(
            {key: _distribution(key, value) for key, value in space.items()},
            **{
                part: default | _mapping(part, content.get(part, default))
                for part, default in DEFAULTS.items()
            },
            heartbeat=heartbeat,
        )
        _check(plan)
    except InputError as error:
        what, what_to_do = str(error).splitlines()
        raise InputError(f"{path}: {what}", what_to_do) from error
    return plan


def override(key: str, value: Any) -> str:
    """The option by which ``fit`` takes a parameter of a trial."""
    return f"--{key}={value if isinstance(value, str) else json.dumps(value)}"


def _setting(settings: dict[str, Any], key: str) -> Any:
    """The setting of a key; None if there is none."""
    value: Any = settings
    for part in key.split("."):
        if not isinstance(value, dict):
            return None
        value = value.get(part, (value.get("init_args") or {}).get(part))
    return value


def _lies_in(value: Any, distribution: BaseDistribution) -> bool:
    try:
        create_trial(params={"": value}, distributions={"": distribution}, value=0)
    except (TypeError, ValueError):
        return False
    return True


def _is_choice(setting: Any, choice: Any) -> bool:
    """Whether a setting is this choice already; a class is, if it has its name and arguments."""
    if isinstance(choice, str) and choice.startswith(("[", "{")):
        with suppress(ValueError):  # YAML in quotes
            choice = json.loads(choice)
    if not isinstance(setting, dict) or "class_path" not in setting:
        return bool(setting == choice)
    if not isinstance(choice, dict):
        choice = {"class_path": choice}
    arguments = choice.get("init_args", {}).items()
    names = (setting["class_path"], setting["class_path"].rpartition(".")[2])
    return choice.get("class_path") in names and arguments <= setting.get("init_args", {}).items()


def _mapping(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict) or not value:
        raise InputError(f"{name} is no mapping, or empty.", "configs/sweep.yaml is an example.")
    return {str(key): inner for key, inner in value.items()}


def _expect(what: str, given: Iterable[str], known: Iterable[str]) -> None:
    for name in given:
        if name not in known:
            near = get_close_matches(name, list(known), n=1)
            hint = f"Did you mean {near[0]}?" if near else f"There are: {', '.join(known)}."
            raise InputError(f"There is no {what} {name}.", hint)


def _distribution(key: str, given: Any) -> BaseDistribution:
    if key in NOT_SEARCHED:
        raise InputError(f"{key} cannot be searched.", "It changes nothing of what a run learns.")
    fields = _mapping(key, given)
    _expect(f"field of {key}:", fields, FIELDS)
    if "choices" in fields:
        return _choices(key, fields)
    if not {"low", "high"} <= fields.keys():
        raise InputError(
            f"{key} has neither choices nor low and high.", "Give the one or the other."
        )
    log = fields.pop("log", False)
    numbers = {name: _number(f"{key}: {name}", value) for name, value in fields.items()}
    if not isinstance(log, bool):
        raise InputError(f"{key}: log is {log!r}.", "Give true or false.")
    if log and "step" in numbers:
        raise InputError(f"{key} has log and a step.", "Leave one out: they exclude each other.")
    whole = all(isinstance(number, int) for number in numbers.values())
    kind: Any = IntDistribution if whole else FloatDistribution
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a step that does not end at high ends below it
            distribution: BaseDistribution = kind(**numbers, log=log)
    except ValueError as error:
        raise InputError(f"{key}: {error}".replace("`", ""), "Mend low, high or step.") from error
    return distribution


def _choices(key: str, fields: dict[str, Any]) -> CategoricalDistribution:
    choices = fields.pop("choices")
    if fields:
        raise InputError(f"{key} has choices and {', '.join(fields)}.", "Leave one out.")
    if not isinstance(choices, list) or not choices:
        raise InputError(f"{key}: choices is no list, or empty.", "Give a list: [32, 64, 128].")
    # A database holds primitives; the command line reads JSON again.
    texts = [json.dumps(each) if isinstance(each, list | dict) else each for each in choices]
    for place, choice in enumerate(texts):
        if choice in texts[:place]:
            raise InputError(f"{key}: {choice} is twice among the choices.", "Leave one out.")
    return CategoricalDistribution(texts)


def _number(name: str, value: Any) -> int | float:
    if isinstance(value, str):  # YAML takes 1e-4, without a point, for text
        try:
            value = float(value)
        except ValueError:
            value = None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InputError(f"{name} is no number.", "Give one, such as 0.001 or 1e-3.")
    return value


def _check(plan: Plan) -> None:
    """Refuse samplers and pruners that cannot be made, and a grid without a list to walk."""
    for key, distribution in plan.space.items():
        if plan.sampler["name"] == GRID and not isinstance(distribution, CategoricalDistribution):
            raise InputError(f"{GRID} needs choices, and {key} has a range.", "Give it choices.")
    if plan.sampler["name"] == GRID:
        _expect(f"argument of {GRID}:", plan.sampler, ("name",))
    seed = plan.sampler.get("seed")
    if seed is not None and type(seed) is not int:
        raise InputError(f"The sampler's seed is {seed!r}.", "Give a whole number.")
    plan.make_pruner()
    study = create_study(sampler=plan.make_sampler(0))
    try:
        study.ask(plan.space)
    except (ValueError, ImportError) as error:
        what = f"{plan.sampler['name']} cannot search this space: {' '.join(str(error).split())}"
        raise InputError(
            what, "Mend the space, install what is missing, or name another."
        ) from error


def _made(part: str, section: dict[str, Any]) -> Any:
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
    _expect(part, [str(name)], names)
    kind = getattr(module, name)
    _expect(f"argument of {name}:", arguments, signature(kind).parameters)
    try:
        return kind(**arguments)
    except (TypeError, ValueError, ImportError) as error:
        what = f"{name} cannot be made: {' '.join(str(error).split())}"
        raise InputError(what.replace("`", ""), "Mend its arguments, or name another.") from error
