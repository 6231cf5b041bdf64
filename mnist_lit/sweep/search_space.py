"""The search space: the section ``space`` of a sweep file as Optuna's distributions."""

import json
import warnings
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import Trial, create_trial

from mnist_lit.errors import InputError
from mnist_lit.runs.files import IGNORED_SETTINGS

NOT_SEARCHED = tuple(key for key in IGNORED_SETTINGS if key != "seed_everything")


def distribution(key: str, given: Any) -> BaseDistribution:
    """The distribution of one parameter: ``choices``, or ``low`` and ``high``.

    A choice that is a list or a mapping becomes JSON: a database holds primitives, and the command
    line reads JSON.

    Raises:
        InputError: If Optuna rejects it.
    """
    if key in NOT_SEARCHED:
        raise InputError(f"{key} cannot be searched.", "It does not affect training.")
    fields = mapping(key, given)
    expect(f"field of {key}:", fields, ("choices", "low", "high", "log", "step"))
    try:
        if "choices" in fields:
            choices = [
                json.dumps(c) if isinstance(c, list | dict) else c for c in fields["choices"]
            ]
            return CategoricalDistribution(**(fields | {"choices": choices}))
        # YAML takes 1e-4, without a point, for text.
        numbers = {k: float(v) if isinstance(v, str) else v for k, v in fields.items()}
        whole = all(isinstance(number, int) for number in numbers.values())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # high is lowered to the last step
            kind: type[BaseDistribution] = IntDistribution if whole else FloatDistribution
            return kind(**numbers)
    except (TypeError, ValueError) as error:
        what = str(error).partition("__init__() ")[2] or str(error)
        raise InputError(f"{key}: {what}".replace("`", ""), "See docs/sweep.md.") from error


def suggest(trial: Trial, space: dict[str, Any]) -> dict[str, Any]:
    """Let a trial draw its parameters."""
    for key, each in space.items():
        if isinstance(each, CategoricalDistribution):
            trial.suggest_categorical(key, each.choices)
        elif isinstance(each, IntDistribution):
            trial.suggest_int(key, each.low, each.high, step=each.step, log=each.log)
        else:
            trial.suggest_float(key, each.low, each.high, step=each.step, log=each.log)
    return trial.params


def contains(space: BaseDistribution, value: Any) -> bool:
    """Whether a distribution has this value."""
    try:
        create_trial(params={"": value}, distributions={"": space}, value=0)
    except (TypeError, ValueError):
        return False
    return True


def override(key: str, value: Any) -> str:
    """The command-line option of ``fit`` that sets a parameter."""
    return f"--{key}={value if isinstance(value, str) else json.dumps(value)}"


def mapping(name: str, value: Any) -> dict[str, Any]:
    """A copy of a mapping, with text as keys.

    Raises:
        InputError: If it is none, or empty.
    """
    if not isinstance(value, dict) or not value:
        raise InputError(f"{name} must be a mapping with content.", "See configs/sweep.yaml.")
    return {str(key): inner for key, inner in value.items()}


def expect(what: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Refuse names that are not known, with a hint.

    Raises:
        InputError: For the first unknown one.
    """
    for name in given:
        if name not in known:
            near = get_close_matches(name, list(known), n=1)
            hint = f"Did you mean {near[0]}?" if near else f"Choose from {', '.join(known)}."
            raise InputError(f"There is no {what} {name}.", hint)
